"""Every entry of every registry keeps its promises; and the checks themselves can fail."""

from __future__ import annotations

import dataclasses
import re

import numpy as np
import pytest
import torch

from unlike.calibration.thresholds import THRESHOLDS
from unlike.data.randomness import isolated_randomness
from unlike.errors import ConfigError
from unlike.models import MODELS, Autoencoder, Model
from unlike.models.conv import ConvAutoencoder, ConvConfig
from unlike.models.losses import LOSSES
from unlike.records import ImageShape
from unlike.scoring import SCORERS
from unlike.scoring.reconstruction import ResidualConfig, ResidualScorer
from unlike.testing import assert_close, check_model, check_scorer, check_threshold, example_images

TINY_FEATURES = {"backbone": "test_efficientnet", "pretrained": False}
SMALL = {  # settings that make a heavy model or scorer quick; tests/models has the sizes of the reports
    "feature-attention": TINY_FEATURES | {"width": 16},
    "feature-conv": TINY_FEATURES | {"widths": (16, 32)},
    "feature-linear": TINY_FEATURES | {"code": 16},
    "features": TINY_FEATURES,
    "equilibrium": {"clusters": 2},
    "ensemble": {"settings": {"kmeans": {"clusters": 2}}},
    "kmeans": {"clusters": 2},
    "mixture": {"components": 2},
    "pca": {"components": 1},  # more would rebuild four images without error
    "real-or-fake": {"steps": 20},
    "residual-unet": {"widths": (4, 8), "bottleneck": 16},
    "vae": {"widths": (8, 16), "latent": 8},
}
BY_HEART = {  # settings with which a family should remember sixteen images: wide, and with nothing forgotten on purpose
    "conv": {"widths": (64, 32, 16)},
    "conv-dense": {"dropout": 0.0},
    "fcn": {"widths": (64, 32, 16)},
    "feature-attention": TINY_FEATURES | {"dropout": 0.0},
    "feature-conv": TINY_FEATURES,
    "feature-linear": TINY_FEATURES | {"code": 16},
    "multi-encoder": {"conv_widths": ((64, 32, 16),)},
    "residual-unet": {"widths": (8, 16), "bottleneck": 32},
    "vae": {"widths": (64, 32), "latent": 32},
}
LEARNERS = [name for name in MODELS if name not in ("features", "pixels")]  # the others have nothing to train


def build(name: str, channels: int = 3, height: int = 16, width: int = 32, **settings) -> Model:
    with isolated_randomness(0):
        config = MODELS[name].Config(**(settings or SMALL.get(name, {})))
        return MODELS[name](config, ImageShape(channels, height, width))


@pytest.mark.parametrize("channels", [1, 3, 5])
@pytest.mark.parametrize("name", MODELS)
def test_model_keeps_its_promise(name, channels):
    check_model(build(name, channels))


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("scorer", SCORERS)
def test_scorer_keeps_its_promise(scorer, model):
    made, of = SCORERS[scorer](SCORERS[scorer].Config(**SMALL.get(scorer, {}))), build(model)
    try:
        made.check(of)
    except ConfigError:
        suits = isinstance(of, Autoencoder) and of.decodes and scorer != "segmentation"
        assert not suits  # what rebuilds nothing, or decodes no code, does not suit every scorer
    else:
        check_scorer(made, of)


@pytest.mark.parametrize("model", ["conv", "features", "pixels"])
@pytest.mark.parametrize(
    ("scorer", "settings"),
    [
        ("pca", {"code": "vector", "components": 0.8, "distance": "whitened"}),
        ("pca", {"code": "vector", "components": 1, "distance": "euclidean"}),
        ("neighbours", {"metric": "mahalanobis"}),
        ("gaussian", {"positions": "each", "shrinkage": 0.1}),
    ],
)
def test_scorer_keeps_its_promise_with_other_settings(scorer, settings, model):
    check_scorer(SCORERS[scorer](SCORERS[scorer].Config(**settings)), build(model))


@pytest.mark.parametrize("name", THRESHOLDS)
def test_threshold_keeps_its_promise(name):
    check_threshold(THRESHOLDS[name])


@pytest.mark.parametrize("name", LEARNERS)
def test_model_learns_sixteen_images_by_heart(name):
    """To a tenth of its first loss, by plain Adam."""
    y, x = np.mgrid[:16, :16] / 16
    waves = [np.sin(6 * (x * np.cos(a) + y * np.sin(a)) + a) for a in np.linspace(0, 3, 16)]
    images = torch.tensor(np.array(waves), dtype=torch.float32)[:, None]
    model = build(name, 1, 16, 16, **BY_HEART.get(name, {})).train()
    optimiser = torch.optim.Adam(model.parameters(), lr=5e-3, fused=True)
    losses = []
    with isolated_randomness(0):
        while len(losses) < 300 and (not losses or losses[-1] >= losses[0] / 10):
            loss = model.loss(images, LOSSES["squared"])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            losses.append(loss.item())
    assert losses[-1] < losses[0] / 10


