"""How good a classifier is: accuracy, recall and precision of each class, with intervals, from its confusion matrix."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from unlike.data.classes import number_classes
from unlike.evaluation.evaluate import estimate_json
from unlike.evaluation.metrics import wilson
from unlike.evaluation.protocols import FittedClassifier
from unlike.records import ClassEvaluation, Estimate, Predictions, Unreadable


def validate_classifier(classifier: FittedClassifier) -> ClassEvaluation:
    """Measure a classifier on the images that chose its weights, which flatter it a little."""
    return measure_classes(classifier.classes_, classifier.confusion_, "validation")


def evaluate_classifier(classifier: FittedClassifier, predictions: Predictions) -> ClassEvaluation:
    """Measure a classifier by what it predicted for labelled images, the `kind` of each sample being its class."""
    classes = predictions.classes
    confusion = np.zeros((len(classes), len(classes)), np.intp)
    np.add.at(confusion, (number_classes(predictions.samples, classes), predictions.codes), 1)
    twins = np.isin(predictions.digests, classifier.digests_)
    leaked = tuple(name for name, twin in zip(predictions.ids, twins, strict=True) if twin)
    return measure_classes(classes, confusion, "test", leaked, predictions.unreadable)


def measure_classes(
    classes: Sequence[str],
    confusion: npt.NDArray[np.intp],
    part: str,
    leaked: tuple[str, ...] = (),
    unreadable: tuple[Unreadable, ...] = (),
) -> ClassEvaluation:
    """The figures of a confusion matrix (K, K) of images, by true class (rows) and named class (columns).

    >>> found = measure_classes(("cat", "dog"), np.array([[8, 2], [0, 10]]), "test")
    >>> print(found.accuracy, found.recall["cat"], found.precision["cat"])
    0.900 [0.699, 0.972] 0.800 [0.490, 0.943] 1.000 [0.676, 1.000]
    """
    right, true, named = confusion.diagonal(), confusion.sum(axis=1), confusion.sum(axis=0)
    images = int(confusion.sum())
    return ClassEvaluation(
        part,
        tuple(classes),
        confusion,
        accuracy=wilson(right.sum() / images, images),
        accuracy_largest_class=Estimate(true.max() / images),
        recall=_shares(classes, right, true),
        precision=_shares(classes, right, named),
        leaked=leaked,
        unreadable=unreadable,
    )


def _shares(classes: Sequence[str], right: npt.NDArray[np.intp], of: npt.NDArray[np.intp]) -> dict[str, Estimate]:
    """The share that is right by class, for the classes of which there is anything."""
    rows = zip(classes, right.tolist(), of.tolist(), strict=True)
    return {name: wilson(part / whole, whole) for name, part, whole in rows if whole}


def classes_json(evaluation: ClassEvaluation) -> dict[str, Any]:
    """What `metrics.json` holds: figures as {"value", "low", "high"}, by class where there is one for each."""
    by_class = {
        name: {
            "images": int(evaluation.confusion[row].sum()),
            **{
                figure: estimate_json(found[name])
                for figure, found in (("recall", evaluation.recall), ("precision", evaluation.precision))
                if name in found
            },
        }
        for row, name in enumerate(evaluation.classes)
    }
    return {
        "part": evaluation.part,
        "images": int(evaluation.confusion.sum()),
        "accuracy": estimate_json(evaluation.accuracy),
        "accuracy_largest_class": estimate_json(evaluation.accuracy_largest_class),
        "classes": by_class,
        "confusion": {"rows": "true class", "columns": "named class", "images": evaluation.confusion.tolist()},
        "leaked": list(evaluation.leaked),
        "unreadable": [{"id": item.id, "reason": item.reason} for item in evaluation.unreadable],
        "intervals": "95 %, Wilson's score interval",
    }
