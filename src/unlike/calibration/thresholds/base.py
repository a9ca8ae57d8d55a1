"""What a threshold rule is, and what all of ours have in common."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Protocol, Self

import numpy as np

from unlike.config import check_range
from unlike.errors import DataError, NotFittedError
from unlike.records import Bools, Floats


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

    It is built as `Rule(false_alarms, config)`, a share or "auto", and a `Config` or None for its defaults, and may do with
    that what it likes.
    """

    Config: ClassVar[type[Any]]  # a frozen dataclass of its settings, `NoSettings` where it has none
    needs_labels: ClassVar[bool]  # whether it chooses by images with labels; `fit` is then given some of either kind

    def fit(self, scores: Floats, weights: Floats | None = None, anomalous: Bools | None = None) -> Self:
        """Learn from scores (n,) of images that were not learned from; a DataError where they are too few.

        All are of normal images, or, where the rule needs labels, `anomalous` (n,) says which are not. `weights` (n,) say
        how much each counts: 1 where it is independent of all others, 1/m where it is one of m images that belong together.
        They sum to the number of independent groups; None is 1 for each.
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


@dataclass(frozen=True, slots=True)
class NoSettings:
    """There is nothing to choose."""


class FittedThreshold:
    """A threshold with its promise, once a rule has found them."""

    Config: ClassVar[type[Any]] = NoSettings
    needs_labels: ClassVar[bool] = False
    _fitted: tuple[float, Promise] | None = None

    def __init__(self, false_alarms: float | Literal["auto"] = "auto", config: Any = None) -> None:
        self.false_alarms: float | Literal["auto"] = false_alarms
        self.config = self.Config() if config is None else config

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


def share_or(false_alarms: float | Literal["auto"], auto: float) -> float:
    """The share of false alarms that was asked for, or what "auto" stands for; a ConfigError where it is none.

    >>> share_or("auto", 0.01), share_or(0.05, 0.01)
    (0.01, 0.05)
    """
    if false_alarms == "auto":
        return auto
    check_range("decision.false_alarms", false_alarms, 1e-9, 1 - 1e-9)
    return false_alarms


def say_share(share: float) -> str:
    """A share in words.

    >>> say_share(1 / 61)
    '1.64 %'
    """
    return f"{100 * share:.3g} %"


def say_false_alarms(share: float) -> str:
    """A promise in words.

    >>> say_false_alarms(1 / 61)
    'at most 1.64 % false alarms'
    """
    return f"at most {say_share(share)} false alarms"
