"""What a run costs, by the clock that is read here too: nothing depends on how fast or how busy the machine is."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest

from unlike.study import meter
from unlike.study.meter import Meter

BURN = "import time; end = time.process_time() + {}\nwhile time.process_time() < end: pass"


def burn(seconds):
    exec(BURN.format(seconds), {})


def test_cpu_seconds_are_those_of_the_process_to_the_millisecond(monkeypatch):
    coarse = SimpleNamespace(user=0.0, system=0.0, children_user=0.0, children_system=0.0)
    monkeypatch.setattr(meter.os, "times", lambda: coarse)  # a tick is a hundredth of a second, or longer
    before = time.process_time()
    watch = Meter()
    started = time.process_time()
    burn(0.004)
    ended = time.process_time()
    found = watch.read()["cpu_seconds"]
    assert ended - started - 0.001 <= found <= time.process_time() - before + 0.001


def test_cpu_seconds_of_children_count():
    watch, ticks = Meter(), 2 / os.sysconf("SC_CLK_TCK")  # user and system time are both cut to whole ticks
    subprocess.run([sys.executable, "-c", BURN.format(0.1)], check=True)
    assert watch.read()["cpu_seconds"] >= 0.1 - ticks


@pytest.mark.skipif(not meter.CLEAR.exists(), reason="elsewhere the peak is the process's so far")
def test_memory_of_another_time_does_not_count():
    watch, held = Meter(), bytearray(200_000_000)
    held[::4096] = b"x" * len(held[::4096])
    most = watch.read()["peak_megabytes"]
    del held
    assert watch.read()["peak_megabytes"] >= most - 5  # the system counts in batches
    assert Meter().read()["peak_megabytes"] < most - 150
