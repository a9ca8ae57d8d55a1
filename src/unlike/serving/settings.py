"""What a service is started with."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from unlike.serving.connections import Connections
from unlike.serving.uploads import Limits


@dataclass(frozen=True, slots=True)
class ServeSettings:
    """Where a service finds its detectors, keeps its history, and how much it takes on at a time."""

    folder: Path  # of detectors
    db: str = ""  # URL of the database; nothing: SQLite in the folder
    host: str = "127.0.0.1"
    port: int = 8000
    hosts: tuple[str, ...] = ()  # names under which it is asked for, beside those of this machine
    images: Path | None = None  # where contents of images are kept; None keeps none
    connections: Connections = field(
        default_factory=Connections
    )  # where images come from by themselves, and results go
    limits: Limits = field(default_factory=Limits)  # of one request
    queue: int = 64  # requests that are taken on at a time; one more is told to come back
    batch: int = 8  # images, of one request or of several, that are scored at once
    workers: int = 1  # threads that score
    body_seconds: float = 600.0  # in which a request is to arrive whole
    retry_seconds: int = 1  # after which who was sent away may come back

    @property
    def loopback(self) -> bool:
        """Whether only programs on this machine can reach it."""
        return self.host in ("127.0.0.1", "::1", "localhost")
