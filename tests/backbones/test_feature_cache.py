"""Each image is looked at once, and what is kept has its bounds."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch

from unlike.backbones.feature_cache import Memory


class Look:
    """A network that counts the images it has seen."""

    def __init__(self):
        self.seen = 0

    def __call__(self, images):
        self.seen += len(images)
        return images[:, :, ::2, ::2] * 2


@pytest.fixture
def images():
    return torch.rand(6, 3, 8, 8, generator=torch.Generator().manual_seed(0)).contiguous(
        memory_format=torch.channels_last
    )


def test_each_image_is_looked_at_once_in_whatever_order_it_comes(images):
    memory, look = Memory(), Look()
    for order in ([0, 1, 2, 3, 4, 5], [5, 3, 1], [2, 2, 0], [4]):
        torch.testing.assert_close(memory.recall(look, images[order]), images[order][:, :, ::2, ::2] * 2)
    assert (look.seen, len(memory)) == (6, 6)
    changed = images.clone()
    changed[0, 0, 0, 0] += 1e-6  # as little as float32 has
    memory.recall(look, changed)
    assert look.seen == 7


def test_the_same_values_are_the_same_image_however_they_lie_in_memory(images):
    memory, look = Memory(), Look()
    memory.recall(look, images)
    memory.recall(look, images.contiguous())
    assert look.seen == 6


def test_what_does_not_fit_is_looked_at_anew(images):
    memory, look = Memory(most_bytes=2 * 3 * 4 * 4 * 4), Look()
    for _ in range(3):
        found = memory.recall(look, images)
    torch.testing.assert_close(found, images[:, :, ::2, ::2] * 2)
    assert len(memory) == 2
    assert look.seen == 6 + 4 + 4


def test_what_was_not_used_in_an_epoch_is_forgotten(images):
    memory, look = Memory(), Look()
    memory.recall(look, images)
    memory.forget_unused()
    assert len(memory) == 6  # all came in the epoch that is over
    memory.recall(look, images[:2])
    memory.forget_unused()
    assert len(memory) == 2
    memory.clear()
    assert len(memory) == 0


def test_a_copy_starts_empty(images):
    memory = Memory(most_bytes=7)
    memory.most_bytes = 10_000
    memory.recall(Look(), images)
    for twin in (copy.deepcopy(memory), pickle.loads(pickle.dumps(memory))):
        assert (len(twin), twin.most_bytes) == (0, 10_000)


def test_features_are_kept_without_the_batch_they_came_in(images):
    memory = Memory()
    memory.recall(Look(), images)
    assert {values.untyped_storage().nbytes() for values in memory._features.values()} == {3 * 4 * 4 * 4}


def test_images_whose_gradients_are_asked_for_are_looked_at_as_they_are(images):
    memory, look = Memory(), Look()
    asked = images.clone().requires_grad_()
    memory.recall(look, asked).sum().backward()
    assert asked.grad.abs().sum() > 0
    assert len(memory) == 0
