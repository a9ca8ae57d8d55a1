"""Drift as the page shows it."""

from datetime import UTC, datetime, timedelta

import numpy as np

from unlike.calibration.decision import calibrate
from unlike.calibration.thresholds import ConformalThreshold
from unlike.serving.history import Series
from unlike.serving.web.drift import view_drift


def view(scores, seed=0):
    usual = np.random.default_rng(seed).normal(size=200)
    decision = calibrate(usual, usual, np.full(200, ""), ConformalThreshold(0.1))
    at = [datetime(2026, 1, 1, tzinfo=UTC) + timedelta(minutes=n) for n in range(len(scores))]
    return view_drift(decision, Series(at, np.asarray(scores, np.float64), np.zeros(len(scores))))


def test_a_change_is_seen_and_dated():
    random = np.random.default_rng(1)
    found = view(np.concatenate([random.normal(size=300), random.normal(2, size=60)]))
    first = found.alarms[0]
    assert first.kind == "stranger"
    assert 300 < first.number < 330
    assert first.letter == "A"
    assert first.since <= first.at
    assert found.error_rate == 0.01
    assert found.limit == 100


def test_an_unchanged_stream_gives_no_alarm_and_a_line():
    found = view(np.random.default_rng(2).normal(size=400))
    assert not found.alarms
    assert len(found.evidence.split()) == 400
    assert found.median
    assert found.now < found.limit


def test_no_image_is_no_reason_to_fail():
    found = view([])
    assert (found.images, found.evidence, found.dots, found.first) == (0, "", [], None)


def test_long_streams_are_thinned():
    found = view(np.random.default_rng(3).normal(size=3000))
    assert len(found.dots) <= 1200
    assert len(found.evidence.split()) <= 1200
