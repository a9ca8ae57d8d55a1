"""Conformal p-values: how unusual a score is among held-out normal images, whatever their distribution.

Bates, Candes, Lei, Romano & Sesia (2023), Testing for outliers with conformal p-values, section 2.
"""

from __future__ import annotations

import numpy as np

from unlike.records import Floats


def p_values(scores: Floats, calibration: Floats, weights: Floats | None = None) -> Floats:
    """(1 + weight of the calibration scores at least as high) / (1 + weight of all), for each score: (N,) and (n,) -> (N,).

    For a normal image that was not fitted on, P(p <= a) <= a for every a. The `weights` (n,) are 1, or 1/m for each of m images
    that belong together: that holds for images of new groups (Lee, Barber & Willett, 2023, Distribution-free inference with
    hierarchical data).

    >>> p_values(np.array([0.5, 9.0]), np.array([1.0, 2.0, 3.0, 4.0]))
    array([1. , 0.2])
    """
    counted = np.ones(len(calibration)) if weights is None else weights
    order = np.argsort(calibration, kind="stable")
    from_each = np.append(np.cumsum(counted[order][::-1])[::-1], 0.0)  # weight of it and of those above it
    at_least = from_each[np.searchsorted(calibration[order], scores, side="left")]
    return np.asarray((1 + at_least) / (1 + from_each[0]))


def smallest_promise(normals: float) -> float:
    """The lowest share of false alarms that this many held-out normal images, or independent groups, can promise.

    >>> smallest_promise(99)
    0.01
    """
    return 1 / (normals + 1)
