"""pretraining: is an encoder that learned to reconstruct images worth anything when labels are few?

Also whether damaged images have larger residuals than normal ones, before and after the fine-tuning.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from unlike.config import check_range
from unlike.data.source import Source
from unlike.detector.classifier import Classifier
from unlike.detector.detector import Detector
from unlike.errors import DataError
from unlike.evaluation.classes import evaluate_classifier
from unlike.evaluation.synthetic import make_synthetic
from unlike.report.figures import jpeg
from unlike.report.residuals import choose_examples, hold_out, residual_page, show_examples
from unlike.study.datasets import open_classes
from unlike.study.experiments.base import Experiment, Outcome, Task, read_losses
from unlike.study.stages import reconstructs_images, stage_after, stage_of

STAGES = ("pretrained", "finetuned")
RESIDUALS = tuple(
    f"{name}.{figure}" for name in STAGES for figure in ("residual_normal", "residual_anomalous", "auroc")
)
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
    """Learn to reconstruct all images without their labels, then to name classes from a few with them; test on others."""
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
        settings={
            "finetune": {**task.choices.finetune, **STARTS[task.options.start]},
            "augment": task.choices.sections.get("augment", {}),  # of both trainings, or of none
        },
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
    checks, pictures = _check_residuals(detector, classifier, test, task)
    histories = {"fine-tuning": classifier.history_}
    pretraining = detector.fitted_.history
    if pretraining and task.options.start != "scratch":
        histories = {"pretraining": pretraining, **histories}
    return Outcome({**metrics, **checks}, histories, pictures=pictures, warnings=detector.fitted_.warnings)


def without_labels(images: Source) -> Source:
    """The same images, of which nobody says anything."""
    return images.with_samples([replace(s, anomalous=None, kind="", split="") for s in images.samples])


def _without_split(images: Source) -> Source:
    return images.with_samples([replace(s, anomalous=None, split="") for s in images.samples])


def _check_residuals(
    detector: Detector, classifier: Classifier, test: Source, task: Task
) -> tuple[dict[str, float], Mapping[str, str]]:
    """Residuals of test images and of damaged copies of them in each stage, in figures and in a picture.

    There are none of a model that reconstructs no images.
    """
    if not reconstructs_images(classifier.model_.model):
        return {}, {}
    stages = {"finetuned": stage_after(detector, classifier)}
    if task.options.start != "scratch":
        stages = {"pretrained": stage_of(detector), **stages}
    spec, shown = detector.fitted_.spec, list(stages.values())
    damaged, _ = make_synthetic(_without_split(test), spec, task.seed)
    held_out = hold_out(damaged, spec, shown)
    gaps = held_out.measure()
    metrics = {}
    for name, gap in zip(stages, gaps, strict=True):
        metrics[f"{name}.residual_normal"] = gap.normal.value
        metrics[f"{name}.residual_anomalous"] = gap.anomalous.value
        metrics[f"{name}.auroc"] = gap.auroc.value
    examples = show_examples(damaged, spec, shown, choose_examples(held_out))
    figure = residual_page(held_out, gaps, shown, examples)
    return metrics, {
        "residuals of test images and of copies with synthetic defects, and typical examples": jpeg(figure)
    }


def _draw_labelled(images: Source, each: int, seed: int) -> Source:
    """So many images of each class, drawn by the seed."""
    random = np.random.default_rng(seed)
    kinds = np.array([sample.kind for sample in images.samples])
    names, counts = np.unique(kinds, return_counts=True)
    if counts.min() < each:
        fewest = names[counts.argmin()]
        raise DataError(f"{images.name}: {each} labelled images of each class are wanted; {fewest} has {counts.min()}")
    chosen = [random.permutation(np.flatnonzero(kinds == name))[:each] for name in names]
    return _without_split(images.take(np.sort(np.concatenate(chosen))))


PRETRAINING = Experiment(
    pretrain_and_finetune,
    metrics=("accuracy", "lowest_recall"),
    known=(
        "accuracy",
        "accuracy_largest_class",
        "lowest_recall",
        "epochs",
        "loss.train",
        "loss.validation",
        *RESIDUALS,
    ),
    options=PretrainingOptions,
    finetunes=True,
)
