"""What a watch remembers over restarts: which files were taken, and which are broken."""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from unlike.errors import ConfigError, OutputError

SCHEMA = """
CREATE TABLE IF NOT EXISTS files (
    path BLOB PRIMARY KEY, size INTEGER NOT NULL, changed INTEGER NOT NULL, state TEXT NOT NULL,
    tries INTEGER NOT NULL, next_at REAL NOT NULL, at REAL NOT NULL
) WITHOUT ROWID
"""
DONE, WAITING, BROKEN = "done", "waiting", "broken"
KEPT_SECONDS = 7 * 86_400.0  # that a file which is gone is remembered: a network share may be away for a while


@dataclass(frozen=True, slots=True)
class Signature:
    """By which two looks at a file are told apart."""

    size: int  # bytes
    changed: int  # nanoseconds, the file's own time of change

    @classmethod
    def of(cls, status: os.stat_result) -> Signature:
        """That of a file."""
        return cls(status.st_size, status.st_mtime_ns)


@dataclass(frozen=True, slots=True)
class Entry:
    """What became of a file."""

    signature: Signature
    state: str
    tries: int = 0
    next_at: float = 0.0  # seconds since 1970, before which it is not tried again


class Ledger:
    """A small SQLite file that one watch holds; another that wants it is told so.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     ledger = Ledger(Path(folder, "state.sqlite"))
    ...     ledger.record({"a.png": Entry(Signature(3, 1), DONE)})
    ...     found = ledger.entries["a.png"].state
    ...     ledger.close()
    >>> found
    'done'
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._connection = sqlite3.connect(path, timeout=0.5, isolation_level=None, check_same_thread=False)
            self._connection.execute("PRAGMA locking_mode = EXCLUSIVE")
            self._connection.execute("PRAGMA synchronous = FULL")
            self._connection.execute("BEGIN EXCLUSIVE")
            self._connection.execute(SCHEMA)
            self._connection.execute("COMMIT")
            self.entries = dict(self._read())
        except (sqlite3.Error, OSError) as error:
            raise _explain(path, error) from None

    def record(self, entries: dict[str, Entry]) -> None:
        """Keep what became of files, all or none."""
        now = time.time()
        rows = [
            (os.fsencode(name), e.signature.size, e.signature.changed, e.state, e.tries, e.next_at, now)
            for name, e in entries.items()
        ]
        with self._transaction():
            self._connection.executemany("INSERT OR REPLACE INTO files VALUES (?, ?, ?, ?, ?, ?, ?)", rows)
        self.entries |= entries

    def forget(self, names: Iterable[str]) -> None:
        """Of files that are no longer there."""
        gone = list(names)
        with self._transaction():
            self._connection.executemany("DELETE FROM files WHERE path = ?", [(os.fsencode(name),) for name in gone])
        for name in gone:
            self.entries.pop(name, None)

    def forget_gone(self, there: Iterable[str]) -> None:
        """Forget files that have long been gone, so that what is remembered does not grow for ever."""
        known = self._connection.execute("SELECT path FROM files WHERE at < ?", (time.time() - KEPT_SECONDS,))
        self.forget({os.fsdecode(path) for (path,) in known} - set(there))

    def close(self) -> None:
        """Let another have it."""
        self._connection.close()

    def _read(self) -> Iterator[tuple[str, Entry]]:
        for path, size, changed, state, tries, next_at in self._connection.execute(
            "SELECT path, size, changed, state, tries, next_at FROM files"
        ):
            yield os.fsdecode(path), Entry(Signature(size, changed), state, tries, next_at)

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield
            except BaseException:
                self._connection.execute("ROLLBACK")
                raise
            self._connection.execute("COMMIT")
        except sqlite3.Error as error:
            raise OutputError(
                f"{self._path}: cannot be written ({error}); make room, or name another with --state"
            ) from None


def _explain(path: Path, error: Exception) -> ConfigError:
    code = getattr(error, "sqlite_errorcode", None)
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return ConfigError(
            f"{path}: another watch of this folder is running; stop it, or name another file with --state"
        )
    if code == sqlite3.SQLITE_NOTADB:
        return ConfigError(f"{path}: is not the state of a watch; name another file with --state")
    return ConfigError(
        f"{path}: what is done cannot be remembered here ({error}); name a file that can be written with --state"
    )
