"""Images that are judged together: few of those that are named are normal, and it is said when none can be."""

from __future__ import annotations

import numpy as np
import pytest

from unlike.calibration.conformal import p_values
from unlike.calibration.discoveries import fewest_to_find, judge_together, q_values, say_reach
from unlike.errors import ConfigError
from unlike.records import Verdict


def verdicts(chances):
    return [Verdict(str(n), 1.0, 2.0, float(p), anomalous=False) for n, p in enumerate(chances)]


def test_the_share_of_normal_images_among_those_named_is_held(rng):
    wrong, right = [], []
    for _ in range(300):
        chances = p_values(np.append(rng.normal(size=90), rng.normal(4, size=10)), rng.normal(size=999))
        named = np.array([one.anomalous for one in judge_together(verdicts(chances), 0.1)])
        wrong.append(named[:90].sum() / max(1, named.sum()))
        right.append(named[90:].mean())
    assert np.mean(wrong) <= 0.1 + 3 * np.std(wrong) / np.sqrt(300)
    assert np.mean(right) > 0.5


def test_q_values_are_those_of_benjamini_and_hochberg(rng):
    chances = rng.random(40)
    order = np.argsort(chances)
    stepped = chances[order] * 40 / np.arange(1, 41)
    expected = np.empty(40)
    expected[order] = np.minimum(1, np.minimum.accumulate(stepped[::-1])[::-1])
    np.testing.assert_allclose(q_values(chances), expected)
    assert len(q_values(np.empty(0))) == 0


@pytest.mark.parametrize(("normals", "images", "fdr"), [(99, 100, 0.1), (999, 100, 0.1), (20, 30, 0.1), (9, 50, 0.2)])
def test_as_few_of_the_strangest_as_it_says_are_named_and_no_fewer(normals, images, fdr):
    smallest = 1 / (normals + 1)
    fewest = fewest_to_find(smallest, images, fdr)
    for count in (fewest, fewest - 1):
        chances = np.ones(images)
        chances[:count] = smallest
        named = sum(one.anomalous for one in judge_together(verdicts(chances), fdr))
        assert named == (count if 0 < count == fewest <= images else 0)


def test_it_is_said_when_nothing_can_be_named():
    said = say_reach(0.2, images=100, fdr=0.1)
    assert "Nothing can be named at a false-discovery rate of 0.1: no p-value here is below 0.2" in said
    assert "takes 9 held-out normal images if all 100 were anomalous; with 999" in said


@pytest.mark.parametrize("fdr", [0.0, 1.0, -0.1, float("nan")])
def test_the_rate_must_be_a_share(fdr):
    with pytest.raises(ConfigError, match=r"fdr: expected a share above 0 and below 1, such as 0\.1, came"):
        judge_together(verdicts([0.1]), fdr)
