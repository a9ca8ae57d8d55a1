"""Where images come from while a line runs: a folder that a camera writes to, or a source of another package."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from unlike.config import from_mapping
from unlike.errors import unknown
from unlike.registry import Registry
from unlike.serving.sources.base import Arrival, ImageSource

__all__ = ["SOURCES", "Arrival", "ImageSource", "open_arrivals"]

SOURCES: Registry[type[ImageSource]] = Registry(
    "source of images", "unlike.sources", {"folder": "unlike.serving.sources.watch:FolderSource"}
)


def open_arrivals(kind: str, where: str, settings: Mapping[str, Any], say: Callable[[str], None]) -> ImageSource:
    """A source by its name, with its settings; a ConfigError names what is known. `say` takes sentences for people.

    >>> open_arrivals("camera", "cam0", {}, print)
    Traceback (most recent call last):
    unlike.errors.ConfigError: unknown source of images 'camera'; known: folder
    """
    if kind not in SOURCES:
        raise unknown(SOURCES.what, kind, SOURCES)
    made = SOURCES[kind]
    return made(where, from_mapping(made.Config, settings, "source"), say)
