"""What to tell of a calibration: on how many images each threshold rests, which could not be had, and which to doubt."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from unlike.records import Floats

FAR_ABOVE = 2.0  # times the fourth highest score that a threshold rests on
STRANGEST = 4  # the scores that are looked at: the one that is the threshold, and three below it


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """What a reader should know of the thresholds before relying on them."""

    threshold: float  # of images whose category has none of its own
    own: Mapping[str, float]  # category -> threshold, where categories have their own
    images: int  # normal images that all of them rest on
    too_few: Mapping[str, int]  # categories that wanted a threshold of their own -> images that were held out of them
    doubtful: tuple[str, ...]  # categories whose threshold is one far-off image; "" stands for all images

    @property
    def several(self) -> bool:
        """Whether a category has a threshold of its own."""
        return bool(self.own)


def diagnose(
    thresholds: Mapping[str, float], scores: Floats, categories: npt.NDArray[np.str_], too_few: Mapping[str, int]
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
    return Diagnosis(thresholds[""], own, len(scores), dict(too_few), doubtful)


def _is_far_above(threshold: float, scores: Floats) -> bool:
    """Whether a threshold is the highest of some scores (n,), and that is far above the others."""
    strangest = np.sort(scores)[-STRANGEST:]
    return bool(threshold >= strangest[-1] > FAR_ABOVE * strangest[0] > 0)
