"""joint-or-separate: one detector of all categories, or one of each?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from unlike.data.source import Source
from unlike.errors import DataError
from unlike.evaluation import evaluate
from unlike.study.datasets import categories, of_category, open_images
from unlike.study.experiments.base import (
    METRICS,
    Experiment,
    Outcome,
    Task,
    read_figures,
)
from unlike.study.words import AVERAGE, WEIGHTED
from unlike.training import History


@dataclass(frozen=True, slots=True)
class JointOptions:
    """On what a detector is fitted."""

    training: Literal["joint", "separate"] = "joint"  # all categories together, or each by itself


def fit_jointly_or_separately(task: Task) -> Outcome:
    """Measure each category by itself, whatever the detector was fitted on, and both averages over categories."""
    train, test = open_images(task.source)
    names = categories(train, test)
    if len(names) < 2:
        raise DataError(f"{train.name}: expected two categories or more, each with train and test, came {len(names)}")
    tests = {name: of_category(test, name) for name in names}
    found: dict[str, dict[str, float]] = {}
    histories: dict[str, History] = {}
    warnings: list[str] = []
    if task.options.training == "joint":
        detector = task.detector().fit(train)
        histories["all"] = detector.fitted_.history
        warnings += detector.fitted_.warnings
        found = {name: read_figures(evaluate(detector, part, seed=task.seed)) for name, part in tests.items()}
    else:
        for name, part in tests.items():
            detector = task.detector().fit(of_category(train, name))
            histories[name] = detector.fitted_.history
            warnings += [f"{name}: {warning}" for warning in detector.fitted_.warnings]
            found[name] = read_figures(evaluate(detector, part, seed=task.seed))
    trained = {name: history for name, history in histories.items() if history}
    return Outcome(_average(found, tests), trained, warnings=warnings)


def _average(found: dict[str, dict[str, float]], tests: dict[str, Source]) -> dict[str, float]:
    """The figures of each category, and the plain and the weighted mean of those that all have."""
    metrics = {f"{metric}@{name}": value for name, figures in found.items() for metric, value in figures.items()}
    weights = [len(tests[name]) for name in found]
    shared = [metric for metric in next(iter(found.values())) if all(metric in figures for figures in found.values())]
    for metric in shared:
        values = [figures[metric] for figures in found.values()]
        metrics[f"{metric}@{AVERAGE}"] = float(np.mean(values))
        metrics[f"{metric}@{WEIGHTED}"] = float(np.average(values, weights=weights))
    return metrics


JOINT_OR_SEPARATE = Experiment(
    fit_jointly_or_separately,
    metrics=tuple(f"{metric}@{group}" for metric in ("image.auroc", "image.accuracy") for group in (AVERAGE, WEIGHTED)),
    known=METRICS,
    options=JointOptions,
)
