"""The steps of a fit that can be tested by themselves."""

from __future__ import annotations

import numpy as np
import pytest

from unlike import Detector
from unlike.detector.nearest import MOST_ENCODED
from unlike.detector.settings import Settings, idle_settings
from unlike.models import MODELS
from unlike.records import kept_epoch
from unlike.scoring.batches import OVERHEAD


@pytest.mark.parametrize(("keep", "epoch"), [("validation", 1), ("train", 3), ("last", 4)])
def test_the_kept_epoch_is_that_of_the_setting_and_the_first_of_equals(keep, epoch):
    losses = [(4.0, 1.0), (3.0, 1.0), (2.0, 5.0), (2.0, 6.0)]
    history = [{"epoch": n, "train": train, "validation": held} for n, (train, held) in enumerate(losses, 1)]
    assert kept_epoch(history, keep)["epoch"] == epoch


def test_settings_of_a_training_that_does_not_take_place_are_named():
    chosen = {"training": {"epochs": 3, "initialisation": "kaiming-xavier"}, "augment": {"blur": 0.5}}
    assert idle_settings(Settings.resolve(model="pixels", overrides=chosen)) == ["training.epochs", "augment.blur"]
    assert idle_settings(Settings.resolve(model="pixels")) == []


@pytest.mark.parametrize(("most_bytes", "kept"), [(10**9, 520), (200 * (16 * 4 + OVERHEAD), 200), (0, 0)])
def test_many_images_are_seen_once_while_there_is_memory_for_their_features(most_bytes, kept, monkeypatch):
    images = np.random.default_rng(0).integers(0, 256, (520, 8, 8), np.uint8)
    parts = {"pca": {"code": "vector", "components": 0.9, "distance": "whitened"}}
    settings = {"model": {"side": 4}, "scorer": {"scorers": ["pca", "neighbours"], "settings": parts}}
    plain = Detector("pixels", "ensemble", settings=settings, device="cpu").fit(images)
    kind, seen = MODELS["pixels"], []
    encode = kind.encode
    monkeypatch.setattr(kind, "encode", lambda self, batch: seen.append(len(batch)) or encode(self, batch))
    monkeypatch.setattr("unlike.detector.learning.CROSS_BYTES", most_bytes)
    bounded = Detector("pixels", "ensemble", settings=settings, device="cpu").fit(images)
    assert bounded.fitted_.decision.threshold == pytest.approx(plain.fitted_.decision.threshold, rel=1e-5)
    again = 2 * max(0, bounded.fitted_.counts["train"] - kept)  # two more passes
    again += MOST_ENCODED  # some once more, to name those that a new image is most like
    assert 520 + again <= sum(seen) <= 522 + again  # and one or two to know how large features are
