"""The numbers of docs/metrics.md against scikit-learn and against counting, from the scores that are kept with them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from sklearn import metrics

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def results():
    return json.loads((ROOT / "benchmarks/results/metrics_page.json").read_text())


@pytest.fixture(scope="module")
def scores(results):
    return np.array(results["normal"] + results["anomalous"])


@pytest.fixture(scope="module")
def labels(results):
    return np.repeat([0, 1], [len(results["normal"]), len(results["anomalous"])])


def weights_of(labels, share):
    return np.where(labels, share / labels.sum(), (1 - share) / (1 - labels).sum())


def test_auroc_is_the_share_of_pairs_and_swapped_axes_give_the_rest(results, scores, labels):
    pairs = results["pairs"]
    usual, strange = results["normal"], results["anomalous"]
    higher = sum(one > other for one in strange for other in usual)
    equal = sum(one == other for one in strange for other in usual)
    assert (pairs["higher"], pairs["equal"], pairs["pairs"]) == (higher, equal, len(usual) * len(strange))
    assert pairs["auroc"] == pytest.approx((higher + equal / 2) / pairs["pairs"], abs=1e-12)
    assert pairs["auroc"] == pytest.approx(metrics.roc_auc_score(labels, scores), abs=1e-12)
    assert pairs["swapped"] == pytest.approx(1 - pairs["auroc"], abs=1e-12)


def test_the_counts_at_the_threshold_and_the_rates_they_make(results, scores, labels):
    found = results["at_threshold"]
    (quiet, false), (missed, true) = metrics.confusion_matrix(labels, scores > results["threshold"])
    names = ("true_quiet", "false_alarms", "missed", "true_alarms")
    assert [found[name] for name in names] == [quiet, false, missed, true]
    alarms = scores > results["threshold"]
    for name, measure in (
        ("detection_rate", metrics.recall_score),
        ("precision", metrics.precision_score),
        ("f1", metrics.f1_score),
        ("accuracy", metrics.accuracy_score),
    ):
        assert found[name] == pytest.approx(measure(labels, alarms))
    assert found["false_alarm_rate"] == pytest.approx(alarms[labels == 0].mean())
    assert found["f1_all_anomalous"] == pytest.approx(metrics.f1_score(labels, np.ones_like(labels)))
    assert found["f1_all_anomalous"] > found["f1"]  # the page says so


def test_every_mix_of_images_is_that_of_the_reference_with_weights(results, scores, labels):
    assert [cell["share"] for cell in results["shares"]] == [pytest.approx(labels.mean()), 0.5, 0.1, 0.01]
    for cell in results["shares"]:
        weights = weights_of(labels, cell["share"])
        alarms, everything = scores > results["threshold"], np.ones_like(labels)
        precision, recall, _ = metrics.precision_recall_curve(labels, scores, sample_weight=weights)
        best = (2 * precision * recall / np.maximum(precision + recall, 1e-12)).max()
        expected = {
            "auroc": metrics.roc_auc_score(labels, scores, sample_weight=weights),
            "average_precision": metrics.average_precision_score(labels, scores, sample_weight=weights),
            "f1_max": best,
            "precision": metrics.precision_score(labels, alarms, sample_weight=weights),
            "f1": metrics.f1_score(labels, alarms, sample_weight=weights),
            "accuracy": metrics.accuracy_score(labels, alarms, sample_weight=weights),
            "f1_all_anomalous": metrics.f1_score(labels, everything, sample_weight=weights),
        }
        assert {name: cell[name] for name in expected} == pytest.approx(expected, abs=1e-9)
    figures = {name: [cell[name] for cell in results["shares"]] for name in ("auroc", "average_precision", "f1")}
    assert np.ptp(figures["auroc"]) < 1e-9
    assert (np.diff(figures["average_precision"]) < 0).all()
    assert (np.diff(figures["f1"]) < 0).all()


def test_the_pixel_examples_are_those_of_the_arithmetic_on_the_page(results):
    small = results["small_defects"]
    assert small["auroc"] == pytest.approx(small["expected_auroc"], abs=0.002)
    assert small["aupro"] == pytest.approx(small["expected_aupro"], abs=0.01)
    grown = results["background"]
    for cell in grown["images"]:
        false = grown["false_side"] ** 2 / (cell["side"] ** 2 - grown["defect_side"] ** 2)
        assert cell["auroc"] == pytest.approx(1 - false, abs=1e-4)
        assert cell["aupro"] == pytest.approx((0.3 - false) / 0.3, abs=2e-3)


def test_the_picture_is_there_and_small():
    assert "](pictures/metrics.svg)" in (ROOT / "docs/metrics.md").read_text()
    assert 10_000 < (ROOT / "docs/pictures/metrics.svg").stat().st_size < 150_000
