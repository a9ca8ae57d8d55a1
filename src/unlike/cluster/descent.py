"""The arithmetic of equilibrium k-means, for points in their own unit: where they belong, how they weigh, which way is down.

With d_nk = 1/2 ||x_n - c_k||^2, the memberships u_nk = exp(-alpha d_nk) / sum_i exp(-alpha d_ni) and the mean
distance m_n = sum_k u_nk d_nk of a point, it lowers J = sum_n m_n. The gradient of J is sum_n w_nk (c_k - x_n) with the
weights w_nk = u_nk [1 - alpha (d_nk - m_n)], so each centre moves to the w-weighted mean of the points. The weights of
a point sum to 1 over the centres, and are negative for centres much farther than its own: points of a large cluster
push the other centres away, which is why these do not crowd into it: docs/derivations.md#the-weights-of-equilibrium-k-means.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np

from unlike.records import Floats

Variant = Literal["equilibrium", "softmax"]

CHUNK = 2**16  # numbers in a block of points, or of points by clusters: a few of these stay in a core's cache
SHORTEST = 256  # rows of a block, however wide
SMALLEST_MASS = 1e-3  # of sum w_nk / sum u_nk, below which the weighted mean is not trusted to be a descent
COINCIDENT = 0.01  # centres nearer than this, in widths of the membership function, are one
TINIEST = 1e-150  # length that can be squared


@dataclass(frozen=True, slots=True)
class Rule:
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
class State:
    """Centres, what they are worth, and where they would go."""

    centres: Floats  # (K, D)
    objective: float  # J, less what no centre changes
    step: Floats  # (K, D) to the weighted means
    masses: Floats  # (K,) what each step was divided by: how much weight each centre rests on


def measure(points: Floats, centres: Floats, rule: Rule) -> State:  # (N, D), (K, D)
    """One pass over the points.

    The step is minus the gradient of J over the sum of the weights, and leads down as long as that is positive. Where
    repulsion makes it negative, or so small that the mean lies anywhere, the step is divided by the sum of the
    memberships instead; a centre that no point belongs to stays.
    """
    pulls, sums, shares, objective = np.zeros(centres.shape), np.zeros(len(centres)), np.zeros(len(centres)), 0.0
    for block in point_blocks(points, len(centres)):
        memberships, weights, part = rule.weigh(block, centres)
        pulls += weights @ block
        sums += weights.sum(axis=1)
        shares += memberships.sum(axis=1)
        objective += part
    pulls -= sums[:, None] * centres
    masses = np.where(sums > SMALLEST_MASS * shares, sums, shares)
    step = np.divide(pulls, masses[:, None], out=np.zeros(centres.shape), where=masses[:, None] > 0)
    return State(centres, objective, step, masses)


def descend(points: Floats, start: Floats, rule: Rule, most: int, tolerance: float) -> tuple[State, int]:
    """Move the centres until they stay, and count the passes; a move that raises J is halved until it does not.

    No centre leaves the ball that holds the points: beyond it lies no cluster, but J may be as low as anywhere.
    """
    reach = math.sqrt(max(float(np.square(block).sum(axis=1).max()) for block in point_blocks(points, 1)))
    state = measure(points, start, rule)
    move = _within(start + state.step, reach) - start
    for passes in range(1, most + 1):  # noqa: B007
        if np.linalg.norm(move, axis=1).max() <= tolerance:
            break
        trial = measure(points, state.centres + move, rule)
        if rule.variant == "equilibrium" and trial.objective > state.objective:
            move = move / 2
        else:
            state, move = trial, _within(trial.centres + trial.step, reach) - trial.centres
    return state, passes


def _within(centres: Floats, reach: float) -> Floats:
    """Centres that are farther than `reach` from the mean of the points, brought back to that distance."""
    lengths = np.linalg.norm(centres, axis=1, keepdims=True)
    return np.asarray(centres * np.minimum(1, reach / np.maximum(lengths, TINIEST)))


def measure_contrast(points: Floats, centres: Floats, rule: Rule) -> float:
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


def join_centres(centres: Floats, width: float) -> Floats:
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


def row_blocks(count: int, width: int) -> Iterator[slice]:
    """Blocks of rows of which each holds about CHUNK numbers."""
    step = max(SHORTEST, CHUNK // width)
    return (slice(start, start + step) for start in range(0, count, step))


def point_blocks(points: Floats, clusters: int) -> Iterator[Floats]:
    """Blocks of points that are small enough, and so are their distances to so many centres."""
    return (points[rows] for rows in row_blocks(len(points), max(clusters, points.shape[1])))
