"""Settings: frozen dataclasses, to and from TOML; every unknown name is an error with a suggestion."""

from __future__ import annotations

import dataclasses
import importlib.util
import tomllib
import types
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar, Union

from unlike.errors import ConfigError, unknown_setting

Config = TypeVar("Config")
RENAMED = {  # setting as it was called -> as it is called, and its values that are called otherwise
    "scorer.look": ("scorer.feature_group", {}),
    "scorer.scale": ("scorer.normalisation", {"levels": "quantiles", "line": "median"}),  # of an ensemble
}
RENAMED_NAMES = {("scorer", "fusion"): "ensemble"}  # what a name stands for, and as it was called -> as it is called


def to_mapping(config: Any) -> dict[str, Any]:
    """Turn a config dataclass into what TOML can hold; None, which TOML lacks, becomes "none".

    >>> @dataclasses.dataclass(frozen=True)
    ... class Sizes:
    ...     widths: tuple[int, ...] = (12, 24)
    ...     bottleneck: int | None = None
    >>> to_mapping(Sizes())
    {'widths': [12, 24], 'bottleneck': 'none'}
    """
    return {item.name: _plain(getattr(config, item.name)) for item in dataclasses.fields(config)}


def from_mapping(kind: type[Config], values: Mapping[str, Any], section: str) -> Config:
    """Build a `kind` from names and values, checking both. `section` names the place in messages.

    >>> @dataclasses.dataclass(frozen=True)
    ... class Sizes:
    ...     widths: tuple[int, ...] = (12, 24)
    >>> from_mapping(Sizes, {"widths": [8, 16]}, "model")
    Sizes(widths=(8, 16))
    >>> from_mapping(Sizes, {"width": 8}, "model")
    Traceback (most recent call last):
    unlike.errors.UnknownSettingError: unknown setting 'model.width'; did you mean 'model.widths'? known: model.widths
    """
    if not isinstance(values, Mapping):
        raise ConfigError(f"{section}: expected settings by name, came {values!r}")
    hints = typing.get_type_hints(kind)
    names = [item.name for item in dataclasses.fields(kind)]  # type: ignore[arg-type]
    for name in values:
        if name not in names:
            check_renamed(section, name, values[name], names)
            raise unknown_setting(section, name, names)
    return kind(**{name: _convert(value, hints[name], f"{section}.{name}") for name, value in values.items()})


def check_renamed(section: str, name: str, value: Any, known: Sequence[str]) -> None:
    """Raise ConfigError where a setting is called otherwise now, if the new name is a `known` one.

    >>> check_renamed("scorer", "scale", "line", ["scorers", "normalisation"])
    Traceback (most recent call last):
    unlike.errors.ConfigError: scorer.scale: is called scorer.normalisation now; expected scorer.normalisation = 'median'
    """
    part = section.partition(".")[0]  # of scorer.settings.pca too
    new, values = RENAMED.get(f"{part}.{name}", ("", {}))
    key = new.partition(".")[2]
    if key in known:
        same = values.get(value, value) if isinstance(value, str) else value
        raise ConfigError(f"{section}.{name}: is called {section}.{key} now; expected {section}.{key} = {same!r}")


def check_renamed_name(what: str, name: Any) -> None:
    """Raise ConfigError where a model, scorer or the like is called otherwise now.

    >>> check_renamed_name("scorer", "fusion")
    Traceback (most recent call last):
    unlike.errors.ConfigError: scorer 'fusion': is called 'ensemble' now
    """
    if isinstance(name, str) and (what, name) in RENAMED_NAMES:
        raise ConfigError(f"{what} {name!r}: is called {RENAMED_NAMES[what, name]!r} now")


def read_toml(path: Path) -> dict[str, Any]:
    """The content of a settings file; a ConfigError says what is wrong with it."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: cannot be opened ({error.strerror})") from None
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"{path}: is not TOML ({error})") from None


def parse_assignment(text: str) -> tuple[str, str, Any]:
    """Split `section.key=value` of the command line; the value is read as TOML, or as a bare word.

    >>> parse_assignment("model.widths=[8, 16]")
    ('model', 'widths', [8, 16])
    >>> parse_assignment("data.aspect=pad")
    ('data', 'aspect', 'pad')
    """
    name, equals, value = text.partition("=")
    section, dot, key = name.strip().partition(".")
    if not (equals and dot and section and key):
        raise ConfigError(f"expected section.key=value, came {text!r}; for instance training.epochs=20")
    return section, key, parse_value(value)


def parse_value(text: str) -> Any:
    """A value of the command line, read as TOML, or as a bare word.

    >>> parse_value("3"), parse_value("[8, 16]"), parse_value("pad")
    (3, [8, 16], 'pad')
    """
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text.strip()


def need_package(package: str, extra: str, what: str) -> None:
    """Raise ConfigError, without loading it, where a package of an extra is not installed.

    >>> need_package("numpy", "study", "studies need NumPy")
    >>> need_package("no_such_package", "study", "studies need Optuna")
    Traceback (most recent call last):
    unlike.errors.ConfigError: studies need Optuna, which is not installed: pip install 'unlike[study]'
    """
    if importlib.util.find_spec(package) is None:
        raise ConfigError(f"{what}, which is not installed: pip install 'unlike[{extra}]'")


def _plain(value: Any) -> Any:
    if value is None:
        return "none"
    if isinstance(value, Mapping):
        return {name: _plain(item) for name, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, tuple | list) else value


def _convert(value: Any, hint: Any, name: str) -> Any:
    """`value` as the annotated type `hint`, or a ConfigError that says what was expected."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (Union, types.UnionType):
        return _convert_union(value, arguments, name)
    if origin is Literal:
        return _convert_literal(value, arguments, name)
    if origin is tuple:
        return _convert_tuple(value, arguments, name)
    if origin is Mapping:
        return _convert_mapping(value, arguments, name)
    if hint is Any:
        return value
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if hint is type(None):
        if value is None or value == "none":
            return None
    elif isinstance(value, hint) and not (hint in (int, float) and isinstance(value, bool)):
        return value
    raise ConfigError(f"{name}: expected {name_kind(hint)}, came {value!r}")


