"""`unlike demo`: the whole way on real images, with nothing but this package."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from unlike.cli.arguments import MOST_SEED
from unlike.cli.console import Console


def demo(
    output: Annotated[Path, typer.Option("-o", "--output", metavar="DIR", help="Where everything goes.")] = Path(
        "unlike-demo"
    ),
    seed: Annotated[int, typer.Option(min=0, max=MOST_SEED, help="Of every random choice.")] = 0,
) -> None:
    """Find the broken ones among real solar cells: fit, evaluate, report. No network, no GPU, a few minutes.

    Example: unlike demo -o cells
    """
    from unlike.demo import run_demo

    run_demo(output, seed, Console())
