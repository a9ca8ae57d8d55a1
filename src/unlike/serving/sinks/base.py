"""What a sink promises, and what becomes of a message."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any, ClassVar, Protocol, runtime_checkable

from unlike.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Message:
    """One result on its way, as the outbox holds it."""

    id: int  # the same at every try: by it a receiver knows what it has had
    payload: Mapping[str, Any]  # the row of an image, as REST gives it


class Fate(Enum):
    """What became of one try to send a message."""

    SENT = "sent"  # whoever received it has said so
    AGAIN = "again"  # this one failed: after a while, and not for ever
    AWAY = "away"  # nobody was there: kept, however long that takes
    REFUSED = "refused"  # will never be taken: a dead letter at once


@dataclass(frozen=True, slots=True)
class Delivery:
    """The fate of a message, and why."""

    fate: Fate
    error: str = ""


@runtime_checkable
class Sink(Protocol):
    """Sends results somewhere.

    A class with these members, named by an entry point of the group `unlike.sinks`, can be a `kind` in `connections.toml`.
    """

    Config: ClassVar[type[Any]]  # a frozen dataclass of its settings

    def __init__(self, config: Any) -> None: ...

    def send(self, messages: Sequence[Message]) -> Sequence[Delivery]:
        """What became of each; returns within half a minute."""
        ...

    def close(self) -> None:
        """Let go of connections."""
        ...


def read_secret(path: str, what: str) -> str:
    """A secret that lies in a file of its own, so that it stands in no configuration; a ConfigError says what is wrong."""
    try:
        secret = Path(path).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8"
        raise ConfigError(f"{what}: {path} cannot be read ({reason}); expected a file that holds the secret") from None
    if not secret:
        raise ConfigError(f"{what}: {path} is empty; expected a file that holds the secret")
    return secret
