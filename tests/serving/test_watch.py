"""A folder is watched: files are taken when they are whole, each once, over restarts and kills too."""

from __future__ import annotations

import json
import os
import sqlite3
import threading
import time
from pathlib import Path

import cv2
import numpy as np
import pytest

from conftest import stripes, write_png
from unlike.errors import ConfigError, ImageError, OutputError
from unlike.serving.sinks.rows import RowFile
from unlike.serving.sources import SOURCES, Arrival, open_arrivals
from unlike.serving.sources import watch as watching
from unlike.serving.sources.ledger import Ledger
from unlike.serving.sources.taking import LaterError, Outcome, take_all
from unlike.serving.sources.watch import STATE, FolderConfig, FolderSource

ROW = {"score": 1.0, "threshold": 2.0, "p_value": 0.5, "anomalous": False, "regions": ()}


class ByContent:
    """A scorer that decodes what it is given, and remembers the names."""

    def __init__(self):
        self.seen = []

    def score(self, arrivals):
        outcomes = []
        for one in arrivals:
            image = (
                cv2.imdecode(np.frombuffer(one.content(), np.uint8), cv2.IMREAD_UNCHANGED) if one.content() else None
            )
            self.seen.append(one.name)
            found = {"id": one.name, **ROW}
            outcomes.append(Outcome(one, found) if image is not None else Outcome(one, None, "is broken"))
        return outcomes


def png(seed=0):
    return cv2.imencode(".png", stripes(1, seed=seed)[0])[1].tobytes()


def opened(folder, said=None, **choices):
    return FolderSource(
        str(folder),
        FolderConfig(**{"settle_seconds": 0.0, "poll_seconds": 0.01, **choices}),
        (said if said is not None else []).append,
    )


def taken(folder, rows=None, said=None, scorer=None, **choices):
    """The names that one pass takes."""
    source, scorer = opened(folder, said, once=True, **choices), scorer or ByContent()
    try:
        take_all(source, scorer, threading.Event(), rows, (said if said is not None else []).append)
    finally:
        source.close()
    return scorer.seen


@pytest.fixture
def folder(tmp_path):
    where = tmp_path / "camera"
    where.mkdir()
    return where


def test_each_file_is_taken_once_over_restarts(folder):
    for number in range(3):
        write_png(folder / f"deep/{number}.png", stripes(1, seed=number)[0])
    assert sorted(taken(folder)) == ["deep/0.png", "deep/1.png", "deep/2.png"]
    assert taken(folder) == []
    write_png(folder / "3.png", stripes(1, seed=3)[0])
    assert taken(folder) == ["3.png"]


def test_the_oldest_comes_first(folder):
    for number, name in enumerate("cab"):
        os.utime(write_png(folder / f"{name}.png", stripes(1)[0]), (number, number))
    assert taken(folder) == ["c.png", "a.png", "b.png"]


def test_a_file_written_anew_under_its_name_is_another_image(folder):
    (folder / "latest.png").write_bytes(png(1))
    assert taken(folder) == ["latest.png"]
    (folder / "latest.png").write_bytes(png(2) + b" ")
    assert taken(folder) == ["latest.png"]


def test_a_file_that_grows_is_not_taken_before_it_rests(folder, monkeypatch):
    clock = [100.0]
    monkeypatch.setattr(watching.time, "monotonic", lambda: clock[0])
    source, content = opened(folder, settle_seconds=1.0), png()
    for end in (10, 200, len(content)):
        (folder / "a.png").write_bytes(content[:end])
        assert source._look() == []
        clock[0] += 0.9
    assert source._look() == []
    clock[0] += 0.2
    assert [one.name for one in source._look()] == ["a.png"]
    source.close()


@pytest.mark.parametrize(
    "name", [".a.png", "~a.png", "a.tmp.png", "a.PART.png", "a.png.part", "a.png.tmp", "notes.txt"]
)
def test_names_that_writers_use_until_a_file_is_whole_are_left_alone(folder, name):
    (folder / name).write_bytes(png())
    assert taken(folder) == []
    (folder / name).rename(folder / "whole.png")
    assert taken(folder) == ["whole.png"]


def test_a_file_that_changes_while_it_is_scored_is_taken_again_and_has_one_row(folder, tmp_path):
    (folder / "a.png").write_bytes(png(1))

    class Slow(ByContent):
        def score(self, arrivals):
            outcomes = super().score(arrivals)
            if len(self.seen) == 1:
                (folder / "a.png").write_bytes(png(2) + b"    ")
            return outcomes

    source, scorer, rows = opened(folder), Slow(), RowFile(tmp_path / "rows.jsonl", "jsonl")
    stopping = threading.Event()
    threading.Timer(0.3, stopping.set).start()
    take_all(source, scorer, stopping, rows, print)
    source.close()
    assert scorer.seen == ["a.png", "a.png"]
    assert len((tmp_path / "rows.jsonl").read_text().splitlines()) == 1


