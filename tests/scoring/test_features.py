"""Scorers of features: against scikit-learn and hand arithmetic, without a model."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.optimize import brentq
from scipy.spatial.distance import cdist, mahalanobis
from scipy.stats import multivariate_normal
from sklearn.cluster import KMeans
from sklearn.covariance import ledoit_wolf
from sklearn.decomposition import PCA

from made_features import SPEC, learn
from unlike.data.randomness import random_directions
from unlike.errors import ConfigError, DataError
from unlike.models.base import OutputSpec
from unlike.scoring import SCORERS, neighbours, pca
from unlike.scoring.clusters import EquilibriumConfig, EquilibriumScorer, KMeansConfig, KMeansScorer
from unlike.scoring.ensemble import EnsembleConfig, EnsembleScorer
from unlike.scoring.features import FeatureConfig, _RowSample, nearest
from unlike.scoring.gaussian import GaussianConfig, GaussianScorer
from unlike.scoring.mixture import MixtureConfig, MixtureScorer
from unlike.scoring.neighbours import NeighboursConfig, NeighboursScorer, choose_coreset, gaps_to_nearest
from unlike.scoring.pca import PCAConfig, PCAScorer
from unlike.scoring.statistics.moments import Moments, moments_of


def vectors(count: int = 300, width: int = 6, seed: int = 0) -> torch.Tensor:
    """Codes (N, D, 1, 1), correlated, off the origin, of unequal scales."""
    random = np.random.default_rng(seed)
    rows = random.normal(size=(count, width)) @ random.normal(size=(width, width)) * 3.0 ** np.arange(width) + 5
    return torch.tensor(rows[:, :, None, None], dtype=torch.float32)


def left_of(normal, rows, components):
    """What the best linear rebuilding of noisy rows leaves of rows (N, D), as many components of `normal` kept in part."""
    mean = normal.mean(axis=0)
    _, sizes, directions = np.linalg.svd(normal - mean, full_matrices=False)
    values, directions = np.square(sizes[:-1]) / len(normal), directions[:-1]
    counted = np.ones_like(values) if components >= 1 else values / values.sum()
    noise = np.exp(brentq(lambda log: (counted * values / (values + np.exp(log))).sum() - components, -50, 50))
    kept = values / (values + noise)
    return rows - mean - ((rows - mean) @ directions.T * kept) @ directions


def scores(scorer, codes) -> np.ndarray:
    return scorer(codes).mean(dim=(1, 2)).numpy()


@pytest.fixture
def normal():
    return vectors()


@pytest.fixture
def others():
    return vectors(50, seed=0) * 2 + 10


def flat(codes: torch.Tensor) -> np.ndarray:
    return codes.flatten(1).double().numpy()


def test_kmeans_is_the_distance_to_the_nearest_centre():
    random = np.random.default_rng(0)
    places = np.array([[0, 0], [20, 0], [0, 20.0]])
    rows = np.concatenate([place + random.normal(size=(100, 2)) for place in places])
    codes = torch.tensor(rows[:, :, None, None], dtype=torch.float32)
    found = scores(learn(KMeansScorer(KMeansConfig(clusters=3), SPEC), codes), codes)
    reference = KMeans(3, n_init=10, random_state=0).fit(rows)
    np.testing.assert_allclose(found, reference.transform(rows).min(axis=1), atol=0.3)


def test_equilibrium_finds_the_small_cluster_that_kmeans_misses():
    random = np.random.default_rng(0)
    sizes, places = (2000, 50, 30), np.array([[0, 0], [6, 0], [0, 6.0]])
    rows = np.concatenate([place + random.normal(size=(size, 2)) for size, place in zip(sizes, places, strict=True)])
    codes = torch.tensor(rows[:, :, None, None], dtype=torch.float32)
    rare = torch.tensor(places[1:, :, None, None], dtype=torch.float32)
    plain = scores(learn(KMeansScorer(KMeansConfig(clusters=3), SPEC), codes), rare)
    fair = scores(learn(EquilibriumScorer(EquilibriumConfig(clusters=3, alpha="dvariance"), SPEC), codes), rare)
    assert fair.max() < 1
    assert fair.max() < plain.max() / 2


def test_pca_is_the_squared_error_of_the_code(normal, others):
    found = scores(learn(PCAScorer(PCAConfig(components=2), SPEC), normal), others)
    pca = PCA(2).fit(flat(normal))
    expected = np.square(flat(others) - pca.inverse_transform(pca.transform(flat(others)))).sum(axis=1)
    np.testing.assert_allclose(found, expected, rtol=1e-3)


def test_pca_by_share_of_variance(normal):
    scorer = learn(PCAScorer(PCAConfig(components=0.9), SPEC), normal)
    assert scorer.kept.shape[1] == PCA(0.9, svd_solver="full").fit(flat(normal)).n_components_


def test_pca_mahalanobis_in_the_discarded_directions(normal, others):
    found = scores(learn(PCAScorer(PCAConfig(components=2, distance="mahalanobis"), SPEC), normal), others)
    pca = PCA().fit(flat(normal))
    variances = np.var(pca.transform(flat(normal)), axis=0)
    floored = np.maximum(variances, 1e-6 * variances[0])
    expected = (pca.transform(flat(others))[:, 2:] ** 2 / floored[2:]).sum(axis=1)
    np.testing.assert_allclose(found, expected, rtol=1e-2)


@pytest.mark.parametrize("distance", ["error", "euclidean", "mahalanobis"])
def test_pca_of_codes_of_length_1_starts_at_their_mean(normal, others, distance):
    """They lie to one side of 0: what is left, measured from there, would be the way to their mean."""
    ours, theirs = (rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in (flat(normal), flat(others)))
    found = scores(learn(PCAScorer(PCAConfig(components=2, distance=distance, unit=True), SPEC), normal), others)
    pca = PCA().fit(ours)
    left = pca.transform(theirs)[:, 2:]
    variances = np.var(pca.transform(ours), axis=0)
    expected = {
        "error": np.square(left).sum(axis=1),
        "euclidean": np.linalg.norm(left, axis=1),
        "mahalanobis": (np.square(left) / np.maximum(variances, 1e-6 * variances[0])[2:]).sum(axis=1),
    }
    np.testing.assert_allclose(found, expected[distance], rtol=1e-2, atol=1e-5)


def test_pca_of_whole_codes_of_length_1_starts_at_their_mean():
    codes = torch.tensor(np.random.default_rng(0).normal(size=(40, 3, 6, 6))).float() + 4  # fewer than their numbers
    config = PCAConfig(code="vector", components=5, distance="euclidean", unit=True)
    scorer = learn(PCAScorer(config, SPEC), codes)
    ours = flat(codes) / np.linalg.norm(flat(codes), axis=1, keepdims=True)
    gaps = left_of(ours, ours[:6], 5).reshape(6, 3, 6, 6)
    np.testing.assert_allclose(scorer(codes[:6]).numpy(), np.linalg.norm(gaps, axis=1), rtol=1e-3)
    fresh = codes.flip(0)[:30] + 1
    torch.testing.assert_close(learn(scorer, fresh)(codes), learn(PCAScorer(config, SPEC), fresh)(codes))
    copy = PCAScorer(config, SPEC)
    copy.load_state_dict(scorer.state_dict())
    torch.testing.assert_close(copy(codes), scorer(codes), rtol=0, atol=0)


def test_pca_of_codes_of_length_1_knows_what_leaves_the_plane_of_normal_ones():
    random = np.random.default_rng(0)
    middle, ways = random.normal(size=20) * 3, random.normal(size=(3, 20))
    normal, fresh, odd = (
        middle + random.normal(size=(count, 3)) @ ways + noise * random.normal(size=(count, 20))
        for count, noise in ((300, 0.1), (200, 0.1), (200, 1.0))
    )
    codes = [torch.tensor(rows[:, :, None, None]).float() for rows in (normal, fresh, odd)]
    scorer = learn(PCAScorer(PCAConfig(components=3, unit=True), SPEC), codes[0])
    usual, strange = scores(scorer, codes[1]), scores(scorer, codes[2])
    assert (usual[:, None] < strange).mean() > 0.97  # the AUROC


GROUPS = OutputSpec("Made", ("features",), (2, 3, 4))  # of 9 numbers a position


def grids(count: int = 6, height: int = 5, width: int = 4, seed: int = 0) -> torch.Tensor:
    return torch.tensor(np.random.default_rng(seed).normal(size=(count, 9, height, width)) + 1).float()


def measured(features: torch.Tensor, spec: OutputSpec = GROUPS, **settings) -> torch.Tensor:
    """The features as a scorer of these settings takes them."""
    return KMeansScorer(KMeansConfig(**settings), spec).group_of(features)


def test_several_feature_groups_are_taken_in_the_order_of_their_names():
    features = grids()
    torch.testing.assert_close(measured(features), features)
    torch.testing.assert_close(measured(features, feature_group=1), features[:, 2:5])
    torch.testing.assert_close(measured(features, feature_group=(0, 2)), features[:, [0, 1, 5, 6, 7, 8]])
    torch.testing.assert_close(measured(features, feature_group=(2, 0)), features[:, [5, 6, 7, 8, 0, 1]])
    torch.testing.assert_close(measured(features, spec=SPEC, feature_group=(0,)), features)


def test_each_feature_group_is_brought_to_length_1_by_itself():
    features = grids()
    features[0, 2:5] = 0  # a network that sees nothing
    found = measured(features, feature_group=(0, 1), unit_groups=True)
    lengths = torch.stack([part.norm(dim=1) for part in torch.split(found, (2, 3), dim=1)])
    torch.testing.assert_close(lengths[:, 1:], torch.ones(2, 5, 5, 4))
    assert lengths[1, 0].max() == 0
    alone = measured(features, spec=SPEC, unit_groups=True)  # of a model of one group that is all
    torch.testing.assert_close(alone, features / features.norm(dim=1, keepdim=True))


def test_pools_are_means_of_blocks_and_averages_have_nothing_beyond_the_border():
    features = grids()
    found = measured(features, pool=2)
    assert found.shape == (6, 9, 3, 2)
    torch.testing.assert_close(found[..., 0, 1], features[..., :2, 2:].mean(dim=(2, 3)))
    torch.testing.assert_close(found[..., 2, 1], features[..., 4:, 2:].mean(dim=(2, 3)))  # half a block
    averaged = measured(features, pool=2, averaging=3)
    torch.testing.assert_close(averaged[..., 0, 0], found[..., :2, :2].sum(dim=(2, 3)) / 9)
    torch.testing.assert_close(averaged[..., 1, 1], found.sum(dim=(2, 3)) / 9)


def test_random_directions_are_some_of_a_positions_numbers_mixed_and_the_same_each_time():
    features = grids()
    scorer = KMeansScorer(KMeansConfig(feature_group=(1, 2), dimensions=4), GROUPS)
    directions = torch.from_numpy(random_directions(7, 4, seed=0))
    torch.testing.assert_close(directions @ directions.T, torch.eye(4), rtol=0, atol=1e-5)
    torch.testing.assert_close(
        scorer.group_of(features), torch.einsum("dc,bchw->bdhw", directions, features[:, 2:]), rtol=1e-4, atol=1e-4
    )
    learn(scorer, features)
    copy = KMeansScorer(scorer.config, GROUPS)
    copy.load_state_dict(scorer.state_dict())
    torch.testing.assert_close(copy(features), scorer(features), rtol=0, atol=0)


@pytest.mark.parametrize("distance", ["whitened", "euclidean"])
def test_what_is_left_out_in_closed_form_is_measured_as_all_else_is(distance):
    """With groups, blocks, averages and directions: as learning again without each."""
    settings = {"feature_group": (0, 2), "unit_groups": True, "pool": 2, "averaging": 3, "dimensions": 3}
    config = PCAConfig(code="vector", components=0.5, distance=distance, **settings)
    features, none = grids(30), np.zeros(30, int)
    scorer = learn(PCAScorer(config, GROUPS), features)
    found = scorer.leave_one_out(features, torch.arange(3), none, np.arange(30))[:, 0]
    assert found.shape == (3, 3, 2)
    again = [
        learn(PCAScorer(config, GROUPS), torch.cat([features[:row], features[row + 1 :]]))(features[row : row + 1])
        for row in range(3)
    ]
    torch.testing.assert_close(found, torch.cat(again), rtol=0.35, atol=0.02)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"feature_group": (0, -1)},
            r"scorer\.feature_group: expected 0 or more, one or several different ones, or none, came \(0, -1\)",
        ),
        ({"feature_group": (0, 3)}, r"scorer\.feature_group: expected 0 to 2, or none, came 3"),
        ({"averaging": 2}, r"scorer\.averaging: expected an odd number, which has a middle, came 2"),
        ({"averaging": 0}, r"scorer\.averaging: expected 1 to 99, came 0"),
        ({"pool": 0}, r"scorer\.pool: expected 1 or more, came 0"),
        ({"dimensions": 0}, r"scorer\.dimensions: expected 1 or more, came 0"),
        (
            {"dimensions": 9},
            r"scorer\.dimensions: expected fewer than the numbers of a position, which are 9, came 9; leave it out",
        ),
        ({"feature_group": 0, "dimensions": 5}, r"scorer\.dimensions: .*, which are 2, came 5"),
    ],
)
def test_what_of_a_position_cannot_be_taken(settings, message):
    with pytest.raises(ConfigError, match=message):
        KMeansScorer(KMeansConfig(**settings), GROUPS)


def test_a_model_of_one_feature_group_says_what_gives_more():
    with pytest.raises(ConfigError, match=r"expected 0, for the model gives one \(see model.fine and model.separate"):
        KMeansScorer(KMeansConfig(feature_group=(0, 1)), SPEC)
    with pytest.raises(ConfigError, match=r"a position, which are not known of this model, came 5"):
        KMeansScorer(KMeansConfig(dimensions=5), SPEC)


@pytest.mark.parametrize("components", [5, 0.7])
def test_pca_of_whole_codes_wider_than_any_covariance_says_where_the_error_lies(components):
    random = np.random.default_rng(0)
    ways = random.normal(size=(8, 1, 3, 60, 60))
    draw = lambda count: (random.normal(size=(8, count, 1, 1, 1)) * ways).sum(axis=0)  # noqa: E731
    normal, others = (
        torch.tensor(draw(count) + random.normal(size=(count, 3, 60, 60)) / 5).float() for count in (40, 6)
    )
    others[:, :, 10:13, 20:24] += 3
    scorer = learn(PCAScorer(PCAConfig(code="vector", components=components, distance="euclidean"), SPEC), normal)
    maps = scorer(others).numpy()
    gaps = left_of(flat(normal), flat(others), components).reshape(others.shape)
    np.testing.assert_allclose(maps, np.sqrt(np.square(gaps).sum(axis=1)), rtol=1e-3)
    assert maps[:, 10:13, 20:24].mean() > 2 * np.median(maps)
    copy = PCAScorer(scorer.config, SPEC)
    copy.load_state_dict(scorer.state_dict())
    np.testing.assert_array_equal(copy(others).numpy(), maps)


def test_what_components_leave_is_whitened_at_each_position():
    """By what is left of normal codes there, their mean included in the whole's."""
    random = np.random.default_rng(0)
    ways = random.normal(size=(3, 1, 4, 2, 3)) * 5
    spread = random.uniform(0.1, 3, size=(4, 2, 3))  # each number of each place has its own
    draw = lambda count: (  # noqa: E731
        torch.tensor(
            (random.normal(size=(3, count, 1, 1, 1)) * ways).sum(axis=0) + random.normal(size=(count, 4, 2, 3)) * spread
        )
    ).float()
    normal, others = draw(90), draw(7)
    others[2, :, 1, 2] += 12
    config = PCAConfig(code="vector", components=3, distance="whitened", shrinkage=0.2)
    scorer = learn(PCAScorer(config, SPEC), normal)
    maps = scorer(others).numpy()

    def left(codes):
        return left_of(flat(normal), flat(codes), 3).reshape(codes.shape)

    for y, x in np.ndindex(2, 3):
        rows = left(normal)[:, :, y, x]
        covariance = np.cov(rows.T, bias=True)
        inverse = np.linalg.inv(0.8 * covariance + 0.2 * np.trace(covariance) / 4 * np.eye(4))
        expected = [mahalanobis(row, rows.mean(axis=0), inverse) for row in left(others)[:, :, y, x]]
        np.testing.assert_allclose(maps[:, y, x], expected, rtol=2e-2)
    assert np.unravel_index(maps.argmax(), maps.shape) == (2, 1, 2)
    copy = PCAScorer(config, SPEC)
    copy.load_state_dict(scorer.state_dict())
    np.testing.assert_array_equal(copy(others).numpy(), maps)


