"""The plans that ship with unlike: experiments of published reports, each as one command."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from unlike.config import read_toml
from unlike.errors import unknown

FOLDER = Path(__file__).parent


def recipe_names() -> list[str]:
    """The names of the plans that ship.

    >>> "learning-rates" in recipe_names()
    True
    """
    return sorted(path.stem for path in FOLDER.glob("*.toml"))


def describe_recipes() -> Iterator[tuple[str, str]]:
    """The name of each recipe, and what it is about."""
    for name in recipe_names():
        yield name, str(read_toml(FOLDER / f"{name}.toml").get("about", ""))


def find_plan(name: str) -> Path:
    """The file that a name stands for: a path to a TOML file, or a recipe."""
    path = Path(name)
    if path.suffix.lower() == ".toml" or path.exists():
        return path
    if name not in recipe_names():
        raise unknown("recipe", name, recipe_names())
    return FOLDER / f"{name}.toml"
