"""Residuals, smoothing and reduction, against hand arithmetic."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from unlike.detector.pipeline import Pipeline, score_pixels
from unlike.errors import ConfigError
from unlike.models.base import OutputSpec
from unlike.models.conv import ConvAutoencoder, ConvConfig
from unlike.models.losses import LOSS_MAPS
from unlike.models.residual import ResidualUNet, ResidualUNetConfig
from unlike.records import ImageShape
from unlike.scoring import MapConfig, realfake, reduce_maps, smooth
from unlike.scoring.batches import Batches
from unlike.scoring.realfake import RealFakeConfig, RealFakeScorer
from unlike.scoring.reconstruction import ResidualConfig, ResidualScorer
from unlike.testing import example_images


@pytest.fixture
def model():
    return ConvAutoencoder(ConvConfig(widths=(4,)), ImageShape(3, 12, 16)).eval()


@pytest.mark.parametrize("difference", LOSS_MAPS)
def test_residual_is_the_difference_of_image_and_reconstruction(model, difference):
    images = example_images(model)
    with torch.no_grad():
        outputs = model.outputs(images, ResidualScorer.inputs)
        maps = ResidualScorer(ResidualConfig(difference), model.output_spec)(*outputs.values())
        expected = LOSS_MAPS[difference](model.rebuild(images), images)
    torch.testing.assert_close(maps, expected)
    assert maps.shape == (4, 12, 16)


def test_unknown_difference():
    with pytest.raises(ConfigError, match=r"unknown scorer\.difference 'square'; did you mean 'squared'"):
        ResidualConfig("square")


FEATURES_ALONE = OutputSpec("CodeOnly", ("features",))


def test_residual_needs_a_model_that_rebuilds():
    with pytest.raises(ConfigError, match="needs a model that rebuilds its target; CodeOnly does not"):
        ResidualScorer(ResidualConfig(), FEATURES_ALONE)


def test_reductions():
    maps = torch.arange(24.0).view(2, 3, 4)
    assert reduce_maps(maps, MapConfig()).tolist() == [5.5, 17.5]
    assert reduce_maps(maps, MapConfig(reduction="max")).tolist() == [11, 23]
    assert reduce_maps(maps, MapConfig(reduction="top", top_share=0.25)).tolist() == [10, 22]
    assert reduce_maps(maps, MapConfig(reduction="top", top_share=1e-6)).tolist() == [11, 23]


def test_smoothing_is_gaussian(rng):
    maps = torch.tensor(rng.random((2, 30, 40)), dtype=torch.float32)
    expected = np.stack([gaussian_filter(map_.numpy(), 1.5, mode="nearest", truncate=4) for map_ in maps])
    np.testing.assert_allclose(smooth(maps, MapConfig(blur_pixels=1.5)), expected, rtol=1e-4)
    assert smooth(maps, MapConfig()) is maps


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"blur_pixels": -1.0}, r"map\.blur_pixels: expected 0\.1 to 1000"),
        ({"top_share": 1.5}, r"map\.top_share: expected"),
    ],
)
def test_maps_cannot_be_reduced_so(settings, message):
    with pytest.raises(ConfigError, match=message):
        MapConfig(**settings)


def test_scores_do_not_depend_on_the_batch(model, rng):
    pixels = rng.integers(0, 256, (130, 12, 16, 3), dtype=np.uint8)
    pipeline = Pipeline(model, ResidualScorer(ResidualConfig(), model.output_spec))
    maps, scores = score_pixels(pipeline, pixels, (0, 255))
    alone = [score_pixels(pipeline, image[None], (0, 255))[1][0] for image in pixels]
    np.testing.assert_allclose(scores, alone, rtol=1e-5)
    np.testing.assert_allclose(scores, maps.mean(axis=(1, 2)), rtol=1e-5)


def test_real_or_fake_tells_what_it_was_taught_to_tell():
    """A7: reconstructions of training images are real, of noisy codes fake; P(fake) is the score."""
    model = ConvAutoencoder(ConvConfig(widths=(8, 8), bottleneck=4), ImageShape(1, 16, 16)).eval()
    _, x = torch.meshgrid(torch.linspace(-1, 1, 16), torch.linspace(-1, 1, 16), indexing="ij")
    images = torch.stack([torch.sin(3 * x + phase) * 0.5 for phase in torch.linspace(0, 6, 64)])[:, None]
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(200):
        loss = (model.rebuild(images) - images).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    with torch.no_grad():
        outputs = tuple(model.outputs(images, RealFakeScorer.inputs).values())
        codes = model.encode(images)
        strange = model.decode(codes + 3 * codes.std(dim=0) * torch.randn_like(codes))

    def fit():
        config = RealFakeConfig(noise_size=3.0, steps=200, learning_rate=1e-2)
        normal = Batches.of_tensors(*outputs, size=40)
        return RealFakeScorer(config, model.output_spec).fit(normal, normal.take(np.arange(0)), seed=0)

    scorer = fit()
    real = scorer(*outputs).flatten()
    fake = torch.sigmoid(scorer.classifier(strange)).flatten()
    assert real.min() >= 0
    assert real.max() <= 1
    assert fake.mean() > real.mean() + 0.3
    torch.testing.assert_close(fit()(*outputs).flatten(), real)


@pytest.mark.parametrize("kind", ["gaussian", "uniform"])
def test_noise_has_unit_size(kind):
    noise = realfake._noise(torch.zeros(20_000), kind)
    assert noise.std().item() == pytest.approx(1, abs=0.02)
    assert noise.mean().item() == pytest.approx(0, abs=0.03)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"noise_size": 0.0}, r"scorer\.noise_size: expected"),
        ({"learning_rate": 0.0}, r"scorer\.learning_rate: expected"),
        ({"steps": 0}, r"scorer\.steps: expected 1 or more, came 0"),
        ({"batch_size": 1}, r"scorer\.batch_size: expected 2 or more, came 1"),
        ({"widths": ()}, r"scorer\.widths: expected one width or more"),
    ],
)
def test_real_or_fake_settings_that_cannot_be(settings, message):
    with pytest.raises(ConfigError, match=message):
        RealFakeConfig(**settings)


def test_real_or_fake_needs_a_decoder():
    with pytest.raises(ConfigError, match="needs a model that decodes its code; CodeOnly does not"):
        RealFakeScorer(RealFakeConfig(), FEATURES_ALONE)
    skipping = ResidualUNet(ResidualUNetConfig(widths=(4,), bottleneck=4, skips=True), ImageShape(1, 4, 4))
    with pytest.raises(ConfigError, match=r"ResidualUNet with skips \(set model\.skips=false\) does not"):
        RealFakeScorer(RealFakeConfig(), skipping.output_spec)
