"""docs/derivations.md: each formula against what it stands for, by learning again or by counting."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.covariance import ledoit_wolf_shrinkage

from unlike.calibration.conformal import p_values
from unlike.calibration.thresholds import ConformalThreshold
from unlike.cluster.descent import Rule
from unlike.models.base import OutputSpec
from unlike.scoring.batches import Batches
from unlike.scoring.gaussian import GaussianConfig, GaussianScorer
from unlike.scoring.pca import PCAConfig, PCAScorer, noise_for
from unlike.scoring.statistics.moments import FLOOR, Moments, moments_of

ROOT = Path(__file__).parents[2]
SPEC = OutputSpec("Any", ("features",))
COUNT, WIDTH = 20, 12
NOBODY = np.zeros(COUNT, np.intp)
ALONE = np.arange(COUNT)


def draw(seed: int = 0, width: int = WIDTH, count: int = COUNT) -> torch.Tensor:
    """Features (N, D, 2, 3) that vary as wholes and at each position, less in some directions than in others."""
    random = np.random.default_rng(seed)
    ways = random.normal(size=(3, width * 6))
    own = random.normal(size=(count, width, 2, 3)) * np.linspace(0.2, 2.0, width)[:, None, None]
    return torch.tensor((random.normal(size=(count, 3)) @ ways).reshape(count, width, 2, 3) + own).float()


def fitted(scorer, features: torch.Tensor):
    every = Batches.of_tensors(features)
    return scorer.fit(every, every.take(np.empty(0, np.intp)), 0)


def squared_lengths(gap: np.ndarray, left: np.ndarray, shrinkage: float) -> np.ndarray:
    """Squared lengths (h, w) of a gap (D, h, w) under the shrunk covariance of what is left of others (n, D, h, w)."""
    _, width, height, across = left.shape
    found = np.empty((height, across))
    for y, x in np.ndindex(height, across):
        rows = left[:, :, y, x] - left[:, :, y, x].mean(axis=0)
        covariance = rows.T @ rows / len(rows)
        size = np.trace(covariance) / width
        shrunk = (1 - shrinkage) * covariance + (shrinkage + FLOOR) * size * np.eye(width)
        found[y, x] = gap[:, y, x] @ np.linalg.solve(shrunk, gap[:, y, x])
    return found


def ridge_without(images: np.ndarray, row: int, penalty: float) -> tuple[np.ndarray, np.ndarray]:
    """What a ridge regression of the other images (N - 1, P) on themselves leaves of the one, and of each of them."""
    others = np.delete(images, row, axis=0)
    centred = others - others.mean(axis=0)
    products = centred.T @ centred
    rest = np.eye(len(products)) - np.linalg.solve(products + penalty * np.eye(len(products)), products)
    return (images[row] - others.mean(axis=0)) @ rest, centred @ rest


def test_what_is_left_of_an_image_by_the_mean_of_the_others():
    images = draw().double().flatten(1).numpy()
    influence = np.eye(COUNT) - 1 / COUNT
    left = influence @ images
    for row in range(COUNT):
        others = np.delete(images, row, axis=0)
        np.testing.assert_allclose(left[row] / influence[row, row], images[row] - others.mean(axis=0), rtol=1e-9)
        changed = left - np.outer(influence[:, row] / influence[row, row], left[row])
        np.testing.assert_allclose(np.delete(changed, row, axis=0), others - others.mean(axis=0), atol=1e-12)


def test_what_is_left_of_an_image_by_a_regression_of_the_others():
    features = draw()
    scorer = fitted(PCAScorer(PCAConfig(code="vector", components=5, distance="euclidean"), SPEC), features)
    left, influence = (tensor.double().numpy() for tensor in scorer._all_left_over(features))
    np.testing.assert_allclose(influence, influence.T, atol=1e-6)
    np.testing.assert_allclose(influence.sum(axis=0), 0, atol=1e-5)
    images = features.double().flatten(1).numpy()
    np.testing.assert_allclose(left.reshape(COUNT, -1), influence @ images, atol=1e-4)
    variances = np.linalg.eigvalsh(np.cov(images.T, bias=True))[::-1][: COUNT - 1]
    penalty = COUNT * noise_for(variances, 5)
    maps = scorer.leave_one_out(features, torch.arange(COUNT), NOBODY, ALONE)[:, 0].numpy()
    for row in range(COUNT):
        gap, others = ridge_without(images, row, penalty)
        np.testing.assert_allclose(left[row].ravel() / influence[row, row], gap, atol=1e-4)
        changed = left.reshape(COUNT, -1) - np.outer(influence[:, row] / influence[row, row], left[row].ravel())
        np.testing.assert_allclose(np.delete(changed, row, axis=0), others, atol=1e-4)
        np.testing.assert_allclose(maps[row], np.linalg.norm(gap.reshape(WIDTH, 2, 3), axis=0), rtol=1e-4)


@pytest.mark.parametrize("shrinkage", [0.0, 0.1, 0.5])
@pytest.mark.parametrize("whole", [False, True])
def test_a_whitened_length_left_out_is_bounded_closely_from_above(shrinkage, whole):
    features = draw()
    images = features.double().numpy()
    if whole:
        config = PCAConfig(code="vector", components=3, distance="whitened", shrinkage=shrinkage)
        scorer = fitted(PCAScorer(config, SPEC), features)
        flat = images.reshape(COUNT, -1)
        penalty = COUNT * noise_for(np.linalg.eigvalsh(np.cov(flat.T, bias=True))[::-1][: COUNT - 1], 3)
        parts = [ridge_without(flat, row, penalty) for row in range(COUNT)]
    else:
        scorer = fitted(GaussianScorer(GaussianConfig(positions="each", shrinkage=shrinkage), SPEC), features)
        others = [np.delete(images, row, axis=0) for row in range(COUNT)]
        parts = [(images[row] - rest.mean(axis=0), rest) for row, rest in enumerate(others)]
    found = scorer.leave_one_out(features, torch.arange(COUNT), NOBODY, ALONE)[:, 0].double().numpy()
    exact = np.stack(
        [squared_lengths(gap.reshape(WIDTH, 2, 3), left.reshape(-1, WIDTH, 2, 3), shrinkage) for gap, left in parts]
    )
    ratios = found**2 / exact
    assert ratios.min() >= 1 - 2e-3  # a bound, but for rounding in single precision
    assert ratios.max() <= (1 + 2e-3 if shrinkage == 0 else 1.01)


def test_the_sphere_alone_would_make_an_image_look_less_strange():
    """Without the bound the lengths are below the exact ones: by more than it is above them."""
    features = draw(width=30)  # more numbers than images: the sphere is all there is in most directions
    scorer = fitted(GaussianScorer(GaussianConfig(positions="each", shrinkage=0.1), SPEC), features)
    images = features.double().numpy()
    found = scorer.leave_one_out(features, torch.arange(COUNT), NOBODY, ALONE)[:, 0].double().numpy() ** 2
    others = [np.delete(images, row, axis=0) for row in range(COUNT)]
    exact = np.stack([squared_lengths(images[r] - o.mean(axis=0), o, 0.1) for r, o in enumerate(others)])
    assert (found / exact).min() >= 1 - 2e-3
    left = (features - features.mean(dim=0)).double()
    sums = left.flatten(2).permute(2, 1, 0) @ left.flatten(2).permute(2, 0, 1)  # (P, D, D)
    sizes = torch.diagonal(sums, dim1=1, dim2=2).mean(dim=1) / COUNT
    row, own = 0, left[0].flatten(1).T  # (P, D)
    without = sums - COUNT / (COUNT - 1) * own[:, :, None] * own[:, None, :]
    kept = 0.9 * without / (COUNT - 1) + 0.1 * COUNT / (COUNT - 1) * sizes[:, None, None] * torch.eye(30)
    gap = own * COUNT / (COUNT - 1)
    plain = (gap * torch.linalg.solve(kept, gap)).sum(dim=1).reshape(2, 3).numpy()
    assert (plain < exact[row]).all()
    assert (np.abs(found[row] - exact[row]) < exact[row] - plain).all()


def test_three_products_are_enough_for_the_inverse():
    random = np.random.default_rng(0)
    own, shared, total, share, fewer = random.normal(size=5), random.normal(size=5), 1.3, 0.05, 0.95
    covariance = np.cov(random.normal(size=(5, 40)))
    matrix = covariance / fewer - share * (np.outer(own, shared) + np.outer(shared, own) - total * np.outer(own, own))
    inverse = fewer * np.linalg.inv(covariance)
    length, both, spread = own @ inverse @ own, own @ inverse @ shared, shared @ inverse @ shared
    determinant = (1 - share * both) ** 2 + share * length * (total - share * spread)
    np.testing.assert_allclose(own @ np.linalg.solve(matrix, own), length / determinant, rtol=1e-9)
    of_own = 1 - share * (length * (total - share * spread) - both * (1 - share * both)) / determinant
    solved = inverse @ (of_own * own + share * length / determinant * shared)
    np.testing.assert_allclose(solved, np.linalg.solve(matrix, own), rtol=1e-9)


@pytest.mark.parametrize("components", [1, 3.0, 6, 0.2, 0.9, 0.999])
def test_the_noise_makes_directions_count_as_so_many(components):
    values = np.array([9.0, 4.0, 2.0, 1.0, 0.5, 0.2, 0.1])
    noise = noise_for(values, components)
    kept = values / (values + noise)
    counted = kept.sum() if components >= 1 else (values * kept).sum() / values.sum()
    assert counted == pytest.approx(components, rel=1e-6)
    assert 0 <= noise <= values.sum() / components


@pytest.mark.parametrize(("rows", "width"), [(5, 3), (40, 8), (20, 60)])
def test_the_share_of_the_sphere_is_that_of_ledoit_and_wolf(rows, width):
    points = np.random.default_rng(0).normal(size=(rows, width)) * np.linspace(1, 3, width) + 100
    assert float(moments_of(points).shrinkage()) == pytest.approx(ledoit_wolf_shrinkage(points), rel=1e-6)
    batches = Moments(width)
    for part in np.array_split(points, 3):  # sums are then about the mean of the first batch
        batches.add(torch.from_numpy(part))
    fourth = (np.square(points - points.mean(axis=0)).sum(axis=1) ** 2).sum()
    assert float(batches._centred_lengths_squared()) == pytest.approx(fourth, rel=1e-9)
    assert float(batches.shrinkage()) == pytest.approx(ledoit_wolf_shrinkage(points), rel=1e-6)


@pytest.mark.parametrize(("count", "promised"), [(9, 0.1), (19, 0.1), (37, 0.1), (99, 0.01), (40, 0.3)])
def test_of_all_ranks_that_a_new_image_may_have_so_many_are_above_the_threshold(count, promised):
    scores = np.arange(count + 1, dtype=float)
    above = []
    for rank in range(count + 1):
        held_out = np.delete(scores, rank)
        rule = ConformalThreshold(promised).fit(held_out)
        above.append(bool(scores[rank] > rule.threshold_))
        assert above[-1] == bool(p_values(scores[[rank]], held_out)[0] <= promised + 1e-12)
    assert sum(above) == int(promised * (count + 1) + 1e-9)


def test_the_weights_are_the_slope_of_the_objective():
    random = np.random.default_rng(0)
    points, centres, alpha = random.normal(size=(30, 4)), random.normal(size=(3, 4)), 1.7

    def objective(moved: np.ndarray) -> float:
        distances = 0.5 * np.square(points[:, None] - moved).sum(axis=2)
        memberships = np.exp(-alpha * distances)
        return float((memberships / memberships.sum(axis=1, keepdims=True) * distances).sum())

    _, weights, part = Rule(alpha, "equilibrium").weigh(points, centres)
    assert part + 0.5 * np.square(points).sum() == pytest.approx(objective(centres))
    np.testing.assert_allclose(weights.sum(axis=0), 1)
    assert weights.min() < 0
    slope, step = np.empty_like(centres), 1e-6
    for place in np.ndindex(*centres.shape):
        there = np.zeros_like(centres)
        there[place] = step
        slope[place] = (objective(centres + there) - objective(centres - there)) / (2 * step)
    np.testing.assert_allclose(weights.sum(axis=1)[:, None] * centres - weights @ points, slope, rtol=1e-5, atol=1e-7)


def test_the_code_points_to_headings_that_are_there():
    page = (ROOT / "docs/derivations.md").read_text()
    anchors = {
        re.sub(r"[^\w -]", "", line.lstrip("# ").lower()).replace(" ", "-")
        for line in re.findall(r"^#+ .*$", page, re.MULTILINE)
    }
    found = {}
    for path in (ROOT / "src").rglob("*.py"):
        for anchor in re.findall(r"docs/derivations\.md#([\w-]+)", path.read_text()):
            found.setdefault(anchor, path.name)
    assert set(found) <= anchors, set(found) - anchors
    assert len(found) >= 5
