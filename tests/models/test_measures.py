"""Differences between a reconstruction and its target, against independent versions."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.ndimage import correlate1d

from unlike.models.measures import MEASURES, OBJECTIVES, blur


def pair(rng, shape=(2, 3, 20, 24)):
    return (torch.tensor(rng.uniform(-1, 1, shape), dtype=torch.float32) for _ in range(2))


def test_squared_and_absolute(rng):
    first, second = pair(rng)
    gap = (first - second).numpy()
    np.testing.assert_allclose(MEASURES["squared"](first, second), (gap**2).mean(1), rtol=1e-5)
    np.testing.assert_allclose(MEASURES["absolute"](first, second), np.abs(gap).mean(1), rtol=1e-5)


def reference_ssim(first, second):
    """Equation 13 of Wang et al. 2004 in float64, on one plane."""
    steps = np.arange(-5, 6)
    window = np.exp(-(steps**2) / (2 * 1.5**2))
    window /= window.sum()

    def mean(plane):
        return correlate1d(correlate1d(plane, window, 0, mode="nearest"), window, 1, mode="nearest")

    c1, c2 = (0.01 * 2) ** 2, (0.03 * 2) ** 2
    mx, my = mean(first), mean(second)
    vx, vy, cov = mean(first**2) - mx**2, mean(second**2) - my**2, mean(first * second) - mx * my
    return (2 * mx * my + c1) * (2 * cov + c2) / ((mx**2 + my**2 + c1) * (vx + vy + c2))


def test_ssim_is_that_of_the_paper(rng):
    first, second = pair(rng)
    second = 0.7 * first + 0.3 * second
    expected = np.array(
        [
            [reference_ssim(a.numpy().astype(float), b.numpy().astype(float)) for a, b in zip(x, y, strict=True)]
            for x, y in zip(first, second, strict=True)
        ]
    )
    np.testing.assert_allclose(MEASURES["ssim"](first, second), ((1 - expected) / 2).mean(1), atol=2e-5)


@pytest.mark.parametrize("name", MEASURES)
def test_equal_images_differ_nowhere(name, rng):
    image, _ = pair(rng)
    assert MEASURES[name](image, image).abs().max() < 1e-6


@pytest.mark.parametrize("name", OBJECTIVES)
def test_objective_is_the_mean_of_its_measure(name, rng):
    first, second = pair(rng)
    assert OBJECTIVES[name](first, second).item() == pytest.approx(
        MEASURES[name](first, second).mean().item(), rel=1e-5
    )


def test_blur_keeps_what_is_flat_and_spreads_a_point():
    flat = torch.full((1, 1, 9, 9), 3.0)
    torch.testing.assert_close(blur(flat, 2.0, window=None), flat)
    point = torch.zeros(1, 1, 41, 41)
    point[0, 0, 20, 20] = 1
    spread = blur(point, 2.0, window=None)[0, 0]
    assert spread.sum().item() == pytest.approx(1, abs=1e-4)
    variance = (spread.sum(0) * (torch.arange(41) - 20) ** 2).sum().item()
    assert variance == pytest.approx(4, rel=0.02)
