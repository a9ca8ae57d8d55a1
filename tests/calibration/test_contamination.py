"""Whom to distrust among images that are said to be normal."""

from __future__ import annotations

import numpy as np
import pytest

from unlike.calibration.contamination import MOST, distrust, rate, settle, worst_promise


def clean(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).lognormal(sigma=0.2, size=count)


def test_of_clean_images_hardly_any_is_distrusted():
    counts = [distrust(rate(clean(200, seed)), np.arange(200), "auto").sum() for seed in range(50)]
    assert np.mean(counts) < 0.2


@pytest.mark.parametrize("share", [0.05, 0.1, 0.2])
def test_far_scores_are_found_whatever_their_share(share):
    odd = round(200 * share)
    scores = np.concatenate([clean(200 - odd), 8 * clean(odd, 1)])
    found = distrust(rate(scores), np.arange(200), "auto")
    assert found[200 - odd :].mean() > 0.9
    assert found[: 200 - odd].sum() <= 0.2 * odd


def test_no_more_than_the_limit_are_distrusted():
    scores = np.concatenate([clean(60), 9 * clean(40, 1)])
    assert distrust(rate(scores), np.arange(100), "auto").sum() <= MOST * 100


def test_groups_are_distrusted_as_wholes_by_the_mean_of_theirs():
    scores, groups = clean(100), np.arange(100)
    scores[:3], groups[:3] = 12.0, 0
    scores[10], groups[10:14] = 12.0, 10  # one strange shot of four
    assert np.flatnonzero(distrust(rate(scores), groups, "auto")).tolist() == [0, 1, 2]


def test_a_share_takes_no_part_of_a_group():
    scores, groups = np.append(np.ones(8), [9.0, 9.0, 9.0]), np.array([0, 1, 2, 3, 4, 5, 6, 7, 8, 8, 8])
    assert not distrust(rate(scores), groups, 0.2).any()
    assert distrust(rate(scores), groups, 0.3).sum() == 3


def test_parts_are_each_held_against_themselves():
    low, high = clean(50), 100 * clean(50, 1)
    low[7] = 20.0
    parts = np.repeat([0, 1], 50)
    scores = np.concatenate([low, high])
    assert np.flatnonzero(distrust(rate(scores, parts), np.arange(100), "auto")).tolist() == [7]
    assert not distrust(rate(scores), np.arange(100), "auto").any()


def test_scores_that_are_all_equal_are_no_reason_to_distrust_any():
    assert not distrust(rate(np.ones(40)), np.arange(40), "auto").any()
    assert not distrust(rate(np.zeros(40)), np.arange(40), "auto").any()


def test_looking_again_stops_where_nothing_changes():
    asked = []
    scores = np.append(clean(50), 9.0)

    def score(trusted):
        asked.append(int(trusted.sum()))
        return scores

    assert np.flatnonzero(settle(score, np.arange(51), "auto")).tolist() == [50]
    assert asked == [51, 50]


def test_the_worst_that_the_promise_can_be_is_that_all_were_normal():
    assert worst_promise(0.01, 0, 100) == 0.01
    assert worst_promise(0.01, 100, 100) == 1.0


def test_an_image_that_looks_normal_once_it_is_left_out_is_not_distrusted():
    """Where it goes to and fro, only those that are strange whoever is trusted stay distrusted."""
    with_it, without_it = np.append(clean(50), [9.0, 9.0]), np.append(clean(50), [9.0, 1.0])
    found = settle(lambda trusted: with_it if trusted[51] else without_it, np.arange(52), "auto")
    assert np.flatnonzero(found).tolist() == [50]
