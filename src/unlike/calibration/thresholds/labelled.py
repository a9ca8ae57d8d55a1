"""Rules that choose a threshold by images with labels: what is best on those, which promises nothing of others."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from unlike.calibration.decision import is_anomalous
from unlike.calibration.sweep import Best, best_accuracy, best_f_beta, best_youden, least_cost, need_both, sweep
from unlike.calibration.thresholds.base import FittedThreshold, Promise, check_held_out, say_share
from unlike.errors import ConfigError, DataError
from unlike.records import Bools, Floats

STEPS = 60  # of a search; each leaves two thirds of the range


class LabelledThreshold(FittedThreshold):
    """The threshold that is best, by some measure, on images with labels."""

    needs_labels: ClassVar[bool] = True

    def fit(self, scores: Floats, weights: Floats | None = None, anomalous: Bools | None = None) -> LabelledThreshold:
        """Learn from scores (n,) of normal and anomalous images."""
        if self.false_alarms != "auto":
            raise ConfigError(
                f"decision.false_alarms: this rule chooses by labels and promises nothing, came {self.false_alarms!r}; leave it "
                "'auto', or choose decision.threshold = 'conformal'"
            )
        if anomalous is None or len(anomalous) != len(scores):
            raise DataError(
                f"this rule needs a label for each of {len(scores):,} scores, came {0 if anomalous is None else len(anomalous):,}; give it "
                "images with labels, or choose decision.threshold = 'conformal'"
            )
        check_held_out(scores)
        best = self.choose(scores, anomalous, weights)
        self._fitted = best.threshold, Promise(None, self._say(best.value, anomalous))
        return self

    @abstractmethod
    def choose(self, scores: Floats, anomalous: Bools, weights: Floats | None) -> Best:
        """The best threshold for images (n,) with labels, and how good it is there."""

    @property
    @abstractmethod
    def measure(self) -> str:
        """What is best there, in words."""

    def _say(self, value: float, anomalous: Bools) -> str:
        of = f"{len(anomalous):,} labelled images ({int(anomalous.sum()):,} of them anomalous)"
        return f"{self.measure} on {of}, {value:.3g} there; nothing is promised of others"


class AccuracyThreshold(LabelledThreshold):
    """The highest accuracy on images with labels; promises nothing.

    >>> rule = AccuracyThreshold().fit(np.array([1.0, 2, 3, 4]), anomalous=np.array([False, False, True, True]))
    >>> rule.threshold_, rule.promise_.words
    (2.0, 'highest accuracy on 4 labelled images (2 of them anomalous), 1 there; nothing is promised of others')
    """

    measure = "highest accuracy"

    def choose(self, scores: Floats, anomalous: Bools, weights: Floats | None) -> Best:
        return best_accuracy(sweep(scores, anomalous, weights))


@dataclass(frozen=True, slots=True)
class FBetaConfig:
    """What an F score weighs."""

    beta: float = 1.0  # how many times as much recall counts as precision

    def __post_init__(self) -> None:
        _check_above_zero("beta", self.beta)


class FBetaThreshold(LabelledThreshold):
    """The highest F score on images with labels, by which recall counts `beta` times as much as precision; promises nothing.

    >>> scores, anomalous = np.array([1.0, 3, 2, 4]), np.array([False, False, True, True])
    >>> [FBetaThreshold(config=FBetaConfig(beta)).fit(scores, anomalous=anomalous).threshold_ for beta in (0.5, 2)]
    [3.0, 1.0]
    """

    Config = FBetaConfig

    @property
    def measure(self) -> str:
        return f"highest F{self.config.beta:g} score"

    def choose(self, scores: Floats, anomalous: Bools, weights: Floats | None) -> Best:
        return best_f_beta(sweep(scores, anomalous, weights), self.config.beta)


class YoudenThreshold(LabelledThreshold):
    """The highest detection rate less false-alarm rate (Youden, 1950) on images with labels; promises nothing.

    >>> YoudenThreshold().fit(np.array([1.0, 2, 3, 4]), anomalous=np.array([False, True, False, True])).threshold_
    3.0
    """

    measure = "highest detection rate less false-alarm rate"

    def choose(self, scores: Floats, anomalous: Bools, weights: Floats | None) -> Best:
        return best_youden(sweep(scores, anomalous, weights))


@dataclass(frozen=True, slots=True)
class CostConfig:
    """What mistakes cost, in any currency."""

    false_alarm: float = 1.0  # of a normal image that is called anomalous
    missed: float = 10.0  # of an anomalous image that is not
    prevalence: float | Literal["auto"] = (
        "auto"  # share of images in use that are anomalous; auto: as among those with labels
    )

    def __post_init__(self) -> None:
        _check_above_zero("false_alarm", self.false_alarm)
        _check_above_zero("missed", self.missed)
        if self.prevalence != "auto" and not 0 < self.prevalence < 1:
            raise ConfigError(
                f"decision.settings.prevalence: expected a share above 0 and below 1, or 'auto', came {self.prevalence:g}"
            )


class CostThreshold(LabelledThreshold):
    """The least cost of mistakes on images with labels, where a missed anomaly costs more than a false alarm; promises nothing.

    >>> scores, anomalous = np.array([1.0, 3, 2, 4]), np.array([False, False, True, True])
    >>> [CostThreshold(config=CostConfig(missed=m)).fit(scores, anomalous=anomalous).threshold_ for m in (0.5, 10)]
    [3.0, 1.0]
    """

    Config = CostConfig

    @property
    def measure(self) -> str:
        one = self.config
        share = "" if one.prevalence == "auto" else f", where {say_share(one.prevalence)} are anomalous"
        return f"least cost an image (false alarm {one.false_alarm:g}, missed anomaly {one.missed:g}{share})"

    def choose(self, scores: Floats, anomalous: Bools, weights: Floats | None) -> Best:
        one, swept = self.config, sweep(scores, anomalous, weights)
        need_both(swept)
        share = swept.anomalous / (swept.anomalous + swept.normal) if one.prevalence == "auto" else one.prevalence
        return least_cost(swept, one.false_alarm, one.missed, share)


class TernaryThreshold(LabelledThreshold):
    """Where ternary search for the highest accuracy on images with labels ends, which need not be the best; promises nothing.

    >>> rule = TernaryThreshold().fit(np.array([1.0, 2, 3, 4]), anomalous=np.array([False, False, True, True]))
    >>> bool(2 <= rule.threshold_ < 3)
    True
    """

    measure = "accuracy by ternary search"

    def choose(self, scores: Floats, anomalous: Bools, weights: Floats | None) -> Best:
        need_both(sweep(scores, anomalous, weights))
        return ternary_search(scores, anomalous, weights)


def ternary_search(scores: Floats, anomalous: Bools, weights: Floats | None = None) -> Best:
    """Where ternary search ends that takes accuracy for a function with one peak, which it need not be.

    >>> ternary_search(np.array([1.0, 2.0, 3.0, 4.0]), np.array([False, False, True, True])).value
    1.0
    """

    def accuracy(threshold: float) -> float:
        return float(np.average(is_anomalous(scores, threshold) == anomalous, weights=weights))

    low, high = float(scores.min()), float(scores.max())
    for _ in range(STEPS):
        third = (high - low) / 3
        left, right = low + third, high - third
        if accuracy(left) < accuracy(right):
            low = left
        else:
            high = right
    middle = (low + high) / 2
    return Best(accuracy(middle), middle)


def _check_above_zero(name: str, value: float) -> None:
    if not 0 < value < float("inf"):
        raise ConfigError(f"decision.settings.{name}: expected a number above 0, came {value:g}")
