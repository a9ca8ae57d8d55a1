"""What `unlike list` prints: every name, what it is for, and its settings with their defaults."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any

from unlike.config import to_mapping
from unlike.data.augment import AugmentConfig
from unlike.decision.thresholds import THRESHOLDS
from unlike.models import MODELS
from unlike.models.backbones import offline_backbones
from unlike.scoring import SCORERS, MapConfig
from unlike.settings import PRESETS, DataConfig, DecisionConfig
from unlike.study.recipes import describe_recipes
from unlike.training import CorruptionConfig, FinetuneConfig, TrainingConfig


def describe(what: str) -> Iterator[str]:
    """The lines for one kind of name."""
    if what == "backbones":
        yield from (f"{name:28} {state}" for name, state in offline_backbones().items())
        yield "and any network of timm by its name, whose weights come from the hub unless pretrained is false"
        return
    if what == "presets":
        yield from (f"{name:12} {_assignments(preset)}" for name, preset in PRESETS.items())
        return
    if what == "recipes":
        yield from (f"{name:18} {about}" for name, about in describe_recipes())
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


def settings_table() -> Iterator[tuple[str, str, str]]:
    """Every setting that all detectors share, then those of fine-tuning: name, default, and what its comment says."""
    shared = (MapConfig, DataConfig, AugmentConfig, CorruptionConfig, TrainingConfig, DecisionConfig)
    for section in (*shared, FinetuneConfig):
        name = section.__name__.removesuffix("Config").lower()
        comments = _comments(section)
        for key, value in to_mapping(section()).items():
            yield f"{name}.{key}", _written(value), comments.get(key, "")


def _comments(config: type) -> dict[str, str]:
    """What stands behind each field in the source."""
    lines = (line.strip() for line in inspect.getsource(config).splitlines())
    fields = (line.partition(":") for line in lines if "  # " in line and ":" in line)
    return {name: rest.split("  # ", 1)[1] for name, _, rest in fields if name.isidentifier()}
