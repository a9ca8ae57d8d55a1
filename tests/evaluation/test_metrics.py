"""Every image-level figure against scikit-learn, scipy or counting by hand."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest
from sklearn import metrics as reference

from unlike.calibration.sweep import best_accuracy, best_f1, sweep
from unlike.errors import DataError
from unlike.evaluation import metrics
from unlike.evaluation.metrics import (
    accuracy,
    accuracy_all_anomalous,
    auroc,
    average_precision,
    bootstrap,
    detection_rate,
    f1,
    f1_with_bounds,
    false_alarm_rate,
    improvement,
    measure_images,
    newcombe,
    pr_curve,
    precision,
    roc_curve,
    wilson,
    with_bounds,
)

WITHOUT_THRESHOLD = ("auroc", "average_precision", "f1_max", "accuracy_max")


@st.composite
def labelled_scores(draw, weighted=None):
    """Scores (with many ties, or few), labels of both classes, and weights or none."""
    size = draw(st.integers(2, 40))
    values = st.integers(0, 5).map(float) if draw(st.booleans()) else st.floats(-1e6, 1e6, width=32)
    scores = np.array(draw(st.lists(values, min_size=size, max_size=size)))
    anomalous = np.array(draw(st.lists(st.booleans(), min_size=size, max_size=size)))
    anomalous[:2] = False, True
    weights = np.array(draw(st.lists(st.floats(0, 4), min_size=size, max_size=size)))
    weights[:2] = 1.0, 2.0
    return scores, anomalous, weights if (draw(st.booleans()) if weighted is None else weighted) else None


def every_threshold(scores):
    return [*np.unique(scores), -np.inf]


@given(labelled_scores())
def test_auroc_is_scikit_learns(data):
    scores, anomalous, weights = data
    expected = reference.roc_auc_score(anomalous, scores, sample_weight=weights)
    assert auroc(sweep(*data)) == pytest.approx(expected, abs=1e-9)


@given(labelled_scores())
def test_average_precision_is_scikit_learns(data):
    scores, anomalous, weights = data
    expected = reference.average_precision_score(anomalous, scores, sample_weight=weights)
    assert average_precision(sweep(*data)) == pytest.approx(expected, abs=1e-9)


@given(labelled_scores())
def test_best_f1_is_the_best_of_all_thresholds_and_its_threshold_reaches_it(data):
    scores, anomalous, weights = data
    weights = np.ones(len(scores)) if weights is None else weights

    def f1(threshold):
        called = scores > threshold
        return 2 * weights[called & anomalous].sum() / (weights[called].sum() + weights[anomalous].sum())

    best = best_f1(sweep(*data))
    assert best.value == pytest.approx(max(map(f1, every_threshold(scores))), abs=1e-9)
    assert f1(best.threshold) == pytest.approx(best.value, abs=1e-9)


@given(labelled_scores())
def test_best_accuracy_is_the_best_of_all_thresholds_and_its_threshold_reaches_it(data):
    scores, anomalous, weights = data

    def share(threshold):
        return np.average((scores > threshold) == anomalous, weights=weights)

    best = best_accuracy(sweep(*data))
    assert best.value == pytest.approx(max(map(share, every_threshold(scores))), abs=1e-9)
    assert share(best.threshold) == pytest.approx(best.value, abs=1e-9)


def test_best_f1_is_scikit_learns():
    scores, anomalous = gaussian(300)
    precision, recall, _ = reference.precision_recall_curve(anomalous, scores)
    assert best_f1(sweep(scores, anomalous)).value == pytest.approx(
        np.max(2 * precision * recall / (precision + recall))
    )


def test_best_accuracy_may_call_nothing_anomalous():
    scores = np.array([5.0, 4.0, 3.0, 1.0])
    best = best_accuracy(sweep(scores, np.array([False, False, False, True])))
    assert best == (0.75, 5.0)
    assert not (scores > best.threshold).any()


@given(labelled_scores())
def test_roc_curve_is_scikit_learns(data):
    scores, anomalous, weights = data
    expected = reference.roc_curve(anomalous, scores, sample_weight=weights, drop_intermediate=False)
    alarms, detected = roc_curve(sweep(scores, anomalous, weights))
    points = {(round(x, 9), round(y, 9)) for x, y in zip(alarms, detected, strict=True)}
    assert points == {(round(x, 9), round(y, 9)) for x, y in zip(*expected[:2], strict=True)}
    assert (alarms[0], detected[0], alarms[-1], detected[-1]) == (0, 0, 1, 1)


@given(labelled_scores(weighted=False))
def test_pr_curve_is_scikit_learns(data):
    scores, anomalous, _ = data
    precision, recall, _ = reference.precision_recall_curve(anomalous, scores, drop_intermediate=False)
    found = pr_curve(sweep(scores, anomalous))
    np.testing.assert_allclose(found, (recall[::-1], precision[::-1]), atol=1e-12)


@given(labelled_scores(weighted=False), st.floats(-3, 6))
def test_figures_at_a_threshold_are_scikit_learns(data, threshold):
    scores, anomalous, _ = data
    called = scores > threshold
    expected = reference.accuracy_score(anomalous, called)
    all_anomalous = reference.accuracy_score(anomalous, np.ones_like(anomalous))
    assert accuracy(scores, anomalous, threshold) == pytest.approx(expected)
    assert accuracy_all_anomalous(anomalous) == pytest.approx(all_anomalous)
    assert improvement(scores, anomalous, threshold) == pytest.approx(expected - all_anomalous)
    assert false_alarm_rate(scores, anomalous, threshold) == pytest.approx(
        1 - reference.recall_score(~anomalous, ~called)
    )
    assert detection_rate(scores, anomalous, threshold) == pytest.approx(reference.recall_score(anomalous, called))
    assert f1(scores, anomalous, threshold) == pytest.approx(reference.f1_score(anomalous, called))
    if called.any():
        assert precision(scores, anomalous, threshold) == pytest.approx(reference.precision_score(anomalous, called))


def test_the_interval_of_f1_is_that_of_drawing_images_anew():
    """And it is not that of the best F1, whose threshold moves with what is drawn."""
    scores, anomalous = gaussian(300)
    found, random = f1_with_bounds(scores, anomalous, 0.5), np.random.default_rng(5)
    drawn = []
    for _ in range(1000):
        rows = [random.choice(np.flatnonzero(kind), kind.sum()) for kind in (anomalous, ~anomalous)]
        both = np.concatenate(rows)
        drawn.append(reference.f1_score(anomalous[both], scores[both] > 0.5))
    assert (found.low, found.high) == pytest.approx(np.quantile(drawn, [0.025, 0.975]), abs=0.012)


def test_no_precision_where_nothing_is_called_anomalous():
    with pytest.raises(DataError, match=r"needs images that are called anomalous; none of the 2 is"):
        precision(np.array([1.0, 2.0]), np.array([False, True]), 5.0)
    found = measure_images(np.array([1.0, 2.0]), np.array([False, True]), 5.0)
    assert (found.image["f1"].value, found.image["recall"].value) == (0.0, 0.0)


def test_a_threshold_is_not_rounded_to_single_precision():
    scores = np.array([0.1], np.float32)  # 0.100000001...
    assert detection_rate(scores, np.array([True]), 0.1) == 1.0


def test_a_sweep_has_one_step_for_each_distinct_score():
    swept = sweep(np.array([2.0, 1.0, 2.0, 0.0]), np.array([True, False, False, False]), np.array([2.0, 1.0, 3.0, 4.0]))
    np.testing.assert_array_equal(swept.thresholds[:3], [2, 1, 0])
    assert swept.thresholds[3] < 0
    np.testing.assert_array_equal(swept.detected, [0, 2, 2, 2])
    np.testing.assert_array_equal(swept.false_alarms, [0, 3, 4, 8])
    assert (swept.anomalous, swept.normal) == (2, 8)


@pytest.mark.parametrize("figure", [auroc, average_precision, best_f1, best_accuracy, roc_curve, pr_curve])
@pytest.mark.parametrize(("label", "kind"), [(False, "normal"), (True, "anomalous")])
def test_one_class_only_is_said(figure, label, kind):
    swept = sweep(np.arange(12.0), np.full(12, label))
    with pytest.raises(DataError, match=f"^needs normal and anomalous images; all 12 are {kind}$"):
        figure(swept)


def test_rates_say_which_class_they_miss():
    with pytest.raises(DataError, match=r"^needs normal images; none of the 3 is normal$"):
        false_alarm_rate(np.arange(3.0), np.ones(3, bool), 1.0)
    with pytest.raises(DataError, match=r"^needs anomalous images; none of the 3 is anomalous$"):
        detection_rate(np.arange(3.0), np.zeros(3, bool), 1.0)


@pytest.mark.parametrize(("count", "images"), [(0, 20), (20, 20), (7, 20), (1, 1), (499, 1000)])
def test_wilson_is_scipys(count, images):
    expected = binomtest(count, images).proportion_ci(method="wilson")
    found = wilson(count / images, images)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=1e-12)
    assert found.low <= found.value <= found.high


def test_bounds_hold_the_figure_itself():
    estimate = with_bounds(0.2, np.linspace(0.4, 0.6, 100))
    assert estimate.low == 0.2
    assert estimate.high == pytest.approx(0.595, abs=1e-3)


def gaussian(count, seed=0):
    random = np.random.default_rng(seed)
    anomalous = np.arange(count) % 3 == 0
    return np.round(random.normal(size=count) + anomalous, 1), anomalous  # some ties


def test_bootstrap_is_that_of_drawing_images_one_by_one():
    scores, anomalous = gaussian(90)
    found = bootstrap(scores, anomalous, replicates=1500)
    random = np.random.default_rng(1)
    naive = {name: [] for name in WITHOUT_THRESHOLD}
    for _ in range(1500):
        rows = np.concatenate([random.choice(np.flatnonzero(anomalous == c), (anomalous == c).sum()) for c in (0, 1)])
        swept = sweep(scores[rows], anomalous[rows])
        values = (auroc(swept), average_precision(swept), best_f1(swept).value, best_accuracy(swept).value)
        for name, value in zip(WITHOUT_THRESHOLD, values, strict=True):
            naive[name].append(value)
    for name in WITHOUT_THRESHOLD:
        spread = np.std(naive[name])
        assert np.mean(found[name]) == pytest.approx(np.mean(naive[name]), abs=0.15 * spread), name
        bounds = np.quantile(found[name], [0.025, 0.975])
        grain = 1.01 / 90 if name == "accuracy_max" else 0  # shares of 90 images
        expected = np.quantile(naive[name], [0.025, 0.975])
        assert bounds == pytest.approx(expected, abs=max(0.3 * spread, grain)), name


def test_bootstrap_draws_the_same_for_a_seed_and_as_many_as_asked_for_in_any_blocks(monkeypatch):
    scores, anomalous = gaussian(60)
    found = bootstrap(scores, anomalous, seed=3, replicates=50)["auroc"]
    np.testing.assert_array_equal(found, bootstrap(scores, anomalous, seed=3, replicates=50)["auroc"])
    assert not np.array_equal(found, bootstrap(scores, anomalous, seed=4, replicates=50)["auroc"])
    monkeypatch.setattr(metrics, "BLOCK", 60 * 7)  # 7 replicates at a time
    assert bootstrap(scores, anomalous, replicates=50)["auroc"].shape == (50,)


def test_bootstrap_does_not_hold_all_replicates_at_once():
    scores, anomalous = gaussian(50_000)
    tracemalloc.start()
    bootstrap(scores, anomalous, replicates=60)  # 24 MB of indices alone, if all were drawn at once
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 15e6


def test_bootstrap_interval_holds_the_truth_about_as_often_as_it_says():
    truth = 0.7602  # of two unit Gaussians one apart: Phi(1 / sqrt(2))
    held = 0
    for seed in range(200):
        scores, anomalous = gaussian(120, seed)
        low, high = np.quantile(bootstrap(scores, anomalous, replicates=200)["auroc"], [0.025, 0.975])
        held += low <= truth <= high
    assert 0.89 <= held / 200 <= 0.985


def test_measure_images_has_every_figure():
    scores, anomalous = gaussian(300)
    found = measure_images(scores, anomalous, threshold=0.5)
    swept = sweep(scores, anomalous)
    assert (found.normal, found.anomalous, found.left_out) == (200, 100, {})
    assert {name: found.image[name].value for name in found.image} == {
        "auroc": auroc(swept),
        "average_precision": average_precision(swept),
        "f1_max": best_f1(swept).value,
        "accuracy_max": best_accuracy(swept).value,
        "accuracy": accuracy(scores, anomalous, 0.5),
        "accuracy_all_anomalous": pytest.approx(1 / 3),
        "improvement": pytest.approx(improvement(scores, anomalous, 0.5)),
        "false_alarm_rate": false_alarm_rate(scores, anomalous, 0.5),
        "detection_rate": detection_rate(scores, anomalous, 0.5),
        "precision": precision(scores, anomalous, 0.5),
        "recall": detection_rate(scores, anomalous, 0.5),
        "f1": f1(scores, anomalous, 0.5),
    }
    for name, estimate in found.image.items():
        if name != "accuracy_all_anomalous":
            assert estimate.low < estimate.value < estimate.high, name
    assert found.image["accuracy_all_anomalous"].low is None
    accuracy_, gain = found.image["accuracy"], found.image["improvement"]
    assert gain.high - gain.low == pytest.approx(accuracy_.high - accuracy_.low)


@pytest.mark.parametrize(
    ("label", "absent", "reason"),
    [
        (False, {"detection_rate", "recall", "f1"}, "needs anomalous images; none of the 12 is anomalous"),
        (True, {"false_alarm_rate"}, "needs normal images; none of the 12 is normal"),
    ],
)
def test_one_class_leaves_out_what_needs_two_and_keeps_the_rest(label, absent, reason):
    found = measure_images(np.arange(12.0), np.full(12, label), threshold=5.5)
    kind = "anomalous" if label else "normal"
    both = f"needs normal and anomalous images; all 12 are {kind}"
    assert found.left_out == dict.fromkeys(WITHOUT_THRESHOLD, both) | dict.fromkeys(absent, reason)
    kept = {"accuracy", "accuracy_all_anomalous", "improvement", "false_alarm_rate", "detection_rate"}
    kept = (kept | {"precision", "recall", "f1"}) - absent
    assert set(found.image) == kept
    assert found.image["accuracy"].value == 0.5


@pytest.mark.parametrize("area", [0.5, 0.8, 0.97, 1.0])
def test_newcombes_interval_holds_the_area_as_often_as_it_says(area):
    """Of normal scores around 0 and anomalous ones around a mean that makes that area; of few images, and at the very edge."""
    from scipy.stats import norm

    random, (normal, odd) = np.random.default_rng(0), (20, 12)
    shift = np.sqrt(2) * norm.ppf(min(area, 0.9999))
    labels = np.repeat([False, True], (normal, odd))
    held = 0
    for _ in range(400):
        scores = random.normal(size=normal + odd) + shift * labels
        found = newcombe(auroc(sweep(scores, labels)), normal, odd)
        assert 0 <= found.low <= found.value <= found.high <= 1
        held += found.low <= min(area, 0.9999) <= found.high
    assert held / 400 > 0.92


def test_images_told_apart_without_a_mistake_have_an_honest_interval():
    labels = np.repeat([False, True], (60, 40))
    found = measure_images(labels + np.arange(100) / 1000, labels, threshold=0.5).image
    assert str(found["auroc"]) == "1.000 [0.959, 1.000]"
    assert found["average_precision"].low is None  # a bootstrap cannot vary, and says nothing
