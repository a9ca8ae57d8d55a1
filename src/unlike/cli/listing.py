"""`unlike list`: the names that can be chosen."""

from __future__ import annotations

import shutil
from enum import StrEnum
from typing import Annotated

import typer

from unlike.errors import ConfigError


class Listed(StrEnum):
    """What `unlike list` can list."""

    MODELS = "models"
    SCORERS = "scorers"
    PRESETS = "presets"
    BACKBONES = "backbones"
    THRESHOLDS = "thresholds"
    RECIPES = "recipes"


def list_names(
    what: Annotated[Listed, typer.Argument(help="Which names to list.")],
    everything: Annotated[bool, typer.Option("--all", help="Presets of published reports too.")] = False,
) -> None:
    """Name the parts that can be chosen, with their settings and defaults.

    Example: unlike list models
    """
    from unlike.cli.catalogue import UNBROKEN, describe

    columns = shutil.get_terminal_size((UNBROKEN, 1)).columns
    if everything and what is not Listed.PRESETS:
        raise ConfigError(f"--all: is for presets; {what.value} are all listed without it")
    typer.echo("\n".join(describe(what.value, columns, everything=everything)))
