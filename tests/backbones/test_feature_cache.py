"""Each image goes through the network once, and what is kept has its bounds."""

from __future__ import annotations

import pytest
import torch

from unlike.backbones.feature_cache import FeatureCache


class Network:
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


def test_each_image_is_seen_once_in_whatever_order_it_comes(images):
    cache, network = FeatureCache(), Network()
    for order in ([0, 1, 2, 3, 4, 5], [5, 3, 1], [2, 2, 0], [4]):
        torch.testing.assert_close(cache.look_up(network, images[order]), images[order][:, :, ::2, ::2] * 2)
    assert (network.seen, len(cache)) == (6, 6)
    changed = images.clone()
    changed[0, 0, 0, 0] += 1e-6  # as little as float32 has
    cache.look_up(network, changed)
    assert network.seen == 7


def test_the_same_values_are_the_same_image_however_they_lie(images):
    cache, network = FeatureCache(), Network()
    cache.look_up(network, images)
    cache.look_up(network, images.contiguous())
    assert network.seen == 6


def test_what_does_not_fit_is_computed_anew(images):
    cache, network = FeatureCache(most_bytes=2 * 3 * 4 * 4 * 4), Network()
    for _ in range(3):
        found = cache.look_up(network, images)
    torch.testing.assert_close(found, images[:, :, ::2, ::2] * 2)
    assert len(cache) == 2
    assert network.seen == 6 + 4 + 4


def test_what_was_not_used_in_an_epoch_is_dropped(images):
    cache, network = FeatureCache(), Network()
    cache.look_up(network, images)
    cache.drop_unused()
    assert len(cache) == 6  # all came in the epoch that is over
    cache.look_up(network, images[:2])
    cache.drop_unused()
    assert len(cache) == 2


def test_features_are_kept_without_the_batch_they_came_in(images):
    cache = FeatureCache()
    cache.look_up(Network(), images)
    assert {values.untyped_storage().nbytes() for values in cache._features.values()} == {3 * 4 * 4 * 4}


def test_images_whose_gradients_are_asked_for_are_computed_as_they_are(images):
    cache, network = FeatureCache(), Network()
    asked = images.clone().requires_grad_()
    cache.look_up(network, asked).sum().backward()
    assert asked.grad.abs().sum() > 0
    assert len(cache) == 0
