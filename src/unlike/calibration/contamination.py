"""Which of the images that are said to be normal to distrust, by how strange the others find them.

What is usual is said by the median of the logarithms of scores, and by how far those below it lie from it: defects are strange, and
hardly change either. Scores have a longer tail above than below: it is taken for that of Student's t with TAIL degrees of freedom,
and of the images that are distrusted at most WRONG should be normal, on average (Benjamini & Hochberg 1995). So a few images must
be far out to be distrusted, and many need not be as far.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import numpy as np

from unlike.records import Bools, Floats, Rows

Contamination = float | Literal["none", "auto"]

MOST = 0.3  # of the images that "auto" distrusts at most
WRONG = 0.05  # of the images that it distrusts, those that are normal after all, on average
TAIL = 4  # as heavy as on the clean set whose scores have the heaviest tail (benchmarks/contamination.py)
FEWEST = 16  # images of a part, by which it can be said what is usual
ROUNDS = 3  # times that it is said whom to distrust
GAUSSIAN = 1.4826  # the median absolute deviation of Gaussian numbers times this is their standard deviation
LEAST = (
    0.05  # deviation: where scores are nearly the same, one that is a tenth higher is no reason to distrust an image
)
TINY = 1e-12


def settle(
    score: Callable[[Bools], Floats], groups: Rows, contamination: Contamination, parts: Rows | None = None
) -> Bools:
    """(n,) which images to distrust, where that changes what is said of all of them.

    `score` gives the scores (n,) of all images, each as if it were new, by what was learned from those that are trusted (n,).
    Defects that are alike hide each other, until one of them is found: so it is said again, by the new scores, until it is the
    same as before, ROUNDS times at most. Where "auto" has not settled by then, those that were strange both of the last times are
    distrusted: an image that looks normal once nothing was learned from it is. `groups` and `parts` are as in `distrust` and `rate`.

    >>> alike = np.append(np.random.default_rng(0).lognormal(sigma=0.1, size=100), [3.0, 1.2])  # the last is like the one before
    >>> score = lambda trusted: np.append(alike[:101], alike[101] if trusted[100] else 3.0)
    >>> np.flatnonzero(settle(score, np.arange(102), "auto")).tolist()
    [100, 101]
    """
    doubtful = before = np.zeros(len(groups), np.bool_)
    for _ in range(ROUNDS):
        found = distrust(rate(score(~doubtful), parts, ~doubtful), groups, contamination)
        if (found == doubtful).all():
            return found
        before, doubtful = doubtful, found
    return doubtful & before if contamination == "auto" else doubtful


def distrust(strangeness: Floats, groups: Rows, contamination: Contamination) -> Bools:
    """(n,) which images to distrust by what `rate` says of them (n,): groups (n,) as wholes, by the mean of theirs.

    A share distrusts so many of the strangest images, or one group fewer; "auto" those that are stranger than normal images
    would be, but for WRONG of them, and at most MOST of all.

    >>> scores = np.append(np.random.default_rng(0).lognormal(sigma=0.1, size=100), [2.5, 2.6])
    >>> strangeness, alone = rate(scores), np.arange(102)
    >>> np.flatnonzero(distrust(strangeness, alone, "auto")).tolist()
    [100, 101]
    >>> [int(distrust(strangeness, alone, share).sum()) for share in (0.05, "none")]
    [5, 0]
    """
    if contamination == "none":
        return np.zeros(len(groups), np.bool_)
    _, numbers, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    means = np.bincount(numbers, strangeness) / sizes
    order = np.argsort(-means, kind="stable")
    most = MOST if contamination == "auto" else contamination
    few = order[np.cumsum(sizes[order]) <= most * len(groups) + TINY]
    if contamination == "auto":
        from scipy import stats  # takes a while

        expected = stats.t.sf(means[few], TAIL) * len(means)  # normal ones that are as strange
        few = few[: np.flatnonzero(expected <= WRONG * np.arange(1, len(few) + 1)).max(initial=-1) + 1]
    return np.isin(numbers, few)


def rate(scores: Floats, parts: Rows | None = None, usual: Bools | None = None) -> Floats:
    """(n,) how many deviations each score (n,) lies above the usual one: in logarithms, by those at or below the median.

    `parts` (n,) numbers images whose scores are comparable only with each other, such as categories; those of FEWEST images or
    more are looked at by themselves. `usual` (n,) are the images by which it is said what is usual, all if None.

    >>> rate(np.array([1.0, 2.0, 4.0, 8.0, 16.0])).round(2).tolist()
    [-1.35, -0.67, 0.0, 0.67, 1.35]
    """
    logs = np.log(np.maximum(scores, TINY))
    parts = np.zeros(len(scores), np.intp) if parts is None else parts
    usual = np.ones(len(scores), np.bool_) if usual is None else usual
    found = np.empty(len(scores))
    for part in np.unique(parts):
        own = parts == part
        known = usual & own if (usual & own).sum() >= FEWEST else usual
        middle = np.median(logs[known])
        below = middle - logs[known & (logs <= middle)]
        found[own] = (logs[own] - middle) / max(GAUSSIAN * float(np.median(below)), LEAST)
    return found


def worst_promise(false_alarms: float, distrusted: int, of: int) -> float:
    """The share of normal images that are called anomalous at most, were all that are `distrusted` of so many normal.

    >>> round(worst_promise(0.01, 5, 100), 4)
    0.0595
    """
    return false_alarms + (1 - false_alarms) * distrusted / of
