"""A threshold from a tail that is fitted to the highest scores: it finds more where one strange normal image would be the threshold.

docs/decisions.md#the-tail says what is assumed, and how it did.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from unlike.calibration.conformal import smallest_promise
from unlike.calibration.thresholds.base import FittedThreshold, Promise, check_held_out, say_share, share_or
from unlike.calibration.thresholds.conformal import AUTO_FALSE_ALARMS, SLACK, ConformalThreshold
from unlike.errors import ConfigError
from unlike.records import Bools, Floats

SHAPE_PRIOR = (0.1, 0.2)  # mean and standard deviation of the shape that is expected before any score is seen
SHAPES = np.linspace(-0.7, 1.1, 37)  # of tails that are tried: below 0 they end, at 1 they have no mean
SCALES = np.geomspace(0.2, 5.0, 41)  # that are tried, of the mean excess
INTERVAL = (0.025, 0.975)  # of the threshold, 95 %


@dataclass(frozen=True, slots=True)
class TailConfig:
    """Where the tail begins."""

    share: float = 0.3  # of the held-out normal scores that are its tail
    fewest: int = 10  # scores in it, or the conformal threshold is taken; that many are, if no more than half of all

    def __post_init__(self) -> None:
        if not 0 < self.share <= 1:
            raise ConfigError(f"decision.settings.share: expected a share above 0, and at most 1, came {self.share:g}")
        if self.fewest < 5:
            raise ConfigError(f"decision.settings.fewest: expected 5 or more, came {self.fewest}")


class TailThreshold(FittedThreshold):
    """A generalised Pareto tail, fitted to the highest held-out scores: steadier than one image, if its assumption holds.

    Above a high quantile the scores of almost any distribution fall off like a generalised Pareto one (Pickands, 1975; Coles,
    2001, chapter 4). The threshold is what the asked share of new images exceeds on average over the tails that the scores
    allow, so that few scores make it higher and not bolder; `interval_` is where it lies with 95 % probability. "auto" is 1 %,
    or the smallest share that as many images could hold by counting.

    >>> rule = TailThreshold(0.02).fit(np.random.default_rng(0).exponential(size=150))
    >>> round(rule.threshold_, 1), [round(end, 1) for end in rule.interval_]  # the truth is 3.9
    (4.4, [3.6, 5.6])
    """

    Config = TailConfig
    interval_: tuple[float, float] | None = None  # of the threshold; None where the tail could not be fitted

    def fit(self, scores: Floats, weights: Floats | None = None, anomalous: Bools | None = None) -> TailThreshold:
        """Learn from held-out normal scores (n,)."""
        del anomalous  # all are normal
        check_held_out(scores)
        counted = np.ones(len(scores)) if weights is None else weights
        total = float(counted.sum())
        asked = share_or(self.false_alarms, max(AUTO_FALSE_ALARMS, smallest_promise(total)))
        start = _start(scores, counted, max(self.config.share * total, min(self.config.fewest, total / 2)))
        above = scores > start
        inside = (1 + float(counted[above].sum())) / (1 + total)  # share of new images that are in the tail
        if (why := self._why_not(scores[above], counted[above], asked, inside)) is not None:
            return self._count_instead(scores, weights, why)
        tails = _Tails(scores[above] - start, counted[above])
        self.interval_ = tuple(start + end for end in tails.interval(asked / inside))  # type: ignore[assignment]
        self._fitted = start + tails.exceeded_by(asked / inside), Promise(asked, self._say(asked, int(above.sum())))
        return self

    def _why_not(self, tail: Floats, weights: Floats, asked: float, inside: float) -> str | None:
        """Why there is no tail to fit; None where there is."""
        count = min(float(weights.sum()), float(len(np.unique(tail))))
        if count < self.config.fewest:
            return f"{count:.3g} different scores in the tail, and {self.config.fewest} are needed"
        if asked >= inside:
            return f"{say_share(asked)} is no tail: it begins at {say_share(inside)}"
        return None

    def _count_instead(self, scores: Floats, weights: Floats | None, why: str) -> TailThreshold:
        self.interval_ = None
        counted = ConformalThreshold(self.false_alarms).fit(scores, weights)
        promise = Promise(counted.promise_.false_alarms, f"{counted.promise_.words} (conformal, not by a tail: {why})")
        self._fitted = counted.threshold_, promise
        return self

    def _say(self, asked: float, images: int) -> str:
        assert self.interval_ is not None
        low, high = self.interval_
        return (
            f"{say_share(asked)} false alarms expected, if the {images:,} highest scores have a generalised Pareto tail "
            f"(threshold {low:.4g} to {high:.4g} with 95 % probability)"
        )


def _start(scores: Floats, weights: Floats, weight: float) -> float:
    """The score above which lie scores of about so much weight."""
    order = np.argsort(scores, kind="stable")[::-1]
    inside = int(np.searchsorted(np.cumsum(weights[order]), weight - SLACK)) + 1  # scores whose weight it takes
    return float(scores[order][min(inside, len(scores) - 1)])


class _Tails:
    """Generalised Pareto tails, each as likely as excesses (n,) over a quantile make it, with a weak prior on the shape."""

    def __init__(self, excesses: Floats, weights: Floats) -> None:
        from scipy.special import logsumexp
        from scipy.stats import genpareto, norm

        shapes, scales = np.meshgrid(SHAPES, SCALES * np.average(excesses, weights=weights), indexing="ij")
        self.shapes, self.scales = shapes.ravel(), scales.ravel()  # (T,) tails
        each = genpareto.logpdf(excesses, self.shapes[:, None], scale=self.scales[:, None])  # (T, n)
        # the scales are a geometric row, so that each of them counts alike: the prior 1 / scale
        chances = each @ weights + norm.logpdf(self.shapes, *SHAPE_PRIOR)
        self.chances = np.exp(chances - logsumexp(chances))  # (T,)

    def exceeded_by(self, share: float) -> float:
        """The excess that a share of new ones exceeds, on average over all tails."""
        from scipy.optimize import brentq
        from scipy.stats import genpareto

        def miss(excess: float) -> float:
            return float(self.chances @ genpareto.sf(excess, self.shapes, scale=self.scales)) - share

        high = float(self.scales.max())
        while miss(high) > 0:
            high *= 2
        return float(brentq(miss, 0.0, high))

    def interval(self, share: float) -> tuple[float, float]:
        """Between which excesses the one lies that a share of new ones exceeds, with 95 % probability."""
        from scipy.stats import genpareto

        ends = genpareto.isf(share, self.shapes, scale=self.scales)
        order = np.argsort(ends)
        low, high = np.searchsorted(np.cumsum(self.chances[order]), INTERVAL)
        return float(ends[order][low]), float(ends[order][min(high, len(ends) - 1)])
