"""The decision: a threshold for each category that can have one, one for all other images, and what follows for an image."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import repeat

import numpy as np
import numpy.typing as npt

from unlike.calibration.conformal import p_values
from unlike.calibration.groups import group_weights
from unlike.calibration.regions import find_regions
from unlike.calibration.thresholds import ConformalThreshold, Promise, ThresholdRule
from unlike.errors import DataError
from unlike.records import Bools, Floats, Rows, Verdict

ALL = ""  # what stands in the place of a category for images whose own has no threshold, or who have none
WORST_OF_CATEGORY = 0.1  # false alarms: a threshold of a category that could promise no less is worth nothing
Names = npt.NDArray[np.str_]


@dataclass(frozen=True, slots=True)
class Threshold:
    """Where normal ends."""

    score: float  # an image above it is anomalous
    region: float  # map values above it make a region
    promise: Promise  # of either

    @property
    def false_alarms(self) -> float | None:
        """The share of normal images that may be above it; None where nothing is promised."""
        return self.promise.false_alarms


@dataclass(frozen=True, slots=True)
class Basis:
    """What a threshold rests on."""

    score: float  # an image above it is anomalous
    ids: tuple[str, ...]  # the held-out normal images that are as strange as that or stranger, the strangest first


@dataclass(frozen=True, slots=True)
class Otherwise:
    """The threshold that would have been, had what belongs together been counted in the other way."""

    by: str  # "images" or "groups"
    threshold: Threshold
    independent: int  # images, or groups, that it rests on


@dataclass(frozen=True, slots=True, eq=False)
class Decision:
    """What held-out normal images say of others: where normal ends, and how unusual a score is.

    An image is held against the normal images of its own category, where that category has a threshold, or else against all.
    """

    scores: Floats  # (n,) of the held-out normal images
    peaks: Floats  # (n,) largest map value of each of them
    categories: Names  # (n,) theirs; empty where nobody said
    thresholds: Mapping[str, Threshold]  # by category; under ALL the one of all others
    too_few: Mapping[str, int] = field(default_factory=dict)  # categories that wanted a threshold -> images held out
    ids: Names = field(default_factory=lambda: np.empty(0, np.str_))  # (n,) what they are called; none: their numbers
    groups: Rows = field(default_factory=lambda: np.empty(0, np.intp))  # (n,) what counts as one; none: each by itself
    otherwise: Otherwise | None = None  # where there are groups: the threshold if images counted, or if groups did

    def __post_init__(self) -> None:
        if not len(self.ids):
            object.__setattr__(self, "ids", np.arange(len(self.scores)).astype(str))
        if not len(self.groups):
            object.__setattr__(self, "groups", np.arange(len(self.scores)))
        if not len(self.ids) == len(self.groups) == len(self.scores):
            raise ValueError("ids or groups of held-out images are not of the images that have scores")
        if not len(self.scores) == len(self.peaks) == len(self.categories):
            raise ValueError("held-out scores, peaks and categories are not of the same images")
        if ALL not in self.thresholds:
            raise ValueError("there is no threshold for images without a category of their own")
        numbers = [number for one in self.thresholds.values() for number in (one.score, one.region)]
        if not (len(self.scores) and np.isfinite(numbers).all() and np.isfinite(self.scores).all()):
            raise ValueError("a threshold or a held-out score is not a finite number")

    def threshold_of(self, category: str) -> Threshold:
        """The threshold for an image of that category."""
        return self.thresholds[self._held_against(category)]

    def _held_against(self, category: str) -> str:
        """The category whose normal images an image of that category is held against: its own if it can be, or ALL."""
        return category if category in self.thresholds else ALL

    @property
    def weights(self) -> Floats:
        """(n,) what each held-out image counts for: together as much as there are groups."""
        return group_weights(self.groups)

    @property
    def independent(self) -> int:
        """How many groups the promise rests on; as many as images where each is by itself."""
        return len(np.unique(self.groups))

    @property
    def threshold(self) -> float:
        """Of the scores of images whose category has none of its own."""
        return self.thresholds[ALL].score

    @property
    def region_threshold(self) -> float:
        """Of the map values of images whose category has none of its own."""
        return self.thresholds[ALL].region

    @property
    def false_alarms(self) -> float | None:
        """The share of normal images, of any category, that may be called anomalous; None where nothing is promised."""
        promised = [one.false_alarms for one in self.thresholds.values()]
        known = [share for share in promised if share is not None]
        return max(known) if len(known) == len(promised) else None

    def p_values(self, scores: Floats, categories: Sequence[str] | Names | None = None) -> Floats:
        """The share of normal images at least as unusual as each score, (N,) -> (N,)."""
        names = [ALL] * len(scores) if categories is None else categories
        own = np.array([self._held_against(name) for name in names], str)
        chances = np.empty(len(scores))
        for name in np.unique(own):
            others = self._rows_of(name)
            chances[own == name] = p_values(
                scores[own == name], self.scores[others], group_weights(self.groups[others])
            )
        return chances

    def _rows_of(self, category: str) -> Rows:
        """The held-out images that an image is held against where its threshold is that of the category, or ALL."""
        return np.arange(len(self.scores)) if category == ALL else np.flatnonzero(self.categories == category)

    def at(self, share: float) -> dict[str, Basis]:
        """For a promise of that share, by category and under ALL: the threshold, and the images that it rests on.

        A category, or all, whose images are too few for the promise has none.

        >>> from unlike.calibration.thresholds import Promise
        >>> scores, names = np.array([1.0, 2.0, 3.0, 9.0]), np.array(["a", "b", "c", "d"])
        >>> decision = Decision(scores, scores, np.full(4, ""), {ALL: Threshold(9.0, 9.0, Promise(0.2, ""))}, ids=names)
        >>> decision.at(0.2)[ALL], decision.at(0.4)[ALL].ids, decision.at(0.1)
        (Basis(score=9.0, ids=('d',)), ('d', 'c'), {})
        """
        found = {}
        for name in self.thresholds:
            rows = self._rows_of(name)
            basis = _find_basis(self.scores[rows], self.groups[rows], self.ids[rows], share)
            if basis is not None:
                found[name] = basis
        return found

    def thresholds_at(self, share: float, categories: Sequence[str]) -> Floats:
        """(N,) the threshold of each image by its category for a promise of that share; infinite where it cannot be held."""
        found = self.at(share)
        scores = {name: basis.score for name, basis in found.items()}
        return np.array([scores.get(self._held_against(name), math.inf) for name in categories], np.float64)

    def judge(
        self, ids: Sequence[str], scores: Floats, categories: Sequence[str], maps: Iterable[Floats] | None = None
    ) -> list[Verdict]:
        """Whether each of N images is anomalous, how sure that is, and, from maps in their own pixels, where.

        An image is anomalous when its score is above the threshold of its category. Regions are the patches whose map is
        above what all but the promised share of normal images reach anywhere.
        """
        verdicts = []
        chances = self.p_values(scores, categories)
        seen = repeat(None, len(scores)) if maps is None else maps
        for name, score, category, chance, map_ in zip(ids, scores.tolist(), categories, chances, seen, strict=True):
            threshold = self.threshold_of(category)
            regions = () if map_ is None else find_regions(map_, threshold.region)
            odd = bool(is_anomalous(score, threshold.score))
            verdicts.append(Verdict(name, score, threshold.score, float(chance), odd, regions))
        return verdicts


def is_anomalous(scores: Floats | float, thresholds: Floats | float) -> Bools:
    """(N,) which scores are above their thresholds, in double precision: float32 would round a threshold.

    >>> is_anomalous(np.array([0.1, 0.2], np.float32), 0.1)  # float32(0.1) is a little larger than 0.1
    array([ True,  True])
    """
    return np.asarray(np.asarray(scores, np.float64) > thresholds)


def calibrate(
    scores: Floats,
    peaks: Floats,
    categories: Names,
    rule: ThresholdRule,
    by_itself: Sequence[str] = (),
    worst: float = WORST_OF_CATEGORY,
    *,
    ids: Sequence[str] | Names = (),
    groups: Rows | None = None,
) -> Decision:
    """A threshold for all by the scores and peaks (n,) of held-out normal images, and one for each category `by_itself`.

    `groups` (n,) numbers what counts as one, each image if None; `ids` (n,) are what images are called.

    A category whose images are too few for the rule, or hold no promise better than `worst`, has none: `too_few` names it,
    and the threshold for all is its own.

    >>> from unlike.calibration.thresholds import ConformalThreshold
    >>> scores, names = np.array([1.0, 2, 3, 4, 11, 12, 13, 14, 21]), np.repeat(["a", "b", "c"], [4, 4, 1])
    >>> found = calibrate(scores, scores, names, ConformalThreshold(0.2), ["a", "b", "c"], worst=0.2)
    >>> {name: threshold.score for name, threshold in found.thresholds.items()}, found.too_few
    ({'': 14.0, 'a': 4.0, 'b': 14.0}, {'c': 1})
    """
    groups = np.arange(len(scores)) if groups is None else groups
    thresholds, too_few = {ALL: fit_threshold(scores, peaks, rule, groups)}, {}
    for name in by_itself:
        own = categories == name
        found = _fit_if_enough(scores[own], peaks[own], rule, groups[own], worst)
        if found is None:
            too_few[name] = int(own.sum())
        else:
            thresholds[name] = found
    return Decision(scores, peaks, categories, thresholds, too_few, np.asarray(ids, np.str_), groups)


def _find_basis(scores: Floats, groups: Rows, ids: Names, share: float) -> Basis | None:
    """The threshold for a promise of that share, and what it rests on; None where the images are too few."""
    if not len(scores):
        return None
    try:
        threshold = ConformalThreshold(share).fit(scores, group_weights(groups)).threshold_
    except DataError:
        return None
    order = np.argsort(-scores, kind="stable")
    return Basis(threshold, tuple(str(ids[row]) for row in order if scores[row] >= threshold))


def _fit_if_enough(scores: Floats, peaks: Floats, rule: ThresholdRule, groups: Rows, worst: float) -> Threshold | None:
    if not len(scores):
        return None
    try:
        found = fit_threshold(scores, peaks, rule, groups)
    except DataError:
        return None
    promised = found.false_alarms
    return found if promised is None or promised <= worst or math.isclose(promised, worst) else None


def fit_threshold(scores: Floats, peaks: Floats, rule: ThresholdRule, groups: Rows) -> Threshold:
    """Where normal ends by a rule, from scores and peaks (n,) of held-out normal images, of which some count as one."""
    weights = group_weights(groups)
    fitted = rule.fit(scores, weights)
    threshold, promise = float(fitted.threshold_), fitted.promise_
    return Threshold(threshold, float(rule.fit(peaks, weights).threshold_), promise)
