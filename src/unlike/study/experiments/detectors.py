"""fit-and-evaluate: what most studies run."""

from __future__ import annotations

from unlike.evaluation import evaluate
from unlike.study.datasets import open_images
from unlike.study.experiments.base import (
    LOSSES,
    METRICS,
    Experiment,
    Outcome,
    Task,
    histories_of,
    read_losses,
    read_metrics,
)


def fit_and_evaluate(task: Task) -> Outcome:
    """Fit on the normal images, measure on the labelled ones: together, and each category by itself."""
    train, test = open_images(task.source)
    detector = task.detector().fit(train)
    metrics = {
        **read_metrics(evaluate(detector, test, seed=task.seed)),
        **read_losses(detector.fitted_.history, detector.settings.training.keep),
    }
    return Outcome(metrics, histories_of(detector), warnings=detector.fitted_.warnings)


FIT_AND_EVALUATE = Experiment(
    fit_and_evaluate,
    metrics=("image.auroc", "image.average_precision", "image.improvement"),
    known=(*METRICS, *LOSSES),
)
