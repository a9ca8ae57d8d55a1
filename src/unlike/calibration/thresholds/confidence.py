"""A threshold with a confidence bound: what holds for these images, not on average over all that might have come."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from unlike.calibration.thresholds.base import (
    FittedThreshold,
    Promise,
    check_held_out,
    say_false_alarms,
    say_share,
    share_or,
)
from unlike.calibration.thresholds.conformal import AUTO_FALSE_ALARMS, SLACK, lowest_with
from unlike.errors import ConfigError, DataError
from unlike.records import Bools, Floats


@dataclass(frozen=True, slots=True)
class ConfidenceConfig:
    """How sure to be."""

    confidence: float = 0.95  # of all calibrations, the share whose promise is kept

    def __post_init__(self) -> None:
        if not 0 < self.confidence < 1:
            raise ConfigError(
                f"decision.settings.confidence: expected a share above 0 and below 1, came {self.confidence:g}"
            )


class ConfidenceThreshold(FittedThreshold):
    """At most a given share of normal images is above it, with a confidence: on average is not enough for a gate at a factory.

    Of n held-out normal scores j are above the threshold; the share of all normal images that is above it has the distribution
    Beta(j + 1, n - j), whatever that of the scores (Wilks, 1941). The largest j is taken with which it is within the promise
    with the confidence, that is P(Binomial(n, a) <= j) <= 1 - confidence. "auto" promises 1 %, or the smallest share that n
    normals can hold. Where images count in part, what is above in each group is between 0 and 1 and no count, for which
    the bound holds with e times the chance (Bentkus, 2004; Bates et al., 2021, section 3).

    >>> rule = ConfidenceThreshold(false_alarms=0.05).fit(np.arange(100.0))
    >>> rule.threshold_, str(rule.promise_)
    (98.0, 'at most 5 % false alarms, with 95 % confidence')
    """

    Config = ConfidenceConfig

    def fit(self, scores: Floats, weights: Floats | None = None, anomalous: Bools | None = None) -> ConfidenceThreshold:
        """Learn from held-out normal scores (n,)."""
        del anomalous  # all are normal
        check_held_out(scores)
        counted = np.ones(len(scores)) if weights is None else weights
        groups = math.floor(float(counted.sum()) + SLACK)
        if not groups:
            raise DataError("no normal image was held out, and a threshold needs one at least; add normal images")
        chance = (1 - self.config.confidence) / (1.0 if (counted == 1).all() else math.e)
        least = -math.expm1(math.log(chance) / groups)  # with none above
        promised = share_or(self.false_alarms, max(AUTO_FALSE_ALARMS, least))
        above = most_above(groups, promised, chance)
        if above < 0:
            needed = math.ceil(math.log(chance) / math.log1p(-promised) - SLACK)
            raise DataError(
                f"{groups} independent normal images cannot hold false alarms to {promised:.2%} with {self.config.confidence:.3g} "
                f"confidence: {needed} are needed. Add normal images, or accept {math.ceil(least * 1e4) / 1e4:.2%} or more, or less "
                "confidence."
            )
        words = f"{say_false_alarms(promised)}, with {say_share(self.config.confidence)} confidence"
        self._fitted = lowest_with(scores, counted, above + SLACK), Promise(promised, words)
        return self


def most_above(count: int, share: float, chance: float) -> int:
    """The largest j with P(Binomial(count, share) <= j) <= chance; -1 where there is none.

    >>> most_above(298, 0.01, 0.05), most_above(299, 0.01, 0.05), most_above(473, 0.01, 0.05)
    (-1, 0, 1)
    """
    from scipy.stats import binom

    found = int(binom.ppf(chance, count, share))  # the smallest j with P(<= j) >= chance
    exact = binom.cdf(found, count, share) <= chance * (1 + SLACK)
    return found if exact else found - 1
