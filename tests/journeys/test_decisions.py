"""Decisions from end to end: drawn again, made for a whole batch, and explained."""

from __future__ import annotations

import csv
import io
import json
import os
import tomllib

import numpy as np
import pytest

from conftest import scratched, stripes, write_png
from unlike import Detector
from unlike.cli import run


@pytest.fixture(scope="module")
def stand(tmp_path_factory):
    """Normal images to fit on, fresh ones and scratched ones, and a detector."""
    root = tmp_path_factory.mktemp("decisions")
    parts = {"good": stripes(40), "fresh/good": stripes(24, seed=3), "test/good": stripes(9, seed=4)}
    parts["test/cut"] = scratched(stripes(12, seed=5))[0]
    for part, images in parts.items():
        for number, image in enumerate(images):
            write_png(root / part / f"{number:03}.png", image)
    fast = ["--model", "pixels", "--scorer", "gaussian", "--false-alarms", "0.1", "--set", "decision.groups=none"]
    assert run(["fit", str(root / "good"), "-o", str(root / "d.unlike"), *fast]) == 0
    return root


def test_calibrate_draws_the_threshold_again_and_says_what_it_was(stand, capsys):
    new = stand / "tail.unlike"
    assert run(["calibrate", str(stand / "d.unlike"), "-o", str(new), "--threshold", "tail", "--drop", "1"]) == 0
    said = capsys.readouterr().err
    assert "Calibrated on 39 normal images of its own (1 left out by hand: " in said
    assert "by rule tail: threshold" in said
    assert "by conformal (at most 10 % false alarms)" in said
    assert "Promise: 10 % false alarms expected, if the 12 highest scores have a generalised Pareto tail" in said
    facts = tomllib.loads((new / "detector.toml").read_text())
    assert facts["fitted"]["calibrated"].startswith("on 39 normal images of its own")
    assert run(["score", str(new), str(stand / "test/cut")]) == 0
    assert "if the 12 highest scores have" in capsys.readouterr().err


def test_calibrate_by_fresh_images_and_by_labels(stand, capsys):
    new, chosen = stand / "labels.unlike", "decision.settings={beta = 2.0}"
    command = ["calibrate", str(stand / "d.unlike"), str(stand / "fresh"), str(stand / "test"), "-o", str(new)]
    assert run([*command, "--threshold", "f-beta", "--set", chosen]) == 0
    said = capsys.readouterr().err
    assert "on 24 fresh normal images of " in said
    assert "No promise: highest F2 score on 21 labelled images (12 of them anomalous)" in said
    assert Detector.load(new).settings.decision.settings == {"beta": 2.0}


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["GOOD"], "came 40 that it was fitted or calibrated on"),
        (["--set", "model.x=1"], "--set model.x: a fitted detector can have another decision only"),
        (["--set", "decision.false_alarms=0.2"], "--set decision.false_alarms: a fitted detector"),
        (["--false-alarms", "1"], "expected a share above 0 and below 1, came 1"),
    ],
)
def test_calibrate_refuses_in_a_line_and_writes_nothing(stand, capsys, more, message):
    more = [str(stand / "good") if word == "GOOD" else word for word in more]
    assert run(["calibrate", str(stand / "d.unlike"), *more, "-o", str(stand / "none.unlike")]) == 2
    said = capsys.readouterr().err
    assert message in said
    assert said.count("\n") <= 3
    assert not (stand / "none.unlike").exists()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_calibrate_says_where_it_cannot_write(stand, tmp_path, capsys):
    tmp_path.chmod(0o500)
    assert run(["calibrate", str(stand / "d.unlike"), "-o", str(tmp_path / "n.unlike")]) == 2
    assert "cannot be written" in capsys.readouterr().err


