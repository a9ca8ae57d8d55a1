"""Threshold rules: where normal ends, from scores of normal images alone."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal, Protocol, Self

import numpy as np

from unlike.calibration.conformal import smallest_promise
from unlike.config import check_range
from unlike.errors import DataError, NotFittedError
from unlike.records import Floats
from unlike.registry import Registry

AUTO_FALSE_ALARMS = 0.01
SLACK = 1e-9  # so that 0.05 x 20 counts as 1


@dataclass(frozen=True, slots=True)
class Promise:
    """What a threshold says of normal images that nobody has seen yet, as a number and in words.

    >>> print(Promise(0.01, "at most 1 % false alarms"))
    at most 1 % false alarms
    """

    # the share of normal images that may be called anomalous; None: the rule promises nothing
    false_alarms: float | None
    words: str

    def __str__(self) -> str:
        return self.words


class ThresholdRule(Protocol):
    """How a threshold is found; a class of your own with these members is as good as ours.

    It is built as `Rule(false_alarms)`, a share or "auto", and may do with that what it likes.
    """

    def fit(self, scores: Floats) -> Self:
        """Learn from scores (n,) of normal images that were not learned from; a DataError where they are too few."""
        ...

    @property
    def threshold_(self) -> float:
        """What is above it is anomalous."""
        ...

    @property
    def promise_(self) -> Promise:
        """What that says of other normal images."""
        ...


class ConformalThreshold:
    """Find the threshold that at most a given share of normal images exceeds.

    It is a conformal quantile: the k-th smallest of n held-out normal scores, k = n + 1 - floor(a (n + 1)). An image is
    anomalous when its score is above it, which is when its conformal p-value is at most `a`. "auto" promises 1 %, or the
    smallest share that n normals can hold. See docs/derivations.md#a-threshold-that-promises-and-a-p-value.

    >>> rule = ConformalThreshold(false_alarms=0.2).fit(np.array([1.0, 2.0, 3.0, 4.0]))
    >>> rule.threshold_, str(rule.promise_)
    (4.0, 'at most 20 % false alarms')
    """

    def __init__(self, false_alarms: float | Literal["auto"] = "auto") -> None:
        self.false_alarms = false_alarms

    def fit(self, scores: Floats) -> ConformalThreshold:
        """Learn from held-out normal scores (n,)."""
        count = len(scores)
        if not np.isfinite(scores).all():
            raise DataError(
                "the score of a held-out normal image is not a finite number, so no threshold can be found; "
                "look for images with extreme values, or lower training.learning_rate"
            )
        if self.false_alarms == "auto":
            promised = max(AUTO_FALSE_ALARMS, smallest_promise(count))
        else:
            check_range("decision.false_alarms", self.false_alarms, 1e-9, 1 - 1e-9)
            promised = self.false_alarms
        allowed = math.floor(promised * (count + 1) + SLACK)
        if allowed < 1:
            raise DataError(
                f"{count} normal images cannot hold false alarms to {promised:.2%}: {normals_needed(promised)} are needed. "
                f"Add normal images, or accept {math.ceil(smallest_promise(count) * 1e4) / 1e4:.2%} or more."
            )
        self._fitted = float(np.sort(scores)[count - allowed]), Promise(promised, say_false_alarms(promised))
        return self

    @property
    def threshold_(self) -> float:
        return self._need()[0]

    @property
    def promise_(self) -> Promise:
        return self._need()[1]

    def _need(self) -> tuple[float, Promise]:
        if not hasattr(self, "_fitted"):
            raise NotFittedError("this threshold has not been fitted yet; call fit(scores) first")
        return self._fitted


def normals_needed(false_alarms: float) -> int:
    """How many held-out normal images a promise takes.

    >>> normals_needed(0.01)
    99
    """
    return math.ceil(1 / false_alarms - SLACK) - 1


def say_false_alarms(share: float) -> str:
    """A promise in words.

    >>> say_false_alarms(1 / 61)
    'at most 1.64 % false alarms'
    """
    return f"at most {100 * share:.3g} % false alarms"


THRESHOLDS: Registry[type[Any]] = Registry(  # of a ThresholdRule
    "threshold", "unlike.thresholds", {"conformal": "unlike.calibration.thresholds:ConformalThreshold"}
)
