"""Some standard deviations above the mean: what factories often have."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from unlike.calibration.thresholds.base import FittedThreshold, Promise, check_held_out, say_share, share_or
from unlike.errors import ConfigError, DataError
from unlike.records import Bools, Floats

USUAL = 3.0  # standard deviations
FEWEST = 3  # scores that have a spread


@dataclass(frozen=True, slots=True)
class SigmaConfig:
    """How far above the mean."""

    # standard deviations; auto: those that the share decision.false_alarms of a Gaussian is above, or 3
    k: float | Literal["auto"] = "auto"

    def __post_init__(self) -> None:
        if self.k != "auto" and not 0 < self.k < float("inf"):
            raise ConfigError(f"decision.settings.k: expected a number above 0, or 'auto', came {self.k:g}")


class SigmaThreshold(FittedThreshold):
    """Some standard deviations above the mean of held-out normal scores; promises nothing, for scores are seldom Gaussian.

    >>> rule = SigmaThreshold(config=SigmaConfig(k=2)).fit(np.array([1.0, 2.0, 3.0]))
    >>> rule.threshold_, rule.promise_.words
    (4.0, 'mean and 2 standard deviations: nothing is promised (2.28 % false alarms, were scores Gaussian)')
    """

    Config = SigmaConfig

    def fit(self, scores: Floats, weights: Floats | None = None, anomalous: Bools | None = None) -> SigmaThreshold:
        """Learn from held-out normal scores (n,)."""
        from scipy.stats import norm

        del anomalous  # all are normal
        check_held_out(scores)
        counted = np.ones(len(scores)) if weights is None else weights
        total = float(counted.sum())
        if total < FEWEST - 1e-9:
            raise DataError(
                f"{total:.4g} independent normal images have no spread: {FEWEST} are needed. Add normal images."
            )
        k = self._choose()
        mean = float(np.average(scores, weights=counted))
        spread = float(np.sqrt((counted * (scores - mean) ** 2).sum() / (total - 1)))
        share = say_share(float(norm.sf(k)))
        words = (
            f"mean and {k:.3g} standard deviations: nothing is promised ({share} false alarms, were scores Gaussian)"
        )
        self._fitted = mean + k * spread, Promise(None, words)
        return self

    def _choose(self) -> float:
        from scipy.stats import norm

        if self.config.k == "auto":
            return USUAL if self.false_alarms == "auto" else float(norm.isf(share_or(self.false_alarms, 0.5)))
        if self.false_alarms != "auto":
            raise ConfigError(
                f"decision.settings.k: {self.config.k:g} and decision.false_alarms = {self.false_alarms!r} both say how far; "
                "leave one of them 'auto'"
            )
        return float(self.config.k)
