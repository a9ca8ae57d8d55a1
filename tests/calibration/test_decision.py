"""A line for each category that can have one: each keeps the promise for its own images."""

from __future__ import annotations

import numpy as np
import pytest

from unlike.calibration.decision import ALL, draw_lines
from unlike.calibration.thresholds import QuantileThreshold

NAMES = np.repeat(["calm", "wild", "rare"], [99, 60, 8])


def drawn(rule, rng, apart=("calm", "rare", "wild")):
    scores = np.where(NAMES == "wild", 100.0, 1.0) * rng.gamma(5, size=len(NAMES))
    return draw_lines(scores, 3 * scores, NAMES, rule, apart)


def test_each_category_has_the_line_that_it_would_have_alone(rng):
    found = drawn(QuantileThreshold(0.05), rng)
    assert list(found.lines) == [ALL, "calm", "wild"]
    for name in ("calm", "wild"):
        own = found.scores[name == NAMES]
        assert found.line_of(name).threshold == QuantileThreshold(0.05).fit(own).threshold_
        assert found.line_of(name).region_threshold == 3 * found.line_of(name).threshold
    assert found.line_of(ALL).threshold == QuantileThreshold(0.05).fit(found.scores).threshold_


def test_a_category_with_too_few_images_or_never_seen_is_judged_like_all(rng):
    found = drawn(QuantileThreshold(0.05), rng)
    assert found.too_few == {"rare": 8}
    assert found.line_of("rare") == found.line_of("never seen") == found.lines[ALL]


def test_auto_promises_each_category_what_it_can_hold(rng):
    found = drawn(QuantileThreshold(), rng)
    assert found.line_of("calm").false_alarms == 0.01
    assert found.line_of("wild").false_alarms == pytest.approx(1 / 61)
    assert found.false_alarms == pytest.approx(1 / 61)
    assert found.too_few == {"rare": 8}  # 1 in 9 is not worth a line


def test_p_values_are_of_the_own_category_and_agree_with_its_line(rng):
    found = drawn(QuantileThreshold(0.05), rng)
    scores = rng.uniform(0, 20, 200)
    for name, others in (("calm", "calm"), ("rare", None), ("never seen", None)):
        chances = found.p_values(scores, [name] * len(scores))
        held_out = found.scores if others is None else found.scores[others == NAMES]
        np.testing.assert_allclose(chances, [(1 + (held_out >= s).sum()) / (len(held_out) + 1) for s in scores])
        assert ((chances <= 0.05 + 1e-12) == (scores > found.line_of(name).threshold)).all()
    mixed = found.p_values(scores[:2], ["wild", "calm"])
    np.testing.assert_array_equal(
        mixed, [found.p_values(scores[:1], ["wild"])[0], found.p_values(scores[1:2], ["calm"])[0]]
    )
    np.testing.assert_array_equal(found.p_values(scores), found.p_values(scores, [ALL] * 200))


def test_where_none_is_wanted_there_is_one_line(rng):
    found = drawn(QuantileThreshold(0.05), rng, apart=())
    assert (list(found.lines), found.too_few) == ([ALL], {})
    np.testing.assert_array_equal(found.p_values(np.ones(1), ["calm"]), found.p_values(np.ones(1)))


def test_false_alarms_of_each_category_stay_within_the_promise():
    random, shares = np.random.default_rng(3), {"calm": [], "wild": [], "wild by the line for all": []}
    for _ in range(300):
        found = drawn(QuantileThreshold(0.05), random)
        fresh = {"calm": random.gamma(5, size=500), "wild": 100 * random.gamma(5, size=500)}
        for name, scores in fresh.items():
            shares[name].append((scores > found.line_of(name).threshold).mean())
        shares["wild by the line for all"].append((fresh["wild"] > found.lines[ALL].threshold).mean())
    for name in ("calm", "wild"):
        assert np.mean(shares[name]) <= 0.05 + 3 * np.std(shares[name]) / np.sqrt(300)
        assert np.mean(shares[name]) > 0.02  # not by calling nothing anomalous
    assert np.mean(shares["wild by the line for all"]) > 0.1
