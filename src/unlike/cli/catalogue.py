"""What `unlike list` prints: every name, what it is for, and its settings with their defaults."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

from unlike.config import to_mapping
from unlike.decision.thresholds import THRESHOLDS
from unlike.models import MODELS
from unlike.scoring import SCORERS
from unlike.settings import PRESETS


def describe(what: str) -> Iterator[str]:
    """The lines for one kind of name."""
    if what == "presets":
        yield from (f"{name:12} {_assignments(preset)}" for name, preset in PRESETS.items())
        return
    registries: dict[str, dict[str, Any]] = {"models": MODELS, "scorers": SCORERS, "thresholds": THRESHOLDS}
    for name, kind in registries[what].items():
        yield f"{name:12} {_first_line(kind)}"
        config = getattr(kind, "Config", None)
        if config is not None:
            section = what.removesuffix("s")
            yield from (
                f"{'':12}   --set {section}.{key}={_written(value)}" for key, value in to_mapping(config()).items()
            )


def _first_line(kind: type) -> str:
    return (kind.__doc__ or "").strip().splitlines()[0]


def _assignments(sections: dict[str, dict[str, Any]]) -> str:
    pairs = [(section, key, value) for section, values in sections.items() for key, value in values.items()]
    return "  ".join(f"{section}.{key}={_written(value)}" for section, key, value in pairs)


def _written(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def settings_table() -> Iterator[tuple[str, str]]:
    """Every setting that is common to all detectors, with its default: (name, value)."""
    from unlike.settings import Settings

    for item in dataclasses.fields(Settings):
        default = item.default_factory() if item.default_factory is not dataclasses.MISSING else None
        if default is not None:
            yield from ((f"{item.name}.{key}", _written(value)) for key, value in to_mapping(default).items())
