"""What a threshold rule is, and what all of ours have in common."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, Self

import numpy as np

from unlike.errors import DataError, NotFittedError
from unlike.records import Floats


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

    def fit(self, scores: Floats, weights: Floats | None = None) -> Self:
        """Learn from scores (n,) of normal images that were not learned from; a DataError where they are too few.

        `weights` (n,) say how much each counts: 1 where it is independent of all others, 1/m where it is one of m images
        that belong together. They sum to the number of independent groups; None is 1 for each.
        """
        ...

    @property
    def threshold_(self) -> float:
        """What is above it is anomalous."""
        ...

    @property
    def promise_(self) -> Promise:
        """What that says of other normal images."""
        ...


class FittedThreshold:
    """A threshold with its promise, once a rule has found them."""

    _fitted: tuple[float, Promise] | None = None

    @property
    def threshold_(self) -> float:
        return self._need()[0]

    @property
    def promise_(self) -> Promise:
        return self._need()[1]

    def _need(self) -> tuple[float, Promise]:
        if self._fitted is None:
            raise NotFittedError("this threshold has not been fitted yet; call fit(scores) first")
        return self._fitted


def check_held_out(scores: Floats) -> None:
    """Raise DataError unless all scores (n,) of held-out normal images are finite.

    >>> check_held_out(np.array([1.0, 2.0]))
    """
    if not np.isfinite(scores).all():
        raise DataError(
            "the score of a held-out normal image is not a finite number, so no threshold can be found; "
            "look for images with extreme values, or lower training.learning_rate"
        )


def say_false_alarms(share: float) -> str:
    """A promise in words.

    >>> say_false_alarms(1 / 61)
    'at most 1.64 % false alarms'
    """
    return f"at most {100 * share:.3g} % false alarms"
