"""Who is at work on a study: a worker holds a lock for as long as it lives, and beats in the book while it runs something."""

from __future__ import annotations

import contextlib
import os
import platform
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

from unlike.artifacts import output_errors

try:
    import fcntl
except ImportError:  # not on Windows: there the beat alone tells
    fcntl = None  # type: ignore[assignment]

BEAT_SECONDS = 20.0
GRACE_SECONDS = 120.0  # without a beat, after which a worker elsewhere is taken for dead


class Worker:
    """One process at work: `name` is known to the others, and `is_gone` says which of them are no more.

    The lock is the system's, so that it is free again whatever ended the process. It tells of processes on this
    machine that share the study's folder; of all others the beat tells, which takes two minutes.
    """

    def __init__(self, folder: Path, family: str | None = None) -> None:
        self.family = family or new_family()
        self.name = f"{self.family}-{os.getpid()}-{secrets.token_hex(3)}"
        self._folder = folder / "workers"
        self._seen: dict[str, tuple[int, float]] = {}  # worker -> its last beat, and when we first saw that
        with output_errors(folder):
            self._folder.mkdir(parents=True, exist_ok=True)
            self._file: IO[str] = (self._folder / self.name).open("w")
        if fcntl is not None:
            fcntl.flock(self._file, fcntl.LOCK_EX)

    def close(self) -> None:
        """Leave."""
        self._file.close()
        (self._folder / self.name).unlink(missing_ok=True)

    def is_gone(self, name: str, beat: int) -> bool:
        """Whether another worker is no more, as far as its lock or its beat tells."""
        if name == self.name:
            return False
        gone = self._lock_is_free(name)
        if gone is not None:
            return gone
        last, since = self._seen.get(name, (-1, 0.0))
        if beat != last:
            self._seen[name] = (beat, time.monotonic())
            return False
        return time.monotonic() - since > GRACE_SECONDS

    def _lock_is_free(self, name: str) -> bool | None:
        """None where the lock tells nothing: of a worker elsewhere."""
        if fcntl is None or not name.startswith(f"{platform.node()}-"):
            return None
        try:
            opened = (self._folder / name).open("r+")
        except FileNotFoundError:  # it has left, perhaps this moment
            return None
        with opened as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                return False
        return True


def new_family() -> str:
    """A name for workers that one command starts.

    >>> new_family() != new_family()
    True
    """
    return f"{platform.node()}-{secrets.token_hex(4)}"


@contextlib.contextmanager
def beating(beat: Callable[[int], None]) -> Iterator[None]:
    """Call `beat` with 1, 2, 3... now and then while something runs; one that cannot be written is left out."""
    stop = threading.Event()

    def keep_beating() -> None:
        count = 0
        while not stop.wait(BEAT_SECONDS):
            count += 1
            with contextlib.suppress(Exception):  # the database is busy or gone: the run itself will say so
                beat(count)

    thread = threading.Thread(target=keep_beating, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
