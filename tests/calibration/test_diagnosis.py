"""What is told of a calibration: the thresholds, what they rest on, and which of them one odd image makes."""

from __future__ import annotations

import numpy as np
import pytest

from unlike.calibration.diagnosis import diagnose, find_suspects

CALM = np.linspace(1.0, 1.5, 20)


def doubtful(thresholds, scores, categories=None):
    names = np.full(len(scores), "") if categories is None else np.asarray(categories)
    return diagnose(thresholds, np.asarray(scores), names, {}).doubtful


@pytest.mark.parametrize("unit", [1.0, 1e-3, 1e3])
def test_a_threshold_that_is_one_far_off_image_is_doubtful_on_whatever_scale(unit):
    assert doubtful({"": unit * 9.0}, unit * np.append(CALM, 9.0)) == ("",)


def test_it_is_held_against_the_fourth_highest():
    assert doubtful({"": 9.0}, [*CALM, 4.0, 5.0, 8.5, 9.0]) == ("",)
    assert doubtful({"": 9.0}, [*CALM, 4.6, 5.0, 8.5, 9.0]) == ()


@pytest.mark.parametrize(
    ("threshold", "scores"),
    [
        (1.5, CALM),  # the highest, but near the next
        (1.4, [*CALM, 9.0]),  # the odd image is above the threshold: it does not set it
        (9.0, [*CALM, 7.0, 8.0, 8.5, 9.0]),  # not alone: three others are as high
        (0.0, np.zeros(9)),
    ],
)
def test_other_thresholds_are_not(threshold, scores):
    assert doubtful({"": threshold}, scores) == ()


def test_of_several_categories_each_is_looked_at_by_itself():
    scores, names = [*CALM, *(10 * CALM), 40.0], ["low"] * 20 + ["high"] * 21
    assert doubtful({"": 15.0, "low": 1.5, "high": 15.0}, scores, names) == ()
    assert doubtful({"": 40.0, "low": 1.5, "high": 40.0}, scores, names) == ("high",)  # never "" too


def test_the_facts_are_those_of_the_calibration():
    found = diagnose({"": 1.5, "low": 1.2}, CALM, np.repeat(["low", "rare"], [18, 2]), {"rare": 2})
    assert (found.threshold, dict(found.own), found.images, dict(found.too_few)) == (1.5, {"low": 1.2}, 20, {"rare": 2})
    assert found.several
    assert not diagnose({"": 1.5}, CALM, np.full(20, ""), {}).several


def test_suspects_are_above_a_wide_gap_among_the_highest():
    usual = np.linspace(1.0, 1.4, 30)
    ids = [f"{number}.png" for number in range(33)]
    assert find_suspects(usual, ids[:30]) == ()
    two = np.concatenate([usual, [2.8, 2.1]])
    assert find_suspects(two, ids[:32]) == (("30.png", 2.0), ("31.png", 1.5))
    assert find_suspects(two[-7:], ids[:7]) == ()  # of so few nobody can say what is usual
    assert find_suspects(np.ones(20), ids[:20]) == ()


def test_suspects_are_not_named_where_categories_have_scales_of_their_own():
    scores, names = np.concatenate([np.linspace(1, 2, 20), [9.0]]), np.array(["a"] * 21)
    assert diagnose({"": 9.0}, scores, names, {}, list(map(str, range(21)))).suspects == (("20", 4.5),)
    assert diagnose({"": 9.0, "a": 9.0}, scores, names, {}, list(map(str, range(21)))).suspects == ()
