"""What is left of a classifier's evaluation: metrics.json for programs, report.html for people."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from unlike.artifacts import write_file
from unlike.evaluation.classes import classes_json
from unlike.records import ClassEvaluation
from unlike.report import figures, wording
from unlike.report.page import MOST_NAMED, Picture, draw_losses, environment, settings_tables, signature
from unlike.report.wording import Caution

VALIDATION = "They did not teach it, but they chose the best epoch, so that this figure flatters a little."
LEAKED = "Identical to images that it was fine-tuned on, which makes the figures below better than they should be."


class Describable(Protocol):
    """What a report asks of a classifier."""

    @property
    def history_(self) -> Sequence[Mapping[str, Any]]: ...  # a row an epoch
    def describe(self) -> Mapping[str, Mapping[str, Any]]: ...  # section -> name -> value


def write_classes(classifier: Describable, evaluation: ClassEvaluation, folder: Path) -> None:
    """Write metrics.json and report.html into `folder`, each whole."""
    metrics = json.dumps(classes_json(evaluation), indent=2, ensure_ascii=False, allow_nan=False)
    write_file(folder / "metrics.json", f"{metrics}\n".encode())
    write_file(folder / "report.html", render_classes(classifier, evaluation).encode())


def render_classes(classifier: Describable, evaluation: ClassEvaluation) -> str:
    """The page as HTML; whatever comes from a file name or a setting is escaped."""
    counts, classes = evaluation.confusion, evaluation.classes
    images, right = int(counts.sum()), int(counts.diagonal().sum())
    part = "validation image" if evaluation.part == "validation" else "image"
    alt = f"Confusion matrix: {right:,} of {images:,} images on the diagonal; the table below has each class."
    page = environment().get_template("classes.html.j2")
    return page.render(
        cautions=list(_cautions(evaluation)),
        confusion=Picture(figures.svg(figures.confusion(counts, classes)), alt),
        evaluation=evaluation,
        losses=draw_losses(classifier.history_, classifier.describe()["training"]["keep"])
        if classifier.history_
        else None,
        most_named=MOST_NAMED,
        rows=list(zip(classes, counts.sum(axis=1).tolist(), strict=True)),
        scope=f"{wording.count(images, part)} of {len(classes)} classes",
        settings=settings_tables(classifier.describe()),
        **signature(),
    )


def _cautions(evaluation: ClassEvaluation) -> Iterator[Caution]:
    if evaluation.part == "validation":
        yield Caution("Validation images", VALIDATION, grave=False)
    if evaluation.leaked:
        yield Caution(
            f"{wording.count(len(evaluation.leaked), 'image')} known from training", LEAKED, evaluation.leaked
        )
    if evaluation.unreadable:
        names = tuple(f"{item.id}: {item.reason}" for item in evaluation.unreadable)
        yield Caution(
            f"{wording.count(len(names), 'image')} could not be used", "Left out of every figure below.", names
        )
    least = int(min(evaluation.confusion.sum(axis=1)))
    if least < wording.FEW:
        yield Caution(
            "Few images", f"With {wording.count(least, 'image')} of a class, figures are rough: mind the intervals."
        )