@pytest.mark.parametrize("count", [3, 4, 5, 8])
def test_of_few_images_something_is_always_left_to_whiten_by(count):
    """Were all components kept whole, what is left would be rounding, and new images endlessly strange."""
    codes = torch.tensor(np.random.default_rng(0).normal(size=(count + 6, 3, 8, 8))).float()
    for components in (0.999999, 0.8):
        config = PCAConfig(code="vector", components=components, distance="whitened")
        scorer = learn(PCAScorer(config, SPEC), codes[:count])
        if scorer.capabilities.leave_one_out is not None:
            alone = scorer.leave_one_out(codes[:count], torch.arange(count), np.zeros(count, int), np.arange(count))
            left = alone.mean(dim=(1, 2, 3))
            assert scores(scorer, codes[count:]).max() < 2 * left.median()
        assert scores(scorer, codes[count:]).max() < 1e4
        alone = torch.cat([scorer(code[None]) for code in codes])
        torch.testing.assert_close(alone, scorer(codes), rtol=1e-3, atol=1e-3)
    copies = codes[:3].repeat(2, 1, 1, 1) + 1e-6 * codes[:1]
    close = learn(PCAScorer(PCAConfig(code="vector", components=0.8, distance="whitened"), SPEC), copies)
    assert scores(close, codes[count:]).max() < 1e4
    with pytest.raises(DataError, match=f"{count - 1} components of {count} codes .* expected {count - 2} or fewer"):
        learn(PCAScorer(PCAConfig(code="vector", components=count - 1, distance="whitened"), SPEC), codes[:count])


