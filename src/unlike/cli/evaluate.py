"""`unlike evaluate`: how good is a detector on labelled images?"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from unlike.cli.arguments import Beside, DetectorPath, Device, Labels, finish, load_detectors
from unlike.cli.console import Console
from unlike.errors import ConfigError

if TYPE_CHECKING:
    from unlike.detector.detector import Detector


def evaluate(
    detector: DetectorPath,
    labelled: Annotated[
        str,
        typer.Argument(metavar="LABELLED", help="MVTec AD layout (one category or several), a manifest, or an array."),
    ],
    output: Annotated[
        Path, typer.Option("-o", "--output", metavar="DIR", help="For metrics.json, scores.csv, report.html.")
    ],
    labels: Labels = None,
    synthetic: Annotated[
        bool, typer.Option("--synthetic", help="Without defective images: make defects on copies of the normal ones.")
    ] = False,
    beside: Beside = None,
    scorers: Annotated[
        str | None,
        typer.Option(
            metavar="NAME[:KEY=VALUE],...",
            help="Other scorers of the same trained model beside it, such as kmeans:clusters=3,pca:components=2; they learn on the "
            "images of the fit.",
        ),
    ] = None,
    normal: Annotated[
        str | None, typer.Option(metavar="IMAGES", help="For --scorers: the images of the fit, where they have moved.")
    ] = None,
    device: Device = "auto",
) -> None:
    """Measure a detector on labelled images, and write a report.

    Example: unlike evaluate bottle.unlike bottle/ -o bottle-report --scorers residual,kmeans:clusters=3,pca:components=2
    """
    from unlike.artifacts import check_writable
    from unlike.data.source import labelled as choose_labelled
    from unlike.data.source import open_source
    from unlike.evaluation import evaluate as measure
    from unlike.report import write_evaluation

    check_writable(output / "report.html")
    if normal is not None and scorers is None:
        raise ConfigError("--normal: is for --scorers, which learn on these images; leave it out, or name scorers")
    others = load_detectors([detector, *(beside or [])], device)
    loaded = others.pop(next(iter(others)))
    rescored = {} if scorers is None else rescore_all(loaded, scorers, normal)
    console = Console()
    source = open_source(labelled, labels, pages=loaded.settings.data.pages)
    console.say_notes((source if synthetic else choose_labelled(source)).notes)
    with console.progress() as notify:

        def tell(done: int, total: int) -> None:
            notify("score", done, total, {})

        found = measure(loaded, source, synthetic=synthetic, notify=tell)
        measured = {
            label: measure(other, source, synthetic=synthetic, notify=tell) for label, other in rescored.items()
        }
        beside_it = {**others, **{label: other for label, other in rescored.items() if other is not loaded}}
        write_evaluation(loaded, found, output, beside=beside_it, notify=tell, scorers=measured)
    console.say_evaluation(found, output)
    console.say_scorers(measured)
    console.say_clipped(found.scores.clipped, loaded)
    finish(console, found.scores.unreadable)


def rescore_all(detector: Detector, scorers: str, normal: str | None) -> dict[str, Detector]:
    """The detector with each of the scorers, by what to call it; all are checked before any learns."""
    from unlike.detector.rescoring import choose_scorer, parse_scorers, rescore

    choices = parse_scorers(scorers)
    for choice in choices:
        choose_scorer(detector, choice)
    source = normal or detector.fitted_.source
    if normal is None and not Path(source).exists():
        raise ConfigError(
            f"--scorers: learn on the images of the fit, {source!r}, which are not there from here; name them with --normal IMAGES"
        )
    return {choice.label: rescore(detector, choice, source) for choice in choices}
