"""What to tell of a calibration: on how many images each threshold rests, which could not be had, and which to doubt."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from unlike.records import Floats

FAR_ABOVE = 2.0  # times the fourth highest score that a threshold rests on
APART = 4.0  # times the median absolute deviation of all scores: a gap as wide is unusual
SUSPECTS = 3  # images that may be above it
FEWEST = 8  # images, to say what is usual
STRANGEST = 4  # the scores that are looked at: the one that is the threshold, and three below it


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """What a reader should know of the thresholds before relying on them."""

    threshold: float  # of images whose category has none of its own
    own: Mapping[str, float]  # category -> threshold, where categories have their own
    images: int  # normal images that all of them rest on
    too_few: Mapping[str, int]  # categories that wanted a threshold of their own -> images that were held out of them
    doubtful: tuple[str, ...]  # categories whose threshold is one far-off image; "" stands for all images
    suspects: tuple[
        tuple[str, float], ...
    ] = ()  # normal images far above the next, and how many times its score theirs is

    @property
    def several(self) -> bool:
        """Whether a category has a threshold of its own."""
        return bool(self.own)


def diagnose(
    thresholds: Mapping[str, float],
    scores: Floats,
    categories: npt.NDArray[np.str_],
    too_few: Mapping[str, int],
    ids: Sequence[str] | npt.NDArray[np.str_] = (),
) -> Diagnosis:
    """Look at thresholds, by category and under "" the one for all others, and at the scores (n,) on which they rest.

    A threshold that is one normal image's score, far above the next ones, is doubtful: that image may be no normal one, and
    then defects are missed.

    >>> scores, nobody = np.array([1.0, 1.1, 1.2, 1.3, 9.0]), np.full(5, "")
    >>> diagnose({"": 9.0}, scores, nobody, {}).doubtful, diagnose({"": 1.3}, scores, nobody, {}).doubtful
    (('',), ())
    """
    own = {name: threshold for name, threshold in thresholds.items() if name}
    # where categories have thresholds of their own their scores differ, which says nothing of an image
    rest_on = {name: scores[categories == name] for name in own} if own else {"": scores}
    doubtful = tuple(name for name, found in rest_on.items() if _is_far_above(thresholds[name], found))
    suspects = find_suspects(scores, ids) if len(ids) and not own else ()
    return Diagnosis(thresholds[""], own, len(scores), dict(too_few), doubtful, suspects)


def find_suspects(scores: Floats, ids: Sequence[str] | npt.NDArray[np.str_]) -> tuple[tuple[str, float], ...]:
    """Of normal images (n,) those that may be none: above a gap among the highest as large as scores usually spread.

    Among the SUSPECTS + 1 highest scores, the last gap that is APART times the median absolute deviation of all, or more, with
    what is above it, each with how many times the score below the gap its own is.

    >>> find_suspects(np.array([1.0, 1.1, 0.9, 1.2, 1.05, 1.3, 0.95, 2.9]), list("abcdefgh"))
    (('h', 2.23),)
    """
    order = np.argsort(-scores, kind="stable")[: SUSPECTS + 1]
    spread = float(np.median(np.abs(scores - np.median(scores))))
    if len(scores) < FEWEST or spread <= 0:
        return ()
    wide = np.flatnonzero(-np.diff(scores[order]) >= APART * spread)
    if not len(wide):
        return ()
    below = float(scores[order[wide[-1] + 1]])
    return tuple((str(ids[row]), round(float(scores[row]) / below, 2)) for row in order[: wide[-1] + 1] if below > 0)


def _is_far_above(threshold: float, scores: Floats) -> bool:
    """Whether a threshold is the highest of some scores (n,), and that is far above the others."""
    strangest = np.sort(scores)[-STRANGEST:]
    return bool(threshold >= strangest[-1] > FAR_ABOVE * strangest[0] > 0)