def test_what_whitens_lies_where_the_rest_does(monkeypatch):
    """As after a fit on an accelerator; `meta` stands for one."""
    monkeypatch.setattr(pca, "whiten_each", lambda *_: np.ones((4, 3, 3), np.float32))
    monkeypatch.setattr(pca, "moments_at", lambda *_: (None, torch.device("meta")))
    codes = torch.tensor(np.random.default_rng(0).normal(size=(9, 3, 2, 2))).float()
    scorer = PCAScorer(PCAConfig(code="vector", components=2, distance="whitened"), SPEC)
    monkeypatch.setattr(pca.FeatureScorer, "fit", lambda self, *_: self.to("meta"))
    learn(scorer, codes)
    assert {value.device.type for value in scorer.buffers()} == {"meta"}


def test_whitened_is_for_whole_codes_as_they_are():
    for settings in ({}, {"code": "mean"}, {"code": "vector", "scale": "whiten"}, {"code": "vector", "unit": True}):
        with pytest.raises(ConfigError, match=r"scorer\.distance = 'whitened' .* expected code = 'vector'"):
            PCAConfig(distance="whitened", **settings)
    with pytest.raises(ConfigError, match=r"scorer\.shrinkage"):
        PCAConfig(code="vector", distance="whitened", shrinkage=2)
    with pytest.raises(
        ConfigError, match=r"4 positions .* take 3\.9 GB, .*; take distance = 'euclidean', .* smaller size"
    ):
        learn(PCAScorer(PCAConfig(code="vector", distance="whitened"), SPEC), torch.rand(3, 9000, 2, 2))


