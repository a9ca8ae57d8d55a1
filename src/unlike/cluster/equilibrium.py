"""Equilibrium k-means (Y. He, "Imbalanced Data Clustering using Equilibrium K-Means", arXiv 2402.14490).

With d_nk = 1/2 ||x_n - c_k||^2, the memberships u_nk = exp(-alpha d_nk) / sum_i exp(-alpha d_ni) and the mean
distance m_n = sum_k u_nk d_nk of a point, it lowers J = sum_n m_n. The gradient of J is sum_n w_nk (c_k - x_n) with the
weights w_nk = u_nk [1 - alpha (d_nk - m_n)], so each centre moves to the w-weighted mean of the points. The weights of
a point sum to 1 over the centres, and are negative for centres much farther than its own: points of a large cluster
push the other centres away, which is why these do not crowd into it.

Points are moved to their mean and divided by their root mean square distance from it before anything is computed, so
that neither a large offset nor a large or small unit costs digits; alpha and J are given in the user's units.
"""

# ruff: noqa: N803 - scikit-learn's users pass X by name

from __future__ import annotations

import math
import warnings
from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal, Self, get_args

import numpy as np
import numpy.typing as npt
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, ClusterMixin, TransformerMixin
from sklearn.cluster import kmeans_plusplus
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import euclidean_distances, pairwise_distances_argmin
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data

from unlike.errors import ConfigError, DataError, unknown
from unlike.records import Floats

Variant = Literal["equilibrium", "softmax"]
ALPHA_RULES = ("dvariance", "contrast")

CHUNK = 2**16  # numbers in a block of points, or of points by clusters: a few of these stay in a core's cache
SHORTEST = 256  # rows of a block, however wide
SMALLEST_MASS = 1e-3  # of sum w_nk / sum u_nk, below which the weighted mean is not trusted to be a descent
COINCIDENT = 0.01  # centres nearer than this, in widths of the membership function, are one
TINIEST = 1e-150  # length that can be squared
LARGEST_ALPHA = 1e30  # in the points' own units: harder than any data needs, and no overflow in float32
LADDER = 2.0 ** np.arange(0, 14.5, 0.5)  # values of alpha tried for "contrast", in the points' own units
CONTRAST = 0.5  # that every cluster must reach
SAMPLE, PASSES = 4000, 50  # points, and passes over them from each start, with which they are tried
SEEDS = 8  # for each cluster, of a spread start


