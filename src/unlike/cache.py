"""The user's cache folder: what is dear to make, in entries that are each whole or absent."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
import tempfile
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import platformdirs

from unlike.errors import ConfigError

GIGABYTE = 1_000_000_000
LIMIT_GB = 10.0  # default bound of the whole cache
SUMS = "sums.json"  # of a sealed entry: each file's SHA-256
STALE_SECONDS = 24 * 3600.0  # an unfinished entry older than this was left by a kill
# nothing else in the folder is ours to delete
ENTRY = re.compile(r"(?:decoded|network|outline|weights)-[0-9a-f]{32}(\.building-.*)?")


@dataclass(frozen=True, slots=True)
class Cache:
    """Where things are kept, and how much of the disk they may take.

    UNLIKE_CACHE and UNLIKE_CACHE_GB in the environment override the user's cache folder and 10 GB. Entries are
    evicted least recently used first. What is larger than the bound is not kept but made each time.
    """

    folder: Path
    limit_bytes: int

    @classmethod
    def default(cls) -> Cache:
        folder = Path(os.environ.get("UNLIKE_CACHE") or platformdirs.user_cache_path("unlike"))
        limit = os.environ.get("UNLIKE_CACHE_GB") or LIMIT_GB
        try:
            size = int(float(limit) * GIGABYTE)
        except (ValueError, OverflowError):
            size = -1
        if size < 0:
            raise ConfigError(f"UNLIKE_CACHE_GB: expected a number of gigabytes, 0 or more, came {limit!r}")
        return cls(folder.expanduser().absolute(), size)

    @contextlib.contextmanager
    def building(self, entry: Path) -> Iterator[Path]:
        """A folder to fill, which then becomes the entry: whoever comes second finds the first one's and drops his."""
        self.folder.mkdir(parents=True, exist_ok=True)
        fresh = Path(tempfile.mkdtemp(prefix=f"{entry.name}.building-", dir=self.folder))
        try:
            yield fresh
            with contextlib.suppress(OSError):  # another process was first
                fresh.rename(entry)
        finally:
            shutil.rmtree(fresh, ignore_errors=True)

    @contextlib.contextmanager
    def sealing(self, name: str) -> Iterator[Path]:
        """A folder to fill with files, which then becomes the entry of that name, with their checksums."""
        with self.building(self.folder / name) as fresh:
            yield fresh
            files = sorted(fresh.iterdir())
            self.make_room(sum(file.stat().st_size for file in files))
            (fresh / SUMS).write_text(json.dumps({file.name: _sum(file) for file in files}), encoding="utf-8")

    def unseal(self, name: str, files: Iterable[str]) -> Path | None:
        """The folder of a sealed entry; None where there is none, or its files are not what was written: it is dropped."""
        entry = self.folder / name
        if not self.limit_bytes:  # whatever lies there from before
            return None
        try:
            sums = json.loads((entry / SUMS).read_text(encoding="utf-8"))
            if any(sums[file] != _sum(entry / file) for file in files):
                raise ValueError(f"{entry}: a checksum differs")
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError, ValueError, TypeError, LookupError):
            self.drop(name)
            return None
        except OSError:  # not now, or not to this user
            return None
        touch(entry)
        return entry

    def drop(self, name: str) -> None:
        """Delete the entry of that name, whatever it is by now."""
        entry = self.folder / name
        shutil.rmtree(entry, ignore_errors=True)
        with contextlib.suppress(OSError):
            entry.unlink()

    def make_room(self, needed: int) -> None:
        """Delete the least recently used entries until `needed` bytes fit, and what killed builds left behind.

        An OSError where they never will; what is there is then brought below the bound all the same.
        """
        fits = needed <= self.limit_bytes
        total, entries = needed if fits else 0, []
        for folder in self.folder.iterdir():
            name = ENTRY.fullmatch(folder.name)
            if name is None:
                continue
            with contextlib.suppress(OSError):  # another process may evict too
                used = folder.stat().st_mtime
                if name[1] is None:
                    entries.append((used, sum(file.stat().st_size for file in folder.iterdir()), folder))
                    total += entries[-1][1]
                elif time.time() - used > STALE_SECONDS:
                    shutil.rmtree(folder, ignore_errors=True)
        for _, size, folder in sorted(entries):
            if total <= self.limit_bytes:
                break
            shutil.rmtree(folder, ignore_errors=True)
            total -= size
        if not fits:
            raise OSError(f"{needed:,} bytes are more than the cache may hold")


def _sum(file: Path) -> str:
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def touch(entry: Path) -> None:
    """The entry is used now: evict it last."""
    with contextlib.suppress(OSError):  # a cache that may only be read
        os.utime(entry)
