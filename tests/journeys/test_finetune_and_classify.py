"""From a detector to classes by the command line."""

from __future__ import annotations

import csv
import io
import json

import cv2
import numpy as np
import pytest

from conftest import digits
from unlike.cli import run

FAST = ["--epochs", "30", "--set", "finetune.head_width=64", "--set", "training.batch_size=16"]
FAST += ["--set", "training.learning_rate=0.003", "--device", "cpu"]


@pytest.fixture(scope="module")
def stand(tmp_path_factory):
    """Digits as arrays and as folders, a detector fitted on some, and a classifier of them."""
    root = tmp_path_factory.mktemp("digits")
    for name, (start, stop) in {"plain": (0, 150), "labelled": (300, 500), "test": (500, 600)}.items():
        images, labels = digits(start, stop)
        np.save(root / f"{name}.npy", images)
        (root / f"{name}.csv").write_text("id,label\n" + "".join(f"{i},{label}\n" for i, label in enumerate(labels)))
    small = ["--size", "16", "--epochs", "3", "--set", "model.widths=[8, 16]", "--false-alarms", "0.1"]
    assert run(["fit", str(root / "plain.npy"), "-o", str(root / "d.unlike"), *small]) == 0
    labelled = [str(root / "labelled.npy"), "--labels", str(root / "labelled.csv")]
    assert run(["finetune", str(root / "d.unlike"), *labelled, "-o", str(root / "c.unlike"), *FAST]) == 0
    return root


def test_finetune_says_what_it_did_and_reports_validation(stand, tmp_path, capsys):
    labelled = [str(stand / "labelled.npy"), "--labels", str(stand / "labelled.csv")]
    report = ["--report", str(tmp_path / "report")]
    assert run(["finetune", str(stand / "d.unlike"), *labelled, "-o", str(tmp_path / "c"), *FAST, *report]) == 0
    said = capsys.readouterr().err
    assert "Fine-tuned conv from the detector's encoder, 10 classes: 159 images to train, 41 to validate." in said
    assert "of 30: validation loss" in said
    assert "(of the images that chose the best epoch: measure on others)" in said
    metrics = json.loads((tmp_path / "report/metrics.json").read_text())
    assert (metrics["part"], metrics["images"]) == ("validation", 41)
    assert "Validation accuracy" in (tmp_path / "report/report.html").read_text()
    for name in ("weights.safetensors", "evidence.npz"):  # the same command gives the same classifier
        assert (tmp_path / "c" / name).read_bytes() == (stand / "c.unlike" / name).read_bytes()


def test_classify_writes_a_row_for_each_image(stand, tmp_path, capsys):
    assert run(["classify", str(stand / "c.unlike"), str(stand / "test.npy"), "-o", str(tmp_path / "classes.csv")]) == 0
    rows = list(csv.DictReader(io.StringIO((tmp_path / "classes.csv").read_text())))
    assert [row["id"] for row in rows] == [str(number) for number in range(100)]
    columns = ["id", "class", "probability", *(f"probability of {name}" for name in range(10))]
    assert list(rows[0]) == columns
    for row in rows:
        chances = [float(row[f"probability of {name}"]) for name in range(10)]
        assert row["class"] == str(np.argmax(chances))
        assert sum(chances) == pytest.approx(1, abs=1e-4)
    assert np.mean([int(row["class"]) for row in rows] == digits(500, 600)[1]) > 0.5
    assert "100 images classified: 0 " in capsys.readouterr().err
    assert run(["classify", str(stand / "c.unlike"), str(stand / "test.npy")]) == 0
    assert capsys.readouterr().out == (tmp_path / "classes.csv").read_text()


