"""`unlike evaluate`: how good is a detector on labelled images?"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from unlike.cli.arguments import Beside, DetectorPath, Device, finish, load_detectors
from unlike.cli.console import Console


def evaluate(
    detector: DetectorPath,
    labelled: Annotated[
        str,
        typer.Argument(metavar="LABELLED", help="MVTec AD layout (one category or several), a manifest, or an array."),
    ],
    output: Annotated[
        Path, typer.Option("-o", "--output", metavar="DIR", help="For metrics.json, scores.csv, report.html.")
    ],
    labels: Annotated[
        Path | None, typer.Option(metavar="Y.csv|Y.npy", help="One label a row of an array; 0 is normal.")
    ] = None,
    synthetic: Annotated[
        bool, typer.Option("--synthetic", help="Without defective images: make defects on copies of the normal ones.")
    ] = False,
    beside: Beside = None,
    device: Device = "auto",
) -> None:
    """Measure a detector on labelled images, and write a report.

    Example: unlike evaluate bottle.unlike bottle/ -o bottle-report --beside other.unlike
    """
    from unlike.artifacts import check_writable
    from unlike.data.source import labelled as choose_labelled
    from unlike.data.source import open_source
    from unlike.evaluation import evaluate as measure
    from unlike.report import write_evaluation

    check_writable(output / "report.html")
    others = load_detectors([detector, *(beside or [])], device)
    loaded = others.pop(next(iter(others)))
    console = Console()
    source = open_source(labelled, labels, pages=loaded.settings.data.pages)
    console.say_notes((source if synthetic else choose_labelled(source)).notes)
    with console.progress() as notify:

        def tell(done: int, total: int) -> None:
            notify("score", done, total, {})

        found = measure(loaded, source, synthetic=synthetic, notify=tell)
        write_evaluation(loaded, found, output, beside=others, notify=tell)
    console.say_evaluation(found, output)
    console.say_clipped(found.scores.clipped, loaded)
    finish(console, found.scores.unreadable)
