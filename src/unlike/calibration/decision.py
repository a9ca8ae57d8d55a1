"""Where normal ends: a line for each category that can have one, and one for all other images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from unlike.calibration.conformal import p_values
from unlike.calibration.thresholds import QuantileThreshold
from unlike.records import Bools, Floats, Thresholds

ALL = ""  # what stands in the place of a category for images whose own has no line, or who have none
Names = npt.NDArray[np.str_]


@dataclass(frozen=True, slots=True)
class Line:
    """What is above it is anomalous."""

    threshold: float  # of scores
    region_threshold: float  # of map values
    false_alarms: float  # the share of normal images that may be above either: what is promised


@dataclass(frozen=True, slots=True, eq=False)
class Decision:
    """What held-out normal images say of others: where normal ends, and how unusual a score is.

    An image is held against the normal images of its own category, where that category has a line, or else against all.
    """

    scores: Floats  # (n,) of the held-out normal images
    peaks: Floats  # (n,) largest map value of each of them
    categories: Names  # (n,) theirs; empty where nobody said
    lines: Mapping[str, Line]  # by category; under ALL the line of all others
    too_few: Mapping[str, int] = field(default_factory=dict)  # categories that wanted a line -> images held out

    def line_of(self, category: str) -> Line:
        """The line for an image of that category."""
        return self.lines.get(category, self.lines[ALL])

    @property
    def false_alarms(self) -> float:
        """The share of normal images of any category with a line that may be called anomalous."""
        return max(line.false_alarms for line in self.lines.values())

    def p_values(self, scores: Floats, categories: Sequence[str] | Names | None = None) -> Floats:
        """The share of normal images at least as unusual as each score, (N,) -> (N,)."""
        if categories is None or len(self.lines) == 1:
            return p_values(scores, self.scores)
        own = np.array([name if name in self.lines else ALL for name in categories])
        chances = np.empty(len(scores))
        for name in np.unique(own):
            others = self.scores if name == ALL else self.scores[self.categories == name]
            chances[own == name] = p_values(scores[own == name], others)
        return chances


def is_anomalous(scores: Floats, thresholds: Thresholds) -> Bools:
    """(N,) which images are called anomalous, in double precision: float32 would round the threshold.

    >>> is_anomalous(np.array([0.1, 0.2], np.float32), 0.1)  # float32(0.1) is a little larger than 0.1
    array([ True,  True])
    """
    return np.asarray(np.asarray(scores, np.float64) > thresholds)


def draw_lines(
    scores: Floats, peaks: Floats, categories: Names, rule: QuantileThreshold, apart: Sequence[str] = ()
) -> Decision:
    """Draw the line for all by the scores and peaks (n,) of held-out normal images, and one for each category `apart`.

    A category with too few images to hold the promise has none: `too_few` names it, and the line for all is its own.

    >>> scores, names = np.array([1.0, 2, 3, 4, 11, 12, 13, 14, 21]), np.repeat(["a", "b", "c"], [4, 4, 1])
    >>> found = draw_lines(scores, scores, names, QuantileThreshold(0.2), ["a", "b", "c"])
    >>> {name: line.threshold for name, line in found.lines.items()}, found.too_few
    ({'': 14.0, 'a': 4.0, 'b': 14.0}, {'c': 1})
    """
    lines, too_few = {ALL: _draw(scores, peaks, rule)}, {}
    for name in apart:
        own = categories == name
        if rule.can_promise(int(own.sum())):
            lines[name] = _draw(scores[own], peaks[own], rule)
        else:
            too_few[name] = int(own.sum())
    return Decision(scores, peaks, categories, lines, too_few)


def _draw(scores: Floats, peaks: Floats, rule: QuantileThreshold) -> Line:
    threshold = rule.fit(scores).threshold_
    return Line(threshold, rule.fit(peaks).threshold_, rule.false_alarms_)