def test_classify_measures_on_labelled_images_and_warns_of_known_ones(stand, tmp_path, capsys):
    test = [str(stand / "test.npy"), "--labels", str(stand / "test.csv"), "-o", str(tmp_path / "classes.csv")]
    assert run(["classify", str(stand / "c.unlike"), *test, "--report", str(tmp_path / "report")]) == 0
    metrics = json.loads((tmp_path / "report/metrics.json").read_text())
    assert metrics["images"] == 100
    assert metrics["accuracy"]["low"] > 0.5
    assert metrics["leaked"] == []
    said = capsys.readouterr().err
    assert f"Accuracy: {metrics['accuracy']['value']:.3f} [" in said
    assert "Warning" not in said
    known = [str(stand / "labelled.npy"), "--labels", str(stand / "labelled.csv"), "-o", str(tmp_path / "classes.csv")]
    assert run(["classify", str(stand / "c.unlike"), *known, "--report", str(tmp_path / "report")]) == 0
    said = capsys.readouterr().err
    assert "Warning: 200 images identical to images the classifier was fine-tuned on, such as 0: the accuracy" in said


def test_folders_of_classes_and_a_broken_image(stand, tmp_path, capsys):
    images, labels = digits(300, 340)
    for number, (image, label) in enumerate(zip(images, labels, strict=True)):
        folder = tmp_path / "set" / ("round" if label in (0, 6, 8, 9) else "angular")
        folder.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(folder / f"{number:02}.png"), image)
    (tmp_path / "set/round/broken.png").write_bytes(b"")
    source, target = str(tmp_path / "set"), str(tmp_path / "c")
    once = ["--epochs", "1", "--scratch"]
    assert run(["finetune", str(stand / "d.unlike"), source, "-o", target, *once]) == 1
    said = capsys.readouterr().err
    assert "Fine-tuned conv from random weights, 2 classes" in said
    assert "round/broken.png: is empty (0 bytes)" in said
    assert run(["classify", target, source, "-o", str(tmp_path / "classes.csv")]) == 1
    assert len((tmp_path / "classes.csv").read_text().splitlines()) == 41
    assert run(["classify", target, f"{source}/round/broken.png", "--report", str(tmp_path / "r")]) == 2
    assert run(["classify", target, f"{source}/round/broken.png"]) == 1
    assert "0 images classified: none." in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["finetune", "nowhere", "{x}", "-o", "c"], "nowhere: no detector here; `unlike fit IMAGES -o nowhere`"),
        (["finetune", "{d}", "{x}", "-o", "c"], "an array needs labels, one a row (--labels)"),
        (["finetune", "{d}", "{x}", "--labels", "{y}", "-o", "{d}"], "is there already and is no classifier"),
        (["finetune", "{d}", "{x}", "--labels", "{y}", "-o", "c", "--set", "finetune.a=1"], "unknown setting"),
        (["finetune", "{d}", "{x}", "--labels", "{y}", "-o", "c", "--set", "model.code=1"], "unknown section 'model'"),
        (["finetune", "{d}", "{x}", "--labels", "{y}", "-o", "/proc/c"], "/proc/c: cannot be written"),
        (["finetune", "{d}", "{x}", "--labels", "{y}", "-o", "c", "--report", "/proc/r"], "/proc/r"),
        (["classify", "{d}", "{x}"], "is a detector; expected a classifier"),
        (["classify", "{c}", "{x}", "--labels", "{y}"], "say where the report goes with --report DIR"),
        (["classify", "{c}", "{x}", "{x}", "--report", "r"], "expected one labelled source of images, came 2"),
        (["classify", "{c}", "{x}", "--report", "r"], "an array needs labels"),
        (["classify", "{c}", "{x}", "-o", "/proc/s.csv"], "/proc/s.csv: cannot be written"),
        (["score", "{c}", "{x}"], "is a classifier; expected a detector"),
    ],
)
def test_wrong_use_is_one_line_and_exit_code_2(stand, tmp_path, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(tmp_path)
    paths = {"d": stand / "d.unlike", "c": stand / "c.unlike", "x": stand / "test.npy", "y": stand / "test.csv"}
    assert run([part.format(**paths) for part in arguments]) == 2
    said = capsys.readouterr().err.strip().splitlines()
    assert len(said) == 1
    assert message in said[0]


@pytest.mark.parametrize("name", ["finetune", "classify"])
def test_every_command_has_an_example(name, capsys):
    assert run([name, "--help"]) == 0
    assert f"Example: unlike {name}" in capsys.readouterr().out
