"""One trained model, several scorers."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from conftest import stripes
from unlike import Detector
from unlike.detector.rescoring import ScorerChoice, parse_scorers, rescore
from unlike.errors import ConfigError, DataError


@pytest.fixture(scope="module")
def images():
    return stripes(60, size=16, channels=1, seed=0)


@pytest.fixture(scope="module")
def detector(images):
    return Detector("fcn", epochs=2, false_alarms=0.1, settings={"model": {"widths": [16, 4]}}, cache=False).fit(images)


def test_another_scorer_learns_on_the_same_model_and_promises_by_the_same_images(detector, images):
    other = rescore(detector, ScorerChoice("kmeans", {"clusters": 3}), images)
    assert (other.settings.scorer_name, other.settings.scorer.clusters) == ("kmeans", 3)
    assert other.fitted_.counts == detector.fitted_.counts
    assert other.fitted_.decision.false_alarms == detector.fitted_.decision.false_alarms
    for one, two in zip(
        detector.fitted_.pipeline.model.parameters(), other.fitted_.pipeline.model.parameters(), strict=True
    ):
        assert torch.equal(one, two)
    fresh = Detector("fcn", "kmeans", epochs=2, false_alarms=0.1, cache=False)
    fresh = Detector(settings=other.settings.to_sections(), cache=False).fit(images)
    assert np.allclose(fresh.score(images).image, other.score(images).image, rtol=1e-5)  # as if it had been fitted so


def test_the_detectors_own_scorer_needs_no_fit(detector, images):
    assert rescore(detector, ScorerChoice("residual", {}), images) is detector


def test_other_images_are_refused(detector):
    with pytest.raises(
        DataError, match=r"are not the images that the detector was fitted on .*name those with --normal"
    ):
        rescore(detector, ScorerChoice("pca", {"components": 2}), stripes(60, size=16, channels=1, seed=9))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("kmeans:clusters", "--scorers: expected NAME or NAME:KEY=VALUE, separated by commas"),
        ("residual,,pca", "such as residual,kmeans:clusters=3, came ''"),
        ("pca,residual,pca", "--scorers: pca is named twice; name each scorer once"),
    ],
)
def test_scorers_that_cannot_be_read(text, words):
    with pytest.raises(ConfigError, match=words):
        parse_scorers(text)
