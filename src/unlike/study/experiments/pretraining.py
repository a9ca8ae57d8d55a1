"""pretraining: is an encoder that learned to rebuild images worth anything when labels are few? (D2)"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from unlike.classifier import Classifier
from unlike.config import check_range
from unlike.data.index import Index
from unlike.errors import DataError
from unlike.evaluation.classes import evaluate_classifier
from unlike.study.datasets import open_classes
from unlike.study.experiments.base import Experiment, Outcome, Task, read_losses

STARTS: dict[str, dict[str, Any]] = {"fine-tuned": {}, "frozen": {"freeze_encoder": True}, "scratch": {"scratch": True}}


@dataclass(frozen=True, slots=True)
class PretrainingOptions:
    """Where the encoder comes from, and how much it is taught."""

    start: Literal["fine-tuned", "frozen", "scratch"] = "fine-tuned"  # scratch: from random weights
    labels: int = 10  # labelled images of each class
    finetune_epochs: int | None = None  # none: enough for some 1,500 steps

    def __post_init__(self) -> None:
        check_range("experiment.labels", self.labels, 2, 1e6)
        if self.finetune_epochs is not None:
            check_range("experiment.finetune_epochs", self.finetune_epochs, 1, 1e6)


def pretrain_and_finetune(task: Task) -> Outcome:
    """Learn to rebuild from all images without their labels, then to name classes from a few with them; test on others."""
    learn, test = open_classes(task.source)
    detector = task.detector()
    if task.options.start == "scratch":  # only its form is wanted
        detector.settings = replace(detector.settings, training=replace(detector.settings.training, epochs=1))
    detector.fit(without_labels(learn))
    classifier = Classifier.from_detector(
        detector,
        epochs=task.options.finetune_epochs,
        seed=task.seed,
        device=task.device,
        settings={"finetune": {**task.choices.finetune, **STARTS[task.options.start]}},
    )
    classifier.fit(_draw_labelled(learn, task.options.labels, task.seed))
    found = evaluate_classifier(classifier, classifier.predict(_without_split(test)))
    recalls = [estimate.value for estimate in found.recall.values()]
    metrics = {
        "accuracy": found.accuracy.value,
        "accuracy_largest_class": found.accuracy_largest_class.value,
        "lowest_recall": min(recalls),
        **read_losses(classifier.history_, classifier.settings.training.keep),
    }
    histories = {"fine-tuning": classifier.history_}
    if detector.history_ and task.options.start != "scratch":
        histories = {"pretraining": detector.history_, **histories}
    return Outcome(metrics, histories)


def without_labels(index: Index) -> Index:
    """The same images, of which nobody says anything."""
    return replace(index, samples=[replace(s, anomalous=None, kind="", split="") for s in index.samples])


def _without_split(index: Index) -> Index:
    return replace(index, samples=[replace(s, anomalous=None, split="") for s in index.samples])


def _draw_labelled(index: Index, each: int, seed: int) -> Index:
    """So many images of each class, drawn by the seed."""
    random = np.random.default_rng(seed)
    kinds = np.array([sample.kind for sample in index.samples])
    names, counts = np.unique(kinds, return_counts=True)
    if counts.min() < each:
        fewest = names[counts.argmin()]
        raise DataError(f"{index.source}: {each} labelled images of each class are wanted; {fewest} has {counts.min()}")
    chosen = [random.permutation(np.flatnonzero(kinds == name))[:each] for name in names]
    return _without_split(index.take(np.sort(np.concatenate(chosen))))


PRETRAINING = Experiment(
    pretrain_and_finetune,
    metrics=("accuracy", "lowest_recall"),
    known=("accuracy", "accuracy_largest_class", "lowest_recall", "epochs", "loss.train", "loss.validation"),
    options=PretrainingOptions,
    finetunes=True,
)