def test_a_broken_file_is_tried_a_few_times_then_given_up_and_said(folder, monkeypatch):
    monkeypatch.setattr(watching, "RETRY_SECONDS", (0.0, 0.0))
    (folder / "bad.png").write_bytes(b"\x89PNG no")
    said = []
    source, scorer = opened(folder, said), ByContent()
    stopping = threading.Event()
    threading.Timer(0.3, stopping.set).start()
    tally = take_all(source, scorer, stopping, None, said.append)
    source.close()
    assert scorer.seen == ["bad.png"] * 3
    assert said == ["bad.png: given up: is broken."]
    assert (tally.broken, tally.waiting) == (1, {})
    assert taken(folder) == []  # nor after a restart
    (folder / "bad.png").write_bytes(png())
    assert taken(folder) == ["bad.png"]  # but when it is written anew


def test_once_does_not_wait_for_a_broken_file_and_the_next_one_tries_it_again(folder):
    (folder / "slow.png").write_bytes(png()[:40])
    source = opened(folder, once=True)
    tally = take_all(source, ByContent(), threading.Event(), None, print)
    source.close()
    assert tally.waiting == {"slow.png": "is broken"}
    (folder / "slow.png").write_bytes(png())
    assert taken(folder) == ["slow.png"]


def test_what_is_done_is_moved_and_never_over_another(folder, tmp_path):
    done, broken = tmp_path / "done", folder / "broken"
    for _ in range(2):
        write_png(folder / "line1/a.png", stripes(1)[0])
        taken(folder, move_to=str(done), move_broken_to=str(broken))
    assert sorted(path.name for path in (done / "line1").iterdir()) == ["a.1.png", "a.png"]
    assert not list((folder / "line1").iterdir())


def test_broken_files_are_moved_and_not_looked_for_where_they_went(folder, monkeypatch):
    monkeypatch.setattr(watching, "RETRY_SECONDS", ())
    (folder / "bad.png").write_bytes(b"no")
    assert taken(folder, move_broken_to=str(folder / "broken")) == ["bad.png"]
    assert (folder / "broken/bad.png").exists()
    assert taken(folder, move_broken_to=str(folder / "broken")) == []


def test_what_was_done_before_a_kill_is_moved_by_the_next(folder, tmp_path):
    write_png(folder / "a.png", stripes(1)[0])
    taken(folder)
    assert taken(folder, move_to=str(tmp_path / "done")) == []
    assert (tmp_path / "done/a.png").exists()


def test_that_a_file_cannot_be_moved_is_said(folder, tmp_path):
    (tmp_path / "file").write_text("in the way")
    write_png(folder / "a.png", stripes(1)[0])
    said = []
    taken(folder, said=said, move_to=str(tmp_path / "file"))
    assert "cannot be moved to" in said[0]
    assert taken(folder, move_to=str(tmp_path / "file")) == []


def test_a_folder_that_goes_away_and_comes_back_is_said(folder, monkeypatch):
    monkeypatch.setattr(watching, "AWAY_SECONDS", 0.01)
    said, away = [], folder.with_name("away")
    source = opened(folder, said, state=str(folder.parent / "state.sqlite"))
    stopping, scorer = threading.Event(), ByContent()
    write_png(folder / "a.png", stripes(1)[0])
    worker = threading.Thread(target=take_all, args=(source, scorer, stopping, None, said.append))
    worker.start()
    for done in (
        lambda: scorer.seen,
        lambda: folder.rename(away),
        lambda: any("is gone" in one for one in said),
        lambda: away.rename(folder),
        lambda: len(said) == 2,
    ):
        until = time.monotonic() + 5
        while not done() and time.monotonic() < until:
            time.sleep(0.01)
    stopping.set()
    worker.join(5)
    source.close()
    assert [one.split(": ")[1] for one in said] == ["is gone; it is watched again when it is back.", "is back."]
    assert scorer.seen == ["a.png"]


def test_a_scorer_that_is_away_is_waited_for(folder):
    write_png(folder / "a.png", stripes(1)[0])

    class Away(ByContent):
        tries = 0

        def score(self, arrivals):
            self.tries += 1
            if self.tries < 3:
                raise LaterError("no service answers.", 0.01 if self.tries == 1 else None)
            return super().score(arrivals)

    said = []
    assert taken(folder, said=said, scorer=Away()) == ["a.png"]
    assert said == ["no service answers. It is tried again until it works; nothing is lost.", "The service is back."]