@pytest.mark.parametrize("name", MODELS)
def test_model_learns_if_it_can_and_rebuilds_nothing_otherwise(name):
    model = build(name)
    assert any(value.requires_grad for value in model.parameters()) == (name in LEARNERS)
    assert isinstance(model, Autoencoder) == (name in LEARNERS)


@pytest.mark.parametrize("name", LEARNERS)
def test_model_learns_from_a_batch_of_one_image(name):
    """As the last batch of an epoch may be; of 16 x 16 pixels a batch norm may see a single value."""
    model = build(name, 1, 16, 16).train()
    loss = model.loss(example_images(model, count=1), LOSSES["squared"])
    loss.backward()
    assert all(value.grad.isfinite().all() for value in model.parameters() if value.requires_grad)


@pytest.mark.parametrize(("height", "width"), [(48, 16), (37, 50), (3, 5)])
@pytest.mark.parametrize("name", MODELS)
def test_model_takes_a_size_or_names_the_nearest_that_it_takes(name, height, width):
    try:
        model = build(name, 1, height, width)
    except ConfigError as error:
        came, *nearest = re.findall(r"(\d+) x (\d+)", str(error))
        assert came == (str(height), str(width))
        assert nearest
        for side in nearest:
            build(name, 1, *map(int, side))
    else:
        images = example_images(model, count=1)
        with torch.no_grad():
            assert len(model.eval().encode(images)) == 1
            if isinstance(model, Autoencoder):
                assert model.rebuild(images).shape == model.target(images).shape


@pytest.mark.parametrize("name", MODELS)
def test_config_and_class_say_what_they_are_for(name):
    assert MODELS[name].__doc__
    assert MODELS[name].Config.__doc__
    assert dataclasses.is_dataclass(MODELS[name].Config)


class Broken(ConvAutoencoder):
    """A model whose promises can be broken one at a time."""

    fault = ""

    def encode(self, images):
        code = super().encode(images)
        if self.fault == "shape":
            return code.flatten(1)
        if self.fault == "batch":
            return code - code.mean(dim=0)
        if self.fault == "random":
            return code + torch.rand_like(code)
        return code[:1] if self.fault == "count" else code

    def decode(self, code):
        rebuilt = super().decode(code)
        return rebuilt[:, :, 1:] if self.fault == "rebuilt" else rebuilt

    def loss(self, images, objective, clean=None):
        if self.fault == "vector":
            return self.rebuild(images).flatten()
        if self.fault == "unreached":
            return objective(super().encode(images), torch.zeros(()))
        return (
            super().loss(images, objective) if self.fault != "rebuilt" else super().decode(self.encode(images)).mean()
        )


@pytest.mark.filterwarnings("ignore:Using a target size")
@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("shape", r"must return \(B, D, h, w\)"),
        ("count", "gave 1 codes"),
        ("batch", "alone has another code"),
        ("random", "second look"),
        ("rebuilt", "but the target is"),
        ("vector", "must be a scalar"),
        ("unreached", "does not reach decoder"),
    ],
)
def test_check_model_finds(fault, message):
    model = Broken(ConvConfig(), ImageShape(3, 16, 16))
    model.fault = fault
    if fault in ("shape", "count"):
        model.loss = lambda images, objective, clean=None: sum(p.sum() for p in model.parameters())
    with pytest.raises(AssertionError, match=message):
        check_model(model)


class Wrong(ResidualScorer):
    """A scorer whose promises can be broken one at a time."""

    fault = ""

    def fit(self, model, train, held_out, seed):
        return None if self.fault == "fit" else self

    def maps(self, model, images):
        maps = super().maps(model, images)
        broken = {
            "negative": maps - 1,
            "batch": maps / maps.max(),
            "infinite": maps / 0,
            "flat": maps.flatten(1),
            "count": maps[:1],
        }
        return broken.get(self.fault, maps)


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("fit", "must return the scorer"),
        ("negative", "must be >= 0"),
        ("batch", "alone has another map"),
        ("infinite", "not finite"),
        ("flat", r"must be \(B, h, w\)"),
        ("count", "gave 1 maps"),
    ],
)
def test_check_scorer_finds(fault, message):
    scorer = Wrong(ResidualConfig())
    scorer.fault = fault
    with pytest.raises(AssertionError, match=message):
        check_scorer(scorer, build("conv"))


class Loose:
    """A threshold that promises more than it holds."""

    def __init__(self, false_alarms):
        self.false_alarms = false_alarms

    def fit(self, scores):
        self.threshold_ = float(np.quantile(scores, 1 - 2 * self.false_alarms))
        return self

    def predict(self, scores):
        return scores > self.threshold_


def test_check_threshold_finds_a_broken_promise():
    with pytest.raises(AssertionError, match=r"promised 0\.05"):
        check_threshold(Loose)


def test_assert_close_says_by_how_much():
    with pytest.raises(AssertionError, match=r"other \(by 0\.5 relative\)"):
        assert_close(torch.tensor([1.0, 2.0]), torch.tensor([1.0, 1.0]) * 4 / 3 * 1.5 / 1, "other")


def test_examples_are_images_of_the_models_shape():
    images = example_images(build("conv", 3, 16, 24))
    assert images.shape == (4, 3, 16, 24)
    assert images.abs().max() <= 1
