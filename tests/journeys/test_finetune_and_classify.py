"""From a detector to classes by the command line."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import math
import tomllib
from functools import partial

import cv2
import numpy as np
import pytest

from conftest import digits
from unlike.cli import run
from unlike.cli.console import Console
from unlike.training import Checkpoint

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
    small = ["--model", "conv", "--size", "16", "--epochs", "3"]
    small += ["--set", "model.widths=[8, 16]", "--false-alarms", "0.1"]
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


def test_a_head_on_a_frozen_encoder_is_not_called_fine_tuned(stand, tmp_path, capsys):
    labelled = [str(stand / "labelled.npy"), "--labels", str(stand / "labelled.csv"), "-o", str(tmp_path / "c")]
    once = ["--epochs", "1", "--set", "finetune.head_width=8"]
    np.save(tmp_path / "few.npy", digits(0, 12)[0])
    fit = ["fit", str(tmp_path / "few.npy"), "-o", str(tmp_path / "f.unlike"), "--size", "32", "--false-alarms", "0.1"]
    assert run([*fit, "--model", "features", "--set", "model.runtime=torch"]) == 0
    assert run(["finetune", str(tmp_path / "f.unlike"), *labelled, *once]) == 0
    said = capsys.readouterr().err
    assert "Taught a head alone, on the codes of features, frozen with the detector's weights, 10 classes: 159" in said
    frozen = [*once, "--set", "finetune.freeze_encoder=true"]
    assert run(["finetune", str(stand / "d.unlike"), *labelled, *frozen]) == 0
    assert (
        "Taught a head alone, on the codes of conv, frozen with the detector's weights, 10" in capsys.readouterr().err
    )
    assert run(["finetune", str(stand / "d.unlike"), *labelled, *frozen, "--scratch"]) == 0
    said = capsys.readouterr().err
    assert "Taught a head alone, on the codes of conv, frozen with random weights, 10 classes" in said
    assert "Fine-tuned" not in said


def test_the_epoch_that_is_named_is_the_one_that_is_kept(stand, tmp_path, capsys):
    labelled = [str(stand / "labelled.npy"), "--labels", str(stand / "labelled.csv"), "-o", str(tmp_path / "c")]
    assert run(["finetune", str(stand / "d.unlike"), *labelled, *FAST, "--set", "training.keep=last"]) == 0
    history = tomllib.loads((tmp_path / "c/classifier.toml").read_text())["history"]
    assert min(history, key=lambda row: row["validation"]) != history[-1]
    assert f"Kept epoch 30 of 30: validation loss {history[-1]['validation']:.4g}." in capsys.readouterr().err


def test_settings_of_a_file_and_of_a_classifier_itself(stand, tmp_path, capsys):
    labelled = [str(stand / "labelled.npy"), "--labels", str(stand / "labelled.csv"), "--device", "cpu"]
    finetune = ["finetune", str(stand / "d.unlike"), *labelled]
    (tmp_path / "c.toml").write_text("seed = 4\n[training]\nepochs = 2\n[finetune]\nhead_width = 16\n")
    chosen = ["--config", str(tmp_path / "c.toml"), "--set", "finetune.dropout=0.1"]
    assert run([*finetune, "-o", str(tmp_path / "c"), *chosen]) == 0
    facts = tomllib.loads((tmp_path / "c/classifier.toml").read_text())
    found = (facts["seed"], facts["training"]["epochs"], facts["finetune"]["head_width"], facts["finetune"]["dropout"])
    assert found == (4, 2, 16, 0.1)
    assert run([*finetune, "-o", str(tmp_path / "again"), "--config", str(tmp_path / "c/classifier.toml")]) == 0
    for name in ("weights.safetensors", "evidence.npz"):
        assert (tmp_path / "again" / name).read_bytes() == (tmp_path / "c" / name).read_bytes()
    (tmp_path / "c.toml").write_text('preset = "padim"\n')
    capsys.readouterr()
    assert run([*finetune, "-o", str(tmp_path / "c"), "--config", str(tmp_path / "c.toml")]) == 2
    assert "c.toml: preset is a choice about a detector" in capsys.readouterr().err


def test_a_stopped_fine_tuning_goes_on_to_the_same_classifier(stand, tmp_path, capsys, monkeypatch):
    labelled = [str(stand / "labelled.npy"), "--labels", str(stand / "labelled.csv"), *FAST]
    finetune = ["finetune", str(stand / "d.unlike"), *labelled, "-o", str(tmp_path / "c.unlike")]
    monkeypatch.setattr("unlike.detector.classifier.Checkpoint", partial(Checkpoint, wait_seconds=0))
    monkeypatch.setattr("unlike.training.checkpoints.COST_SHARE", math.inf)  # keep every epoch, however quick
    seen = []

    def progress(console, last):
        def notify(stage, done, total, figures):
            seen.append(done)
            if (stage, done) == ("train", last):
                raise KeyboardInterrupt

        return contextlib.nullcontext(notify)

    monkeypatch.setattr(Console, "progress", lambda console: progress(console, 11))
    assert run([*finetune, "--resume"]) == 130
    said = capsys.readouterr().err
    assert "Nothing to resume: fitting from the start." in said
    assert "The same command with --resume goes on from the last epoch that was kept." in said
    assert not (tmp_path / "c.unlike").exists()
    assert run([*finetune, "--resume", "--seed", "1"]) == 2
    assert "belongs to a fit with other settings, images or versions" in capsys.readouterr().err
    del seen[:]
    monkeypatch.setattr(Console, "progress", lambda console: progress(console, None))
    assert run([*finetune, "--resume"]) == 0
    assert min(done for done in seen if done <= 30) == 12
    assert [path.name for path in tmp_path.iterdir()] == ["c.unlike"]  # no unfinished state is left
    for name in ("weights.safetensors", "evidence.npz"):
        assert (tmp_path / "c.unlike" / name).read_bytes() == (stand / "c.unlike" / name).read_bytes()


def test_folders_of_classes_and_a_broken_image(stand, tmp_path, capsys):
    images, labels = digits(300, 340)
    for number, (image, label) in enumerate(zip(images, labels, strict=True)):
        folder = tmp_path / "set" / ("round" if label in (0, 6, 8, 9) else "angular")
        folder.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(folder / f"{number:02}.png"), image)
    (tmp_path / "set/round/broken.png").write_bytes(b"")
    cv2.imwrite(str(tmp_path / "set/loose.png"), images[0])
    source, target = str(tmp_path / "set"), str(tmp_path / "c")
    once = ["--epochs", "1", "--scratch"]
    assert run(["finetune", str(stand / "d.unlike"), source, "-o", target, *once]) == 1
    said = capsys.readouterr().err
    assert "Fine-tuned conv from random weights, 2 classes" in said
    assert "round/broken.png: is empty (0 bytes)" in said
    assert "Left aside, as in the folder of no class: 1 image (loose.png)." in said
    (tmp_path / "set/loose.png").unlink()
    assert run(["classify", target, source, "-o", str(tmp_path / "classes.csv")]) == 1
    assert len((tmp_path / "classes.csv").read_text().splitlines()) == 41
    assert run(["classify", target, f"{source}/round/broken.png", "--report", str(tmp_path / "r")]) == 2
    older = (tmp_path / "classes.csv").read_text()
    assert run(["classify", target, f"{source}/round/broken.png", "-o", str(tmp_path / "classes.csv")]) == 2
    assert "no image of 1 can be classified: broken.png is empty" in capsys.readouterr().err
    assert (tmp_path / "classes.csv").read_text() == older


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
