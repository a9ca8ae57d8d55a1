"""What every threshold would catch of images with labels, and which threshold is best by some measure.

Everywhere an image is called anomalous where its score is larger than the threshold.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from unlike.errors import DataError
from unlike.records import Bools, Floats

Ranks = npt.NDArray[np.intp]
Counts = npt.NDArray[Any]  # integers, or floats where images have weights


class Best(NamedTuple):
    """The best that any threshold reaches, found with the labels at hand: an oracle's figure, not a promise."""

    value: float
    threshold: float


@dataclass(frozen=True, slots=True, eq=False)
class Sweep:
    """What each possible threshold catches, from nothing to everything; only a change of the caught set is a step."""

    thresholds: Floats  # (T + 1,) falling: every distinct score, and one below them all
    detected: Floats  # (T + 1,) weight of the anomalous images above each threshold
    false_alarms: Floats  # (T + 1,) weight of the normal images above each threshold
    anomalous: float  # weight of all anomalous images
    normal: float  # weight of all normal images


def sweep(scores: Floats, anomalous: Bools, weights: Floats | None = None) -> Sweep:
    """Count at every distinct score what a threshold there would catch; equal scores are caught together.

    `scores`, `anomalous` and `weights` (one each by default) have the shape (N,).

    >>> found = sweep(np.array([1.0, 2.0, 2.0, 3.0]), np.array([False, False, True, True]))
    >>> found.thresholds[:3], found.detected, found.false_alarms
    (array([3., 2., 1.]), array([0., 1., 2., 2.]), array([0., 0., 1., 2.]))
    """
    levels, ranks = rank_scores(scores)
    weights = np.ones(len(ranks)) if weights is None else np.asarray(weights, np.float64)
    caught = [
        accumulate(np.bincount(ranks[chosen], weights[chosen], len(levels))) for chosen in (anomalous, ~anomalous)
    ]
    thresholds = np.append(levels, np.nextafter(levels[-1:], -np.inf))
    return Sweep(thresholds, caught[0], caught[1], float(caught[0][-1]), float(caught[1][-1]))


def best_f1(swept: Sweep) -> Best:
    """The largest F1 score (of the anomalous class) that any threshold reaches, and the highest such threshold.

    >>> best_f1(sweep(np.array([1.0, 3.0, 2.0, 4.0]), np.array([False, False, True, True])))
    Best(value=0.8, threshold=1.0)
    """
    need_both(swept)
    return _best(f_beta(swept.detected, swept.false_alarms), swept)


def best_accuracy(swept: Sweep) -> Best:
    """The largest accuracy that any threshold reaches, calling nothing anomalous included.

    >>> best_accuracy(sweep(np.array([1.0, 3.0, 2.0]), np.array([False, False, True])))
    Best(value=0.6666666666666666, threshold=3.0)
    """
    need_both(swept)
    return _best(accuracies(swept.detected, swept.false_alarms), swept)


def best_f_beta(swept: Sweep, beta: float) -> Best:
    """The largest F score that any threshold reaches, of which recall counts `beta` times as much as precision.

    >>> best_f_beta(sweep(np.array([1.0, 3.0, 2.0, 4.0]), np.array([False, False, True, True])), beta=0.5)
    Best(value=0.8333333333333334, threshold=3.0)
    """
    need_both(swept)
    return _best(f_beta(swept.detected, swept.false_alarms, beta), swept)


def best_youden(swept: Sweep) -> Best:
    """The largest Youden index: detection rate less false-alarm rate (Youden, 1950).

    >>> best_youden(sweep(np.array([1.0, 3.0, 2.0, 4.0]), np.array([False, False, True, True])))
    Best(value=0.5, threshold=3.0)
    """
    need_both(swept)
    return _best(swept.detected / swept.anomalous - swept.false_alarms / swept.normal, swept)


def least_cost(swept: Sweep, false_alarm: float, missed: float, prevalence: float) -> Best:
    """The least cost an image where a false alarm and a missed anomaly cost so much, and that share of images is anomalous.

    >>> swept = sweep(np.array([1.0, 3.0, 2.0, 4.0]), np.array([False, False, True, True]))
    >>> least_cost(swept, false_alarm=1, missed=10, prevalence=0.5)
    Best(value=0.25, threshold=1.0)
    """
    need_both(swept)
    of_normal = (1 - prevalence) * false_alarm * swept.false_alarms / swept.normal
    of_missed = prevalence * missed * (1 - swept.detected / swept.anomalous)
    found = _best(-(of_normal + of_missed), swept)
    return Best(-found.value, found.threshold)


def f_beta(detected: Counts, false_alarms: Counts, beta: float = 1.0) -> Floats:  # (..., T + 1)
    """The F score at each threshold, by how much it catches of either kind."""
    more = beta**2
    return np.asarray((1 + more) * detected / (detected + false_alarms + more * detected[..., -1:]))


def accuracies(detected: Counts, false_alarms: Counts) -> Floats:  # (..., T + 1)
    """The accuracy at each threshold, by how much it catches of either kind."""
    normal, anomalous = false_alarms[..., -1:], detected[..., -1:]
    return np.asarray((detected + normal - false_alarms) / (normal + anomalous))


def rank_scores(scores: Floats) -> tuple[Floats, Ranks]:
    """The distinct scores, falling (T,), and which of them each image has (N,)."""
    levels, ranks = np.unique(np.asarray(scores, np.float64), return_inverse=True)
    return levels[::-1], len(levels) - 1 - ranks


def accumulate(counts: Counts) -> Counts:  # (..., T) -> (..., T + 1)
    """Counts at each score as counts above each threshold."""
    sums = np.zeros((*counts.shape[:-1], counts.shape[-1] + 1), counts.dtype)
    np.cumsum(counts, axis=-1, out=sums[..., 1:])
    return sums


def _best(values: Floats, swept: Sweep) -> Best:
    best = int(values.argmax())
    return Best(float(values[best]), float(swept.thresholds[best]))


def need_both(swept: Sweep) -> None:
    """Raise DataError unless there are normal and anomalous images."""
    if swept.normal and swept.anomalous:
        return
    kind, count = ("normal", swept.normal) if swept.normal else ("anomalous", swept.anomalous)
    raise DataError(f"needs normal and anomalous images; all {count:,.0f} are {kind}")