def test_components_of_whole_codes_are_fewer_than_images():
    def keep(components):
        codes = torch.tensor(np.random.default_rng(0).normal(size=(12, 3, 60, 60))).float()
        config = PCAConfig(code="vector", distance="euclidean", components=components)
        return learn(PCAScorer(config, SPEC), codes).kept.square().sum(dim=0)  # of each component, its part

    assert keep(10.0).sum() == pytest.approx(10, rel=1e-4)
    assert keep(0.9999).min() > 0.999
    for components in (11, 12):
        message = rf"{components} components of 12 codes of 10800 numbers .* expected 10 or fewer"
        with pytest.raises(DataError, match=message):
            keep(components)


def test_all_directions_but_one_can_be_kept(normal):
    assert learn(PCAScorer(PCAConfig(components=5), SPEC), normal).kept.shape == (6, 5)
    assert learn(PCAScorer(PCAConfig(components=0.99999999), SPEC), normal).kept.shape == (6, 5)
    with pytest.raises(DataError, match=r"6 components of 300 codes of 6 numbers .* expected 5 or fewer"):
        learn(PCAScorer(PCAConfig(components=6), SPEC), normal)


@pytest.mark.parametrize("scale", [1.0, 1e-4])
def test_components_of_a_sample_are_about_its_own_mean(scale):
    """Whole images are taken from the mean of all, of which those that make components are some."""
    rows = scale * (np.random.default_rng(0).normal(size=(12, 30)).astype(np.float32) + 3)
    values, weights = pca._principal_of_few(rows)
    sizes = np.linalg.svd(rows - rows.mean(axis=0), compute_uv=False)[:-1]
    np.testing.assert_allclose(values, np.square(sizes) / 12, rtol=1e-3)
    directions = rows.T @ weights
    np.testing.assert_allclose(directions.T @ directions, np.eye(11), atol=1e-3)


def test_the_one_way_in_which_normal_images_vary_is_no_error():
    def draw(count, seed):
        random = np.random.default_rng(seed)
        rows = 300 * random.normal(size=(count, 1)) + random.normal(size=(count, 9000)) / 5
        return torch.tensor(rows[..., None, None]).float()

    normal, others = draw(20, 0), draw(5, 1)
    scorer = learn(PCAScorer(PCAConfig(code="vector", components=0.8, distance="euclidean"), SPEC), normal)
    np.testing.assert_allclose(scorer.kept.square().sum(dim=0), [0.8], rtol=1e-3)
    scorer = learn(PCAScorer(PCAConfig(code="vector", components=0.9999, distance="euclidean"), SPEC), normal)
    np.testing.assert_allclose(scorer(others).flatten(), 0.2 * 9000**0.5, rtol=0.1)


def test_what_is_kept_of_whole_codes_is_orthogonal_however_they_vary():
    random = np.random.default_rng(0)
    rows = random.normal(size=(30, 6)) * 10.0 ** -np.arange(6) @ random.normal(size=(6, 9000)) + 300
    scorer = learn(
        PCAScorer(PCAConfig(code="vector", components=0.9999, distance="euclidean"), SPEC),
        torch.tensor(rows[..., None, None]).float(),
    )
    kept = scorer.kept.double().numpy()
    products = kept.T @ kept
    np.testing.assert_allclose(products - np.diag(np.diag(products)), 0, atol=1e-3)
    assert (np.diff(np.diag(products)) < 1e-6).all()  # the most of what varies most


def test_a_scaled_vector_has_no_positions():
    codes = torch.tensor(np.random.default_rng(0).normal(size=(40, 3, 2, 2))).float()
    euclidean = {"distance": "euclidean"}
    for settings in (euclidean | {"scale": "standardise"}, euclidean | {"reduce": 6}, {"distance": "mahalanobis"}, {}):
        scorer = learn(PCAScorer(PCAConfig(code="vector", components=4, **settings), SPEC), codes)
        assert scorer(codes).shape == (40, 1, 1)


