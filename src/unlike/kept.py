"""Kept: what is dear to make, as entries of the user's cache folder, each whole or absent."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import platformdirs

from unlike.errors import ConfigError

GIGABYTE = 1_000_000_000
LIMIT_GB = 10.0  # default bound of the whole cache
STALE_SECONDS = 24 * 3600.0  # an unfinished entry older than this was left by a kill
ENTRY = re.compile(
    r"(?:decoded|network|outline|weights)-[0-9a-f]{32}(\.building-.*)?"
)  # nothing else is ours to delete


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
        folder = os.environ.get("UNLIKE_CACHE") or platformdirs.user_cache_path("unlike")
        limit = os.environ.get("UNLIKE_CACHE_GB") or LIMIT_GB
        try:
            return cls(Path(folder), int(float(limit) * GIGABYTE))
        except (ValueError, OverflowError):
            raise ConfigError(f"UNLIKE_CACHE_GB: expected a number of gigabytes, came {limit!r}") from None

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

    def make_room(self, needed: int) -> None:
        """Delete the least recently used entries until `needed` bytes fit, and what killed builds left behind."""
        if needed > self.limit_bytes:
            raise OSError(f"{needed:,} bytes are more than the cache may hold")
        total, entries = needed, []
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
                return
            shutil.rmtree(folder, ignore_errors=True)
            total -= size


def touch(entry: Path) -> None:
    """The entry is used now: evict it last."""
    with contextlib.suppress(OSError):  # a cache that may only be read
        os.utime(entry)
