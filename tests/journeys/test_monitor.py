"""`unlike monitor` from end to end: a stream is watched, changes, is interrupted and goes on."""

from __future__ import annotations

import csv
import io
import json

import numpy as np
import pytest

from conftest import stripes, write_png
from unlike import Detector
from unlike.cli import run


@pytest.fixture(scope="module")
def stand(tmp_path_factory):
    """A detector, a day of usual images, and one in which the light goes."""
    root = tmp_path_factory.mktemp("monitor")
    write(root / "good", stripes(60, seed=1))
    write(root / "usual", stripes(30, seed=2))
    write(root / "dark", (stripes(20, seed=3) * 0.4).astype(np.uint8))
    fast = ["--model", "pixels", "--scorer", "neighbours", "--false-alarms", "0.1", "--set", "decision.groups=none"]
    assert run(["fit", str(root / "good"), "-o", str(root / "d.unlike"), *fast]) == 0
    return root


def write(folder, images):
    for number, image in enumerate(images):
        write_png(folder / f"{number:03}.png", image)


def watch(stand, *arguments):
    return run(["monitor", str(stand / "d.unlike"), *map(str, arguments)])


def rows_of(text):
    return list(csv.DictReader(io.StringIO(text)))


def test_a_change_is_said_logged_and_drawn(stand, tmp_path, capsys):
    assert watch(stand, stand / "usual", stand / "dark", "-o", tmp_path / "out") == 0
    said = capsys.readouterr().err
    assert "Held against 60 held-out normal images, and all that came before. Few: " in said
    assert "all images look stranger than usual: light, focus, camera or material? Probably since image 3" in said
    assert "50 images watched, " in said
    assert "(at most 1 % of unchanged streams ever give one); log and figure in" in said
    rows = rows_of((tmp_path / "out/monitor.csv").read_text())
    assert [int(row["number"]) for row in rows] == list(range(1, 51))
    alarms = [row for row in rows if row["alarm"]]
    assert 30 < int(alarms[0]["number"]) < 45
    assert alarms[0]["alarm"] == "stranger"
    assert float(alarms[0]["martingale"]) >= 100
    assert "<svg" in (tmp_path / "out/monitor.svg").read_text()[:1000]


def test_a_state_goes_on_and_the_log_with_it(stand, tmp_path, capsys):
    state, out = tmp_path / "s.json", tmp_path / "out"
    options = ["--state", state, "-o", out, "--format", "jsonl"]
    assert watch(stand, stand / "usual", *options) == 0
    assert "no alarm" in capsys.readouterr().err
    assert watch(stand, stand / "dark", *options) == 0
    assert "Going on after image 30." in capsys.readouterr().err
    parts = [json.loads(line) for line in (out / "monitor.jsonl").read_text().splitlines()]
    assert watch(stand, stand / "usual", stand / "dark", "--format", "jsonl") == 0
    whole = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    columns = ("number", "alarm", "since")
    assert [[row[name] for name in columns] for row in parts] == [[row[name] for name in columns] for row in whole]
    np.testing.assert_allclose([row["martingale"] for row in parts], [row["martingale"] for row in whole], rtol=1e-6)
    assert watch(stand, stand / "usual", "--state", state, "--learn", "20") == 2
    assert "--learn: " in (said := capsys.readouterr().err)
    assert "goes on with 0, came 20; leave it out, or name another file" in said


def test_without_a_state_the_log_starts_over(stand, tmp_path):
    for _ in range(2):
        assert watch(stand, stand / "usual", "-o", tmp_path) == 0
    assert len(rows_of((tmp_path / "monitor.csv").read_text())) == 30


def test_paths_come_on_standard_input_and_what_is_no_image_is_named(stand, monkeypatch, capsys):
    (stand / "broken.png").write_bytes(b"not an image")
    paths = [
        *sorted((stand / "usual").iterdir())[:3],
        stand / "broken.png",
        "",
        stand / "none.png",
        stand / "usual/009.png",
    ]
    monkeypatch.setattr("sys.stdin", io.StringIO("".join(f"{path}\n" for path in paths)))
    assert watch(stand, "-") == 1
    out, said = capsys.readouterr()
    assert [row["id"] for row in rows_of(out)] == [str(paths[row]) for row in (0, 1, 2, 6)]
    assert "2 images could not be used" in said
    assert "no such file or folder" in said


