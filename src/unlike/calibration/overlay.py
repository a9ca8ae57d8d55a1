"""Between which values the colours of a map run, so that normal images stay grey and regions stand out."""

from __future__ import annotations

import numpy as np

from unlike.records import Floats

CALM = 0.1  # quantile of the highest values of held-out normal maps at which the colours begin
STEEPEST = 0.8  # of the region threshold: they begin no higher


def overlay_range(peaks: Floats, region_threshold: float) -> tuple[float, float]:
    """The map values at which the colours of an overlay begin and end, from the peaks (n,) of held-out normal maps.

    They begin where the map of the calmest normal images ends, one in ten, and are half way up at the threshold above which
    a position is part of a region.

    >>> overlay_range(np.linspace(1.0, 2.0, 101), region_threshold=2.0)
    (1.1, 2.9)
    """
    middle = region_threshold or 1.0
    start = min(float(np.quantile(peaks, CALM)), STEEPEST * middle)
    return start, 2 * middle - start
