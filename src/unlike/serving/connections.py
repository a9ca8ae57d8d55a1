"""Where a service's images come from and where its results go: `connections.toml` in its folder, and a few flags."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from unlike.config import from_mapping, read_toml
from unlike.errors import ConfigError, unknown
from unlike.serving.sinks import SINKS, Sink

FILE = "connections.toml"
SEND = ("all", "anomalous")
MQTT_PORT = 1883


@dataclass(frozen=True, slots=True)
class SourceChoice:
    """Images of a source are scored by a detector of the service."""

    detector: str
    where: str
    kind: str = "folder"
    settings: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class SinkChoice:
    """Results go there, all or those that are anomalous, of all detectors or some.

    >>> SinkChoice("mes", "webhook", send="anomalous").wants({"detector": "cells", "anomalous": False})
    False
    """

    name: str
    kind: str
    send: str = "all"
    detectors: tuple[str, ...] = ()  # none: of all
    settings: Mapping[str, Any] = field(default_factory=dict)

    def wants(self, item: Mapping[str, Any]) -> bool:
        """Whether the row of an image is sent there; that an image could not be used is sent with all."""
        named = not self.detectors or item.get("detector") in self.detectors
        return named and (self.send == "all" or bool(item.get("anomalous")))


@dataclass(frozen=True, slots=True)
class Connections:
    """All sources and sinks of a service."""

    sources: tuple[SourceChoice, ...] = ()
    sinks: tuple[SinkChoice, ...] = ()


def read_connections(
    path: Path | None, *, watch: Sequence[str] = (), webhook: str | None = None, mqtt: str | None = None
) -> Connections:
    """What a file says, where there is one, and flags add: NAME=DIR, a URL, HOST or HOST:PORT. A ConfigError says what is wrong.

    >>> found = read_connections(None, watch=["cells=/data/line3"], mqtt="broker:1884")
    >>> found.sources[0].where, found.sinks[0].settings
    ('/data/line3', {'host': 'broker', 'port': 1884})
    """
    content = {} if path is None else read_toml(path)
    for name in content:
        if name not in ("sources", "sinks"):
            raise ConfigError(f"{path}: expected [[sources]] and [[sinks]], came {name!r}")
    sources = [_read_source(entry, f"{path}: sources") for entry in _entries(content, "sources", path)]
    sinks = [_read_sink(entry, f"{path}: sinks") for entry in _entries(content, "sinks", path)]
    sources += [_parse_watch(text) for text in watch]
    sinks += [SinkChoice("webhook", "webhook", settings={"url": webhook})] if webhook else []
    sinks += [SinkChoice("mqtt", "mqtt", settings=_parse_broker(mqtt))] if mqtt else []
    names = [sink.name for sink in sinks]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise ConfigError(f"two sinks are called {twice!r}; give each a name of its own")
    for sink in sinks:
        _check_sink(sink)
    return Connections(tuple(sources), tuple(sinks))


def open_sink(choice: SinkChoice) -> Sink:
    """A sink as it was chosen; a ConfigError says what is wrong with its settings."""
    made = SINKS[choice.kind]
    return made(_configure(choice))


def _configure(choice: SinkChoice) -> Any:
    try:
        return from_mapping(SINKS[choice.kind].Config, choice.settings, choice.name)
    except TypeError:  # a setting without a default is missing
        raise ConfigError(f"sink {choice.name!r}: expected {_needed(choice.kind)}") from None


def _needed(kind: str) -> str:
    import dataclasses

    fields = dataclasses.fields(SINKS[kind].Config)
    missing = [
        one.name for one in fields if one.default is dataclasses.MISSING and one.default_factory is dataclasses.MISSING
    ]
    return f"{' and '.join(missing)} of a {kind}"


def _check_sink(choice: SinkChoice) -> None:
    if choice.kind not in SINKS:
        raise unknown(SINKS.what, choice.kind, SINKS)
    if choice.send not in SEND:
        raise ConfigError(f"sink {choice.name!r}: send: expected {' or '.join(SEND)}, came {choice.send!r}")
    _configure(choice)


def _entries(content: Mapping[str, Any], name: str, path: Path | None) -> list[dict[str, Any]]:
    found = content.get(name, [])
    if not isinstance(found, list) or not all(isinstance(entry, dict) for entry in found):
        raise ConfigError(f"{path}: expected [[{name}]], with two brackets, for each of them")
    return found


def _read_source(entry: Mapping[str, Any], where: str) -> SourceChoice:
    rest = dict(entry)
    detector, place = _word(rest, "detector", where), _word(rest, "where", where)
    kind = _word(rest, "kind", where, "folder")
    return SourceChoice(detector, place, kind, rest)


def _read_sink(entry: Mapping[str, Any], where: str) -> SinkChoice:
    rest = dict(entry)
    kind = _word(rest, "kind", where)
    name, send = _word(rest, "name", where, kind), _word(rest, "send", where, "all")
    detectors = rest.pop("detectors", [])
    if not isinstance(detectors, list) or not all(isinstance(one, str) for one in detectors):
        raise ConfigError(f"{where}: detectors: expected a list of names, came {detectors!r}")
    return SinkChoice(name, kind, send, tuple(detectors), rest)


def _word(entry: dict[str, Any], name: str, where: str, default: str | None = None) -> str:
    found = entry.pop(name, default)
    if not isinstance(found, str) or not found:
        raise ConfigError(f"{where}: expected {name} = a word, came {found!r}")
    return found


def _parse_watch(text: str) -> SourceChoice:
    name, equals, folder = text.partition("=")
    if not (equals and name and folder):
        raise ConfigError(f"--watch: expected NAME=DIR, a detector and the folder its images come to, came {text!r}")
    return SourceChoice(name, folder)


def _parse_broker(text: str) -> dict[str, Any]:
    host, colon, port = text.rpartition(":")
    if not colon:
        return {"host": text, "port": MQTT_PORT}
    if not host or not port.isdigit():
        raise ConfigError(f"--mqtt: expected HOST or HOST:PORT, came {text!r}")
    return {"host": host, "port": int(port)}