def test_a_broken_image_of_a_folder_does_not_stop_it(stand, tmp_path, capsys):
    write(tmp_path, stripes(5, seed=9))
    (tmp_path / "002.png").write_bytes(b"")
    assert watch(stand, tmp_path) == 1
    out, said = capsys.readouterr()
    assert len(rows_of(out)) == 4
    assert "002.png" in said


@pytest.mark.parametrize("form", ["csv", "jsonl"])
def test_rows_that_score_wrote_say_the_same_as_the_images(stand, tmp_path, capsys, form):
    table = tmp_path / f"scores.{form}"
    assert run(["score", str(stand / "d.unlike"), str(stand / "usual"), "-o", str(table), "--format", form]) == 0
    with table.open("a") as file:
        file.write("x.png,nan,1,1,0\n" if form == "csv" else "{\n")
    assert watch(stand, table) == 1
    rows, said = capsys.readouterr()
    assert f"scores.{form}, row {31}: has no id with a finite score" in said
    assert watch(stand, stand / "usual") == 0
    of_images = rows_of(capsys.readouterr().out)
    found = rows_of(rows)
    assert [row["id"] for row in found] == [row["id"] for row in of_images]
    np.testing.assert_allclose(
        [float(row["p_value"]) for row in found], [float(row["p_value"]) for row in of_images], atol=0.04
    )


def test_a_frozen_camera_is_named(stand, tmp_path, capsys):
    write(tmp_path, np.repeat(stripes(1, seed=5), 8, axis=0))
    assert watch(stand, tmp_path, "--repeats", 6) == 0
    said = capsys.readouterr().err
    assert (
        "ALARM at image 6 (005.png): the same image again and again: is the camera frozen? Probably since image 1."
        in said
    )


def test_the_first_images_can_be_learned(stand, capsys):
    assert watch(stand, stand / "usual", "--learn", 40) == 0
    said = capsys.readouterr().err
    assert "The first 40 images are taken for usual, and not judged." in said
    assert "Still learning: 10 more images before any is judged." in said


def test_wrong_use_is_a_line(stand, tmp_path, capsys):
    (tmp_path / "s.json").write_text("{}")
    (tmp_path / "t.csv").write_text("name,score\n")
    Detector("pixels", "gaussian", false_alarms=0.1).fit(stripes(30, seed=8)).save(tmp_path / "o.unlike")
    assert watch(stand, stand / "usual", "--state", tmp_path / "kept.json") == 0
    cases = {
        ("-", stand / "usual"): "IMAGES: expected images, or one table of scores, or - alone",
        (tmp_path / "t.csv",): "expected columns id and score, came name, score",
        (tmp_path / "none",): "no such file or folder",
        (stand / "usual", "--false-alarms", "2"): "false_alarms: expected a share above 0 and below 1",
        (stand / "usual", "--learn", "5"): "learn: expected 0, or 20 images or more, came 5",
        (stand / "usual", "--state", tmp_path / "s.json"): "s.json: is not the state of a monitor",
    }
    for arguments, message in cases.items():
        assert watch(stand, *arguments) == 2
        assert message in capsys.readouterr().err
    assert (
        run(["monitor", str(tmp_path / "o.unlike"), str(stand / "usual"), "--state", str(tmp_path / "kept.json")]) == 2
    )
    assert "is of another detector, whose scores are others" in capsys.readouterr().err


def test_nothing_to_watch_is_said(stand, monkeypatch, capsys):
    monkeypatch.setattr("sys.stdin", io.StringIO("none.png\n"))
    assert watch(stand, "-") == 2
    assert "-: no image of 1 can be scored: none.png" in capsys.readouterr().err
