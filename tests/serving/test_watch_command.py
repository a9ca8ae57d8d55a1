"""`unlike watch` as a user runs it, with a real detector."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time

import httpx
import numpy as np
import pytest

from conftest import scratched, stripes, write_png
from exports import small_detector, small_export
from unlike.cli import run
from unlike.cli import watch as command
from unlike.serving.client import Client
from unlike.serving.sources.base import Arrival
from unlike.serving.sources.taking import LaterError, LocalScorer, RemoteScorer


@pytest.fixture
def folder(tmp_path):
    """Three normal images, one that is scratched, one that is broken."""
    for number, image in enumerate(stripes(3, seed=7)):
        write_png(tmp_path / f"in/{number}.png", image)
    write_png(tmp_path / "in/odd.png", scratched(stripes(1, seed=8))[0][0])
    (tmp_path / "in/bad.png").write_bytes(b"\x89PNG but no more")
    small_detector().save(tmp_path / "cells.unlike")
    return tmp_path


def test_rows_are_those_of_score_and_the_broken_one_is_named(folder, capsys):
    arguments = ["watch", str(folder / "in"), "--detector", str(folder / "cells.unlike"), "--settle", "0", "--once"]
    assert run([*arguments, "-o", str(folder / "scores.csv")]) == 1
    said = capsys.readouterr().err
    assert "4 images scored, " in said
    assert "bad.png: not yet: is cut short" in said
    run(["score", str(folder / "cells.unlike"), str(folder / "in"), "-o", str(folder / "again.csv")])
    watched, scored = (
        {row["id"]: row for row in csv.DictReader((folder / name).read_text().splitlines())}
        for name in ("scores.csv", "again.csv")
    )
    assert watched == scored
    before = (folder / "scores.csv").read_bytes()
    run([*arguments, "-o", str(folder / "scores.csv")])
    assert (folder / "scores.csv").read_bytes() == before


def test_rows_go_to_the_terminal_as_jsonl_by_an_export(folder, capsys):
    arguments = [
        "watch",
        str(folder / "in"),
        "--detector",
        str(small_export()),
        "--settle",
        "0",
        "--once",
        "--format",
        "jsonl",
    ]
    assert run([*arguments, "--state", str(folder / "state.sqlite")]) == 1
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert {row["id"] for row in rows} == {"0.png", "1.png", "2.png", "odd.png"}
    assert next(row for row in rows if row["id"] == "odd.png")["regions"]


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--set", "training.epochs=2"], "--set: expected source.key=value, came 'training.epochs=2'"),
        (["--source", "camera"], "unknown source of images 'camera'"),
        (["--server", "line3"], "expected the address of a service"),
    ],
)
def test_wrong_use_is_one_line(folder, capsys, more, words):
    assert run(["watch", str(folder / "in"), "--detector", str(folder / "cells.unlike"), *more]) == 2
    assert words in capsys.readouterr().err


def test_a_stop_in_the_middle_finishes_what_is_under_way(folder):
    (folder / "in/bad.png").unlink()
    arguments = [
        sys.executable,
        "-m",
        "unlike",
        "watch",
        str(folder / "in"),
        "--detector",
        str(folder / "cells.unlike"),
        "--settle",
        "0",
    ]
    process = subprocess.Popen([*arguments, "-o", str(folder / "scores.csv")], stderr=subprocess.PIPE, text=True)
    until = time.monotonic() + 120
    while not (folder / "scores.csv").exists() or (folder / "scores.csv").read_text().count("\n") < 5:
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < until
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 0
    assert "4 images scored" in said


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_second_signal_stops_at_once(number):
    """Its handler is called as Python would: a real signal reaches whoever runs the tests too."""
    before = signal.getsignal(number)
    with command._stopped_by_signals() as stopping:
        handle = signal.getsignal(number)
        handle(number, None)
        assert stopping.is_set()
        with pytest.raises(KeyboardInterrupt):
            handle(number, None)
    assert signal.getsignal(number) is before


def test_frames_and_files_are_scored_alike(folder):
    frame = stripes(3, seed=7)[0]
    arrivals = [
        Arrival("frame", "f:1", pixels=frame),
        Arrival("0.png", "0:1", path=folder / "in/0.png"),
        Arrival("none.png", "n:1", path=folder / "in/none.png"),
        Arrival("tiny", "t:1", pixels=np.zeros((8, 8, 7), np.uint8)),
    ]
    found = LocalScorer(small_detector()).score(arrivals)
    assert [one.arrival.name for one in found] == ["frame", "0.png", "none.png", "tiny"]
    assert found[0].row["id"] == "frame"
    assert np.isclose(found[0].row["score"], found[1].row["score"], rtol=1e-5)
    assert found[2].row is None
    assert found[2].error
    assert found[3].error


def answering(answer):
    return RemoteScorer(Client("http://line3", retries=0, transport=httpx.MockTransport(answer)), "cells", "watch:1")


def test_a_service_is_told_each_image_by_its_key_and_its_rows_are_kept_by_name(folder):
    had = []

    def answer(request):
        had.append(request.read())
        rows = [
            {
                "name": "0.png",
                "id": "7f",
                "score": 1.0,
                "threshold": 2.0,
                "p_value": 0.5,
                "anomalous": False,
                "regions": [],
            }
        ]
        return httpx.Response(200, json={"items": [rows[0], {"name": "bad.png", "error": "is broken"}]})

    arrivals = [Arrival(name, f"{name}:1:2", path=folder / "in" / name) for name in ("none.png", "0.png", "bad.png")]
    found = answering(answer).score(arrivals)
    assert {one.arrival.name: (one.row or {}).get("id", one.error) for one in found} == {
        "none.png": "cannot be opened (No such file or directory)",
        "0.png": "0.png",
        "bad.png": "is broken",
    }
    assert b"watch:1:0.png:1:2" in had[0]


def test_a_busy_service_is_asked_later_and_one_that_refuses_is_an_error(folder):
    arrivals = [Arrival("0.png", "0.png:1:2", path=folder / "in/0.png")]
    busy = answering(lambda request: httpx.Response(503, json={"detail": "busy"}, headers={"Retry-After": "3"}))
    with pytest.raises(LaterError, match=r"503: busy") as caught:
        busy.score(arrivals)
    assert caught.value.wait_seconds == 3.0
    with pytest.raises(Exception, match="404: there is no detector"):
        answering(lambda request: httpx.Response(404, json={"detail": "there is no detector"})).score(arrivals)


def test_one_image_that_is_refused_is_its_own_fault(folder):
    arrivals = [Arrival("0.png", "0.png:1:2", path=folder / "in/0.png")]
    found = answering(lambda request: httpx.Response(422, json={"detail": "0.png is broken"})).score(arrivals)
    assert found[0].error == "0.png is broken"
