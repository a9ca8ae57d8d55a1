"""A folder that is watched: each file is taken once, when it is whole, over restarts too."""

from __future__ import annotations

import contextlib
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from unlike.data.readers import is_image
from unlike.errors import ConfigError
from unlike.serving.sources.base import Arrival
from unlike.serving.sources.ledger import BROKEN, DONE, WAITING, Entry, Ledger, Signature

STATE = ".unlike-watch.sqlite"  # in the folder itself, unless another place is named
TEMPORARY_STEMS = (
    ".tmp",
    ".temp",
    ".part",
    ".partial",
    ".filepart",
    ".crdownload",
)  # a.tmp.png, as writers need the ending
RETRY_SECONDS = (2.0, 10.0, 60.0)  # before a file that cannot be read is tried again; after the last it is given up
AWAY_SECONDS = 5.0  # between two looks for a folder that is gone
LEAST_REST = 4.0  # times what a look took, so that a large folder is not looked at all the time
BATCH = 32  # files at a time
FORGET_SECONDS = 86_400.0  # between two times that files which are long gone are forgotten


@dataclass(frozen=True, slots=True)
class FolderConfig:
    """When a file is whole, and what becomes of it."""

    settle_seconds: float = 1.0  # that size and time of change stay as they are; 0 where files are renamed in whole
    poll_seconds: float = 0.5  # between two looks
    move_to: str = ""  # where files go that are done; empty: they stay
    move_broken_to: str = ""  # where files go that are given up; empty: they stay
    state: str = ""  # the file that remembers what is done; empty: .unlike-watch.sqlite in the folder
    once: bool = False  # take what is there, then end

    def __post_init__(self) -> None:
        if self.settle_seconds < 0 or self.poll_seconds <= 0:
            raise ConfigError(
                f"source.settle_seconds, source.poll_seconds: expected at least 0 and above 0, came {self.settle_seconds:g} and "
                f"{self.poll_seconds:g}"
            )


