"""Equilibrium k-means (Y. He, "Imbalanced Data Clustering using Equilibrium K-Means", arXiv 2402.14490).

A scikit-learn estimator: settings, checks and what is learned; its arithmetic is in `descent`. Points are moved to their
mean and divided by their root mean square distance from it before anything is computed, so that neither a large offset
nor a large or small unit costs digits; alpha and J are given in the user's units.
"""

# ruff: noqa: N803 - scikit-learn's users pass X by name

from __future__ import annotations

import math
import warnings
from bisect import bisect_left
from collections.abc import Iterator
from typing import Any, Literal, Self, get_args

import numpy as np
import numpy.typing as npt
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, ClusterMixin, TransformerMixin
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import euclidean_distances
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data

from unlike.cluster.descent import (
    TINIEST,
    Rule,
    State,
    Variant,
    descend,
    join_centres,
    measure,
    measure_contrast,
    point_blocks,
    row_blocks,
)
from unlike.cluster.starts import SAMPLE, STARTS, draw_rows
from unlike.errors import ConfigError, DataError, unknown
from unlike.records import Floats

ALPHA_RULES = ("dvariance", "contrast")

LARGEST_ALPHA = 1e30  # in the points' own units: harder than any data needs, and no overflow in float32
LADDER = 2.0 ** np.arange(0, 14.5, 0.5)  # values of alpha tried for "contrast", in the points' own units
CONTRAST = 0.5  # that every cluster must reach
PASSES = 50  # over a sample of the points, from each start, with which they are tried


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
        rule = Rule(self._find_alpha(points, random), self.variant)
        state, self.n_iter_ = self._best_descent(points, rule, random)
        self.alpha_ = rule.alpha / self._alpha_unit()
        self.weight_sums_ = state.masses
        self._learn(X, points, join_centres(state.centres, rule.width()))
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
        state = measure(points, self._unit_centres(), self._rule())
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
        return np.concatenate([rule.weigh(block, centres)[0].T for block in point_blocks(points, len(centres))])

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
        broken = sum(int((~np.isfinite(block)).any(axis=1).sum()) for block in point_blocks(points, 1))
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
        farthest = max(float(np.abs(block - self.offset_).max()) for block in point_blocks(points, 1))
        constant = bool((points == points[0]).all())  # not farthest == 0: the mean of equal points may be rounded
        if constant and self.n_clusters > 1:
            raise DataError(
                f"all {len(points)} points are the same, so nothing divides them into {self.n_clusters} clusters; find "
                "out why (a code that has collapsed?), or ask for one cluster"
            )
        unit = farthest or 1.0  # divided out first, so that no square overflows or vanishes
        squares = sum(float(np.square((block - self.offset_) / unit).sum()) for block in point_blocks(points, 1))
        self.spread_ = 1.0 if constant else unit * math.sqrt(squares / len(points))
        if not TINIEST <= self.spread_ <= 1 / TINIEST:
            raise DataError(
                f"expected points that lie {TINIEST:g} to {1 / TINIEST:g} from their mean, came {self.spread_:.3g}, of which "
                "the square cannot be computed with; multiply them by a constant first"
            )

    def _to_unit(self, points: Floats) -> Floats:
        """(N, D) a copy in the unit, of the same type, made block by block."""
        unit = np.empty(points.shape, points.dtype)
        for rows in row_blocks(*points.shape):
            unit[rows] = (points[rows] - self.offset_) / self.spread_
        return unit

    def _unit_centres(self) -> Floats:
        return np.asarray((self.cluster_centers_ - self.offset_) / self.spread_)

    def _lengths(self, points: Floats) -> Iterator[Floats]:
        """Distances (B, K) block by block; computed in double precision, without the offset that would cost digits."""
        centres = self._unit_centres()
        for block in point_blocks(points, len(centres)):
            lengths = euclidean_distances((block - self.offset_) / self.spread_, centres)
            yield (lengths * self.spread_).astype(points.dtype, copy=False)

    def _nearest(self, points: Floats) -> npt.NDArray[np.intp]:
        return np.concatenate([lengths.argmin(axis=1) for lengths in self._lengths(points)])

    def _alpha_unit(self) -> float:
        return float(self.spread_**2 if self.variant == "equilibrium" else self.spread_)

    def _rule(self) -> Rule:
        return Rule(self.alpha_ * self._alpha_unit(), self.variant)

    def _find_alpha(self, points: Floats, random: np.random.RandomState) -> float:
        """Of points in the unit, whose mean squared distance from their mean is 1."""
        if self.alpha == "contrast":
            return self._contrast_alpha(points, random)
        if self.alpha == "dvariance":
            return float(self.scale) * (2 if self.variant == "equilibrium" else 1)
        return min(float(self.alpha) * self._alpha_unit(), LARGEST_ALPHA)

    def _contrast_alpha(self, points: Floats, random: np.random.RandomState) -> float:
        """Just above the smallest alpha of the ladder at which the points of every cluster decide for it."""
        points = points[draw_rows(len(points), max(SAMPLE, self.n_clusters), random)]
        starts = list(self._starts(points, random))

        def contrast(alpha: float) -> float:
            rule = Rule(alpha, self.variant)
            ends = [descend(points, start, rule, PASSES, 10 * self.tol)[0] for start in starts]
            return measure_contrast(points, min(ends, key=lambda end: end.objective).centres, rule)

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

    def _best_descent(self, points: Floats, rule: Rule, random: np.random.RandomState) -> tuple[State, int]:
        """The end with the lowest J of all starts, and the passes it took."""
        ends = (descend(points, start, rule, self.max_iter, self.tol) for start in self._starts(points, random))
        return min(ends, key=lambda end: end[0].objective)

    def _learn(self, X: Floats, points: Floats, centres: Floats) -> None:
        """Set what a user reads, of X and the same points in the unit, at the centres as they are rounded to X's type."""
        self.cluster_centers_ = np.asarray(centres * self.spread_ + self.offset_, X.dtype)
        self.labels_ = self._nearest(X)
        self.weights_ = np.empty((len(X), len(centres)), X.dtype)
        centres, rule, objective = self._unit_centres(), self._rule(), 0.0
        for rows in row_blocks(len(points), max(centres.shape)):
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


def _positive(value: Any) -> bool:
    number = isinstance(value, float | int | np.floating | np.integer) and not isinstance(value, bool)
    return number and math.isfinite(value) and value > 0
