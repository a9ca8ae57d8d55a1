"""Equilibrium k-means: its formulas, its promises as a scikit-learn estimator, and that it finds small clusters."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.cluster import KMeans, kmeans_plusplus
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.metrics import adjusted_rand_score
from sklearn.utils.estimator_checks import parametrize_with_checks

from unlike.cluster import EquilibriumKMeans, descent
from unlike.cluster.descent import Rule, descend, measure, point_blocks

CORNERS = np.array([[0.0, 0.0], [1.0, 0.0], [0.5, 0.75**0.5]])


def blobs(sizes, distance, features=2, seed=0):
    """Points of variance 1 round the corners of a triangle, and whose each is."""
    random = np.random.default_rng(seed)
    means = np.zeros((3, features))
    means[:, :2] = distance * CORNERS
    labels = np.repeat(np.arange(3), sizes)
    return means[labels] + random.standard_normal((len(labels), features)), labels


def agreement(estimator, points, labels):
    return adjusted_rand_score(labels, estimator.fit_predict(points))


def by_hand(points, centres, alpha):
    """J, u and w as the paper writes them, point by point and without any care for rounding."""
    distances = 0.5 * ((points[:, None] - centres[None]) ** 2).sum(axis=2)
    memberships = np.exp(-alpha * distances)
    memberships /= memberships.sum(axis=1, keepdims=True)
    means = (memberships * distances).sum(axis=1)
    return means.sum(), memberships, memberships * (1 - alpha * (distances - means[:, None]))


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")  # much of its data has no clusters
@parametrize_with_checks(
    [
        EquilibriumKMeans(n_init=2),
        EquilibriumKMeans(3, alpha="contrast", n_init=2),
        EquilibriumKMeans(3, variant="softmax", n_init=2),
    ]
)
def test_scikit_learn_finds_it_well_behaved(estimator, check):
    check(estimator)


@pytest.mark.parametrize("alpha", [0.2, 1.0, 5.0])
def test_what_is_learned_is_what_the_paper_defines(alpha):
    points, _ = blobs((60, 20, 10), 3.0)
    found = EquilibriumKMeans(3, alpha=alpha, random_state=0, max_iter=3, n_init=1, init="k-means++").fit(points)
    objective, memberships, weights = by_hand(points, found.cluster_centers_, alpha)
    assert found.alpha_ == pytest.approx(alpha)
    assert found.objective_ == pytest.approx(objective)
    np.testing.assert_allclose(found.memberships(points), memberships, atol=1e-12)
    np.testing.assert_allclose(found.weights_, weights, atol=1e-12)
    np.testing.assert_allclose(found.weights_.sum(axis=1), 1)
    assert found.weights_.min() < 0  # repulsion


@pytest.mark.parametrize("alpha", [0.5, 4.0, 40.0])
def test_the_step_follows_the_gradient_of_the_objective(alpha):
    random = np.random.default_rng(1)
    points, centres = random.normal(size=(80, 3)), random.normal(size=(4, 3))
    rule = Rule(alpha, "equilibrium")
    state = measure(points, centres, rule)
    slopes = np.empty(centres.shape)
    for place in np.ndindex(*centres.shape):
        ends = [by_hand(points, centres + side * 1e-6 * unit(place, centres.shape), alpha)[0] for side in (1, -1)]
        slopes[place] = (ends[0] - ends[1]) / 2e-6
    np.testing.assert_allclose(-state.step * state.masses[:, None], slopes, rtol=1e-5, atol=1e-6)


def unit(place, shape):
    one = np.zeros(shape)
    one[place] = 1
    return one


def objectives(points, start, alpha, most=40):
    """J after 0, 1, 2, ... moves from a start."""
    rule = Rule(alpha, "equilibrium")
    return [descend(points, start, rule, passes, 0.0)[0].objective for passes in range(most)[1:]]


@pytest.mark.parametrize("kind", ["float32", "float64"])
@pytest.mark.parametrize("alpha", [0.1, 1.0, 4.0, 16.0, 256.0])
def test_the_objective_never_rises(alpha, kind):
    random = np.random.default_rng(2)
    points = random.normal(size=(200, 5)).astype(kind)
    for _ in range(3):
        history = objectives(points, random.normal(0, 3, (6, 5)), alpha)
        assert (np.diff(history) <= 0).all()


def test_a_negative_sum_of_weights_is_guarded():
    """Towards the paper's mean J would rise; the guarded step leads the other way, and down."""
    points, start = np.array([[-1.2], [-1.0], [-0.8]]), np.array([[-1.0], [0.0]])
    before, _, weights = by_hand(points, start, 4.0)
    assert weights[:, 1].sum() < 0
    towards_paper = start.copy()
    towards_paper[1] += 1e-3 * (weights[:, 1] @ points / weights[:, 1].sum() - start[1])
    assert by_hand(points, towards_paper, 4.0)[0] > before
    state = measure(points, start, Rule(4.0, "equilibrium"))
    assert (state.masses > 0).all()
    assert by_hand(points, start + 1e-3 * state.step, 4.0)[0] < before
    assert (np.diff(objectives(points, start, 4.0)) <= 0).all()


