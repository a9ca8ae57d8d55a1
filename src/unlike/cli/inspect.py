"""`unlike inspect`: what `fit` would take, before anything is fitted."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from unlike.cli.arguments import (
    DONE_IN_PART,
    IMAGES_HELP,
    MOST_SEED,
    Cached,
    Device,
    Good,
    GroupBy,
    Labels,
    read_choices,
)
from unlike.cli.console import Console
from unlike.cli.fit import parse_size


def inspect(
    images: Annotated[str, typer.Argument(metavar="IMAGES", help=IMAGES_HELP)],
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", metavar="DIR|FILE.html", help="Also write one page with pictures."),
    ] = None,
    labels: Labels = None,
    good: Good = None,
    group_by: GroupBy = None,
    preset: Annotated[str | None, typer.Option(help="That you mean to fit: `unlike list presets`.")] = None,
    size: Annotated[
        str | None,
        typer.Option(help="That you mean to fit: pixels a side, HEIGHTxWIDTH, auto or native; the default is native."),
    ] = None,
    features: Annotated[
        bool,
        typer.Option(
            "--features/--no-features", help="Look for series and strange images by features; takes a minute."
        ),
    ] = True,
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="SECTION.KEY=VALUE", help="As for `fit`; may be repeated.")
    ] = None,
    seed: Annotated[
        int, typer.Option(min=0, max=MOST_SEED, help="Of which images are looked at, where there are many.")
    ] = 0,
    device: Device = "auto",
    cache: Cached = True,
) -> None:
    """Say what `fit` would take, before anything is fitted: layout, labels, sizes, channels, copies, series, strange ones.

    Example: unlike inspect bottle/ -o bottle-inspection.html
    """
    from unlike.artifacts import check_writable
    from unlike.detector.inspect import inspect as look
    from unlike.detector.settings import Settings
    from unlike.report.findings import inspection_text
    from unlike.report.inspection import page_path, write_inspection

    if output is not None:
        check_writable(page_path(output))
    overrides: dict[str, dict[str, Any]] = read_choices(None, settings or [])[0]
    if size is not None:
        overrides.setdefault("data", {})["size"] = parse_size(size)
    console = Console()
    with console.progress() as notify:
        found = look(
            images,
            labels,
            good=good,
            group_by=group_by,
            settings=Settings.resolve(preset=preset, overrides=overrides),
            features=features,
            seed=seed,
            device=device,
            cache=cache,
            notify=notify,
        )
    typer.echo(inspection_text(found))
    if output is not None:
        console.say(f"Page: {write_inspection(found, output)}")
    if found.facts.unreadable:
        raise typer.Exit(DONE_IN_PART)
