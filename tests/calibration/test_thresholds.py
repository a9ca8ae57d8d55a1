"""Thresholds and p-values hold what they promise; regions are where the map is high."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from unlike.calibration.conformal import p_values, smallest_promise
from unlike.calibration.decision import is_anomalous
from unlike.calibration.regions import find_regions
from unlike.calibration.thresholds import ConformalThreshold, say_false_alarms
from unlike.errors import ConfigError, DataError, NotFittedError


@given(st.lists(st.integers(0, 30), min_size=1, max_size=60), st.lists(st.integers(-5, 40), min_size=1, max_size=20))
@settings(max_examples=100)
def test_p_values_are_counted(calibration, scores):
    found = p_values(np.array(scores, float), np.array(calibration, float))
    expected = [(1 + sum(c >= s for c in calibration)) / (len(calibration) + 1) for s in scores]
    np.testing.assert_allclose(found, expected)


@given(
    st.lists(st.integers(0, 50), min_size=4, max_size=80),
    st.lists(st.integers(-5, 60), min_size=1, max_size=20),
    st.floats(0.21, 0.9),
)
@settings(max_examples=200)
def test_anomalous_is_when_the_p_value_is_within_the_promise(calibration, scores, promise):
    normal, new = np.array(calibration, float), np.array(scores, float)
    rule = ConformalThreshold(promise).fit(normal)
    assert (is_anomalous(new, rule.threshold_) == (p_values(new, normal) <= promise + 1e-12)).all()


@pytest.mark.parametrize(
    ("count", "promised"),
    [(299, 0.01), (1000, 0.01), (99, 0.03), (59, 0.05), (20, 2 / 21), (9, 0.1), (5, 1 / 6), (1, 0.5)],
)
def test_auto_promises_one_percent_or_what_rests_on_three_images_up_to_ten_percent(count, promised):
    rule = ConformalThreshold().fit(np.arange(float(count)))
    assert rule.promise_.false_alarms == pytest.approx(promised)
    assert smallest_promise(count) <= rule.promise_.false_alarms
    assert str(rule.promise_) == say_false_alarms(promised)


@pytest.mark.parametrize(("count", "promise"), [(19, 0.05), (99, 0.01), (999, 0.001), (9, 0.1), (4, 0.2)])
def test_the_fewest_images_that_hold_a_promise(count, promise):
    """Rounding must not cost an image: 0.05 x 20 is 1."""
    assert ConformalThreshold(promise).fit(np.arange(float(count))).threshold_ == count - 1
    with pytest.raises(DataError, match=f"{count - 1} normal images cannot hold.*: {count} are needed"):
        ConformalThreshold(promise).fit(np.arange(float(count - 1)))


def test_too_few_says_what_could_be_accepted():
    with pytest.raises(
        DataError, match=r"20 normal images cannot hold false alarms to 1\.00%: 99 are needed.*accept 4\.77% or more"
    ):
        ConformalThreshold(0.01).fit(np.arange(20.0))
    assert ConformalThreshold(0.0477).fit(np.arange(20.0)).threshold_ == 19


@pytest.mark.parametrize("promise", [0.0, 1.0, -0.1, 5])
def test_promise_must_be_a_share(promise):
    with pytest.raises(ConfigError, match=r"decision\.false_alarms: expected"):
        ConformalThreshold(promise).fit(np.arange(10.0))


@pytest.mark.parametrize("strange", [np.nan, np.inf])
def test_scores_that_are_no_numbers_have_no_threshold(strange):
    with pytest.raises(DataError, match="score of a held-out normal image is not a finite number"):
        ConformalThreshold(0.5).fit(np.array([1.0, strange, 2.0]))


@pytest.mark.parametrize("member", ["threshold_", "promise_"])
def test_what_was_not_fitted_has_no_threshold(member):
    with pytest.raises(NotFittedError, match=r"call fit\(scores\) first"):
        getattr(ConformalThreshold(), member)


def test_scores_are_compared_in_double_precision():
    assert is_anomalous(np.array([0.1, 0.2], np.float32), 0.1).tolist() == [True, True]
    assert is_anomalous(np.array([1.0, 2.0]), np.array([1.0, 1.5])).tolist() == [False, True]


def test_false_alarms_on_fresh_normals_stay_within_the_promise():
    random = np.random.default_rng(3)
    shares = [
        (random.gamma(2, size=1000) > ConformalThreshold(0.05).fit(random.gamma(2, size=200)).threshold_).mean()
        for _ in range(300)
    ]
    assert np.mean(shares) <= 0.05 + 3 * np.std(shares) / np.sqrt(300)
    assert np.mean(shares) > 0.03  # not by calling nothing anomalous


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=30)
def test_regions_are_the_connected_parts(seed):
    map_ = ndimage.uniform_filter(np.random.default_rng(seed).random((20, 25)), 3)
    regions = find_regions(map_, 0.55)
    labels, count = ndimage.label(map_ > 0.55, np.ones((3, 3)))
    expected = {
        (place[1].start, place[0].start, int((labels == i + 1).sum()), map_[labels == i + 1].max())
        for i, place in enumerate(ndimage.find_objects(labels))
    }
    assert {(r.x, r.y, r.area, r.peak) for r in regions} == expected
    assert len(regions) == count
    assert [r.peak for r in regions] == sorted((r.peak for r in regions), reverse=True)


def test_what_is_at_the_threshold_is_no_region():
    assert find_regions(np.ones((5, 5)), 1.0) == ()


def test_no_held_out_score_is_an_error_in_a_sentence():
    with pytest.raises(DataError, match="no normal image was held out, and a threshold needs one at least"):
        ConformalThreshold(0.1).fit(np.empty(0))
