"""The figures of experiments in words: what each is called, how it is written, and between which bounds it lies."""

from __future__ import annotations

import math
from dataclasses import dataclass

from unlike.records import Estimate
from unlike.report.wording import TERMS, interval, number, percent, term

AVERAGE, WEIGHTED = "average", "weighted by images"  # over categories, in place of one
IMPROVEMENT = "image.improvement"


@dataclass(frozen=True, slots=True)
class Word:
    """What a figure is called, and between which values it lies."""

    label: str
    low: float = 0.0
    high: float = 1.0
    share: bool = False  # shown in percent


WORDS = {
    IMPROVEMENT: Word("Improvement over calling all anomalous", -1.0, share=True),
    "accuracy": Word("Accuracy", share=True),
    "accuracy_largest_class": Word("Accuracy of always naming the largest class", share=True),
    "adjusted_rand": Word("Adjusted Rand index", -0.5),
    "epochs": Word("Epochs", high=math.inf),
    "labels": Word("Labels needed", high=math.inf),
    "loss.train": Word("Training loss", -math.inf, math.inf),
    "loss.validation": Word("Validation loss", -math.inf, math.inf),
    "lowest_recall": Word("Lowest recall of a class", share=True),
}
JUDGED = {
    "accuracy": "accuracy",
    "f1": "F1",
    "false_alarm_rate": "false-alarm rate",
    "detection_rate": "detection rate",
}
for _stage, _model in {"pretrained": "pretrained model", "finetuned": "fine-tuned model"}.items():
    WORDS[f"{_stage}.residual_normal"] = Word(f"Residual of normal images, {_model}", high=math.inf)
    WORDS[f"{_stage}.residual_anomalous"] = Word(f"Residual of damaged images, {_model}", high=math.inf)
    WORDS[f"{_stage}.auroc"] = Word(f"AUROC of the residual, {_model}")
for _name, _label in JUDGED.items():
    WORDS[f"promised.{_name}"] = Word(f"Promised {_label}", share=True)
    WORDS[f"delivered.{_name}"] = Word(f"Delivered {_label}", share=True)
    WORDS[f"surprise.{_name}"] = Word(f"Delivered minus promised {_label}", -1.0, share=True)


def word(metric: str) -> Word:
    """What a figure is called; one that nobody described is called by its name, and may have any value.

    >>> word("image.auroc").label, word("size.1").label
    ('AUROC', 'size 1')
    """
    name = metric.partition("@")[0]
    if name in WORDS:
        return WORDS[name]
    if name in TERMS:
        return Word(term(name).title, share=term(name).share)
    return Word(name.replace("_", " ").replace(".", " "), -math.inf, math.inf)


def metric_label(metric: str) -> str:
    """A figure in words, with the category that it is of.

    >>> metric_label("image.auroc@bolt"), metric_label("image.auroc@average"), metric_label("loss.validation")
    ('AUROC of bolt', 'AUROC, average', 'Validation loss')
    """
    _, at, group = metric.partition("@")
    join = "" if not at else ", " if group in (AVERAGE, WEIGHTED) else " of "
    return f"{word(metric).label}{join}{group}"


def show(metric: str, value: float) -> str:
    r"""A value as a table shows it.

    >>> show("image.auroc", 0.93), show("image.accuracy", 0.93), show("loss.train", 0.000123456)
    ('0.930', '93.0\xa0%', '0.0001235')
    """
    known = word(metric)
    if known.share:
        return percent(value, 1)
    return f"{value:.3f}" if known.high <= 1 else number(value)


def show_interval(metric: str, estimate: Estimate) -> str:
    """Both bounds as a table shows them; nothing where there are none."""
    return " to ".join(show(metric, bound) for bound in interval(estimate))


def bound(metric: str, estimate: Estimate) -> Estimate:
    """The estimate with an interval that ends where the figure itself must.

    >>> print(bound("image.auroc", Estimate(0.9, 0.7, 1.1)))
    0.900 [0.700, 1.000]
    """
    if estimate.low is None or estimate.high is None:
        return estimate
    known = word(metric)
    return Estimate(estimate.value, max(estimate.low, known.low), min(estimate.high, known.high))
