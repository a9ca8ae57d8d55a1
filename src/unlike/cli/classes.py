"""`unlike finetune` and `unlike classify`: make a classifier of a detector, and use it."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TextIO

import typer

from unlike.cli.arguments import (
    IMAGES_HELP,
    AnyOther,
    Config,
    DetectorPath,
    Device,
    FitSeed,
    finish,
    read_choices,
    resumable,
)
from unlike.cli.console import Console, plural
from unlike.errors import ConfigError, none_usable

if TYPE_CHECKING:
    from unlike.data.source import Source
    from unlike.detector.classifier import Classifier
    from unlike.records import ClassEvaluation, Predictions, Unreadable

NAMED = 20  # classes whose images are counted in a line
Labels = Annotated[
    Path | None, typer.Option(metavar="Y.csv|Y.npy", help="One label a row of an array: numbers or words.")
]


def finetune(
    detector: DetectorPath,
    labelled: Annotated[
        str,
        typer.Argument(
            metavar="LABELLED", help="A folder with a subfolder for each class, a .csv manifest, or an array."
        ),
    ],
    output: Annotated[Path, typer.Option("-o", "--output", metavar="CLASSIFIER", help="The folder to write.")],
    labels: Labels = None,
    epochs: Annotated[int | None, typer.Option(help="Passes over the images; enough for some 1,500 steps.")] = None,
    scratch: Annotated[
        bool, typer.Option("--scratch", help="Start from random weights, to see what the detector's are worth.")
    ] = False,
    seed: FitSeed = None,
    device: Device = "auto",
    settings: AnyOther = None,
    config: Config = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with a fine-tuning that was stopped.")] = False,
    report: Annotated[
        Path | None, typer.Option(metavar="DIR", help="For metrics.json and report.html, on the validation images.")
    ] = None,
    cache: Annotated[bool, typer.Option("--cache/--no-cache", help="Keep decoded images in the cache folder.")] = True,
) -> None:
    """Teach a detector's encoder, or only a head on one that is frozen, to name classes, and write a classifier.

    Example: unlike finetune cells.unlike labelled/ -o cells.classifier --set finetune.class_weights=balanced
    """
    from unlike.artifacts import CLASSIFIER, check_replaceable, check_writable, is_first_process
    from unlike.data.classes import choose_part, find_classes
    from unlike.detector.classifier import Classifier
    from unlike.detector.detector import Detector
    from unlike.evaluation.classes import validate_classifier
    from unlike.report.classes import write_classes

    overrides, choices = read_choices(config, settings or [])
    if "preset" in choices:
        raise ConfigError(f"{config}: preset is a choice about a detector, and {detector} is fitted; leave it out")
    if scratch:
        overrides.setdefault("finetune", {})["scratch"] = True
    loaded = Detector.load(detector, device)
    seed = seed if seed is not None else choices.get("seed", 0)
    classifier = Classifier.from_detector(
        loaded, epochs=epochs, seed=seed, device=device, cache=cache, settings=overrides
    )
    check_replaceable(output, CLASSIFIER)
    if report is not None:
        check_writable(report / "report.html")
    console = Console()
    source = choose_part(find_classes(labelled, labels), "train")
    console.say_notes(source.notes)
    with resumable(output, resume, console) as unfinished:
        with console.progress() as notify:
            classifier.fit(source, checkpoint=unfinished, resume=resume, notify=notify)
        if is_first_process():
            classifier.save(output)
    found = validate_classifier(classifier)
    if report is not None and is_first_process():
        write_classes(classifier, found, report)
    _say_finetuned(console, classifier, found, output, report)
    finish(console, classifier.unreadable_)


def classify(
    classifier: Annotated[
        Path, typer.Argument(metavar="CLASSIFIER", help="A classifier that `unlike finetune` wrote.")
    ],
    images: Annotated[list[str], typer.Argument(metavar="IMAGES...", help=IMAGES_HELP)],
    output: Annotated[
        Path | None, typer.Option("-o", "--output", metavar="FILE", help="Write here, not to the terminal.")
    ] = None,
    labels: Labels = None,
    report: Annotated[
        Path | None, typer.Option(metavar="DIR", help="For metrics.json and report.html: IMAGES are labelled, a test.")
    ] = None,
    device: Device = "auto",
) -> None:
    """Name the class of each image, and how likely each class is; with --report, measure how often that is right.

    Example: unlike classify cells.classifier new/ -o classes.csv
    """
    from unlike.artifacts import check_writable
    from unlike.data.source import open_source
    from unlike.detector.classifier import Classifier, join_predictions
    from unlike.evaluation.classes import evaluate_classifier
    from unlike.report.classes import write_classes

    if labels is not None and report is None:
        raise ConfigError("--labels: is for measuring; say where the report goes with --report DIR")
    if report is not None:
        check_writable(report / "report.html")
    loaded = Classifier.load(classifier, device)
    source = (
        open_source(images, pages=loaded.settings.detector.data.pages) if report is None else _find_test(images, labels)
    )
    console = Console()
    console.say_notes(source.notes if report is not None else ())
    counts: Counter[str] = Counter()
    unreadable: list[Unreadable] = []
    kept: list[Predictions] = []
    with console.progress() as notify:
        for batch in _write_rows(loaded.stream(source), output):
            counts.update(batch.names)
            unreadable += batch.unreadable
            kept += [] if report is None else [batch]
            notify("score", counts.total() + len(unreadable), len(source), {})
    if not counts:
        raise none_usable(f"{source.name}: no image", "classified", unreadable)
    _say_classes(console, counts, loaded.classes_, output)
    if report is not None:
        evaluation = evaluate_classifier(loaded, join_predictions(kept))
        write_classes(loaded, evaluation, report)
        _say_accuracy(console, evaluation, report)
    finish(console, unreadable)


def _find_test(images: Sequence[str], labels: Path | None) -> Source:
    from unlike.data.classes import choose_part, find_classes

    if len(images) > 1:
        raise ConfigError(f"--report: expected one labelled source of images, came {len(images)}")
    return choose_part(find_classes(images[0], labels), "test")


def _write_rows(batches: Iterator[Predictions], output: Path | None) -> Iterator[Predictions]:
    """A row for each image as it is classified, so that what is finished is there whatever happens."""
    from unlike.calibration.rows import text_cell
    from unlike.cli.tables import blamed_on, open_output, start_over

    with open_output(output) as file:
        writer: Any = None
        for batch in batches:
            with blamed_on(file):
                if len(batch.ids) and writer is None:
                    start_over(file)
                    writer = _start_rows(file, batch.classes)
                for name, class_name, chances in zip(batch.ids, batch.names, batch.probabilities, strict=True):
                    numbers = (f"{chances.max():.6g}", *(f"{chance:.6g}" for chance in chances))
                    writer.writerow((text_cell(name), text_cell(class_name), *numbers))
                file.flush()
            yield batch


def _start_rows(file: TextIO, classes: Sequence[str]) -> Any:
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(("id", "class", "probability", *(f"probability of {name}" for name in classes)))
    return writer


def _say_finetuned(
    console: Console, classifier: Classifier, found: ClassEvaluation, output: Path, report: Path | None
) -> None:
    from unlike.records import kept_epoch

    images = classifier.describe()["fitted"]["images"]
    console.say(
        f"{_what_learned(classifier)}, {len(classifier.classes_)} classes: "
        f"{images['train']:,} images to train, {images['validation']:,} to validate."
    )
    if kept := kept_epoch(classifier.history_, classifier.settings.training.keep):
        of = len(classifier.history_)
        console.say(f"Kept epoch {kept['epoch']:.0f} of {of}: validation loss {kept['validation']:.4g}.")
    _say_accuracy(console, found, report)
    console.say(f"Classifier: {output}")


def _what_learned(classifier: Classifier) -> str:
    """The encoder or only a head on it, and from which weights on."""
    model, scratch = classifier.settings.detector.model_name, classifier.settings.finetune.scratch
    if classifier.frozen_:
        weights = "random weights" if scratch else "the detector's weights"
        return f"Taught a head alone, on the codes of {model}, frozen with {weights}"
    return f"Fine-tuned {model} from " + ("random weights" if scratch else "the detector's encoder")


def _say_accuracy(console: Console, found: ClassEvaluation, report: Path | None) -> None:
    from unlike.artifacts import printable

    validation = found.part == "validation"
    note = " (of the images that chose the best epoch: measure on others)" if validation else ""
    console.say(f"{'Validation accuracy' if validation else 'Accuracy'}: {found.accuracy}{note}")
    if found.leaked:
        console.say(
            f"Warning: {plural(len(found.leaked), 'image')} identical to images the classifier was fine-tuned on, "
            f"such as {printable(found.leaked[0])}: the accuracy flatters."
        )
    if report is not None:
        console.say(f"Report: {report / 'report.html'}")


def _say_classes(console: Console, counts: Counter[str], classes: Sequence[str], output: Path | None) -> None:
    from unlike.artifacts import printable

    parts = [f"{printable(name)} {counts[name]:,}" for name in classes[:NAMED] if counts[name]]
    parts += ["..."] * (len(classes) > NAMED)
    where = f"; rows in {output}" if output else ""
    console.say(f"{plural(counts.total(), 'image')} classified: {', '.join(parts)}{where}.")
