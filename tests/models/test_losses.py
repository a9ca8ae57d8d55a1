"""Differences between a reconstruction and its target, against independent versions."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.ndimage import correlate1d

from unlike.models.losses import LOSS_MAPS, LOSSES, blur


def pair(rng, shape=(2, 3, 20, 24)):
    return (torch.tensor(rng.uniform(-1, 1, shape), dtype=torch.float32) for _ in range(2))


def test_squared_and_absolute(rng):
    first, second = pair(rng)
    gap = (first - second).numpy()
    np.testing.assert_allclose(LOSS_MAPS["squared"](first, second), (gap**2).mean(1), rtol=1e-5)
    np.testing.assert_allclose(LOSS_MAPS["absolute"](first, second), np.abs(gap).mean(1), rtol=1e-5)


def reference_factors(first, second):
    """Luminance and contrast-structure of Wang et al. 2004 in float64, on one plane."""
    steps = np.arange(-5, 6)
    window = np.exp(-(steps**2) / (2 * 1.5**2))
    window /= window.sum()

    def mean(plane):
        return correlate1d(correlate1d(plane, window, 0, mode="nearest"), window, 1, mode="nearest")

    c1, c2 = (0.01 * 2) ** 2, (0.03 * 2) ** 2
    mx, my = mean(first), mean(second)
    vx, vy, cov = mean(first**2) - mx**2, mean(second**2) - my**2, mean(first * second) - mx * my
    return (2 * mx * my + c1) / (mx**2 + my**2 + c1), (2 * cov + c2) / (vx + vy + c2)


def reference_ssim(first, second):
    light, structure = reference_factors(first, second)
    return light * structure


def test_ssim_is_that_of_the_paper(rng):
    first, second = pair(rng)
    second = 0.7 * first + 0.3 * second
    expected = np.array(
        [
            [reference_ssim(a.numpy().astype(float), b.numpy().astype(float)) for a, b in zip(x, y, strict=True)]
            for x, y in zip(first, second, strict=True)
        ]
    )
    np.testing.assert_allclose(LOSS_MAPS["ssim"](first, second), ((1 - expected) / 2).mean(1), atol=2e-5)


@pytest.mark.parametrize("name", LOSS_MAPS)
def test_equal_images_differ_nowhere(name, rng):
    image, _ = pair(rng)
    assert LOSS_MAPS[name](image, image).abs().max() < 1e-6


@pytest.mark.parametrize("name", [name for name in LOSS_MAPS if name != "cosine"])  # it is of whole images
def test_objective_is_the_mean_of_its_map(name, rng):
    first, second = pair(rng)
    assert LOSSES[name](first, second).item() == pytest.approx(LOSS_MAPS[name](first, second).mean().item(), rel=1e-5)


def test_blur_keeps_what_is_flat_and_spreads_a_point():
    flat = torch.full((1, 1, 9, 9), 3.0)
    torch.testing.assert_close(blur(flat, 2.0, window=None), flat)
    point = torch.zeros(1, 1, 41, 41)
    point[0, 0, 20, 20] = 1
    spread = blur(point, 2.0, window=None)[0, 0]
    assert spread.sum().item() == pytest.approx(1, abs=1e-4)
    variance = (spread.sum(0) * (torch.arange(41) - 20) ** 2).sum().item()
    assert variance == pytest.approx(4, rel=0.02)


@pytest.mark.parametrize("name", LOSSES)
def test_objectives_are_zero_for_equal_images_and_grow_with_the_difference(name, rng):
    image, other = pair(rng, (2, 3, 32, 40))
    losses = [LOSSES[name](image + share * (other - image), image).item() for share in (0.0, 0.1, 0.5, 1.0)]
    assert losses[0] == pytest.approx(0, abs=1e-5)
    assert losses == sorted(losses)
    assert losses[1] > losses[0] + 1e-5


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("shape", [(2, 1, 8, 8), (1, 3, 5, 7), (2, 3, 33, 64), (1, 2, 176, 180)])
def test_objectives_have_gradients_at_any_size(name, shape, rng):
    image, other = pair(rng, shape)
    guess = other.requires_grad_()
    LOSSES[name](guess, image).backward()
    assert torch.isfinite(guess.grad).all()
    assert guess.grad.abs().max() > 0


def test_charbonnier_is_round_near_zero_and_absolute_far_away():
    gap = torch.tensor([0.0, 1e-5, 1.0]).view(1, 1, 1, 3)
    found = LOSS_MAPS["charbonnier"](gap, torch.zeros_like(gap)).flatten().tolist()
    assert found[0] == 0
    assert found[1] == pytest.approx(5e-8, rel=0.1)
    assert found[2] == pytest.approx(1, rel=2e-3)


def test_ssim_agrees_with_scikit_image(rng):
    """Inside the border, where no convention about edges enters."""
    from skimage.metrics import structural_similarity

    first, second = pair(rng, (1, 1, 40, 48))
    second = 0.6 * first + 0.4 * second
    a, b = (image[0, 0].numpy().astype(np.float64) for image in (first, second))
    kernel = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
    _, expected = structural_similarity(a, b, data_range=2, full=True, **kernel)
    found = 1 - 2 * LOSS_MAPS["ssim"](first, second)[0].numpy()
    np.testing.assert_allclose(found[6:-6, 6:-6], expected[6:-6, 6:-6], atol=2e-4)


def test_multi_scale_ssim_is_that_of_the_paper(rng):
    """Equation 7 of Wang et al. 2003 in float64 with five scales, on planes of 192 pixels."""
    from scipy.ndimage import uniform_filter

    y, x = np.mgrid[:192, :192] / 192
    first = np.sin(9 * x + 5 * y)
    second = first * 0.8 + 0.1 * rng.standard_normal((192, 192))
    weights = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
    a, b, product = first, second, 1.0
    for scale, weight in enumerate(weights):
        light, structure = reference_factors(a, b)
        product *= np.mean(light * structure if scale == 4 else structure) ** weight
        a, b = (uniform_filter(plane, 2, origin=-1)[::2, ::2] for plane in (a, b))
    planes = (torch.tensor(plane, dtype=torch.float32)[None, None] for plane in (first, second))
    assert LOSSES["ms-ssim"](*planes).item() == pytest.approx(1 - product, rel=1e-3)


def test_frequency_loss_is_that_of_the_paper(rng):
    first, second = pair(rng, (2, 3, 8, 10))
    gap = np.fft.fft2(first.numpy() - second.numpy(), norm="ortho")
    weight = np.abs(gap) / np.abs(gap).max(axis=(2, 3), keepdims=True)
    assert LOSSES["frequency"](first, second).item() == pytest.approx((weight * np.abs(gap) ** 2).mean(), rel=1e-5)


def test_cosine_is_the_angle_at_each_place_and_of_the_whole_to_learn_from(rng):
    first, second = pair(rng)
    a, b = (values.numpy().astype(np.float64) for values in (first, second))
    positions = 1 - (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
    np.testing.assert_allclose(LOSS_MAPS["cosine"](first, second), positions, atol=1e-5)
    whole = [1 - np.vdot(x, y) / np.linalg.norm(x) / np.linalg.norm(y) for x, y in zip(a, b, strict=True)]
    assert LOSSES["cosine"](first, second).item() == pytest.approx(np.mean(whole), rel=1e-4)
    assert LOSS_MAPS["cosine"](first, -first).numpy() == pytest.approx(2, rel=1e-5)
    assert LOSS_MAPS["cosine"](first, 3 * first).abs().max() < 1e-6