@pytest.mark.parametrize(
    "make",
    [
        lambda spec, **group: GaussianScorer(GaussianConfig(positions="each", shrinkage=0.1, **group), spec),
        lambda spec, **group: GaussianScorer(GaussianConfig(**group), spec),
        lambda spec, **group: NeighboursScorer(NeighboursConfig(**group), spec),
        lambda spec, **group: PCAScorer(PCAConfig(code="vector", components=4, distance="euclidean", **group), spec),
        lambda spec, **group: PCAScorer(PCAConfig(code="vector", components=4, distance="whitened", **group), spec),
        lambda spec, **group: NeighboursScorer(NeighboursConfig(metric="mahalanobis", **group), spec),
    ],
)
def test_of_several_feature_groups_one_is_measured(make):
    codes = torch.tensor(np.random.default_rng(0).normal(size=(40, 5, 2, 3))).float()
    several = OutputSpec("Made", ("features",), (2, 3))
    for group, part in ((0, codes[:, :2]), (1, codes[:, 2:])):
        found = learn(make(several, feature_group=group), codes)(codes)
        torch.testing.assert_close(found, learn(make(SPEC), part)(part))
    with pytest.raises(ConfigError, match=r"scorer\.feature_group: expected 0 to 1, or none, came 2"):
        make(several, feature_group=2)
    with pytest.raises(ConfigError, match=r"scorer\.feature_group: expected 0, for the model gives one .*, came 1"):
        make(SPEC, feature_group=1)
    whole = codes[:, :2]
    torch.testing.assert_close(learn(make(SPEC, feature_group=0), whole)(whole), learn(make(SPEC), whole)(whole))


def test_gaussian_is_the_mahalanobis_distance_under_ledoit_and_wolf(normal, others):
    found = scores(learn(GaussianScorer(GaussianConfig(), SPEC), normal), others)
    covariance, _ = ledoit_wolf(flat(normal))
    inverse, mean = np.linalg.inv(covariance), flat(normal).mean(axis=0)
    np.testing.assert_allclose(found, [mahalanobis(row, mean, inverse) for row in flat(others)], rtol=1e-2)


def test_gaussian_of_each_position():
    random = np.random.default_rng(0)
    grids = torch.tensor(
        random.normal(size=(80, 3, 2, 2)) * [[1, 2], [3, 4]] + [[0, 10], [20, 30]], dtype=torch.float32
    )
    scorer = learn(GaussianScorer(GaussianConfig(positions="each", shrinkage=0.1), SPEC), grids, size=30)
    maps = scorer(grids).numpy()
    assert maps.shape == (80, 2, 2)
    for y, x in np.ndindex(2, 2):
        rows = grids[:, :, y, x].double().numpy()
        covariance = np.cov(rows.T, bias=True)
        shrunk = 0.9 * covariance + 0.1 * np.trace(covariance) / 3 * np.eye(3)
        inverse = np.linalg.inv(shrunk)
        expected = [mahalanobis(row, rows.mean(axis=0), inverse) for row in rows]
        np.testing.assert_allclose(maps[:, y, x], expected, rtol=1e-3)


def test_neighbours_are_the_nearest_of_the_bank(normal, others):
    scorer = learn(NeighboursScorer(NeighboursConfig(neighbours=3), SPEC), normal)
    expected = np.sort(cdist(flat(others), flat(normal)), axis=1)[:, :3].mean(axis=1)
    np.testing.assert_allclose(scores(scorer, others), expected, rtol=1e-4)
    assert scores(learn(NeighboursScorer(NeighboursConfig(), SPEC), normal), normal).max() == 0  # each is in the bank


def test_neighbours_by_the_gaps_that_normal_codes_have():
    """Two crowds, far from each other: their own spread is what counts, not the way from one to the other."""
    random = np.random.default_rng(0)
    spread, gap = np.array([3.0, 0.05, 1.0]), np.array([0, 40.0, 0])

    def draw(count):
        return random.normal(size=(count, 3)) * spread + gap * random.integers(0, 2, size=(count, 1))

    def grid(rows):
        return torch.tensor(rows[:, :, None, None], dtype=torch.float32)

    normal = draw(2000)
    scorer = learn(
        NeighboursScorer(NeighboursConfig(metric="mahalanobis", shrinkage=0.0, least=300), SPEC), grid(normal)
    )
    whitening, bank = (values.double().numpy() for values in (scorer.whitening, scorer.bank))
    lengths = np.linalg.norm(whitening, axis=1)
    assert lengths[1] > 3 * max(lengths[0], lengths[2])  # what hardly varies counts most
    others = draw(50)
    expected = cdist((others - normal.astype(np.float32).mean(axis=0)) @ whitening, bank).min(axis=1)
    np.testing.assert_allclose(scores(scorer, grid(others)), expected, rtol=1e-2, atol=1e-3)
    along, across = normal[:1] + np.array([2.0, 0, 0]), normal[:1] + np.array([0, 2.0, 0])
    assert scores(scorer, grid(across)) > 3 * scores(scorer, grid(along))
    copy = NeighboursScorer(scorer.config, SPEC)
    copy.load_state_dict(scorer.state_dict())
    np.testing.assert_array_equal(scores(copy, grid(others)), scores(scorer, grid(others)))


def test_gaps_are_those_to_the_nearest_other_chosen_code(monkeypatch):
    rows = torch.tensor(np.random.default_rng(0).normal(size=(300, 4)), dtype=torch.float32)
    chosen = np.arange(0, 300, 3)
    monkeypatch.setattr(neighbours, "BLOCK", 700)  # seven rows at a time
    found = np.linalg.norm(gaps_to_nearest(rows, chosen, seed=0), axis=1)
    distances = cdist(rows.numpy(), rows.numpy()[chosen])
    distances[chosen, np.arange(100)] = np.inf
    np.testing.assert_allclose(found, distances.min(axis=1), rtol=1e-4)
    monkeypatch.setattr(neighbours, "PAIRS", 20)
    assert gaps_to_nearest(rows, chosen, seed=0).shape == (20, 4)


def test_a_bank_of_copies_has_no_gaps_and_still_measures():
    codes = torch.tensor(np.repeat([[0.0, 1.0], [5.0, 2.0]], 30, axis=0)[:, :, None, None], dtype=torch.float32)
    scorer = learn(NeighboursScorer(NeighboursConfig(metric="mahalanobis"), SPEC), codes)
    found = scores(scorer, torch.cat([codes[:1], codes[:1] + 1]))
    assert found[0] == 0
    assert 0 < found[1] < np.inf
    with pytest.raises(ConfigError, match=r"scorer\.shrinkage"):
        NeighboursConfig(shrinkage=-1)


