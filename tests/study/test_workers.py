"""Who lives and who does not."""

from __future__ import annotations

import signal
import time
from pathlib import Path

import pytest
from trivial import Forked

from unlike.errors import OutputError
from unlike.study import workers
from unlike.study.workers import Worker, beating


@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork.*:DeprecationWarning")
def test_a_lock_tells_who_was_killed(tmp_path, request):
    me = Worker(tmp_path)
    family = workers.new_family()

    def live():
        kept = Worker(tmp_path, family)
        (tmp_path / "there").touch()
        signal.pause()
        kept.close()

    other = Forked(live)
    request.addfinalizer(other.kill)
    while not (tmp_path / "there").exists():
        assert other.poll() is None
        time.sleep(0.01)
    (name,) = [path.name for path in (tmp_path / "workers").iterdir() if path.name.startswith(family)]
    assert name.startswith(f"{family}-{other.pid}-")
    assert not me.is_gone(name, 0)
    assert not me.is_gone(me.name, 0)
    other.kill()
    assert me.is_gone(name, 0)
    me.close()
    assert [path.name for path in (tmp_path / "workers").iterdir()] == [name]


def test_who_leaves_while_being_looked_at_is_no_trouble(tmp_path, monkeypatch):
    me = Worker(tmp_path)
    other = Worker(tmp_path)
    other.close()
    monkeypatch.setattr(Path, "exists", lambda _: True)  # it was there a moment ago
    assert not me.is_gone(other.name, 0)
    monkeypatch.undo()
    me.close()


@pytest.mark.parametrize("locks", [True, False])
def test_of_workers_elsewhere_the_beat_tells(tmp_path, monkeypatch, locks):
    if not locks:
        monkeypatch.setattr(workers, "fcntl", None)
    clock = [0.0]
    monkeypatch.setattr(workers.time, "monotonic", lambda: clock[0])
    me = Worker(tmp_path)
    assert not me.is_gone("elsewhere-1-2", 0)
    clock[0] = 119.0
    assert not me.is_gone("elsewhere-1-2", 0)
    clock[0] = 121.0
    assert me.is_gone("elsewhere-1-2", 0)
    assert not me.is_gone("elsewhere-1-2", 1)
    clock[0] = 240.0
    assert not me.is_gone("elsewhere-1-2", 1)
    assert me.is_gone("elsewhere-1-2", 1) is (clock[0] - 121 > 120)
    me.close()


def test_a_heart_beats_while_work_goes_on_and_survives_a_busy_database(monkeypatch):
    monkeypatch.setattr(workers, "BEAT_SECONDS", 0.01)
    beats = []

    def beat(count):
        beats.append(count)
        if count == 2:
            raise RuntimeError("database is locked")

    with beating(beat):
        while len(beats) < 4:
            time.sleep(0.005)
    assert beats[:4] == [1, 2, 3, 4]
    many = len(beats)
    time.sleep(0.05)
    assert len(beats) == many


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="needs a folder in which nothing can be made")
def test_a_folder_that_cannot_be_written():
    with pytest.raises(OutputError, match="/proc/nowhere: cannot be written"):
        Worker(Path("/proc/nowhere"))
