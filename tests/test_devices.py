"""Where there is an accelerator: detectors fitted on it, and what they say on the processor. Skipped where there is none."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from conftest import scratched, stripes
from unlike import Classifier, Detector
from unlike.detector.explain import encode
from unlike.detector.presets import PRESETS
from unlike.detector.settings import Settings
from unlike.models import MODELS

pytestmark = pytest.mark.skipif(not torch.accelerator.is_available(), reason="no accelerator on this machine")

TOLERANCE = 5e-3  # relative: convolutions of an accelerator may round their factors to ten bits
SMALL = {"training": {"epochs": 2}, "decision": {"false_alarms": 0.1}}


def small(preset: str) -> dict[str, dict[str, object]]:
    """Settings that make a preset quick, and need no pretrained weights."""
    model = Settings.resolve(preset=preset).model
    tiny = {"backbone": "test_vit"} if preset == "dino" else {}  # whose own has patches of 14 pixels
    return SMALL | {"model": {"pretrained": False, **tiny}} if hasattr(model, "pretrained") else SMALL


def assert_agree(found: Detector, expected: Detector, images: np.ndarray) -> None:
    ours, theirs = found.score(images).image, expected.score(images).image
    np.testing.assert_allclose(ours, theirs, rtol=TOLERANCE, atol=TOLERANCE * float(theirs.mean()))


@pytest.mark.parametrize("preset", PRESETS)
def test_a_preset_fitted_there_is_saved_and_says_the_same_on_the_processor(preset, tmp_path):
    images = stripes(60, size=64)
    detector = Detector(preset=preset, settings=small(preset), size=64, device="auto").fit(images)
    detector.save(tmp_path / "detector")
    here, there = (Detector.load(tmp_path / "detector", device=device) for device in ("cpu", "auto"))
    odd, _ = scratched(stripes(6, size=64, seed=3))
    assert_agree(there, detector, odd)
    assert_agree(here, detector, odd)


@pytest.mark.parametrize("model", MODELS)
def test_every_model_is_trained_there(model):
    settings = SMALL | ({"model": {"pretrained": False}} if hasattr(MODELS[model].Config(), "pretrained") else {})
    detector = Detector(model=model, settings=settings, size=64, device="auto").fit(stripes(60, size=64))
    assert np.isfinite(detector.score(stripes(4, size=64, seed=2)).image).all()
    assert len(encode(detector, stripes(2, size=64)).vectors) == 2


@pytest.mark.parametrize("scorer", ["equilibrium", "gaussian", "kmeans", "mixture", "neighbours", "pca"])
def test_scorers_of_features_fitted_there_say_the_same_as_on_the_processor(scorer):
    settings = {"model": {"pretrained": False, "backbone": "resnet18"}, "decision": {"false_alarms": 0.1}}
    images, (odd, _) = stripes(40, size=64), scratched(stripes(6, size=64, seed=3))
    here, there = (
        Detector(model="features", scorer=scorer, settings=settings, size=64, device=device).fit(images)
        for device in ("cpu", "auto")
    )
    assert_agree(there, here, odd)


def test_mixed_precision_is_used_there():
    settings = {"training": {"epochs": 2, "precision": "auto"}, "decision": {"false_alarms": 0.1}}
    detector = Detector(model="conv", settings=settings, size=64, device="auto").fit(stripes(60, size=64))
    assert np.isfinite(detector.score(stripes(4, size=64)).image).all()


def test_a_classifier_is_fine_tuned_there():
    images = np.concatenate([stripes(20, size=64), scratched(stripes(20, size=64, seed=1))[0]])
    labels = np.repeat(["plain", "scratched"], 20)
    detector = Detector(preset="textbook", settings=SMALL, size=64, device="auto").fit(images[:20])
    classifier = Classifier.from_detector(detector, epochs=2, device="auto").fit(images, labels)
    assert len(classifier.predict(images).names) == 40