def test_coreset_is_the_greedy_one():
    rows = torch.tensor(np.random.default_rng(0).normal(size=(200, 4)), dtype=torch.float32)
    chosen = choose_coreset(rows, 20, seed=3)
    gaps = cdist(rows.double().numpy(), rows.double().numpy())
    first = int(np.random.default_rng(3).integers(200))
    expected = [first]
    while len(expected) < 20:
        expected.append(int(gaps[:, expected].min(axis=1).argmax()))
    assert chosen.tolist() == sorted(expected)
    assert choose_coreset(rows[:5], 20, seed=0).tolist() == [0, 1, 2, 3, 4]


def test_coreset_of_more_rows_than_are_looked_at_together_is_the_greedy_one(monkeypatch):
    monkeypatch.setattr(neighbours, "FAR", 30)
    monkeypatch.setattr(neighbours, "BLOCK", 900)
    random = np.random.default_rng(1)
    for width, copies in ((2, 1), (12, 1), (2, 3)):
        rows = torch.tensor(np.repeat(random.normal(size=(400, width)), copies, axis=0), dtype=torch.float32)
        few, gaps = choose_coreset(rows, 150, seed=3), cdist(rows.double().numpy(), rows.double().numpy())
        expected = [int(np.random.default_rng(3).integers(len(rows)))]
        while len(expected) < 150:
            expected.append(int(gaps[:, expected].min(axis=1).argmax()))
        radius, best = gaps[:, few].min(axis=1).max(), gaps[:, expected].min(axis=1).max()
        assert radius == pytest.approx(best, rel=1e-3)  # of copies either may be picked
        assert len(np.unique(rows[few].numpy(), axis=0)) == 150
        if copies == 1:
            assert few.tolist() == sorted(expected)


def test_bank_has_the_size_that_was_asked_for(normal):
    config = NeighboursConfig(share=0.1, least=5, most=20)
    assert len(learn(NeighboursScorer(config, SPEC), normal).bank) == 20
    config = NeighboursConfig(share=0.05, least=5, most=20)
    assert len(learn(NeighboursScorer(config, SPEC), normal).bank) == 15


def test_mixture_is_the_density_counted_from_the_highest_there_can_be(normal, others):
    scorer = learn(MixtureScorer(MixtureConfig(components=1, floor=1e-9), SPEC), normal)
    rows = flat(normal)
    density = multivariate_normal(rows.mean(axis=0), np.cov(rows.T, bias=True))
    expected = density.logpdf(rows.mean(axis=0)) - density.logpdf(flat(others))
    np.testing.assert_allclose(scores(scorer, others), expected, rtol=0.02)
    for shape in ("full", "diagonal"):
        scorer = learn(MixtureScorer(MixtureConfig(components=3, shape=shape), SPEC), normal)
        assert scores(scorer, normal).min() >= 0
        assert scores(scorer, others).mean() > scores(scorer, normal).mean()


@pytest.mark.parametrize("scale", ["standardise", "whiten"])
def test_scaled_rows_have_unit_variance(normal, scale):
    scorer = learn(NeighboursScorer(NeighboursConfig(scale=scale), SPEC), normal)
    bank = scorer.bank
    torch.testing.assert_close(bank.var(dim=0, correction=0), torch.ones(6), rtol=1e-3, atol=0)
    if scale == "whiten":
        torch.testing.assert_close(torch.cov(bank.T, correction=0), torch.eye(6), rtol=1e-2, atol=1e-2)


def test_reduced_rows_keep_the_largest_directions(normal):
    for scale in ("none", "standardise", "whiten"):
        scorer = learn(NeighboursScorer(NeighboursConfig(reduce=2, scale=scale), SPEC), normal)
        assert scorer.bank.shape[1] == 2
    rows = flat(normal)
    kept = rows - rows.mean(axis=0) @ np.eye(6)
    plain = learn(NeighboursScorer(NeighboursConfig(reduce=2), SPEC), normal).bank.double().numpy()
    assert np.var(plain, axis=0).sum() == pytest.approx(
        PCA(2).fit(kept).explained_variance_.sum() * 299 / 300, rel=1e-3
    )


def test_unit_rows_know_no_length(normal):
    scorer = learn(NeighboursScorer(NeighboursConfig(unit=True), SPEC), normal)
    np.testing.assert_allclose(scores(scorer, normal * 7), 0, atol=1e-3)
    cosines = learn(PCAScorer(PCAConfig(components=2, unit=True), SPEC), normal)
    np.testing.assert_allclose(scores(cosines, normal * 7), scores(cosines, normal), rtol=1e-3, atol=1e-6)


def test_rows_of_a_grid():
    grids = torch.tensor(np.random.default_rng(0).normal(size=(40, 3, 2, 4)), dtype=torch.float32)
    shapes = {"grid": (2, 4), "vector": (1, 1), "mean": (1, 1)}
    widths = {"grid": 3, "vector": 24, "mean": 3}
    for code, shape in shapes.items():
        scorer = learn(NeighboursScorer(NeighboursConfig(code=code), SPEC), grids)
        assert scorer(grids).shape == (40, *shape)
        assert scorer.bank.shape[1] == widths[code]


