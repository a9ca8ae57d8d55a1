"""Losses of single images, and what a training leaves out by them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from test_loop import Pictures, fit, make

from conftest import stripes
from unlike.training import TrainingConfig, image_losses


@pytest.fixture
def pictures():
    return Pictures(stripes(56, size=16, channels=1))


def test_a_loss_is_that_of_the_image_alone_and_leaves_the_model_as_it_was(pictures):
    model = make().train()
    state = torch.random.get_rng_state()
    rows = np.array([5, 2, 9])
    losses = image_losses(model, pictures, rows, "squared", (0.0, 255.0))
    assert model.training
    assert torch.equal(torch.random.get_rng_state(), state)
    assert losses[1] == pytest.approx(image_losses(model, pictures, rows[1:2], "squared", (0.0, 255.0))[0])


def test_what_is_trimmed_is_not_learned_from(pictures):
    """After the first epoch images 0 and 1 are left out: what they show then changes nothing."""

    def trim(losses):
        asked.append(len(losses))
        return np.arange(len(losses)) < 2

    asked, found = [], []
    for value in (0, 255):
        pictures.pixels = pictures.pixels.copy()
        config = TrainingConfig(epochs=3, batch_size=40, keep="last")

        def spoil_later(losses, value=value):
            pictures.pixels[:2] = value  # after the first epoch, which learns from all
            return trim(losses)

        clean = pictures.pixels.copy()
        model, _ = fit(pictures, config=config, trim=spoil_later)
        pictures.pixels = clean
        found.append(torch.cat([weight.flatten() for weight in model.state_dict().values()]))
    assert asked == [40, 40, 40, 40]
    assert torch.equal(*found)
