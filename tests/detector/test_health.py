"""A training that came to nothing says so, whatever the family; one that did not says nothing."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from conftest import stripes
from unlike import Detector
from unlike.data.input_spec import InputSpec
from unlike.data.randomness import isolated_randomness
from unlike.data.source import open_source
from unlike.data.split import Split
from unlike.detector.health import diagnose_training, judge_history
from unlike.detector.splitting import Pieces
from unlike.models import MODELS
from unlike.records import ImageShape

TINY = {"backbone": "test_efficientnet", "pretrained": False}
SETTINGS = {
    "conv": {"widths": (4, 8)},
    "conv-dense": {"dropout": 0.0},
    "fcn": {"widths": (32, 8)},
    "feature-attention": TINY | {"width": 16},
    "feature-conv": TINY | {"widths": (16, 32)},
    "feature-linear": TINY | {"code": 16},
    "multi-encoder": {"conv_widths": ((4, 8),)},
    "residual-unet": {"widths": (4, 8), "bottleneck": 16},
    "vae": {"widths": (8, 16), "latent": 8},
}
FALLING = [{"epoch": 1, "train": 2.0, "validation": 2.0}, {"epoch": 2, "train": 1.0, "validation": 1.0}]


@pytest.fixture(scope="module")
def pieces():
    spec = InputSpec(32, 32, 3)
    loaded = open_source(stripes(20, size=32, channels=3, seed=1)).load(spec, None)
    return Pieces(loaded, Split(np.arange(12), np.arange(12, 16), np.arange(16, 20)), spec, np.zeros(20, np.intp))


def build(name):
    with isolated_randomness(0):
        return MODELS[name](MODELS[name].Config(**SETTINGS.get(name, {})), ImageShape(3, 32, 32)).eval()


@pytest.mark.parametrize("name", [name for name in MODELS if MODELS[name].trains])
def test_a_dead_model_of_every_family_says_so(name, pieces):
    """Weights of zero make one code, and one reconstruction where no skip carries the image past it."""
    model = build(name)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    said = diagnose_training(model, pieces, FALLING, "validation")
    assert any(text.startswith("The codes of all 20 images that were looked at are the same") for text in said) or any(
        text.startswith("All reconstructions are nearly the same") for text in said
    )


def test_a_vector_code_that_died_and_what_it_is_decoded_to_are_two_sentences(pieces):
    model = build("fcn")
    with torch.no_grad():
        for parameter in model.encoder.parameters():
            parameter.zero_()
    said = diagnose_training(model, pieces, FALLING, "validation")
    assert [text.split(":")[0] for text in said] == [
        "The codes of all 20 images that were looked at are the same",
        "All reconstructions are nearly the same",
    ]


def test_few_different_codes_are_told(pieces):
    """As ReLUs leave behind that let next to nothing through."""
    model = build("fcn")
    encode = model.encode
    model.encode = lambda images: encode(images).gt(0.02).float()
    [said] = [text for text in diagnose_training(model, pieces, FALLING, "validation") if "different codes" in text]
    assert said.startswith("20 images have only ")


def test_nothing_is_said_of_what_was_not_trained_now(pieces):
    model = build("fcn")
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    assert diagnose_training(model, pieces, [], "validation") == ()


def test_nothing_is_said_of_images_that_are_all_the_same():
    """There is nothing to tell apart in what a model rebuilds; that its codes are the same is true, and said."""
    spec = InputSpec(32, 32, 3)
    loaded = open_source(np.full((20, 32, 32, 3), 200, np.uint8)).load(spec, None)
    split = Split(np.arange(12), np.arange(12, 16), np.arange(16, 20))
    same = Pieces(loaded, split, spec, np.zeros(20, np.intp))
    said = diagnose_training(build("fcn"), same, FALLING, "validation")
    assert not any("reconstructions" in text for text in said)


def rows(*losses):
    return [{"epoch": n, "train": 1 / n, "validation": loss} for n, loss in enumerate(losses, 1)]


def test_a_validation_loss_that_only_rises_is_told():
    [said] = judge_history(rows(0.5, 0.6, 0.7), "last")
    assert said.startswith(
        "The validation loss only rises: 0.5 after the first epoch, 0.7 after the last of 3; epoch 3"
    )
    assert "lower training.learning_rate" in said


def test_weights_that_are_kept_though_others_validated_better_are_told():
    [said] = judge_history(rows(0.5, 0.4, 0.7), "last")
    assert said.startswith("The weights that were kept validate no better than the first: 0.5")


@pytest.mark.parametrize("history", [rows(0.5, 0.6), rows(0.5, 0.6, 0.4), rows(0.5, 0.4, 0.6), []])
def test_a_loss_that_fell_is_left_alone(history):
    assert list(judge_history(history, "validation")) == []


def test_a_fit_keeps_its_warnings_and_a_loaded_detector_has_them(tmp_path):
    """A code that costs so much that it says nothing (posterior collapse)."""
    images = stripes(60, size=16, channels=1, seed=0)
    model = {"widths": [4, 8], "latent": 4, "norm": False, "beta": 1e6, "warm_up": 0}
    settings = {"model": model, "training": {"epochs": 30, "learning_rate": 1e-2}}
    detector = Detector("vae", false_alarms=0.1, settings=settings, cache=False).fit(images)
    assert any("reconstructions are nearly the same" in text for text in detector.fitted_.warnings)
    detector.save(tmp_path / "dead.unlike")
    assert Detector.load(tmp_path / "dead.unlike").fitted_.warnings == detector.fitted_.warnings


@pytest.mark.parametrize("name", ["conv", "fcn", "vae", "multi-encoder"])
def test_a_model_that_learned_is_left_alone(name):
    images = stripes(60, size=16, channels=1, seed=0)
    settings = {"model": SETTINGS[name], "training": {"epochs": 12, "learning_rate": 5e-3}}
    detector = Detector(name, false_alarms=0.1, settings=settings, cache=False).fit(images)
    assert detector.fitted_.warnings == ()
