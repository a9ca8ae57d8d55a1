"""`unlike latent residuals`: are residuals of anomalous images larger than those of normal ones, and still so after fine-tuning?"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from unlike.cli.arguments import DetectorPath, Device, Labels, finish
from unlike.cli.console import Console, plural
from unlike.cli.latent import Output

if TYPE_CHECKING:
    from unlike.evaluation.residuals import Gap
    from unlike.report.residuals import HeldOut, Stage

WORDS = (
    "Residuals of images that no model has learned from: a dot is an image, the diamond the mean of its group with "
    "its 95 % interval. The ratio of the means can be large because of a few images; AUROC is the chance that an anomalous "
    "image has the larger residual. The examples are typical ones, chosen by their position in their group."
)


def residuals(
    detector: DetectorPath,
    labelled: Annotated[
        str,
        typer.Argument(
            metavar="LABELLED", help="As for `evaluate`: normal images that were held out, and anomalous ones."
        ),
    ],
    output: Output,
    classifier: Annotated[
        Path | None,
        typer.Option(metavar="CLASSIFIER", help="What `unlike finetune` made of the detector, to compare with it."),
    ] = None,
    labels: Labels = None,
    device: Device = "auto",
) -> None:
    """Compare the residuals of held-out normal and anomalous images, before and after fine-tuning.

    Images that a model has learned from are left out: it reconstructs them better than any it will meet.

    Example: unlike latent residuals cells.unlike cells/ -o residuals.png --classifier cells.classifier
    """
    from unlike.data.source import labelled as choose_labelled
    from unlike.data.source import open_source
    from unlike.detector.classifier import Classifier
    from unlike.detector.detector import Detector
    from unlike.report.pictures import check_picture, write_picture
    from unlike.report.residuals import choose_examples, hold_out, residual_page, show_examples
    from unlike.study.stages import stage_after, stage_of

    check_picture(output)
    loaded = Detector.load(detector, device)
    stages = [stage_of(loaded, "the detector", str(detector))]
    if classifier is not None:
        tuned = Classifier.load(classifier, loaded.device)
        stages.append(stage_after(loaded, tuned, name=str(classifier)))
    source = choose_labelled(open_source(labelled, labels, pages=loaded.settings.data.pages))
    console = Console()
    with console.progress() as notify:
        held_out = hold_out(source, loaded.fitted_.spec, stages, lambda done, total: notify("score", done, total, {}))
    gaps = held_out.measure()
    examples = show_examples(source, loaded.fitted_.spec, stages, choose_examples(held_out))
    anomalous = int(held_out.anomalous.sum())
    title = f"Residuals of {len(held_out.samples) - anomalous:,} normal and {anomalous:,} anomalous images"
    write_picture(residual_page(held_out, gaps, stages, examples, title), output, title, WORDS)
    _say(console, held_out, stages, gaps, output)
    finish(console, held_out.unreadable)


def _say(console: Console, held_out: HeldOut, stages: Sequence[Stage], gaps: Sequence[Gap], output: Path) -> None:
    """The figures on stdout, and what was left out."""
    from unlike.artifacts import printable
    from unlike.report.residuals import estimate_words, gap_words

    for stage, gap in zip(stages, gaps, strict=True):
        means = f"normal {estimate_words(gap.normal)}, anomalous {estimate_words(gap.anomalous)}"
        typer.echo(f"{stage.title}: mean residual {means}; {', '.join(gap_words(gap))}")
    if held_out.known:
        console.say(
            f"{plural(len(held_out.known), 'image')} left out, such as {printable(held_out.known[0])}: a model has learned from them, "
            "and reconstructs them better than others."
        )
    console.say(f"Residuals of {plural(len(held_out.samples), 'image')}: {output}")
