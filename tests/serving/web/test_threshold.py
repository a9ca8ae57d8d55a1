"""What another threshold would change."""

import numpy as np

from unlike.calibration.decision import calibrate
from unlike.calibration.thresholds import ConformalThreshold
from unlike.serving.web.charts import Scale
from unlike.serving.web.threshold import Judged, view_threshold

NORMAL = np.arange(1.0, 20.0)


def decision(share=0.1):
    return calibrate(NORMAL, NORMAL, np.full(19, ""), ConformalThreshold(share))


def judged():
    return Judged(["a", "b", "c"], np.array([18.5, 25.0, 12.0]), np.array([True, True, False]))


def test_each_stop_is_the_threshold_that_a_calibration_of_its_share_would_draw():
    view = view_threshold(decision(), np.array([1.0, 18.2, 30.0]), judged())
    assert [stop.threshold for stop in view.stops] == sorted(stop.threshold for stop in view.stops)
    for stop in view.stops:
        assert decision(stop.share).threshold == stop.threshold
    assert view.stops[-1].share == 0.05
    assert view.stops[0].share == 0.5


def test_what_a_stop_would_find_and_flag():
    view = view_threshold(decision(), np.array([1.0, 18.2, 30.0]), judged())
    strictest, boldest = view.stops[-1], view.stops[0]
    assert (strictest.found, strictest.false_alarms, strictest.flagged) == (1, 0, 1)
    assert (boldest.found, boldest.false_alarms, boldest.flagged) == (2, 1, 2)
    assert view.now.threshold == 18.0
    assert view.stops[view.chosen].threshold == 18.0
    assert (view.now.found, view.defects, view.reviewed_normals) == (2, 2, 1)


def test_without_any_image_there_is_still_a_histogram_of_normal_ones():
    view = view_threshold(decision(), np.empty(0), Judged([], np.empty(0), np.empty(0, bool)))
    assert sum(bar.count for bar in view.normal_bars) == 19
    assert not view.recent_bars
    assert not view.marks
    assert view.data()["stops"][view.chosen]["flagged"] == 0


def test_scores_far_apart_are_drawn_on_a_logarithmic_axis():
    assert Scale.of(np.array([1.0, 2.0, 100.0])).logarithmic
    assert not Scale.of(np.array([-1.0, 2.0, 100.0])).logarithmic
    assert Scale.of(np.array([3.0, 3.0])).places(np.array([3.0])).tolist() == [500.0]