def test_a_batch_is_judged_together(stand, capsys):
    assert run(["score", str(stand / "d.unlike"), str(stand / "test"), "--fdr", "0.3"]) == 0
    out, said = capsys.readouterr()
    rows = list(csv.DictReader(io.StringIO(out)))
    assert [int(row["anomalous"]) for row in rows] == [int(float(row["q_value"]) <= 0.3) for row in rows]
    assert sum(int(row["anomalous"]) for row in rows) >= 6
    assert "of those named at most 30 % normal, on average" in said
    assert "Of 21 images 2 or more must be stranger than every held-out normal one" in said
    together = Detector.load(stand / "d.unlike").judge(stand / "test", fdr=0.3)
    assert [one.anomalous for one in together] == [row["anomalous"] == "1" for row in rows]


def test_a_batch_in_which_nothing_can_be_named_says_so(stand, capsys):
    assert run(["score", str(stand / "d.unlike"), str(stand / "test"), "--fdr", "0.01"]) == 0
    assert "Nothing can be named at a false-discovery rate of 0.01" in capsys.readouterr().err
    assert run(["score", str(stand / "d.unlike"), str(stand / "test"), "--fdr", "1"]) == 2
    assert "fdr: expected a share above 0 and below 1" in capsys.readouterr().err


def test_each_verdict_says_why(stand, capsys):
    command = ["score", str(stand / "d.unlike"), str(stand / "test"), "--explain"]
    assert run([*command, "--format", "jsonl", "--fdr", "0.3"]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert len(rows) == 21
    for row in rows:
        assert f"p = {row['p_value']:.3g}, q = {row['q_value']:.3g} of all judged together" in row["explanation"]
        assert ("pixels at (" in row["explanation"]) == bool(row["regions"])
        names = row["explanation"].partition("most like normal ")[2].split(", ")
        assert len(names) == 3
        assert all((stand / "good" / name).exists() for name in names)
    assert run([*command, "--format", "table"]) == 0
    shown = capsys.readouterr().out.splitlines()
    assert len(shown) == 1 + 2 * 21
    assert shown[2].strip().startswith(("normal: score", "anomalous: score"))


def test_an_image_is_most_like_itself(stand):
    from unlike.detector.explain import explain_verdicts

    detector, images = Detector.load(stand / "d.unlike"), stand / "good"
    found = explain_verdicts(detector, images, detector.judge(images))
    assert all(f"most like normal {one.id}" in one.explanation for one in found)


def test_tiles_know_no_images_and_say_so(stand, capsys, tmp_path):
    settings = {"data": {"tile": 16}}
    tiled = Detector("pixels", "gaussian", false_alarms=0.2, settings=settings, device="cpu").fit(stripes(30))
    tiled.save(tmp_path / "t.unlike")
    assert run(["score", str(tmp_path / "t.unlike"), str(stand / "test/cut"), "--explain"]) == 0
    out, said = capsys.readouterr()
    assert "Which normal images are most like one is not known: the detector sees tiles" in said
    assert "most like" not in out


def test_the_report_names_the_normal_images_that_a_picture_is_like(stand, tmp_path):
    assert run(["evaluate", str(stand / "d.unlike"), str(stand / "test"), "-o", str(tmp_path)]) == 0
    assert "most like normal" in (tmp_path / "report.html").read_text()


def test_a_detector_that_knows_images_is_loaded_with_them(stand):
    known = Detector.load(stand / "d.unlike").fitted_.known
    assert len(known.ids) == 40
    np.testing.assert_array_equal(known.places.shape, (40, len(known.directions)))


def test_pictures_of_normal_images_are_kept_and_shown_when_asked_for(stand, tmp_path):
    new = tmp_path / "p.unlike"
    fast = ["--model", "pixels", "--scorer", "gaussian", "--size", "64", "--false-alarms", "0.1"]
    assert run(["fit", str(stand / "good"), "-o", str(new), *fast, "--keep-pictures"]) == 0
    assert Detector.load(new).fitted_.known.pictures.shape == (40, 64, 64, 3)
    assert not len(Detector.load(stand / "d.unlike").fitted_.known.pictures)
    assert run(["evaluate", str(new), str(stand / "test"), "-o", str(tmp_path / "r")]) == 0
    assert '<div class="alike">' in (tmp_path / "r/report.html").read_text()