def _convert_literal(value: Any, choices: tuple[Any, ...], name: str) -> Any:
    readings = [value, str(value)] if type(value) is int else [value]  # a word of digits looks like a number in TOML
    for choice in choices:
        if any(type(choice) is type(reading) and choice == reading for reading in readings):
            return choice
    raise ConfigError(f"{name}: expected {' or '.join(map(repr, choices))}, came {value!r}")


def _convert_union(value: Any, choices: tuple[Any, ...], name: str) -> Any:
    if value == "none" and type(None) in choices:  # before a union with str takes it for a word
        return None
    for choice in choices:
        try:
            return _convert(value, choice, name)
        except ConfigError:
            continue
    raise ConfigError(f"{name}: expected {' or '.join(map(name_kind, choices))}, came {value!r}")


def _convert_tuple(value: Any, arguments: tuple[Any, ...], name: str) -> tuple[Any, ...]:
    if not isinstance(value, list | tuple):
        raise ConfigError(f"{name}: expected a list, came {value!r}")
    if len(arguments) == 2 and arguments[1] is Ellipsis:
        return tuple(_convert(item, arguments[0], name) for item in value)
    if len(value) != len(arguments):
        raise ConfigError(f"{name}: expected a list of {len(arguments)}, came {value!r}")
    return tuple(_convert(item, kind, name) for item, kind in zip(value, arguments, strict=True))


def _convert_mapping(value: Any, arguments: tuple[Any, ...], name: str) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        raise ConfigError(f"{name}: expected settings by name, came {value!r}")
    return {str(key): _convert(item, arguments[1], f"{name}.{key}") for key, item in value.items()}


def name_kind(hint: Any) -> str:
    """What values of an annotated type are called.

    >>> name_kind(int), name_kind(tuple[int, ...]), name_kind(Literal["grid", "mean"])
    ('a whole number', 'a list', "'grid' or 'mean'")
    """
    words = {int: "a whole number", float: "a number", str: "a word", bool: "true or false", type(None): "'none'"}
    if typing.get_origin(hint) is Literal:
        return " or ".join(map(repr, typing.get_args(hint)))
    return "a list" if typing.get_origin(hint) is tuple else words.get(hint, str(hint))


def check_range(name: str, value: float, low: float, high: float) -> None:
    """Raise ConfigError unless low <= value <= high.

    >>> check_range("map.top_share", 2.0, 0.0, 1.0)
    Traceback (most recent call last):
    unlike.errors.ConfigError: map.top_share: expected 0 to 1, came 2
    """
    if not low <= value <= high:
        raise ConfigError(f"{name}: expected {low:g} to {high:g}, came {value:g}")


def check_widths(name: str, widths: Sequence[int]) -> None:
    """Raise ConfigError unless there is a width or more, each 1 or more."""
    if not widths or min(widths) < 1:
        raise ConfigError(f"model.{name}: expected one width or more, each 1 or more, came {list(widths)}")


def check_count(name: str, value: int) -> None:
    """Raise ConfigError unless a setting of that name is 1 or more.

    >>> check_count("heads", 0)
    Traceback (most recent call last):
    unlike.errors.ConfigError: model.heads: expected 1 or more, came 0
    """
    if value < 1:
        raise ConfigError(f"model.{name}: expected 1 or more, came {value}")


def check_count_or_none(name: str, value: int | None) -> None:
    """Raise ConfigError unless a setting of that name is 1 or more, or none.

    >>> check_count_or_none("bottleneck", 0)
    Traceback (most recent call last):
    unlike.errors.ConfigError: model.bottleneck: expected 1 or more, or none, came 0
    """
    if value is not None and value < 1:
        raise ConfigError(f"model.{name}: expected 1 or more, or none, came {value}")
