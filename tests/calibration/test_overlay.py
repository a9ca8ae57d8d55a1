"""Between which values the colours of an overlay run."""

from __future__ import annotations

import numpy as np
import pytest

from unlike.calibration.overlay import overlay_range


@pytest.mark.parametrize(("peaks", "threshold", "start"), [((1, 2), 2.0, 1.1), ((5, 9), 2.0, 1.6), ((0, 0), 0.0, 0.0)])
def test_colours_are_half_way_up_at_the_threshold(peaks, threshold, start):
    low, high = overlay_range(np.linspace(*peaks, 101), threshold)
    assert low == pytest.approx(start)
    assert (low + high) / 2 == pytest.approx(threshold or 1.0)
    assert high > low
