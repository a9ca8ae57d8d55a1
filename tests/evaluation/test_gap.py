"""How much worse anomalous images are rebuilt: means, ratio and AUROC by hand, and intervals that behave."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from unlike.errors import DataError
from unlike.evaluation.residuals import measure_gap


def test_means_ratio_and_auroc_are_those_of_the_definition(rng):
    residuals = np.concatenate([rng.gamma(4, 0.01, 150), rng.gamma(4, 0.02, 60)])
    anomalous = np.arange(210) >= 150
    gap = measure_gap(residuals, anomalous)
    usual, strange = residuals[:150], residuals[150:]
    assert gap.normal.value == pytest.approx(usual.mean())
    assert gap.anomalous.value == pytest.approx(strange.mean())
    assert gap.ratio.value == pytest.approx(strange.mean() / usual.mean())
    assert gap.auroc.value == pytest.approx((strange[:, None] > usual).mean())


def test_the_interval_of_a_mean_is_that_of_its_standard_error(rng):
    residuals = np.concatenate([rng.gamma(9, 0.01, 400), rng.gamma(9, 0.02, 400)])
    gap = measure_gap(residuals, np.arange(800) >= 400)
    for estimate, values in ((gap.normal, residuals[:400]), (gap.anomalous, residuals[400:])):
        half = 1.96 * stats.sem(values)
        assert estimate.low == pytest.approx(estimate.value - half, abs=0.15 * half)
        assert estimate.high == pytest.approx(estimate.value + half, abs=0.15 * half)
    assert gap.ratio.low < 2 < gap.ratio.high
    assert gap.ratio.low > 1.8


def test_groups_that_do_not_differ_have_a_ratio_of_one(rng):
    gap = measure_gap(np.repeat(rng.gamma(4, 0.01, 300), 2), np.arange(600) % 2 == 0)
    assert (gap.ratio.value, gap.auroc.value) == pytest.approx((1, 0.5))
    assert gap.ratio.low < 1 < gap.ratio.high
    assert gap.auroc.low < 0.5 < gap.auroc.high


def test_the_same_seed_gives_the_same_intervals(rng):
    residuals, anomalous = rng.gamma(4, 0.01, 60), np.arange(60) % 2 == 0
    assert measure_gap(residuals, anomalous, seed=3) == measure_gap(residuals, anomalous, seed=3)
    assert measure_gap(residuals, anomalous, seed=3) != measure_gap(residuals, anomalous, seed=4)


@pytest.mark.parametrize(("labels", "counts"), [([0, 0], "2 and 0"), ([1, 1], "0 and 2")])
def test_one_group_alone_cannot_be_compared(labels, counts):
    with pytest.raises(DataError, match=f"needs normal and anomalous images; came {counts}"):
        measure_gap(np.array([1.0, 2.0]), np.array(labels, bool))


def test_a_model_that_copies_is_refused():
    with pytest.raises(DataError, match="without any residual: the model copies what it is given; take a smaller"):
        measure_gap(np.array([0.0, 1.0, 2.0]), np.array([False, False, True]))