def test_moments_stream_to_those_of_all_rows_at_once():
    rows = np.random.default_rng(0).normal(size=(500, 4)) * [1, 5, 0.1, 2] + [1e4, 0, -1e3, 5]
    moments = Moments(4)
    for part in np.array_split(rows, 7):
        moments.add(torch.from_numpy(part))
    moments.add(torch.empty(0, 4))
    np.testing.assert_allclose(moments.mean, rows.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(moments.covariance, np.cov(rows.T, bias=True), rtol=1e-9, atol=1e-9)
    assert moments.variance == pytest.approx(np.var(rows, axis=0).sum())
    assert moments.shrinkage() == pytest.approx(ledoit_wolf(rows)[1], rel=1e-6)
    without = moments_of(rows, covariance=False)
    assert without.variance == pytest.approx(moments.variance)
    assert without.through(None).variance == pytest.approx(moments.variance)


def test_shrinkage_of_each_position():
    rows = np.random.default_rng(0).normal(size=(30, 2, 5))
    moments = Moments(5, positions=2)
    moments.add(torch.from_numpy(rows))
    expected = [ledoit_wolf(rows[:, position])[1] for position in range(2)]
    np.testing.assert_allclose(moments.shrinkage(), expected, rtol=1e-6)
    second = moments.at(slice(1, 2))
    np.testing.assert_array_equal(second.mean, moments.mean[1:])
    np.testing.assert_array_equal(second.covariance, moments.covariance[1:])
    np.testing.assert_allclose(second.variances, np.var(rows[:, 1:], axis=0), rtol=1e-12)
    np.testing.assert_allclose(second.shrinkage(), expected[1:], rtol=1e-6)


def test_sample_of_rows_is_uniform_and_bounded():
    taken = np.zeros(1000)
    for seed in range(200):
        sample = _RowSample(np.random.default_rng(seed), 100)
        for part in torch.arange(1000.0)[:, None].split(64):
            sample.add(part)
        rows = sample.rows(1)[:, 0].astype(int)
        assert len(rows) == 100
        assert (np.diff(rows) > 0).all()
        taken[rows] += 1
    assert abs(taken[:500].sum() - taken[500:].sum()) < 4 * math.sqrt(200 * 100)
    assert _RowSample(np.random.default_rng(0), 10).rows(3).shape == (0, 3)


def test_sample_of_rows_keeps_those_of_the_smallest_keys_and_holds_them_once():
    random = np.random.default_rng(3)
    keys = np.concatenate([random.random(size) for size in [64] * 7 + [52]])
    sample = _RowSample(np.random.default_rng(3), 100)
    for part in torch.arange(500.0)[:, None].split(64):
        sample.add(part)
    np.testing.assert_array_equal(sample.rows(1)[:, 0], np.sort(np.argsort(keys)[:100]))
    few = _RowSample(np.random.default_rng(3), 1000)
    few.add(torch.arange(10.0)[:, None])
    assert np.shares_memory(few.rows(1), few._rows)


def test_nearest_is_exact_far_from_the_origin():
    rows = torch.tensor(np.random.default_rng(0).normal(size=(50, 8)), dtype=torch.float32)
    distances = nearest(rows, torch.cat([rows, rows + 0.5]), count=2)
    assert (distances[:, 0] == 0).all()
    np.testing.assert_allclose(distances[:, 1].max(), 0.5 * math.sqrt(8), rtol=1e-5)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: FeatureConfig(reduce=0), r"scorer\.reduce: expected 1 component or more, or none, came 0"),
        (lambda: KMeansConfig(clusters=0), r"scorer\.clusters: expected 1 or more, came 0"),
        (lambda: KMeansConfig(restarts=0), r"scorer\.restarts: expected 1 or more"),
        (lambda: EquilibriumConfig(alpha=-1.0), r"scorer\.alpha: expected"),
        (lambda: PCAConfig(components=2.5), r"scorer\.components: expected a whole number, or a share"),
        (lambda: PCAConfig(components=0), r"scorer\.components: expected a whole number, or a share"),
        (lambda: PCAConfig(components=0.0), r"scorer\.components: expected 1e-06 to 1"),
        (lambda: GaussianConfig(shrinkage=2.0), r"scorer\.shrinkage: expected 0 to 1"),
        (lambda: GaussianConfig(positions="each", unit=True), r"'each' measures the grid as it is"),
        (
            lambda: NeighboursConfig(feature_group=-1),
            r"scorer\.feature_group: expected 0 or more, one or several different ones, or none, came -1",
        ),
        (lambda: NeighboursConfig(share=0.0), r"scorer\.share: expected"),
        (lambda: NeighboursConfig(neighbours=0), r"scorer\.neighbours: expected 1 or more, came 0"),
        (
            lambda: NeighboursConfig(least=50, most=10),
            r"scorer\.least: expected no more than scorer\.most, 10, came 50",
        ),
        (lambda: MixtureConfig(components=0), r"scorer\.components: expected 1 or more"),
        (lambda: MixtureConfig(floor=0.0), r"scorer\.floor: expected"),
        (
            lambda: EnsembleConfig(scorers=("residual",)),
            r"scorer\.scorers: expected two different names of scorers or more",
        ),
        (lambda: EnsembleConfig(scorers=("pca", "pca")), r"a word of its own after it, as neighbours_fine"),
        (lambda: EnsembleConfig(scorers=("pca", "ensemble")), r"or more, not ensemble, came \['pca', 'ensemble'\]"),
        (lambda: EnsembleConfig(settings={"pca": {}}), r"unknown scorer\.settings 'pca'"),
        (
            lambda: EnsembleScorer(EnsembleConfig(scorers=("pca", "kmean")), SPEC),
            r"unknown scorer\.scorers 'kmean'; did you mean 'kmeans'",
        ),
    ],
)
def test_settings_that_cannot_be(make, message):
    with pytest.raises(ConfigError, match=message):
        make()


@pytest.mark.parametrize(
    ("scorer", "message"),
    [
        (
            KMeansScorer(KMeansConfig(clusters=9), SPEC),
            r"9 clusters need as many codes .* came 4; lower scorer\.clusters or add images",
        ),
        (EquilibriumScorer(EquilibriumConfig(clusters=9), SPEC), r"9 clusters need as many codes"),
        (
            MixtureScorer(MixtureConfig(components=9), SPEC),
            r"9 components need as many codes .* lower scorer\.components",
        ),
        (
            NeighboursScorer(NeighboursConfig(neighbours=9), SPEC),
            r"9 neighbours need as many codes .* lower scorer\.neighbours",
        ),
        (
            PCAScorer(PCAConfig(components=4), SPEC),
            r"4 components of 4 codes of 6 numbers leave nothing .* expected 3 or fewer",
        ),
        (
            KMeansScorer(KMeansConfig(reduce=5, clusters=2), SPEC),
            r"scorer\.reduce: 5 components cannot be had of 4 codes of 6 .* 3 or fewer",
        ),
    ],
)
def test_fewer_codes_than_parts(scorer, message):
    with pytest.raises(DataError, match=message):
        learn(scorer, vectors(4))


