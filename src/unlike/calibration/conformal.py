"""Conformal p-values: how unusual a score is among held-out normal images, whatever their distribution.

Bates, Candes, Lei, Romano & Sesia (2023), Testing for outliers with conformal p-values, section 2.
"""

from __future__ import annotations

import numpy as np

from unlike.records import Floats


def p_values(scores: Floats, calibration: Floats) -> Floats:
    """(1 + number of calibration scores at least as high) / (n + 1), for each score: (N,) and (n,) -> (N,).

    For a normal image that was not fitted on, P(p <= a) <= a for every a.

    >>> p_values(np.array([0.5, 9.0]), np.array([1.0, 2.0, 3.0, 4.0]))
    array([1. , 0.2])
    """
    calibration = np.sort(calibration)
    at_least = len(calibration) - np.searchsorted(calibration, scores, side="left")
    return np.asarray((1 + at_least) / (len(calibration) + 1))


def smallest_promise(normals: int) -> float:
    """The lowest share of false alarms that this many held-out normal images can promise.

    >>> smallest_promise(99)
    0.01
    """
    return 1 / (normals + 1)
