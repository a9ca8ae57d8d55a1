"""What people read while they wait, and afterwards."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import numpy as np
import pytest

from conftest import stripes
from unlike import Detector
from unlike.artifacts import TRAINING_PROCESSES
from unlike.cli.console import Console, _QuietLines, evaluation_lines
from unlike.cli.tables import open_table
from unlike.errors import OutputError
from unlike.records import Estimate, Evaluation, Metrics, Sample, Scores, Unreadable, Verdict


def metrics(auroc=0.9, **more):
    return Metrics(30, 20, {"auroc": Estimate(auroc, auroc - 0.1, 0.99), "f1_max": Estimate(0.8)}, **more)


def evaluation(**more):
    samples = (Sample("a", anomalous=False), Sample("b", anomalous=True))
    scores = Scores(("a", "b"), np.array([1.0, 2.0]))
    parts = {"categories": {}, "kinds": {}} | more
    return Evaluation(metrics(left_out={"pixel.auroc": "no masks", "pixel.aupro": "no masks"}), **parts, scores=scores,
                      samples=samples, p_values=np.ones(2), image_thresholds=np.full(2, 1.5), alarms=scores.image > 1.5,
                      threshold=1.5, promised_false_alarms=0.01)  # fmt: skip


def test_figures_are_printed_with_intervals_and_oracles_called_so():
    lines = evaluation_lines(evaluation())
    assert lines[0] == "30 normal and 20 anomalous images; 95 % intervals in brackets"
    assert any(line.split() == ["AUROC", "0.900", "[0.800,", "0.990]"] for line in lines)
    assert any("Best F1 (oracle)" in line and line.endswith("0.800") for line in lines)
    assert "  without pixel.auroc, pixel.aupro: no masks" in lines


def test_synthetic_defects_are_called_so_first():
    lines = evaluation_lines(evaluation(synthetic=True))
    assert lines[0].startswith("SYNTHETIC: 30 normal images, 20 copies with made defects")


def test_groups_are_printed_where_there_are_several():
    lines = evaluation_lines(evaluation(kinds={"bent": metrics(0.7), "cut": metrics(0.6)}))
    assert [line.split()[:3] for line in lines[-2:]] == [["bent", "30", "20"], ["cut", "30", "20"]]
    assert not any("bent" in line for line in evaluation_lines(evaluation(kinds={"bent": metrics()})))


def test_many_unreadable_images_are_listed_in_part(capsys):
    Console().say_unreadable([Unreadable(f"{number}.png", "is empty") for number in range(25)])
    said = capsys.readouterr().err.splitlines()
    assert said[0] == "25 images could not be used:"
    assert said[1].startswith("  0.png, 1.png, ")
    assert said[1].endswith(", 19.png and 5 more: is empty")
    assert len(said) == 2


@pytest.mark.parametrize("starter", ["TORCHELASTIC_RUN_ID", TRAINING_PROCESSES])
def test_only_the_first_process_speaks(monkeypatch, capsys, starter):
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv(starter, "2")
    Console().say("hello")
    assert capsys.readouterr().err == ""
    monkeypatch.setenv("RANK", "0")
    Console().say("hello")
    assert capsys.readouterr().err == "hello\n"


def test_quiet_lines_come_now_and_then(monkeypatch):
    clock = iter([0.0, 3.0, 11.0, 11.0, 12.0])
    monkeypatch.setattr("unlike.cli.console.time.monotonic", lambda: next(clock))
    said = []
    notify = _QuietLines(said.append)
    notify("train", 1, 9, {"train": 0.5, "validation": 0.25, "learning_rate": 1})
    notify("train", 2, 9, {"train": 0.5, "validation": 0.25, "learning_rate": 1})
    notify("train", 3, 9, {})
    assert said == ["Training: 2 of 9 epochs loss: train 0.5, validation 0.25"]


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_a_terminal_gets_bars(monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    with Console().progress() as notify:
        notify("read", 5, 10, {})
        notify("read", 10, 10, {})
        notify("train", 1, 2, {"train": 0.125, "validation": 0.5})
    text = terminal.getvalue()
    assert "Reading" in text
    assert "10/10" in text
    assert "loss: train 0.125, validation 0.5" in text


def write_row(path):
    with open_table(path, "csv") as table:
        table.write([Sample("a")], [Verdict("a", 1.0, 2.0, 0.5, anomalous=False)])


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a disk that is always full")
def test_a_full_disk_is_said():
    with pytest.raises(OutputError, match=r"/dev/full: cannot be written \(No space left on device\)"):
        write_row(Path("/dev/full"))


def test_an_error_in_reading_is_not_blamed_on_the_output(tmp_path):
    with pytest.raises(OSError, match=r"^the camera is gone$"), open_table(tmp_path / "s.csv", "csv"):
        raise OSError("the camera is gone")


def test_an_older_file_stays_until_there_is_a_row(tmp_path):
    path = tmp_path / "s.csv"
    with open_table(path, "csv") as table:
        table.write([], [])
    assert not path.exists()
    path.write_text("older\n" * 99)
    with open_table(path, "csv") as table:
        table.write([], [])
    assert path.read_text().startswith("older")
    write_row(path)
    assert path.read_text() == "id,score,threshold,p_value,anomalous\na,1,2,0.5,0\n"


def test_as_many_to_train_as_to_calibrate_are_still_held_back(tmp_path, capsys):
    detector = Detector(model="fcn", epochs=1, false_alarms=0.05, device="cpu").fit(stripes(40))
    assert detector.fitted_.counts["train"] == detector.fitted_.counts["calibration"] == 19
    Console().say_fit(detector, tmp_path)
    said = capsys.readouterr().err
    assert "19 images to train, 2 to validate, 19 to calibrate" in said
    assert "19 held-out normal images" in said
    Console().say_fit(Detector(model="pixels", scorer="gaussian", device="cpu").fit(stripes(40)), tmp_path)
    assert "40 images, none held back: each calibrates by what the others show" in capsys.readouterr().err


def test_a_fit_says_what_its_threshold_rests_on_and_which_image_is_suspect(capsys, tmp_path):
    images = np.random.default_rng(0).integers(100, 110, (60, 8, 8), dtype=np.uint8)
    images[17] = 250
    detector = Detector("pixels", "gaussian", cache=False).fit(images)
    Console().say_fit(detector, tmp_path)
    said = capsys.readouterr().err
    assert "  2 %: threshold " in said
    assert "rests on 1 image (17)" in said
    assert "  5 %: threshold " in said
    assert "rests on 3 images (" in said
    assert "Suspect among the normal images, far stranger than the next: 17 (" in said
    assert "By other rules (`unlike calibrate --threshold NAME`): " in said
    assert "k-sigma " in said


def test_series_and_the_other_way_to_count_are_said(capsys, tmp_path):
    images = np.repeat(np.random.default_rng(0).integers(0, 250, (30, 1, 8, 8), dtype=np.uint8), 2, axis=1).reshape(
        -1, 8, 8
    )
    images[1::2, 0, 0] += 3
    settings = {"model": {"side": 8}}
    names = [str(number // 2) for number in range(60)]
    detector = Detector("pixels", "neighbours", settings=settings, cache=False).fit(images, group_by=names)
    Console().say_fit(detector, tmp_path)
    said = capsys.readouterr().err
    assert "Groups: 30, as given. Each is left out as a whole; the promise rests on their number" in said
    assert "(60 normal images in 30 groups); threshold " in said
    assert "If images counted: threshold " in said
    assert "at most 4.92 % false alarms (60 images)." in said


def test_images_that_were_fitted_on_are_counted_and_one_is_named(capsys):
    Console().say_known([])
    assert not capsys.readouterr().err
    Console().say_known(["a.png", "b.png"])
    assert (
        "2 images identical to some that the detector was fitted on, such as a.png: they look"
        in capsys.readouterr().err
    )


def test_kinds_are_printed_with_what_is_found_at_each_promise():
    found = {"detection_rate_at_2": Estimate(0.4, 0.3, 0.5), "detection_rate_at_5": Estimate(0.625, 0.5, 0.7)}
    part = Metrics(30, 20, {"auroc": Estimate(0.9, 0.8, 0.99), **found})
    lines = evaluation_lines(evaluation(kinds={"bent": part, "cut": part}))
    assert lines[-3].endswith("found at 1, 2, 5 %")
    assert lines[-1].endswith("-, 0.40, 0.62")
