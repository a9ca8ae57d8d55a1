"""The conformal threshold: a promise that holds whatever the distribution of scores."""

from __future__ import annotations

import math

import numpy as np

from unlike.calibration.conformal import smallest_promise
from unlike.calibration.thresholds.base import FittedThreshold, Promise, check_held_out, say_false_alarms, share_or
from unlike.errors import DataError
from unlike.records import Bools, Floats

AUTO_FALSE_ALARMS = 0.01
STEADY = 3  # images that the promise of "auto" rests on: one strange image must not decide alone,
MOST_AUTO = 0.1  # but for that it promises no more false alarms than this
SLACK = 1e-9  # so that 0.05 x 20 counts as 1


class ConformalThreshold(FittedThreshold):
    """Find the threshold that at most a given share of normal images exceeds.

    It is a conformal quantile: the k-th smallest of n held-out normal scores, k = n + 1 - floor(a (n + 1)). An image is
    anomalous when its score is above it, which is when its conformal p-value is at most `a`. "auto" promises 1 %, or as
    much as rests on three images (`auto_promise`). See docs/derivations.md#a-threshold-that-promises-and-a-p-value.

    Of images that belong together each counts in part, and n is the number of groups (hierarchical conformal prediction:
    Lee, Barber & Willett, 2023): the promise is then for images of groups that nobody has seen.

    >>> rule = ConformalThreshold(false_alarms=0.2).fit(np.array([1.0, 2.0, 3.0, 4.0]))
    >>> rule.threshold_, str(rule.promise_)
    (4.0, 'at most 20 % false alarms')
    """

    def fit(self, scores: Floats, weights: Floats | None = None, anomalous: Bools | None = None) -> ConformalThreshold:
        """Learn from held-out normal scores (n,)."""
        del anomalous  # all are normal
        check_held_out(scores)
        if not len(scores):
            raise DataError("no normal image was held out, and a threshold needs one at least; add normal images")
        counted = np.ones(len(scores)) if weights is None else weights
        count = float(counted.sum())
        promised = share_or(self.false_alarms, auto_promise(count))
        allowed = promised * (count + 1) + SLACK - 1  # how much may be above the threshold
        if allowed < 0:
            raise DataError(_say_too_few(len(scores), count, promised))
        self._fitted = lowest_with(scores, counted, allowed), Promise(promised, say_false_alarms(promised))
        return self


def auto_promise(count: float) -> float:
    """The share of false alarms that "auto" promises by so many held-out normal images, or independent groups.

    It is 1 %, or where that would rest on fewer than STEADY images, as much as rests on them, but not more than MOST_AUTO if one
    image can hold that: docs/promises.md#what-auto-promises.

    >>> [round(auto_promise(count), 4) for count in (1000, 175, 31, 20, 5)]
    [0.01, 0.017, 0.0938, 0.0952, 0.1667]
    """
    resting = max(1, min(STEADY, math.floor(MOST_AUTO * (count + 1) + SLACK)))
    return max(AUTO_FALSE_ALARMS, resting / (count + 1))


def lowest_with(scores: Floats, weights: Floats, allowed: float) -> float:
    """The lowest of some scores (n,) that scores of at most the weight `allowed` are above.

    >>> lowest_with(np.array([1.0, 2.0, 3.0]), np.ones(3), allowed=1)
    2.0
    """
    falling = np.sort(scores)[::-1]
    above = np.cumsum(weights[np.argsort(scores, kind="stable")[::-1]])  # and the score itself
    exceeding = int(np.searchsorted(above, allowed, side="right"))
    return float(falling[min(exceeding, len(scores) - 1)])


def _say_too_few(images: int, count: float, promised: float) -> str:
    them, more = f"{images} normal images", "normal images"
    if count < images - SLACK:
        them, more = f"{images} normal images in {count:.4g} independent groups", "groups of normal images"
    return (
        f"{them} cannot hold false alarms to {promised:.2%}: {normals_needed(promised)} are needed. "
        f"Add {more}, or accept {math.ceil(smallest_promise(count) * 1e4) / 1e4:.2%} or more."
    )


def normals_needed(false_alarms: float) -> int:
    """How many held-out normal images a promise takes.

    >>> normals_needed(0.01)
    99
    """
    return math.ceil(1 / false_alarms - SLACK) - 1
