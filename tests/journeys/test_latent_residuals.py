"""Residuals before and after fine-tuning by the command line, and the same numbers by hand."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch

from conftest import digits
from unlike import Classifier, Detector
from unlike.cli import run

SMALL = ["--epochs", "25", "--set", "training.batch_size=8", "--set", "training.learning_rate=0.005"]
SMALL += ["--false-alarms", "0.1", "--device", "cpu"]
TUNE = ["--epochs", "3", "--set", "finetune.head_width=16", "--device", "cpu"]


@pytest.fixture(scope="module")
def stand(tmp_path_factory):
    """A detector fitted on ones, classifiers fine-tuned on some digits, and a test of others with some of both."""
    root = tmp_path_factory.mktemp("residuals")
    images, names = digits(0, 900)
    images = np.repeat(np.repeat(images, 2, axis=1), 2, axis=2)  # 16 x 16, as the smallest models need
    ones, others = images[names == 1], images[names != 1]
    np.save(root / "plain.npy", ones[:50])
    np.save(root / "labelled.npy", np.concatenate([ones[50:60], others[:10]]))
    np.save(root / "words.npy", np.repeat(["one", "other"], 10))
    np.save(root / "test.npy", np.concatenate([ones[45:80], others[5:60]]))
    np.save(root / "y.npy", np.repeat([0, 1], [35, 55]))
    np.save(root / "fitted.npy", np.concatenate([ones[:50], others[20:60]]))
    np.save(root / "fitted_y.npy", np.repeat([0, 1], [50, 40]))
    for name, seed in (("d", "0"), ("other", "1")):
        settings = ["--model", "conv", "--set", f"model.widths=[8, {16 + int(seed)}]", "--seed", seed]
        settings += ["--set", "model.bottleneck=8"]
        assert run(["fit", str(root / "plain.npy"), "-o", str(root / f"{name}.unlike"), *SMALL, *settings]) == 0
    thumbnails = ["--model", "pixels", "--scorer", "kmeans", "--set", "scorer.clusters=2"]
    assert run(["fit", str(root / "plain.npy"), "-o", str(root / "pixels.unlike"), *SMALL, *thumbnails]) == 0
    labelled = [str(root / "labelled.npy"), "--labels", str(root / "words.npy")]
    kinds = {
        "c": [],
        "frozen": ["--set", "finetune.freeze_encoder=true"],
        "head": ["--set", "finetune.reconstruction_weight=0"],
        "scratch": ["--scratch"],
        "nothing": ["--scratch", "--set", "finetune.freeze_encoder=true"],
    }
    for name, settings in kinds.items():
        folder = str(root / f"{name}.classifier")
        assert run(["finetune", str(root / "d.unlike"), *labelled, "-o", folder, *TUNE, *settings]) == 0
    return root


def call(stand, *arguments):
    paths = {path.name.split(".")[0]: path for path in stand.iterdir()}
    return run(["latent", "residuals", *(part.format(**paths) for part in arguments), "--device", "cpu"])


def means(line):
    return [float(number) for number in re.findall(r"(?:normal|anomalous|means|AUROC) ([\d.e-]+)", line)]


def residuals_by_hand(model, images):
    values = torch.from_numpy(images[:, None] / np.float32(127.5) - 1)
    with torch.no_grad():
        return ((model.eval().rebuild(values) - values) ** 2).mean(dim=(1, 2, 3)).numpy()


def test_the_figures_are_those_of_the_held_out_images_by_hand(stand, tmp_path, capsys):
    arguments = ["--labels", "{y}", "--classifier", "{c}", "-o", str(tmp_path / "a.png")]
    assert call(stand, "{d}", "{test}", *arguments) == 0
    said = capsys.readouterr()
    lines = said.out.splitlines()
    test, labels = np.load(stand / "test.npy"), np.load(stand / "y.npy")
    fresh = np.r_[15:35, 40:90]  # of the others, five were fitted on, fifteen fine-tuned on
    models = [
        Detector.load(stand / "d.unlike").fitted_.pipeline.model,
        Classifier.load(stand / "c.classifier").model_.model,
    ]
    for line, title, model in zip(lines, ("the detector", "the fine-tuned model"), models, strict=True):
        assert line.startswith(f"{title}: mean residual normal ")
        found = residuals_by_hand(model, test)[fresh]
        usual, strange = found[labels[fresh] == 0], found[labels[fresh] == 1]
        auroc = (strange[:, None] > usual).mean()
        expected = [usual.mean(), strange.mean(), strange.mean() / usual.mean(), auroc]
        np.testing.assert_allclose(means(line), expected, rtol=6e-3)  # of three digits
    assert means(lines[0])[2] > 1.2  # what was never seen has the larger residual
    assert means(lines[0]) != means(lines[1])
    assert "20 images left out, such as 0: a model has learned from them, and reconstructs them better" in said.err
    assert f"Residuals of 70 images: {tmp_path / 'a.png'}" in said.err


def test_a_detector_alone_and_pages_and_drawings(stand, tmp_path, capsys):
    for name in ("a.svg", "b.html"):
        assert call(stand, "{d}", "{test}", "--labels", "{y}", "-o", str(tmp_path / name)) == 0
    words = (tmp_path / "a.svg").read_text()
    assert ">normal: mean 0." in words
    assert words.count("<image") == 4 * 3
    assert "fine-tuned" not in words
    assert "a dot is an image, the diamond the mean" in (tmp_path / "b.html").read_text()
    assert "5 images left out" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "note"),
    [
        ("c", ""),
        ("frozen", "its encoder was frozen: nothing has changed"),
        ("head", "only its encoder was fine-tuned: the decoder no longer fits it"),
        ("scratch", "from random weights"),
        ("nothing", "from random weights: its decoder has learned nothing"),
    ],
)
def test_the_page_says_how_the_decoder_fared(stand, tmp_path, capsys, name, note):
    path = tmp_path / "a.svg"
    arguments = ["--labels", "{y}", "--classifier", f"{{{name}}}", "-o", str(path)]
    assert call(stand, "{d}", "{test}", *arguments) == 0
    words = path.read_text()
    notes = re.findall(r">(its encoder|only its|from random)[^<]*", words)
    assert len(notes) == bool(note)
    assert not note or f">{note}<" in words
    before, after = map(means, capsys.readouterr().out.splitlines())
    assert (before == after) is (name == "frozen")


WRONG = [
    (["{d}", "{fitted}", "--labels", "{fitted_y}"], "no normal image to compare; 50 left out, because the model has"),
    (["{d}", "{test}"], "no image of 90 has a label"),
    (
        ["{other}", "{test}", "--labels", "{y}", "--classifier", "{c}"],
        "was fine-tuned from another detector, fitted on",
    ),
    (["{pixels}", "{test}", "--labels", "{y}"], "its Pixels has no decoder of images, so nothing can be compared"),
    (["{d}", "{test}", "--labels", "{y}", "--classifier", "{d}"], "d.unlike"),
    (["{c}", "{test}", "--labels", "{y}"], "c.classifier"),
    (["{d}", "nowhere", "--labels", "{y}"], "nowhere: no such file or folder"),
]


@pytest.mark.parametrize(("arguments", "message"), WRONG)
def test_wrong_use_is_one_line_and_exit_code_2(stand, tmp_path, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(tmp_path)
    assert call(stand, *arguments, "-o", "a.png") == 2
    said = capsys.readouterr().err.strip().splitlines()
    assert len(said) == 1
    assert message in said[0]
    assert not (tmp_path / "a.png").exists()


def test_where_the_picture_goes_is_checked_before_the_work(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert run(["latent", "residuals", "no detector", "no images", "-o", "a.jpg"]) == 2
    assert "ends in .png, .svg or .html" in capsys.readouterr().err


def test_the_command_has_an_example(capsys):
    assert run(["latent", "residuals", "--help"]) == 0
    assert "Example: unlike latent residuals" in capsys.readouterr().out


def test_a_detector_of_tiles_is_refused(tmp_path, capsys):
    images = np.random.default_rng(0).integers(0, 256, (12, 32, 32), np.uint8)
    settings = {"data": {"tile": 16}, "model": {"widths": [4]}, "training": {"epochs": 1}}
    Detector("conv", settings=settings, device="cpu").fit(images).save(tmp_path / "d.unlike")
    new = np.random.default_rng(1).integers(0, 256, (6, 32, 32), np.uint8)
    np.save(tmp_path / "x.npy", new)
    np.save(tmp_path / "y.npy", np.array([0, 1] * 3))
    arguments = [str(tmp_path / "d.unlike"), str(tmp_path / "x.npy"), "--labels", str(tmp_path / "y.npy")]
    assert run(["latent", "residuals", *arguments, "-o", str(tmp_path / "a.png"), "--device", "cpu"]) == 2
    assert "sees images in tiles, whose residuals are not shown" in capsys.readouterr().err