@pytest.mark.parametrize("seed", [0, 4, 5])
def test_a_step_that_climbs_is_halved(seed):
    """The plain iteration of the paper jumps to and fro on these points, and ends higher."""
    points, _ = blobs((100, 10, 10), 6.0)
    points = (points - points.mean(axis=0)) / np.sqrt(((points - points.mean(axis=0)) ** 2).sum(axis=1).mean())
    start = centres = kmeans_plusplus(points, 3, random_state=seed)[0]
    plain = []
    for _ in range(40):
        objective, _, weights = by_hand(points, centres, 2.0)
        plain.append(objective)
        centres = (weights.T @ points) / weights.sum(axis=0)[:, None]
    assert np.diff(plain).max() > 0.5
    history = np.array(objectives(points, start, 2.0, most=60)) + 0.5 * (points**2).sum()
    assert (np.diff(history) <= 0).all()
    assert history[-1] < plain[-1] - 0.01


def test_no_centre_leaves_the_points():
    """Where 64 dimensions make alpha too small, a single step of the paper throws centres far away."""
    points, _ = blobs((2000, 50, 30), 6.0, 64)
    with pytest.warns(ConvergenceWarning, match="3 clusters were asked for"):
        found = EquilibriumKMeans(3, random_state=0).fit(points)
    reach = np.linalg.norm(points - points.mean(axis=0), axis=1).max()
    assert np.linalg.norm(found.cluster_centers_ - points.mean(axis=0), axis=1).max() <= reach * (1 + 1e-9)


def test_a_centre_that_no_point_belongs_to_stays():
    points = np.array([[0.0], [0.1], [0.2]])
    state = measure(points, np.array([[0.1], [1e6]]), Rule(1e3, "equilibrium"))
    assert state.step[1] == 0
    assert np.isfinite(state.objective)