FEATURE_SCORERS = ["equilibrium", "gaussian", "kmeans", "mixture", "neighbours", "pca"]


@pytest.mark.parametrize("name", FEATURE_SCORERS)
def test_codes_that_are_all_the_same(name):
    with pytest.raises(DataError, match="all 40 codes of normal images are the same"):
        learn(SCORERS[name](SCORERS[name].Config(), SPEC), torch.ones(40, 3, 1, 1))


@pytest.mark.parametrize("name", FEATURE_SCORERS)
def test_codes_that_are_not_finite(name):
    codes = vectors(40)
    codes[3, 2] = torch.nan
    with pytest.raises(DataError, match="the code of a normal image is not finite"):
        learn(SCORERS[name](SCORERS[name].Config(), SPEC), codes)


def test_codes_of_each_position_that_cannot_be(normal):
    each = GaussianScorer(GaussianConfig(positions="each"), SPEC)
    with pytest.raises(DataError, match="are the same"):
        learn(each, torch.ones(40, 3, 2, 2))
    with pytest.raises(DataError, match="is not finite"):
        learn(each, torch.full((40, 3, 2, 2), torch.inf))
    with pytest.raises(
        ConfigError, match=r"4 positions with a covariance of 9,000 x 9,000 each take 3\.9 GB, more than 2"
    ):
        learn(each, torch.ones(2, 9000, 2, 2))


def test_nothing_to_learn_from_and_codes_that_are_too_wide(normal):
    with pytest.raises(DataError, match="needs normal images to learn from; none came"):
        learn(KMeansScorer(KMeansConfig(), SPEC), normal[:0])
    wide = torch.ones(2, 9000, 1, 1)
    with pytest.raises(ConfigError, match=r"codes of 9,000 numbers are too wide .* a model with a narrower code"):
        learn(PCAScorer(PCAConfig(), SPEC), wide)
    with pytest.raises(ConfigError, match="take code = 'mean'"):
        learn(PCAScorer(PCAConfig(code="vector"), SPEC), wide)
    varied = torch.rand(5, 9000, 1, 1)
    with pytest.raises(ConfigError, match=r"codes of 9,000 numbers are too wide"):
        learn(NeighboursScorer(NeighboursConfig(code="vector", metric="mahalanobis"), SPEC), varied)


def test_bank_of_wide_codes_covers_nearly_as_well_as_if_all_numbers_were_looked_at():
    rows = np.random.default_rng(0).normal(size=(400, 300)) * np.linspace(0, 3, 300)
    codes = torch.tensor(rows[:, :, None, None], dtype=torch.float32)
    bank = learn(NeighboursScorer(NeighboursConfig(least=40), SPEC), codes).bank.numpy()
    exact = rows[choose_coreset(torch.tensor(rows, dtype=torch.float32), 40, seed=0)]
    mean = rows.mean(axis=0)
    radius, best = (cdist(rows - mean, points).min(axis=1).max() for points in (bank, exact - mean))
    assert bank.shape == (40, 300)
    assert radius < 1.1 * best


def test_bank_of_all_codes_in_all_directions_is_the_exact_coreset():
    rows = np.random.default_rng(0).normal(size=(400, 300)) * np.linspace(0, 3, 300)
    config = NeighboursConfig(least=40, candidates="all", coreset_directions="all")
    bank = learn(NeighboursScorer(config, SPEC), torch.tensor(rows[:, :, None, None], dtype=torch.float32)).bank.numpy()
    centred = torch.tensor(rows - rows.mean(axis=0), dtype=torch.float32)
    np.testing.assert_allclose(bank, centred[choose_coreset(centred, 40, seed=0)], atol=1e-4)


@pytest.mark.parametrize("name", ["candidates", "coreset_directions"])
def test_short_cuts_of_a_coreset_are_counts_or_all(name):
    with pytest.raises(ConfigError, match=rf"scorer\.{name}: expected 1 or more, came 0"):
        NeighboursConfig(**{name: 0})


def test_cosine_metric_is_one_less_the_cosine_of_the_nearest(normal, others):
    scorer = learn(NeighboursScorer(NeighboursConfig(unit=True, metric="cosine"), SPEC), normal)
    expected = cdist(flat(others), flat(normal), "cosine").min(axis=1)
    np.testing.assert_allclose(scores(scorer, others), expected, atol=1e-5)
    with pytest.raises(ConfigError, match=r"scorer\.metric = 'cosine' .* expected scorer\.unit = true, came false"):
        NeighboursConfig(metric="cosine")


def test_regularisation_is_added_to_the_covariance_of_each_position():
    codes = torch.tensor(np.random.default_rng(0).normal(size=(30, 4, 2, 3)), dtype=torch.float32)
    config = GaussianConfig(positions="each", shrinkage=0.0, regularisation=0.5)
    scorer = learn(GaussianScorer(config, SPEC), codes)
    rows = codes[:, :, 1, 2].double().numpy()
    gap = np.ones(4) - rows.mean(axis=0)
    expected = np.sqrt(gap @ np.linalg.inv(np.cov(rows.T, bias=True) + 0.5 * np.eye(4)) @ gap)
    assert scorer(torch.ones(1, 4, 2, 3))[0, 1, 2].item() == pytest.approx(expected, rel=1e-4)
    with pytest.raises(ConfigError, match=r"scorer\.regularisation is for scorer\.positions = 'each'"):
        GaussianConfig(regularisation=0.01)


@pytest.mark.parametrize("groups", [(), (0, 0), (-1,)])
def test_feature_groups_are_some_different_ones(groups):
    with pytest.raises(ConfigError, match=r"scorer\.feature_group: expected 0 or more, one or several different ones"):
        FeatureConfig(feature_group=groups)
