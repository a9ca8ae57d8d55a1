"""The steps of a fit that can be looked at by themselves."""

from __future__ import annotations

import pytest

from unlike.data.images import Frame
from unlike.fitting import build_model, idle_settings, kept_epoch
from unlike.settings import Settings


@pytest.mark.parametrize(("keep", "epoch"), [("validation", 1), ("train", 3), ("last", 4)])
def test_the_kept_epoch_is_that_of_the_setting_and_the_first_of_equals(keep, epoch):
    losses = [(4.0, 1.0), (3.0, 1.0), (2.0, 5.0), (2.0, 6.0)]
    history = [{"epoch": n, "train": train, "validation": held} for n, (train, held) in enumerate(losses, 1)]
    assert kept_epoch(history, keep)["epoch"] == epoch


def test_settings_of_a_training_that_does_not_take_place_are_named():
    chosen = {"training": {"epochs": 3, "initialisation": "kaiming-xavier"}, "augment": {"blur": 0.5}}
    for model, idle in (("pixels", ["training.epochs", "augment.blur"]), ("fcn", [])):
        settings = Settings.resolve(model=model, overrides=chosen)
        assert idle_settings(settings, build_model(settings, Frame(8, 8, 1), 0)) == idle
    settings = Settings.resolve(model="pixels")
    assert idle_settings(settings, build_model(settings, Frame(8, 8, 1), 0)) == []