@pytest.mark.parametrize("alpha", [1e-12, 1e12, 1e300])
def test_extreme_alphas_neither_overflow_nor_vanish(alpha):
    points, _ = blobs((50, 50, 50), 8.0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        found = EquilibriumKMeans(3, alpha=alpha, random_state=0).fit(points.astype("float32"))
    assert np.isfinite(found.objective_)
    assert np.isfinite(found.weights_).all()
    if alpha > 1:  # k-means
        plain = KMeans(3, n_init=10, random_state=0).fit(points)
        assert found.objective_ == pytest.approx(plain.inertia_ / 2, rel=1e-3)


# The reference package


REFERENCE_EXAMPLES = {
    "six": np.array([[1, 2], [1, 4], [1, 0], [10, 2], [10, 4], [10, 0]], float),
    "twelve": np.array([[1, 2], [1, 4], [1, 0], [4, 2], [4, 0], [4, 4], [4, 5], [0, 1], [2, 2], [3, 2], [5, 5], [1, -1]], float),
}  # fmt: skip


@pytest.mark.parametrize("name", [*REFERENCE_EXAMPLES, "blobs"])
def test_it_agrees_with_the_author_s_package_from_the_same_start(name):
    sklekmeans = pytest.importorskip("sklekmeans")
    points, clusters = (blobs((300, 30, 30), 5.0)[0], 3) if name == "blobs" else (REFERENCE_EXAMPLES[name], 2)
    start = kmeans_plusplus(points, clusters, random_state=0)[0]
    theirs = sklekmeans.EKMeans(clusters, init=start, tol=1e-9, max_iter=1000).fit(points)
    ours = EquilibriumKMeans(clusters, init=start, tol=1e-9, max_iter=1000).fit(points)
    assert ours.alpha_ == pytest.approx(2 * theirs.alpha_)  # their distance is not halved
    assert ours.objective_ == pytest.approx(theirs.objective_ / 2)
    np.testing.assert_allclose(ours.cluster_centers_, theirs.cluster_centers_, atol=1e-6)
    np.testing.assert_array_equal(ours.labels_, theirs.labels_)
    np.testing.assert_allclose(ours.weights_, theirs.W_, atol=1e-6)
    given = EquilibriumKMeans(clusters, alpha=2 * theirs.alpha_, init=start, tol=1e-9, max_iter=1000).fit(points)
    np.testing.assert_allclose(given.cluster_centers_, ours.cluster_centers_, atol=1e-9)


def test_the_example_in_the_author_s_documentation():
    points = REFERENCE_EXAMPLES["six"]
    found = EquilibriumKMeans(2, random_state=0).fit(points)
    np.testing.assert_allclose(np.sort(found.cluster_centers_, axis=0), [[0.96, 2], [10.04, 2]], atol=0.005)
    first, second = found.predict([[0, 0], [12, 3]])
    assert first == found.labels_[0] != second == found.labels_[5]


# What it is for


@pytest.mark.parametrize("features", [2, 16])
@pytest.mark.parametrize("alpha", ["dvariance", "contrast"])
def test_small_clusters_that_k_means_overlooks_are_found(alpha, features):
    for seed in range(2):
        points, labels = blobs((2000, 50, 30), 8.0, features, seed)
        assert agreement(EquilibriumKMeans(3, alpha=alpha, random_state=seed), points, labels) > 0.9
        assert agreement(KMeans(3, n_init=10, random_state=seed), points, labels) < 0.2


def test_clusters_a_tenth_as_large_keep_their_points():
    for seed in range(3):
        points, labels = blobs((2000, 200, 200), 4.0, 2, seed)
        ours = agreement(EquilibriumKMeans(3, random_state=seed), points, labels)
        assert ours > 0.8 > agreement(KMeans(3, n_init=10, random_state=seed), points, labels)


def test_clusters_of_equal_size_are_found_as_well_as_by_k_means():
    points, labels = blobs((300, 300, 300), 4.0)
    ours, plain = EquilibriumKMeans(3, random_state=0), KMeans(3, n_init=10, random_state=0)
    assert agreement(ours, points, labels) > agreement(plain, points, labels) - 0.02


def test_in_many_dimensions_centres_fall_together_and_contrast_keeps_them_apart():
    points, labels = blobs((2000, 200, 200), 6.0, 64)
    with pytest.warns(ConvergenceWarning, match=r"3 clusters were asked for, 1 hold points.*use alpha='contrast'"):
        collapsed = EquilibriumKMeans(3, random_state=0).fit(points)
    assert np.bincount(collapsed.labels_).tolist() == [2400]
    assert (collapsed.cluster_centers_ == collapsed.cluster_centers_[0]).all()
    assert agreement(EquilibriumKMeans(3, alpha="contrast", random_state=0), points, labels) > 0.9


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_spread_starts_find_small_clusters_more_often():
    points, labels = blobs((2000, 50, 30), 8.0, 16)
    found = {
        init: [agreement(EquilibriumKMeans(3, init=init, n_init=1, random_state=seed), points, labels) > 0.9 for seed in range(8)]
        for init in ("k-means++", "spread")
    }  # fmt: skip
    assert sum(found["spread"]) >= 5 > sum(found["k-means++"])


def test_softmax_of_plain_distances_is_another_method():
    points, _ = blobs((2000, 50, 30), 8.0)
    found = EquilibriumKMeans(3, alpha=1.3, variant="softmax", random_state=0, tol=1e-6).fit(points)
    lengths = np.linalg.norm(points[:, None] - found.cluster_centers_[None], axis=2)
    memberships = np.exp(-1.3 * lengths) / np.exp(-1.3 * lengths).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(found.weights_, memberships, atol=1e-9)
    assert (found.weights_ >= 0).all()
    means = (memberships.T @ points) / memberships.sum(axis=0)[:, None]
    np.testing.assert_allclose(found.cluster_centers_, means, atol=1e-3)
    assert found.objective_ == pytest.approx((memberships * lengths**2 / 2).sum())
    other = EquilibriumKMeans(3, random_state=0).fit(points)
    gaps = np.linalg.norm(found.cluster_centers_[:, None] - other.cluster_centers_[None], axis=2).min(axis=1)
    assert gaps.max() > 0.3
    assert other.weights_.min() < 0


# The estimator


def test_restarts_keep_the_lowest_objective():
    points, _ = blobs((500, 20, 20), 6.0)
    single = [EquilibriumKMeans(3, n_init=1, random_state=seed).fit(points).objective_ for seed in range(6)]
    assert EquilibriumKMeans(3, n_init=20, random_state=0).fit(points).objective_ <= min(single) * (1 + 1e-6)
    assert max(single) > min(single) * 1.01


def test_blocks_change_nothing(monkeypatch):
    points, _ = blobs((200, 60, 40), 5.0, 3)
    start = points[[0, 220, 280]]
    whole = EquilibriumKMeans(3, init=start).fit(points)
    monkeypatch.setattr(descent, "CHUNK", 12)
    monkeypatch.setattr(descent, "SHORTEST", 1)
    parts = EquilibriumKMeans(3, init=start).fit(points)
    assert len(list(point_blocks(points, 3))) == 75
    np.testing.assert_allclose(parts.cluster_centers_, whole.cluster_centers_, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(parts.weights_, whole.weights_, atol=1e-9)
    np.testing.assert_allclose(parts.transform(points), whole.transform(points), rtol=1e-9)
    np.testing.assert_array_equal(parts.predict(points), whole.labels_)
    np.testing.assert_allclose(parts.memberships(points), whole.memberships(points), atol=1e-9)
    assert parts.objective_ == pytest.approx(whole.objective_)


@pytest.mark.parametrize(("stretch", "offset"), [(1e8, 0), (1e-8, 0), (1, 1e8), (1e-30, 1), (1e100, -1e100)])
def test_neither_unit_nor_offset_matters(stretch, offset):
    points, _ = blobs((100, 30, 30), 8.0)
    moved = points * stretch + offset
    plain = EquilibriumKMeans(3, random_state=0).fit(points)
    if np.array_equal(moved, np.full_like(moved, offset)):  # 1e-30 beside 1 is lost before anyone sees it
        with pytest.raises(ValueError, match="all 160 points are the same"):
            EquilibriumKMeans(3, random_state=0).fit(moved)
        return
    found = EquilibriumKMeans(3, random_state=0).fit(moved)
    np.testing.assert_array_equal(found.labels_, plain.labels_)
    np.testing.assert_allclose((found.cluster_centers_ - offset) / stretch, plain.cluster_centers_, atol=1e-5)
    assert found.alpha_ * stretch**2 == pytest.approx(plain.alpha_, rel=1e-5)
    assert found.objective_ / stretch**2 == pytest.approx(plain.objective_, rel=1e-5)
    np.testing.assert_allclose(found.transform(moved) / stretch, plain.transform(points), rtol=1e-4, atol=1e-6)


def test_float32_is_computed_and_given_back_as_float32():
    points, _ = blobs((400, 60, 40), 6.0)
    wide, narrow = (EquilibriumKMeans(3, init=points[[0, 410, 470]]).fit(points.astype(kind)) for kind in ("f8", "f4"))
    for value in (narrow.cluster_centers_, narrow.weights_, narrow.transform(points.astype("f4"))):
        assert value.dtype == np.float32
    np.testing.assert_allclose(narrow.cluster_centers_, wide.cluster_centers_, atol=1e-3)
    np.testing.assert_array_equal(narrow.labels_, wide.labels_)
    assert narrow.objective_ == pytest.approx(wide.objective_, rel=1e-5)


def test_a_point_scores_the_same_alone_and_in_company():
    points = blobs((300, 60, 40), 6.0, 5)[0].astype("float32")
    found = EquilibriumKMeans(3, random_state=0).fit(points)
    alone = np.concatenate([found.transform(points[[row]]) for row in range(0, 400, 7)])
    np.testing.assert_allclose(alone, found.transform(points)[::7], rtol=1e-6)
    distances = np.linalg.norm(points[:, None].astype(float) - found.cluster_centers_[None].astype(float), axis=2)
    np.testing.assert_allclose(found.transform(points), distances, rtol=1e-6)


def test_one_cluster_is_the_mean():
    points, _ = blobs((30, 20, 10), 3.0)
    found = EquilibriumKMeans(1).fit(points)
    np.testing.assert_allclose(found.cluster_centers_, [points.mean(axis=0)], atol=1e-9)
    np.testing.assert_array_equal(found.weights_, np.ones((60, 1)))
    assert EquilibriumKMeans(1, alpha="contrast").fit(points).labels_.tolist() == [0] * 60


def test_as_many_clusters_as_points():
    points = np.array([[0.0, 0], [10, 0], [0, 10], [10, 10]])
    found = EquilibriumKMeans(4, alpha=10.0, random_state=0).fit(points)
    assert sorted(found.labels_) == [0, 1, 2, 3]
    assert found.objective_ == pytest.approx(0, abs=1e-9)
    contrast = EquilibriumKMeans(4, alpha="contrast", random_state=0).fit(points)
    assert sorted(contrast.labels_) == [0, 1, 2, 3]


def test_one_constant_point_again_and_again_is_one_cluster():
    found = EquilibriumKMeans(1).fit(np.full((5, 2), 0.1))
    np.testing.assert_array_equal(found.cluster_centers_, [[0.1, 0.1]])
    assert found.objective_ == pytest.approx(0, abs=1e-12)
    np.testing.assert_allclose(found.transform([[0.1, 1.1]]), [[1.0]])


@pytest.mark.parametrize("init", ["both", "k-means++", "spread"])
def test_fewer_different_points_than_clusters_is_a_warning(init):
    points = np.repeat([[0.0, 0.0], [5.0, 5.0]], 20, axis=0)
    with pytest.warns(ConvergenceWarning, match=r"4 clusters were asked for, 2 hold points.*ask for fewer clusters"):
        found = EquilibriumKMeans(4, init=init, random_state=0).fit(points)
    assert len(set(found.labels_[:20])) == len(set(found.labels_[20:])) == 1
    assert np.isfinite(found.cluster_centers_).all()
    with pytest.warns(ConvergenceWarning, match="4 clusters were asked for"):
        EquilibriumKMeans(4, alpha="contrast", init=init, random_state=0).fit(points)


def test_fitting_again_forgets_and_gives_the_same():
    points, _ = blobs((200, 20, 20), 6.0)
    found = EquilibriumKMeans(3, random_state=3).fit(points)
    again = clone(found).fit(points[::-1]).fit(points)
    np.testing.assert_array_equal(again.cluster_centers_, found.cluster_centers_)
    assert found.get_feature_names_out().tolist() == [f"equilibriumkmeans{number}" for number in range(3)]


# Streaming


def test_batches_are_learned_one_after_the_other():
    points, labels = blobs((4000, 100, 60), 8.0)
    order = np.random.default_rng(0).permutation(len(points))
    whole, stream = EquilibriumKMeans(3, random_state=0).fit(points), EquilibriumKMeans(3, random_state=0)
    for rows in np.array_split(order, 4):
        stream.partial_fit(points[rows])
    assert adjusted_rand_score(labels, stream.predict(points)) > 0.9
    gaps = np.linalg.norm(stream.cluster_centers_[:, None] - whole.cluster_centers_[None], axis=2).min(axis=1)
    assert gaps.max() < 0.5
    assert len(stream.labels_) == len(stream.weights_) == len(rows)
    assert stream.weight_sums_.sum() == pytest.approx(len(points), rel=0.01)


def test_a_batch_moves_centres_to_the_mean_of_all_weighed_points():
    points, _ = blobs((300, 40, 30), 6.0)
    more, _ = blobs((300, 40, 30), 6.0, seed=1)
    found = EquilibriumKMeans(3, random_state=0).fit(points)
    before, sums, passes = found.cluster_centers_, found.weight_sums_, found.n_iter_
    weights = by_hand(more, before, found.alpha_)[2]
    expected = (sums[:, None] * before + weights.T @ more) / (sums + weights.sum(axis=0))[:, None]
    found.partial_fit(more)
    np.testing.assert_allclose(found.cluster_centers_, expected, rtol=1e-9)
    assert found.n_iter_ == passes + 1
    assert found.objective_ == pytest.approx(by_hand(more, found.cluster_centers_, found.alpha_)[0])


# Bad input


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"n_clusters": 0}, r"n_clusters: expected a whole number of at least 1, came 0"),
        ({"n_clusters": 2.0}, r"n_clusters: expected a whole number of at least 1, came 2\.0"),
        ({"n_init": True}, r"n_init: expected a whole number of at least 1, came True"),
        ({"max_iter": 0}, r"max_iter: expected a whole number of at least 1, came 0"),
        ({"alpha": "contrasts"}, r"unknown alpha 'contrasts'; did you mean 'contrast'\?"),
        ({"alpha": -1.0}, r"alpha: expected a number above 0, 'dvariance' or 'contrast', came -1\.0"),
        ({"alpha": None}, r"alpha: expected a number above 0, 'dvariance' or 'contrast', came None"),
        ({"scale": 0}, r"scale: expected a number above 0, came 0"),
        ({"scale": np.nan}, r"scale: expected a number above 0, came nan"),
        ({"tol": -1e-9}, r"tol: expected a number of at least 0, came -1e-09"),
        ({"variant": "sofmax"}, r"unknown variant 'sofmax'; did you mean 'softmax'\?"),
        ({"variant": None}, r"unknown variant 'None'"),
        ({"init": "kmeans++"}, r"unknown init 'kmeans\+\+'; did you mean 'k-means\+\+'\?"),
        ({"init": np.zeros((2, 3))}, r"init: .*finite centres of shape \(3, 2\); came an array of shape \(2, 3\)"),
        ({"init": np.full((3, 2), np.nan)}, r"init: .*finite centres of shape \(3, 2\)"),
    ],
)
def test_a_wrong_setting_is_told(settings, words):
    points, _ = blobs((10, 10, 10), 3.0)
    with pytest.raises(ValueError, match=words):
        EquilibriumKMeans(**{"n_clusters": 3, **settings}).fit(points)


