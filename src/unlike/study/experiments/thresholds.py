"""thresholds: what each rule for a threshold promises, and what it delivers on images it has not seen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from unlike.calibration.decision import Decision, is_anomalous
from unlike.calibration.sweep import best_accuracy, best_f1, sweep
from unlike.calibration.thresholds.labelled import ternary_search
from unlike.errors import DataError
from unlike.evaluation.metrics import accuracy, detection_rate, false_alarm_rate
from unlike.records import Bools, Floats, Sample
from unlike.study.datasets import open_images
from unlike.study.experiments.base import Experiment, Outcome, Task, histories_of

FEWEST = 4  # test images of a label: two to choose the threshold by, two to check it with


@dataclass(frozen=True, slots=True)
class ThresholdOptions:
    """How the threshold is chosen."""

    rule: Literal["conformal", "sweep", "ternary", "f1-max"] = "conformal"  # the last three look at labels


def choose_and_check(task: Task) -> Outcome:
    """Choose a threshold by one half of the test images and their labels, or by none of them; check it on the other half.

    What the conformal rule promises of the other half is the mean, over its normal images, of what their thresholds promise.
    """
    train, test = open_images(task.source)
    detector = task.detector().fit(train)
    batches = list(detector.stream(test))
    scores = np.concatenate([batch.image for batch in batches])
    samples = [sample for batch in batches for sample in batch.samples]
    anomalous = np.array([bool(sample.anomalous) for sample in samples])
    known = _half(anomalous, task.seed)
    if task.options.rule == "conformal":
        thresholds, shares = thresholds_of(detector.fitted_.decision, samples)
        share = float(shares[~known & ~anomalous].mean())
        promised = {} if np.isnan(share) else {"false_alarm_rate": share}
    else:
        thresholds = np.full(len(scores), choose_threshold(task.options.rule, scores[known], anomalous[known]))
        promised = _measure(scores[known], anomalous[known], thresholds[known])
    delivered = _measure(scores[~known], anomalous[~known], thresholds[~known])
    metrics = {f"delivered.{name}": value for name, value in delivered.items()}
    metrics |= {f"promised.{name}": value for name, value in promised.items()}
    metrics |= {f"surprise.{name}": delivered[name] - value for name, value in promised.items()}
    metrics["labels"] = 0.0 if task.options.rule == "conformal" else float(known.sum())
    return Outcome(metrics, histories_of(detector), warnings=detector.fitted_.warnings)


def thresholds_of(decision: Decision, samples: Sequence[Sample]) -> tuple[Floats, Floats]:
    """The threshold (N,) that judges each image, of its category where that has one, and the false alarms (N,) it promises.

    Nothing is promised where a rule promises nothing: NaN.
    """
    found = [decision.threshold_of(sample.category) for sample in samples]
    promises = [np.nan if threshold.false_alarms is None else threshold.false_alarms for threshold in found]
    return np.array([threshold.score for threshold in found]), np.array(promises)


def choose_threshold(rule: str, scores: Floats, anomalous: Bools) -> float:
    """The threshold that a rule chooses from scores (n,) and labels (n,).

    >>> choose_threshold("sweep", np.array([1.0, 2.0, 3.0, 4.0]), np.array([False, False, True, True]))
    2.0
    """
    if rule == "ternary":
        return ternary_search(scores, anomalous).threshold
    swept = sweep(scores, anomalous)
    return (best_accuracy(swept) if rule == "sweep" else best_f1(swept)).threshold


def _half(anomalous: Bools, seed: int) -> Bools:
    """(N,) which images the threshold may be chosen by: half of the normal and half of the anomalous ones."""
    random = np.random.default_rng(seed)
    chosen = np.zeros(len(anomalous), bool)
    for label in (False, True):
        rows = random.permutation(np.flatnonzero(anomalous == label))
        if len(rows) < FEWEST:
            word = "anomalous" if label else "normal"
            raise DataError(f"{len(rows)} {word} test images cannot be halved; at least {FEWEST} are needed")
        chosen[rows[: len(rows) // 2]] = True
    return chosen


def _measure(scores: Floats, anomalous: Bools, thresholds: Floats) -> dict[str, float]:
    alarms = is_anomalous(scores, thresholds)
    right = int((alarms & anomalous).sum())
    return {
        "accuracy": accuracy(scores, anomalous, thresholds),
        "f1": 2 * right / (int(alarms.sum()) + int(anomalous.sum())),
        "false_alarm_rate": false_alarm_rate(scores, anomalous, thresholds),
        "detection_rate": detection_rate(scores, anomalous, thresholds),
    }


FIGURES = ("accuracy", "f1", "false_alarm_rate", "detection_rate")
THRESHOLDS = Experiment(
    choose_and_check,
    metrics=(
        "delivered.accuracy",
        "promised.accuracy",
        "delivered.f1",
        "promised.f1",
        "delivered.false_alarm_rate",
        "promised.false_alarm_rate",
        "labels",
    ),
    known=(*(f"{part}.{name}" for part in ("delivered", "promised", "surprise") for name in FIGURES), "labels"),
    options=ThresholdOptions,
)
