"""What `unlike list` prints and the reference holds: every name, what it is for, and its settings with their defaults."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import io
import json
import shlex
import textwrap
import tokenize
import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Union

from unlike.backbones.networks import offline_backbones
from unlike.calibration.thresholds import THRESHOLDS
from unlike.config import name_kind, to_mapping
from unlike.data.augment import AugmentConfig
from unlike.detector.presets import PRESETS
from unlike.detector.settings import DataConfig, DecisionConfig
from unlike.errors import ConfigError
from unlike.models import MODELS
from unlike.registry import OURS, Registry
from unlike.scoring import SCORERS
from unlike.scoring.maps import MapConfig
from unlike.study.recipes import describe_recipes
from unlike.training import CorruptionConfig, FinetuneConfig, TrainingConfig

SHARED = (MapConfig, DataConfig, AugmentConfig, CorruptionConfig, TrainingConfig, DecisionConfig)  # by all detectors
UNBROKEN = 100_000  # columns, where lines go to a pipe
COLUMN = 36  # where it is said what a setting is
SPACE = "\u00a0"  # where no line may end


@dataclass(frozen=True, slots=True)
class Setting:
    """Something to choose with `--set`."""

    name: str  # section.key
    value: str  # as `--set` takes it: the default, or what a preset chooses
    words: str = ""  # what it is

    @property
    def assignment(self) -> str:
        """What stands behind `--set`."""
        return f"{self.name}={self.value}"


@dataclass(frozen=True, slots=True)
class Entry:
    """A name that can be chosen."""

    name: str
    about: str  # what it is for
    settings: tuple[Setting, ...] = ()


def describe(what: str, columns: int = UNBROKEN, *, everything: bool = False) -> Iterator[str]:
    """The lines for one kind of name, broken to fit into so many columns; `everything`: presets of reports too, after the others."""
    if what == "backbones":
        yield from (f"{name:28} {state}" for name, state in offline_backbones().items())
        yield "and any network of timm by its name, whose weights come from the hub unless pretrained is false"
        return
    entries = list(list_entries(what))
    if everything and what == "presets":
        yield from _describe_all(entries, columns)
        return
    yield from _describe_entries(what, entries, columns)


def _describe_all(entries: Sequence[Entry], columns: int) -> Iterator[str]:
    """Presets in two groups."""
    yield "for your images"
    yield from _describe_entries("presets", entries, columns)
    yield ""
    yield "of published reports"
    yield from _describe_entries("presets", list(list_presets(report=True)), columns)


def _describe_entries(what: str, entries: Sequence[Entry], columns: int) -> Iterator[str]:
    widest = max(len(entry.name) for entry in entries)
    for entry in entries:
        yield from _hang(f"{entry.name:{widest}}  ", entry.about, columns)
        if what == "presets":
            yield from _fill([setting.assignment for setting in entry.settings], columns)
        else:
            for setting in entry.settings:
                yield from _show(setting, columns)


def list_entries(what: str) -> Iterator[Entry]:
    """The names of one kind: models, scorers, presets, thresholds or recipes."""
    if what == "recipes":
        yield from (Entry(name, about) for name, about in describe_recipes())
    elif what == "presets":
        yield from list_presets(report=False)
    else:
        registries: dict[str, Registry[Any]] = {"models": MODELS, "scorers": SCORERS, "thresholds": THRESHOLDS}
        registry = registries[what]
        yield from (_entry_of(registry, name, what.removesuffix("s")) for name in registry)


def list_presets(*, report: bool) -> Iterator[Entry]:
    """The presets of published reports, or all others."""
    for name, preset in PRESETS.items():
        if preset.report is report:
            sections = preset.sections.items()
            chosen = ((f"{part}.{key}", value) for part, values in sections for key, value in values.items())
            yield Entry(name, preset.purpose, tuple(Setting(full, _written(value)) for full, value in chosen))


def _entry_of(registry: Registry[Any], name: str, section: str) -> Entry:
    """A class that can be chosen; of a plug-in also whose it is, or why it cannot be had."""
    try:
        kind, package = registry[name], registry.package(name)
    except ConfigError as error:
        return Entry(name, f"cannot be chosen: {error}")
    lines = inspect.cleandoc(kind.__doc__ or "").splitlines() or ["-"]
    config = getattr(kind, "Config", None)
    settings = () if config is None else tuple(list_settings(config, section))
    if config is not None and registry is THRESHOLDS:  # theirs are in a table of the section that all detectors share
        values = to_mapping(config())
        settings = tuple(
            Setting("decision.settings", _written({key: values[key]}), one.words)
            for one in settings
            for key in (one.name.partition(".")[2],)
        )
    return Entry(name, lines[0] + (f" (of package {package})" if package != OURS else ""), settings)


def settings_table() -> Iterator[Setting]:
    """Every setting that all detectors share, then those of fine-tuning."""
    for section in (*SHARED, FinetuneConfig):
        yield from list_settings(section, section.__name__.removesuffix("Config").lower())


def list_settings(config: type[Any], section: str) -> Iterator[Setting]:
    """The settings of a config dataclass, its own before those of its bases: what each is, and what it may be.

    >>> for setting in list_settings(MapConfig, "map"):
    ...     print(setting.assignment, "#", setting.words)
    map.blur_pixels=0.0 # standard deviation of a Gaussian, in the map's pixels; 0 leaves the map as it is
    map.reduction=mean # of a map to its score; top: the mean of the highest top_share (mean, max or top)
    map.top_share=0.01 # of the pixels, where reduction is top
    """
    hints, values = typing.get_type_hints(config), to_mapping(config())
    kinds = [kind for kind in config.__mro__ if dataclasses.is_dataclass(kind)]
    words = {name: text for kind in reversed(kinds) for name, text in _comments(kind).items()}
    depth = {name: n for n in reversed(range(len(kinds))) for name in inspect.get_annotations(kinds[n])}
    for key in sorted(values, key=depth.__getitem__):
        may_be = f"({_alternatives(choices)})" if (choices := _choices(hints[key])) else ""
        yield Setting(f"{section}.{key}", _written(values[key]), f"{words.get(key, '')} {may_be}".strip())


def _comments(config: type[Any]) -> dict[str, str]:
    """What the source says of each field: on its lines, or else right above them."""
    try:
        source = textwrap.dedent(inspect.getsource(config))
    except (OSError, TypeError):  # a plug-in may come without
        return {}
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    said = {token.start[0]: token.string.lstrip("# ") for token in tokens if token.type == tokenize.COMMENT}
    lines = source.splitlines()
    (body,) = ast.parse(source).body
    assert isinstance(body, ast.ClassDef)
    found = {}
    for field in body.body:
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name):
            behind = [said[line] for line in range(field.lineno, (field.end_lineno or 0) + 1) if line in said]
            above = field.lineno - 1
            while lines[above - 1].lstrip().startswith("#"):
                above -= 1
            found[field.target.id] = " ".join(behind or [said[line] for line in range(above + 1, field.lineno)])
    return {name: text for name, text in found.items() if text}


def _choices(hint: Any) -> list[str]:
    """What a setting may be, if that is one of some words, or of several kinds.

    >>> _choices(Literal["grid", "mean"]), _choices(float | Literal["auto"]), _choices(int | None), _choices(bool)
    (['grid', 'mean'], ['a number', 'auto'], ['a whole number', 'none'], [])
    """
    if typing.get_origin(hint) is Literal:
        return [str(choice) for choice in typing.get_args(hint)]
    if typing.get_origin(hint) not in (Union, types.UnionType):
        return []
    kinds = typing.get_args(hint)
    words = [_choices(kind) or [name_kind(kind).strip("'")] for kind in kinds if kind is not int or float not in kinds]
    return [word for some in words for word in some] if len(words) > 1 else []


def _alternatives(words: list[str]) -> str:
    """Words as a sentence has them.

    >>> _alternatives(["a", "b", "c"])
    'a, b or c'
    """
    return f"{', '.join(words[:-1])} or {words[-1]}"


def _written(value: Any, *, inside: bool = False) -> str:
    """As TOML, but for a word by itself, which `--set` takes as it is.

    >>> _written("pad"), _written({"pca": {"code": "vector", "unit": True}}), _written(["fcn", "conv"])
    ('pad', '{pca = {code = "vector", unit = true}}', '["fcn", "conv"]')
    """
    if isinstance(value, Mapping):
        return f"{{{', '.join(f'{key} = {_written(item, inside=True)}' for key, item in value.items())}}}"
    return value if isinstance(value, str) and not inside else json.dumps(value)


def _show(setting: Setting, columns: int) -> Iterator[str]:
    """A setting and what it is, side by side where there is room."""
    label = f"  --set {shlex.quote(setting.assignment)}"
    if len(label) > COLUMN - 2 or not setting.words:
        yield label
        label = ""
    yield from _hang(label.ljust(COLUMN), setting.words, columns)


def _fill(assignments: Sequence[str], columns: int) -> list[str]:
    """As many assignments in a line as there is room for; only one that is longer than a line is broken."""
    whole = [text.replace(" ", SPACE) if len(text) < columns else text for text in assignments]
    return [line.replace(SPACE, " ") for line in _hang("  ", "  ".join(whole), columns)]


def _hang(label: str, text: str, columns: int) -> list[str]:
    """A text beside its label, in as many lines as it takes."""
    indent = " " * len(label)
    return textwrap.wrap(
        text, columns, initial_indent=label, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
    )