@pytest.mark.parametrize(
    ("points", "words"),
    [
        (np.eye(2), r"at least as many points as clusters, came n_samples=2 for n_clusters=3; add points .* fewer clusters"),
        (np.full((9, 2), 0.1), r"all 9 points are the same, so nothing divides them into 3 clusters; .* one cluster"),
        (np.where(np.eye(4) > 0, np.nan, 1.0)[:, :2], r"finite numbers, came NaN or inf in 2 of 4 points; leave those out"),
        (np.where(np.eye(4) > 0, np.inf, 1.0), r"finite numbers, came NaN or inf in 4 of 4 points"),
        (1e200 * np.eye(5), r"lie 1e-150 to 1e\+150 from their mean, came 8\.94e\+199"),
        (1e-200 * np.eye(5), r"multiply them by a constant first"),
    ],
)  # fmt: skip
def test_points_that_cannot_be_clustered_are_told(points, words):
    for learn in (EquilibriumKMeans(3).fit, EquilibriumKMeans(3).partial_fit):
        with pytest.raises(ValueError, match=words):
            learn(points)


def test_what_is_not_fitted_predicts_nothing():
    broken = EquilibriumKMeans(3)
    with pytest.raises(ValueError, match="all 9 points are the same"):
        broken.fit(np.ones((9, 2)))
    for use in (
        broken.predict,
        EquilibriumKMeans().predict,
        EquilibriumKMeans().transform,
        EquilibriumKMeans().memberships,
    ):
        with pytest.raises(NotFittedError, match="not fitted yet"):
            use(np.eye(2))