@pytest.mark.parametrize("form", ["csv", "jsonl"])
def test_a_kill_between_a_row_and_its_crossing_off_writes_no_row_twice(folder, tmp_path, form):
    for number in range(3):
        write_png(folder / f"{number}.png", stripes(1, seed=number)[0])
    path = tmp_path / f"rows.{form}"

    class Killed(FolderSource):
        def done(self, taken):
            raise KeyboardInterrupt

    source = Killed(str(folder), FolderConfig(settle_seconds=0.0, once=True), print)
    with pytest.raises(KeyboardInterrupt):
        take_all(source, ByContent(), threading.Event(), RowFile(path, form), print)
    source.close()
    whole = path.read_bytes()
    path.write_bytes(whole[:-7])  # the last row is cut short
    assert taken(folder, rows=RowFile(path, form)) == ["2.png"]
    assert path.read_bytes() == whole
    assert taken(folder, rows=RowFile(path, form)) == []
    assert path.read_bytes() == whole


def test_rows_go_on_in_a_file_that_is_there_and_no_other_is_overwritten(tmp_path):
    path = tmp_path / "rows.csv"
    for number in range(2):
        RowFile(path, "csv").append({str(number): {"id": f"=a{number}.png", **ROW}})
    assert path.read_text() == "id,score,threshold,p_value,anomalous\n'=a0.png,1,2,0.5,0\n'=a1.png,1,2,0.5,0\n"
    with pytest.raises(ConfigError, match=r"rows.csv: is there already, and is no jsonl table of `unlike watch`"):
        RowFile(path, "jsonl")


def test_rows_on_a_full_disk_are_refused(tmp_path):
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full here")
    rows = RowFile(tmp_path / "rows.jsonl", "jsonl")
    (tmp_path / "rows.jsonl").unlink()
    (tmp_path / "rows.jsonl").symlink_to("/dev/full")
    with pytest.raises(OutputError, match=r"cannot be written"):
        rows.append({"a": {"id": "a", **ROW}})


def test_two_watches_of_one_folder_are_told_apart(folder, tmp_path):
    first = opened(folder)
    with pytest.raises(ConfigError, match=r"another watch of this folder is running; stop it, or name another file"):
        opened(folder)
    opened(folder, state=str(tmp_path / "other.sqlite")).close()
    first.close()
    opened(folder).close()


def test_wrong_choices_are_refused_in_a_sentence(folder, tmp_path):
    with pytest.raises(ConfigError, match=r"expected a folder to watch, which is not there"):
        opened(tmp_path / "none")
    with pytest.raises(ConfigError, match=r"cannot be moved to where they come from"):
        opened(folder, move_to=str(folder))
    with pytest.raises(ConfigError, match=r"expected at least 0 and above 0, came -1 and 0.01"):
        opened(folder, settle_seconds=-1.0)
    (tmp_path / "text").write_text("this is no database, but long enough to be one" * 20)
    with pytest.raises(ConfigError, match=r"is not the state of a watch"):
        opened(folder, state=str(tmp_path / "text"))
    with pytest.raises(ConfigError, match=r"what is done cannot be remembered here"):
        opened(folder, state=str(tmp_path / "text/state"))
    with pytest.raises(ConfigError, match=r"unknown source of images 'foldr'; did you mean 'folder'"):
        open_arrivals("foldr", str(folder), {}, print)
    with pytest.raises(ConfigError, match=r"unknown setting 'source.settle'"):
        open_arrivals("folder", str(folder), {"settle": 1}, print)
    assert "folder" in SOURCES


def test_a_ledger_that_cannot_be_written_says_so(tmp_path):
    ledger = Ledger(tmp_path / "state.sqlite")
    ledger._connection.execute("PRAGMA query_only = ON")
    with pytest.raises(OutputError, match=r"cannot be written .*make room, or name another with --state"):
        ledger.forget(["a"])
    ledger.close()


def test_files_that_are_long_gone_are_forgotten(folder):
    write_png(folder / "a.png", stripes(1)[0])
    taken(folder)
    (folder / "a.png").unlink()
    with sqlite3.connect(folder / STATE) as connection:
        connection.execute("UPDATE files SET at = 0")
    connection.close()
    taken(folder)
    ledger = Ledger(folder / STATE)
    assert ledger.entries == {}
    ledger.close()


def test_frames_are_png_files_and_what_is_no_frame_is_refused():
    frame = stripes(1)[0]
    content = Arrival("a", "a:1", pixels=frame).content()
    assert (cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)[..., ::-1] == frame).all()
    with pytest.raises(ImageError, match=r"expected pixels .* of uint8 or uint16, came float64 of shape"):
        Arrival("a", "a:1", pixels=np.zeros((4, 4))).content()
    with pytest.raises(ImageError, match=r"expected 1, 3 or 4 channels of at least one pixel, came shape"):
        Arrival("a", "a:1", pixels=np.zeros((4, 4, 5), np.uint8)).content()
    with pytest.raises(ImageError, match=r"cannot be opened"):
        Arrival("a", "a:1", path=Path("/no/such/file.png")).content()


def test_rows_of_jsonl_have_regions(tmp_path):
    RowFile(tmp_path / "rows.jsonl", "jsonl").append({"a": {"id": "a", **ROW}})
    assert json.loads((tmp_path / "rows.jsonl").read_text())["regions"] == []