class FolderSource:
    """Files of a folder, of any depth, each once, when size and time of change have stayed the same for a while.

    A file that was written anew under its name is another image. Hidden files, and names that writers use until a file is
    whole (`x.png.part`, `x.tmp.png`, `~x.png`), are left alone until they are renamed. Links to folders are not followed.
    """

    Config = FolderConfig

    def __init__(self, where: str, config: FolderConfig, say: Callable[[str], None]) -> None:
        self._folder, self.config, self._say = Path(where), config, say
        if not self._folder.is_dir():
            raise ConfigError(f"{where}: expected a folder to watch, which is not there; make it, or name another")
        self._aside = [Path(name).absolute() for name in (config.move_to, config.move_broken_to) if name]
        if self._folder.absolute() in self._aside:
            raise ConfigError(
                f"{where}: files that are done cannot be moved to where they come from; name another folder"
            )
        self.ledger = Ledger(Path(config.state) if config.state else self._folder / STATE)
        self._seen: dict[str, tuple[Signature, float]] = {}  # files that may still be written, and since when they rest
        self._forgotten = 0.0
        self._away = False

    @property
    def taken_before(self) -> int:
        """Files that an earlier watch has done."""
        return sum(entry.state == DONE for entry in self.ledger.entries.values())

    def arrivals(self, stopping: threading.Event) -> Iterator[Sequence[Arrival]]:
        while not stopping.is_set():
            started = time.monotonic()
            whole = self._look()
            took = time.monotonic() - started
            for start in range(0, len(whole), BATCH):
                yield whole[start : start + BATCH]
                if stopping.is_set():
                    return
            if self.config.once and not self._seen:
                return
            self._rest(stopping, max(self.config.poll_seconds, LEAST_REST * took))

    def done(self, taken: Sequence[Arrival]) -> None:
        self.ledger.record({one.name: Entry(_signature_in(one), DONE) for one in taken})
        if self.config.move_to:
            for one in taken:
                self._move(one.name, self.config.move_to)

    def refused(self, arrival: Arrival, reason: str) -> float | None:
        del reason  # a file that is half written looks like one that is broken: all are tried again
        signature = _signature_in(arrival)
        known = self.ledger.entries.get(arrival.name)
        tries = known.tries if known is not None and known.signature == signature else 0
        if tries < len(RETRY_SECONDS):
            wait = RETRY_SECONDS[tries]
            self.ledger.record({arrival.name: Entry(signature, WAITING, tries + 1, time.time() + wait)})
            return wait
        self.ledger.record({arrival.name: Entry(signature, BROKEN, tries + 1)})
        if self.config.move_broken_to:
            self._move(arrival.name, self.config.move_broken_to)
        return None

    def close(self) -> None:
        self.ledger.close()

    def _rest(self, stopping: threading.Event, seconds: float) -> None:
        """Wait until the next look; of a folder that is gone say so once, and wait longer."""
        there = self._folder.is_dir()
        if there is self._away:
            self._say(f"{self._folder}: {'is back' if there else 'is gone; it is watched again when it is back'}.")
            self._away = not there
        stopping.wait(seconds if there else AWAY_SECONDS)

    def _look(self) -> list[Arrival]:
        """The files that are whole and not done, the oldest first."""
        now, tick = time.time(), time.monotonic()
        there = dict(self._scan(self._folder, ""))
        resting: dict[str, tuple[Signature, float]] = {}
        whole: list[tuple[int, str]] = []
        for name, signature in there.items():
            entry = self.ledger.entries.get(name)
            if entry is not None and entry.signature == signature:
                if entry.state == WAITING and entry.next_at <= now:
                    whole.append((signature.changed, name))
                continue
            before, since = self._seen.get(name, (None, tick))
            since = since if before == signature else tick
            if tick - since >= self.config.settle_seconds:
                whole.append((signature.changed, name))
            else:
                resting[name] = (signature, since)
        self._seen = resting
        self._tidy(there, tick)
        return [self._arrival(name, there[name]) for _, name in sorted(whole)]

    def _arrival(self, name: str, signature: Signature) -> Arrival:
        stamp = (signature.size, signature.changed)
        return Arrival(name, f"{name}:{signature.size}:{signature.changed}", self._folder / name, stamp=stamp)

    def _scan(self, folder: Path, prefix: str) -> Iterator[tuple[str, Signature]]:
        """The images of a folder by their path in it; what vanishes while one looks is left out."""
        try:
            entries = list(os.scandir(folder))
        except OSError:  # gone, or not to be read: looked for again at the next look
            return
        for entry in entries:
            if is_temporary(entry.name):
                continue
            with contextlib.suppress(OSError):
                if entry.is_dir(follow_symlinks=False):
                    if Path(entry.path).absolute() not in self._aside:
                        yield from self._scan(Path(entry.path), f"{prefix}{entry.name}/")
                elif is_image(entry.name) and entry.is_file():
                    yield f"{prefix}{entry.name}", Signature.of(entry.stat())

    def _tidy(self, there: dict[str, Signature], tick: float) -> None:
        """Move what was done when a stop came in between; now and then forget what is long gone."""
        if self._forgotten and tick - self._forgotten < FORGET_SECONDS:
            return
        self._forgotten = tick
        if self._folder.is_dir():
            self.ledger.forget_gone(there)
        for state, target in ((DONE, self.config.move_to), (BROKEN, self.config.move_broken_to)):
            left = [name for name, entry in self.ledger.entries.items() if entry.state == state and target]
            for name in left:
                if there.get(name) == self.ledger.entries[name].signature:
                    self._move(name, target)

    def _move(self, name: str, target: str) -> None:
        """Put a file away under its path, never over another; where that cannot be, it stays, and is not taken again."""
        source, goal = self._folder / name, Path(target) / name
        try:
            goal.parent.mkdir(parents=True, exist_ok=True)
            for number in range(1, 10_000):
                if not goal.exists():
                    break
                goal = (Path(target) / name).with_stem(f"{Path(name).stem}.{number}")
            shutil.move(source, goal)
        except OSError as error:
            self._say(
                f"{source}: is done, but cannot be moved to {goal.parent} ({error.strerror or error}); it stays where it is."
            )
            return
        self.ledger.forget([name])


def is_temporary(name: str) -> bool:
    """Whether a file's name says that it is still being written, or hidden.

    >>> is_temporary("a.tmp.png"), is_temporary(".a.png.Xy12"), is_temporary("~a.png"), is_temporary("a.png")
    (True, True, True, False)
    """
    return name.startswith((".", "~")) or Path(name).stem.lower().endswith(TEMPORARY_STEMS)


def _signature_in(arrival: Arrival) -> Signature:
    """Of the file as it was when it was given."""
    assert arrival.stamp is not None
    return Signature(*arrival.stamp)
