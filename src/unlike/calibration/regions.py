"""From a map to what is strange in it: connected regions above a threshold."""

from __future__ import annotations

import cv2
import numpy as np

from unlike.records import Floats, Region


def find_regions(map_: Floats, threshold: float) -> tuple[Region, ...]:
    """Patches of a map (H, W), touching by side or corner, whose values are all above `threshold`; highest peak first.

    >>> map_ = np.zeros((5, 6)); map_[1:3, 2:5] = 2.0; map_[1, 3] = 7.0
    >>> find_regions(map_, threshold=1.0)
    (Region(x=2, y=1, width=3, height=2, area=6, peak=7.0),)
    """
    above = (map_ > threshold).astype(np.uint8)
    count, labels, boxes, _ = cv2.connectedComponentsWithStats(above, connectivity=8)
    regions = []
    for number in range(1, count):
        x, y, width, height, area = (int(value) for value in boxes[number])
        inside = labels[y : y + height, x : x + width] == number
        peak = float(map_[y : y + height, x : x + width][inside].max())
        regions.append(Region(x, y, width, height, area, peak))
    return tuple(sorted(regions, key=lambda region: -region.peak))