class EquilibriumKMeans(ClassNamePrefixFeaturesOutMixin, TransformerMixin, ClusterMixin, BaseEstimator):  # type: ignore[misc]
    """Find clusters of very unequal size, which k-means would even out.

    A small cluster beside a large one is overlooked by k-means, which gains more by cutting the large one in two. Here
    the points of the large one repel the other centres. The price is one more choice, `alpha`: how sharply a point
    decides for its nearest centre. Too small, and centres fall together (a ConvergenceWarning says so); towards
    infinity the method becomes k-means.

    Settings:
        n_clusters: How many centres.
        alpha: "dvariance" follows the spread of the points, as the paper does: 2 scale / mean ||x - mean||^2 (the 2
            because the paper's distance is half the squared one); good in up to some ten dimensions. "contrast" takes
            little more than the smallest value that keeps every cluster apart, found on at most 4,000 of the points; for
            more dimensions. A number is taken as it is, in 1 / squared units of the points; it is twice the `alpha` of the
            package sklekmeans for the same centres. In `variant="softmax"` alpha is in 1 / units.
        scale: Of "dvariance"; larger is sharper.
        variant: "equilibrium", or "softmax": memberships softmax(-alpha ||x - c||) used as weights. That lowers no
            objective and repels nothing; it is here to be compared with.
        n_init: Starts, of which the one that ends at the lowest J is kept.
        max_iter: Passes over the points from each start.
        tol: A start has converged when no centre would move farther than `tol` times the root mean square distance of
            the points from their mean.
        init: "k-means++" draws points far from each other; "spread" takes means of small groups of points, as far from
            each other as can be, which finds several small clusters far more often; "both" by turns, k-means++
            first. Or centres (n_clusters, n_features) to start from, once.
        random_state: Seed of the starts.

    Learned:
        cluster_centers_: (n_clusters, n_features). Centres that fell together are exactly equal.
        labels_: (n_samples,) nearest centre of each point; the lower index where centres are equal.
        weights_: (n_samples, n_clusters) how each point pulls (positive) and pushes (negative) each centre; rows sum to
            1. With `labels_` it is all that grows with the number of points.
        objective_: J at `cluster_centers_`; not comparable between values of alpha.
        n_iter_: Passes over the points that the best start took; `partial_fit` adds one a batch.
        alpha_: The number that was used, in the unit of `alpha`.
        weight_sums_: (n_clusters,) how much weight each centre rests on; what `partial_fit` continues from.
        offset_, spread_: Mean of the points, and their root mean square distance from it.

    Points are float32 or float64 and are computed in that type; memory is one copy of them, `labels_`, `weights_`, and
    blocks that stay in a core's cache. Bad input raises ValueError, as everywhere in scikit-learn.

    >>> random = np.random.default_rng(0)
    >>> points = np.concatenate([random.normal(mean, 1, (size, 2)) for mean, size in [(0, 2000), (6, 50), (-6, 30)]])
    >>> np.sort(np.bincount(EquilibriumKMeans(3, random_state=0).fit_predict(points)))
    array([  30,   50, 2000])
    """

    def __init__(
        self,
        n_clusters: int = 8,
        *,
        alpha: Literal["dvariance", "contrast"] | float = "dvariance",
        scale: float = 2.0,
        variant: Variant = "equilibrium",
        n_init: int = 10,
        max_iter: int = 300,
        tol: float = 1e-4,
        init: Literal["both", "k-means++", "spread"] | npt.ArrayLike = "both",
        random_state: int | np.random.RandomState | None = None,
    ) -> None:
        self.n_clusters = n_clusters
        self.alpha = alpha
        self.scale = scale
        self.variant = variant
        self.n_init = n_init
        self.max_iter = max_iter
        self.tol = tol
        self.init = init
        self.random_state = random_state

    def fit(self, X: npt.ArrayLike, y: None = None) -> Self:  # noqa: ARG002
        """Learn the centres of X (n_samples, n_features); forgets what was learned before."""
        self._check_settings()
        X = self._read(X, reset=True)
        self._find_unit(X)
        points = self._to_unit(X)
        random = check_random_state(self.random_state)
        rule = _Rule(self._find_alpha(points, random), self.variant)
        state, self.n_iter_ = self._best_descent(points, rule, random)
        self.alpha_ = rule.alpha / self._alpha_unit()
        self.weight_sums_ = state.masses
        self._learn(X, points, _joined(state.centres, rule.width()))
        self._warn_of_empty_clusters()
        return self

    def partial_fit(self, X: npt.ArrayLike, y: None = None) -> Self:  # noqa: ARG002
        """Go on learning from one more batch, for points that do not fit in memory or keep coming.

        The first batch is fitted as `fit` does, and decides alpha and the unit: make it large enough to hold some of
        every cluster. Each later batch moves each centre once, to the mean of all points so far as they were weighed
        when they came. `labels_`, `weights_` and `objective_` are those of the last batch. After `fit` it goes on.
        """
        if not hasattr(self, "cluster_centers_"):
            return self.fit(X)
        self._check_settings()
        X = self._read(X, reset=False)
        points = self._to_unit(X)
        state = _measure(points, self._unit_centres(), self._rule())
        self.n_iter_ += 1
        self.weight_sums_ = self.weight_sums_ + state.masses
        shares = np.divide(state.masses, self.weight_sums_, out=np.zeros(len(state.masses)), where=state.masses > 0)
        self._learn(X, points, state.centres + shares[:, None] * state.step)
        return self

    def predict(self, X: npt.ArrayLike) -> npt.NDArray[np.intp]:
        """(n_samples,) index of the nearest centre."""
        return self._nearest(self._read(X, reset=False))

    def transform(self, X: npt.ArrayLike) -> Floats:
        """(n_samples, n_clusters) Euclidean distance to each centre."""
        return np.concatenate(list(self._lengths(self._read(X, reset=False))))

    def memberships(self, X: npt.ArrayLike) -> Floats:
        """(n_samples, n_clusters) how far each point belongs to each centre: u, from 0 to 1, rows sum to 1."""
        points = self._to_unit(self._read(X, reset=False))
        centres, rule = self._unit_centres(), self._rule()
        return np.concatenate([rule.weigh(block, centres)[0].T for block in _blocks(points, len(centres))])

    @property
    def _n_features_out(self) -> int:
        return len(self.cluster_centers_)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags

    def _check_settings(self) -> None:
        for name in ("n_clusters", "n_init", "max_iter"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 1:
                raise ConfigError(f"{name}: expected a whole number of at least 1, came {value!r}")
        for name, words in {"alpha": ALPHA_RULES, "variant": get_args(Variant), "init": tuple(STARTS)}.items():
            value = getattr(self, name)
            if (isinstance(value, str) or name == "variant") and value not in words:
                raise unknown(name, str(value), words)
        if not isinstance(self.alpha, str) and not _positive(self.alpha):
            raise ConfigError(f"alpha: expected a number above 0, 'dvariance' or 'contrast', came {self.alpha!r}")
        if not _positive(self.scale):
            raise ConfigError(f"scale: expected a number above 0, came {self.scale!r}")
        if not (_positive(self.tol) or self.tol == 0):
            raise ConfigError(f"tol: expected a number of at least 0, came {self.tol!r}")

    def _read(self, X: npt.ArrayLike, *, reset: bool) -> Floats:
        """(N, D) finite float32 or float64."""
        if not reset:
            check_is_fitted(self, "cluster_centers_")
        points = validate_data(self, X, reset=reset, dtype=[np.float64, np.float32], ensure_all_finite=False)
        broken = sum(int((~np.isfinite(block)).any(axis=1).sum()) for block in _blocks(points, 1))
        if broken:
            raise DataError(
                f"expected finite numbers, came NaN or inf in {broken} of {len(points)} points; leave those out, or find "
                "out where they come from"
            )
        return np.asarray(points)

    def _find_unit(self, points: Floats) -> None:
        """Learn `offset_` and `spread_`, by which every later number is near 1."""
        if len(points) < self.n_clusters:
            raise DataError(
                f"expected at least as many points as clusters, came n_samples={len(points)} for "
                f"n_clusters={self.n_clusters}; add points (for partial_fit: to the first batch), or ask for fewer clusters"
            )
        self.offset_ = points.mean(axis=0, dtype=np.float64)
        farthest = max(float(np.abs(block - self.offset_).max()) for block in _blocks(points, 1))
        constant = bool((points == points[0]).all())  # not farthest == 0: the mean of equal points may be rounded
        if constant and self.n_clusters > 1:
            raise DataError(
                f"all {len(points)} points are the same, so nothing divides them into {self.n_clusters} clusters; find "
                "out why (a code that has collapsed?), or ask for one cluster"
            )
        unit = farthest or 1.0  # divided out first, so that no square overflows or vanishes
        squares = sum(float(np.square((block - self.offset_) / unit).sum()) for block in _blocks(points, 1))
        self.spread_ = 1.0 if constant else unit * math.sqrt(squares / len(points))
        if not TINIEST <= self.spread_ <= 1 / TINIEST:
            raise DataError(
                f"expected points that lie {TINIEST:g} to {1 / TINIEST:g} from their mean, came {self.spread_:.3g}, of which "
                "the square cannot be computed with; multiply them by a constant first"
            )

    def _to_unit(self, points: Floats) -> Floats:
        """(N, D) a copy in the unit, of the same type, made block by block."""
        unit = np.empty(points.shape, points.dtype)
        for rows in _rows(*points.shape):
            unit[rows] = (points[rows] - self.offset_) / self.spread_
        return unit

    def _unit_centres(self) -> Floats:
        return np.asarray((self.cluster_centers_ - self.offset_) / self.spread_)

    def _lengths(self, points: Floats) -> Iterator[Floats]:
        """Distances (B, K) block by block; computed in double precision, without the offset that would cost digits."""
        centres = self._unit_centres()
        for block in _blocks(points, len(centres)):
            lengths = euclidean_distances((block - self.offset_) / self.spread_, centres)
            yield (lengths * self.spread_).astype(points.dtype, copy=False)

    def _nearest(self, points: Floats) -> npt.NDArray[np.intp]:
        return np.concatenate([lengths.argmin(axis=1) for lengths in self._lengths(points)])

    def _alpha_unit(self) -> float:
        return float(self.spread_**2 if self.variant == "equilibrium" else self.spread_)

    def _rule(self) -> _Rule:
        return _Rule(self.alpha_ * self._alpha_unit(), self.variant)

    def _find_alpha(self, points: Floats, random: np.random.RandomState) -> float:
        """Of points in the unit, whose mean squared distance from their mean is 1."""
        if self.alpha == "contrast":
            return self._contrast_alpha(points, random)
        if self.alpha == "dvariance":
            return float(self.scale) * (2 if self.variant == "equilibrium" else 1)
        return min(float(self.alpha) * self._alpha_unit(), LARGEST_ALPHA)

    def _contrast_alpha(self, points: Floats, random: np.random.RandomState) -> float:
        """Just above the smallest alpha of the ladder at which the points of every cluster decide for it."""
        points = points[_sample(len(points), max(SAMPLE, self.n_clusters), random)]
        starts = list(self._starts(points, random))

        def contrast(alpha: float) -> float:
            rule = _Rule(alpha, self.variant)
            ends = [_descend(points, start, rule, PASSES, 10 * self.tol)[0] for start in starts]
            return _contrast(points, min(ends, key=lambda end: end.objective).centres, rule)

        smallest = bisect_left(LADDER, CONTRAST, key=contrast)
        return float(LADDER[min(smallest + 1, len(LADDER) - 1)])  # one above: at the brink clusters are half joined

    def _starts(self, points: Floats, random: np.random.RandomState) -> Iterator[Floats]:
        """Centres (K, D) to start from, in the unit."""
        if not isinstance(self.init, str):
            yield self._given_start(points.shape[1])
            return
        ways = STARTS[self.init]
        for turn in range(self.n_init):
            yield ways[turn % len(ways)](points, self.n_clusters, random)

    def _given_start(self, features: int) -> Floats:
        centres, expected = np.asarray(self.init, np.float64), (self.n_clusters, features)
        if centres.shape != expected or not np.isfinite(centres).all():
            raise ConfigError(
                f"init: expected {' or '.join(map(repr, STARTS))}, or finite centres of shape {expected}; "
                f"came an array of shape {centres.shape}"
            )
        return np.asarray((centres - self.offset_) / self.spread_)

    def _best_descent(self, points: Floats, rule: _Rule, random: np.random.RandomState) -> tuple[_State, int]:
        """The end with the lowest J of all starts, and the passes it took."""
        ends = (_descend(points, start, rule, self.max_iter, self.tol) for start in self._starts(points, random))
        return min(ends, key=lambda end: end[0].objective)

    def _learn(self, X: Floats, points: Floats, centres: Floats) -> None:
        """Set what a user reads, of X and the same points in the unit, at the centres as they are rounded to X's type."""
        self.cluster_centers_ = np.asarray(centres * self.spread_ + self.offset_, X.dtype)
        self.labels_ = self._nearest(X)
        self.weights_ = np.empty((len(X), len(centres)), X.dtype)
        centres, rule, objective = self._unit_centres(), self._rule(), 0.0
        for rows in _rows(len(points), max(centres.shape)):
            _, weights, part = rule.weigh(points[rows], centres)
            self.weights_[rows] = weights.T
            objective += part + 0.5 * float(np.square(points[rows]).sum(dtype=np.float64))
        self.objective_ = objective * self.spread_**2

    def _warn_of_empty_clusters(self) -> None:
        found = len(np.unique(self.labels_))
        if found < self.n_clusters:
            message = (
                f"{self.n_clusters} clusters were asked for, {found} hold points: alpha {self.alpha_:.3g} is too small to "
                "tell the other centres apart, or there are not as many different points. Raise alpha or scale, use "
                "alpha='contrast', or ask for fewer clusters"
            )
            warnings.warn(message, ConvergenceWarning, stacklevel=3)


@dataclass(frozen=True, slots=True)
class _Rule:
    """How points belong to centres, and weigh on them."""

    alpha: float
    variant: Variant

    def weigh(self, points: Floats, centres: Floats) -> tuple[Floats, Floats, float]:  # (B, D), (K, D)
        """Memberships u (K, B), weights w (K, B), and the points' part of J, less 1/2 ||x||^2, which no centre changes.

        Clusters come first, because numpy adds up long rows fast and short ones slowly.
        """
        centres = centres.astype(points.dtype, copy=False)
        distances = 0.5 * np.square(centres).sum(axis=1)[:, None] - centres @ points.T  # d, less 1/2 ||x||^2
        nearest = distances.min(axis=0)
        if self.variant == "softmax":
            lengths = np.sqrt(np.maximum(2 * distances + np.square(points).sum(axis=1), 0))
            memberships = _softmax(self.alpha * (lengths.min(axis=0) - lengths))
            return memberships, memberships, float((memberships * distances).sum(dtype=np.float64))
        distances -= nearest  # so that no exponential overflows, and one of each point does not vanish
        memberships = _softmax(-self.alpha * distances)
        weights = memberships * distances
        mean = weights.sum(axis=0)
        objective = float((mean + nearest).sum(dtype=np.float64))
        np.subtract(mean, distances, out=weights)
        weights *= self.alpha
        weights += 1
        weights *= memberships
        return memberships, weights, objective

    def width(self) -> float:
        """The distance over which memberships change much."""
        return self.alpha**-0.5 if self.variant == "equilibrium" else 1 / self.alpha


@dataclass(frozen=True, slots=True, eq=False)
class _State:
    """Centres, what they are worth, and where they would go."""

    centres: Floats  # (K, D)
    objective: float  # J, less what no centre changes
    step: Floats  # (K, D) to the weighted means
    masses: Floats  # (K,) what each step was divided by: how much weight each centre rests on


def _measure(points: Floats, centres: Floats, rule: _Rule) -> _State:  # (N, D), (K, D)
    """One pass over the points.

    The step is minus the gradient of J over the sum of the weights, and leads down as long as that is positive. Where
    repulsion makes it negative, or so small that the mean lies anywhere, the step is divided by the sum of the
    memberships instead; a centre that no point belongs to stays.
    """
    pulls, sums, shares, objective = np.zeros(centres.shape), np.zeros(len(centres)), np.zeros(len(centres)), 0.0
    for block in _blocks(points, len(centres)):
        memberships, weights, part = rule.weigh(block, centres)
        pulls += weights @ block
        sums += weights.sum(axis=1)
        shares += memberships.sum(axis=1)
        objective += part
    pulls -= sums[:, None] * centres
    masses = np.where(sums > SMALLEST_MASS * shares, sums, shares)
    step = np.divide(pulls, masses[:, None], out=np.zeros(centres.shape), where=masses[:, None] > 0)
    return _State(centres, objective, step, masses)


def _descend(points: Floats, start: Floats, rule: _Rule, most: int, tolerance: float) -> tuple[_State, int]:
    """Move the centres until they stay, and count the passes; a move that raises J is halved until it does not.

    No centre leaves the ball that holds the points: beyond it lies no cluster, but J may be as low as anywhere.
    """
    reach = math.sqrt(max(float(np.square(block).sum(axis=1).max()) for block in _blocks(points, 1)))
    state = _measure(points, start, rule)
    move = _within(start + state.step, reach) - start
    for passes in range(1, most + 1):  # noqa: B007
        if np.linalg.norm(move, axis=1).max() <= tolerance:
            break
        trial = _measure(points, state.centres + move, rule)
        if rule.variant == "equilibrium" and trial.objective > state.objective:
            move = move / 2
        else:
            state, move = trial, _within(trial.centres + trial.step, reach) - trial.centres
    return state, passes


def _within(centres: Floats, reach: float) -> Floats:
    """Centres that are farther than `reach` from the mean of the points, brought back to that distance."""
    lengths = np.linalg.norm(centres, axis=1, keepdims=True)
    return np.asarray(centres * np.minimum(1, reach / np.maximum(lengths, TINIEST)))


def _draw_start(points: Floats, clusters: int, random: np.random.RandomState) -> Floats:
    """k-means++: points drawn one after the other, with odds by the squared distance to the nearest before."""
    return np.asarray(kmeans_plusplus(points, clusters, random_state=random)[0])


def _spread_start(points: Floats, clusters: int, random: np.random.RandomState) -> Floats:
    """Centres far from each other: k-means++ rarely draws one from each of several small clusters, this mostly does.

    Many seeds, each moved to the mean of the points nearest to it, which takes the noise out of their distances; then
    one of them, and again and again the one farthest from those taken (Gonzalez, 1985).
    """
    points = points[_sample(len(points), max(SAMPLE, SEEDS * clusters), random)]
    seeds = kmeans_plusplus(points, min(len(points), SEEDS * clusters), random_state=random, n_local_trials=1)[0]
    labels = pairwise_distances_argmin(points, seeds)
    sums = np.stack([np.bincount(labels, column, len(seeds)) for column in points.T], axis=1)
    sizes = np.bincount(labels, minlength=len(seeds))
    means = sums[sizes > 0] / sizes[sizes > 0, None]
    taken = [random.randint(len(means))]
    while len(taken) < clusters:
        taken.append(int(euclidean_distances(means, means[taken]).min(axis=1).argmax()))
    return np.asarray(means[taken])


STARTS = {"both": (_draw_start, _spread_start), "k-means++": (_draw_start,), "spread": (_spread_start,)}


def _sample(count: int, most: int, random: np.random.RandomState) -> npt.NDArray[np.intp]:
    """Rows drawn without repetition, in order."""
    return np.sort(random.permutation(count)[:most])


def _contrast(points: Floats, centres: Floats, rule: _Rule) -> float:
    """How far the points of a cluster belong to it rather than to any, in the cluster where they do so least.

    0: to no centre more than to the others, or no point is nearest to it; 1: to it alone.
    """
    memberships = rule.weigh(points, centres)[0]
    labels, clusters = memberships.argmax(axis=0), len(centres)
    sizes = np.bincount(labels, minlength=clusters)
    if clusters == 1 or not sizes.all():
        return float(clusters == 1)
    own = np.bincount(labels, memberships.max(axis=0), clusters) / sizes
    return float((own.min() * clusters - 1) / (clusters - 1))


def _joined(centres: Floats, width: float) -> Floats:
    """Centres of which those that fell together are equal: what is left between them is where the descent stopped."""
    centres = centres.copy()
    for row in range(len(centres)):
        near = np.linalg.norm(centres - centres[row], axis=1) <= COINCIDENT * width
        centres[near] = centres[near].mean(axis=0)
    return centres


def _softmax(exponents: Floats) -> Floats:
    """Over the first axis, in place; the largest exponent of each column is 0."""
    np.exp(exponents, out=exponents)
    exponents /= exponents.sum(axis=0)
    return exponents


def _rows(count: int, width: int) -> Iterator[slice]:
    """Blocks of rows of which each holds about CHUNK numbers."""
    step = max(SHORTEST, CHUNK // width)
    return (slice(start, start + step) for start in range(0, count, step))


def _blocks(points: Floats, clusters: int) -> Iterator[Floats]:
    return (points[rows] for rows in _rows(len(points), max(clusters, points.shape[1])))


def _positive(value: Any) -> bool:
    number = isinstance(value, float | int | np.floating | np.integer) and not isinstance(value, bool)
    return number and math.isfinite(value) and value > 0
