"""The promises of a model, a scorer and a threshold as code: for our tests, and for whoever writes one of their own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from unlike.data.randomness import isolated_randomness
from unlike.data.tensors import to_tensor
from unlike.models import Autoencoder, Model
from unlike.models.losses import LOSSES
from unlike.records import Bools, Floats
from unlike.scoring import Scorer

TOLERANCE = 1e-5  # relative: alone or in a batch, saved or not


def check_model(model: Model) -> None:
    """Raise AssertionError unless `model` keeps every promise of `unlike.models.Model`.

        The code is (B, D, h, w); the loss is a scalar that reaches every trainable parameter; an image alone and in a batch
        have the same code; a second look gives the same; weights survive being saved and loaded; an autoencoder rebuilds
        something of its target's shape.

        >>> from unlike.models import MODELS
    >>> from unlike.records import ImageShape
        >>> check_model(MODELS["fcn"](MODELS["fcn"].Config(), ImageShape(3, 16, 16)))
    """
    images = example_images(model)
    _check_loss(model, images)
    model.eval()
    with torch.no_grad():
        code = model.encode(images)
        assert code.ndim == 4, f"encode must return (B, D, h, w), came {tuple(code.shape)}"
        assert len(code) == len(images), f"{len(images)} images gave {len(code)} codes"
        assert_close(code, model.encode(images), "a second look at the same images gives another code")
        alone = torch.cat([model.encode(image[None]) for image in images])
        assert_close(alone, code, "an image alone has another code than in a batch")
        _check_copy(model, images, code)
        if isinstance(model, Autoencoder):
            shapes = model.rebuild(images).shape, model.target(images).shape
            assert shapes[0] == shapes[1], f"rebuilt {tuple(shapes[0])}, but the target is {tuple(shapes[1])}"


def check_scorer(scorer: Scorer, model: Model) -> None:
    """Raise AssertionError unless `scorer`, on `model`, keeps every promise of `unlike.scoring.Scorer`.

    Maps are (B, h, w), finite and >= 0; an image's map depends on that image alone; what was learned survives
    `state` and `restore`; fitting gives back the scorer.
    """
    images = example_images(model)
    model.eval()
    with torch.no_grad():
        assert scorer.fit(model, [images], [example_images(model, seed=1)], 0) is scorer, "fit must return the scorer"
        maps = scorer.maps(model, images)
        assert maps.ndim == 3, f"maps must be (B, h, w), came {tuple(maps.shape)}"
        assert len(maps) == len(images), f"{len(images)} images gave {len(maps)} maps"
        assert bool(torch.isfinite(maps).all()), "a map holds values that are not finite"
        assert float(maps.min()) >= 0, f"maps must be >= 0, came {float(maps.min())}"
        alone = torch.cat([scorer.maps(model, image[None]) for image in images])
        assert_close(alone, maps, "an image alone has another map than in a batch")
        copy = type(scorer)(scorer.config)
        copy.restore({name: np.array(value) for name, value in scorer.state().items()})
        assert_close(copy.maps(model, images), maps, "a restored scorer gives other maps")


def check_threshold(make: Callable[[float], Any]) -> None:
    """Raise AssertionError unless `make(false_alarms)` gives a rule that holds its promise on fresh normal scores.

    The rule has `fit(normal scores)`, which sets `threshold_`, and `predict(scores)`; higher scores are stranger.

    >>> from unlike.calibration.thresholds import QuantileThreshold
    >>> check_threshold(QuantileThreshold)
    """
    random = np.random.default_rng(0)
    for promise in (0.05, 0.2):
        shares = []
        for _ in range(200):
            normal: Floats = random.lognormal(size=99)
            rule = make(promise).fit(normal)
            anomalous: Bools = rule.predict(random.lognormal(size=200))
            shares.append(anomalous.mean())
            assert rule.predict(np.array([rule.threshold_, np.inf])).tolist() == [False, True], (
                "above, not at, the threshold"
            )
        margin = 3 * float(np.std(shares)) / np.sqrt(len(shares))
        assert np.mean(shares) <= promise + margin, f"promised {promise}, gave {np.mean(shares):.3f} false alarms"


def example_images(model: Model, count: int = 4, seed: int = 0) -> Tensor:
    """Random images of the model's shape, (B, C, H, W) in -1 to 1."""
    shape = model.shape
    pixels = np.random.default_rng(seed).integers(0, 256, (count, shape.height, shape.width, shape.channels), np.uint8)
    return to_tensor(pixels, (0.0, 1.0))


def assert_close(found: Tensor, expected: Tensor, message: str) -> None:
    """Raise AssertionError with `message` unless two tensors agree to 1e-5 of their largest value."""
    scale = float(expected.abs().max()) or 1.0
    gap = float((found - expected).abs().max()) / scale
    assert gap <= TOLERANCE, f"{message} (by {gap:.2g} relative)"


def _check_loss(model: Model, images: Tensor) -> None:
    trainable = {name: value for name, value in model.named_parameters() if value.requires_grad}
    if not trainable:
        return
    model.train()
    with isolated_randomness(0):
        loss = model.loss(images, LOSSES["squared"])
    assert loss.ndim == 0, f"loss must be a scalar, came {tuple(loss.shape)}"
    model.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    unreached = [name for name, value in trainable.items() if value.grad is None]
    assert not unreached, f"the loss does not reach {', '.join(unreached)}"
    model.zero_grad()


def _check_copy(model: Model, images: Tensor, code: Tensor) -> None:
    copy = type(model)(model.config, model.shape)
    copy.load_state_dict(model.state_dict())
    assert_close(copy.eval().encode(images), code, "a model with the same weights gives another code")
