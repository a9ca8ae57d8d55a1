"""Where to draw the line between normal and anomalous, from normal images alone."""

from __future__ import annotations

import math
from typing import Literal

import numpy as np

from unlike.calibration.conformal import smallest_promise
from unlike.config import check_range
from unlike.errors import DataError, NotFittedError
from unlike.records import Bools, Floats
from unlike.registry import Registry

AUTO_FALSE_ALARMS = 0.01
AUTO_WORST = 0.1  # a line for a category apart that could promise no more is not worth drawing
SLACK = 1e-9  # so that 0.05 x 20 counts as 1


class QuantileThreshold:
    """Draw the line so that at most a given share of normal images is called anomalous.

    The threshold is a conformal quantile: the k-th smallest of n held-out normal scores, k = n + 1 - floor(a (n + 1)).
    An image is anomalous when its score is above it, which is when its conformal p-value is at most `a`. "auto" promises
    1 %, or the smallest share that n normals can hold.

    >>> rule = QuantileThreshold(false_alarms=0.2).fit(np.array([1.0, 2.0, 3.0, 4.0]))
    >>> rule.predict(np.array([2.0, 9.0]))
    array([False,  True])
    """

    def __init__(self, false_alarms: float | Literal["auto"] = "auto") -> None:
        self.false_alarms = false_alarms

    def fit(self, normal_scores: Floats) -> QuantileThreshold:
        """Learn `threshold_` and `false_alarms_`, the share promised, from held-out normal scores (n,)."""
        count = len(normal_scores)
        if not np.isfinite(normal_scores).all():
            raise DataError(
                "the score of a held-out normal image is not a finite number, so no line can be drawn; "
                "look for images with extreme values, or lower training.learning_rate"
            )
        if self.false_alarms == "auto":
            self.false_alarms_ = max(AUTO_FALSE_ALARMS, smallest_promise(count))
        else:
            check_range("decision.false_alarms", self.false_alarms, 1e-9, 1 - 1e-9)
            self.false_alarms_ = self.false_alarms
        allowed = math.floor(self.false_alarms_ * (count + 1) + SLACK)
        if allowed < 1:
            needed = math.ceil(1 / self.false_alarms_ - SLACK) - 1
            raise DataError(
                f"{count} normal images cannot hold false alarms to {self.false_alarms_:.2%}: {needed} are needed. "
                f"Add normal images, or accept {math.ceil(smallest_promise(count) * 1e4) / 1e4:.2%} or more."
            )
        self.threshold_ = float(np.sort(normal_scores)[count - allowed])
        return self

    def can_promise(self, count: int) -> bool:
        """Whether so many held-out normal images hold what is promised: of "auto", 10 % or better.

        >>> QuantileThreshold(0.05).can_promise(19), QuantileThreshold(0.05).can_promise(18)
        (True, False)
        """
        promise = AUTO_WORST if self.false_alarms == "auto" else self.false_alarms
        return smallest_promise(count) <= promise + SLACK

    def predict(self, scores: Floats) -> Bools:
        """(N,) -> (N,), True for anomalous."""
        if not hasattr(self, "threshold_"):
            raise NotFittedError("this threshold has not been fitted yet; call fit(normal_scores) first")
        return np.asarray(scores > self.threshold_)


THRESHOLDS: Registry[type[QuantileThreshold]] = Registry(
    "threshold", "unlike.thresholds", {"conformal": "unlike.calibration.thresholds:QuantileThreshold"}
)
