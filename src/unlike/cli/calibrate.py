"""`unlike calibrate`: another threshold, promise or rule without fitting again."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from unlike.cli.arguments import AnyOther, DetectorPath, Device, Labels, finish
from unlike.cli.console import Console
from unlike.errors import ConfigError


def calibrate(
    detector: DetectorPath,
    good: Annotated[
        str | None,
        typer.Argument(
            metavar="[GOOD]",
            help="Fresh normal images, none that it was fitted on; without any, those that it held out itself.",
        ),
    ] = None,
    labelled: Annotated[
        str | None,
        typer.Argument(
            metavar="[LABELLED]", help="Normal and anomalous images with labels, for a rule that chooses by them."
        ),
    ] = None,
    *,
    output: Annotated[
        Path,
        typer.Option("-o", "--output", metavar="NEW", help="The detector to write; an older one there is replaced."),
    ],
    threshold: Annotated[str | None, typer.Option(help="The rule: `unlike list thresholds`.")] = None,
    false_alarms: Annotated[
        str | None, typer.Option(help="Share of normal images that may be called anomalous, or auto.")
    ] = None,
    without: Annotated[
        list[str] | None,
        typer.Option(metavar="FILE", help="A normal image that is not to count; may be repeated."),
    ] = None,
    drop: Annotated[int, typer.Option(metavar="N", help="Leave out so many of the strangest normal images.")] = 0,
    labels: Labels = None,
    settings: AnyOther = None,
    device: Device = "auto",
) -> None:
    """Draw the threshold of a detector anew, by other normal images, another promise or another rule.

    Example: unlike calibrate bottle.unlike fresh/ -o bolder.unlike --threshold tail --false-alarms 0.02
    """
    from unlike.artifacts import check_replaceable
    from unlike.cli.arguments import read_choices
    from unlike.cli.fit import parse_share
    from unlike.data.source import open_source
    from unlike.detector.calibrating import recalibrate
    from unlike.detector.detector import Detector

    chosen = read_choices(None, settings or [])[0]
    decided = chosen.pop("decision", {})
    of_rule = decided.pop("settings", None)
    if chosen or decided:
        (section, values) = next(iter(chosen.items())) if chosen else ("decision", decided)
        raise ConfigError(
            f"--set {section}.{next(iter(values))}: a fitted detector can have another decision only; expected --threshold, "
            "--false-alarms, or --set 'decision.settings={...}' of the rule"
        )
    check_replaceable(output)
    loaded = Detector.load(detector, device)
    with_labels = labelled if labelled is not None or labels is None else good
    source = None
    if with_labels is not None:
        source = open_source(with_labels, labels, pages=loaded.settings.data.pages)
        good = None if labelled is None else good
    found = recalibrate(
        loaded,
        good,
        source,
        threshold=threshold,
        false_alarms=None if false_alarms is None else parse_share(false_alarms),
        settings=of_rule,
        without=without or [],
        drop=drop,
    )
    found.save(output)
    console = Console()
    console.say_calibration(loaded, found, output)
    finish(console, found.fitted_.unreadable)
