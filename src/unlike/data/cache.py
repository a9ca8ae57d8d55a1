"""Decode once: the images of an index as one memory map in the user's cache folder, or read anew each time."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
import numpy.typing as npt
import platformdirs

from unlike.data.arrays import ImageArray
from unlike.data.batches import Batch, ImageSet, Rows, block_rows, digest, stream, value_range
from unlike.data.images import Frame, decode, frame_image, promote
from unlike.data.index import Index
from unlike.errors import DataError
from unlike.records import Pixels, Sample, Unreadable

FORMAT = 1
GIGABYTE = 1_000_000_000
LIMIT_GB = 10.0  # default bound of the whole cache
STALE_SECONDS = 24 * 3600.0  # an unfinished entry older than this was left by a kill


@dataclass(frozen=True, slots=True)
class Cache:
    """Where decoded images are kept, and how much of the disk they may take.

    UNLIKE_CACHE and UNLIKE_CACHE_GB in the environment override the user's cache folder and 10 GB. Entries are
    evicted least recently used first. A set larger than the bound is not kept but decoded each time.
    """

    folder: Path
    limit_bytes: int

    @classmethod
    def default(cls) -> Cache:
        folder = os.environ.get("UNLIKE_CACHE") or platformdirs.user_cache_path("unlike")
        return cls(Path(folder), int(float(os.environ.get("UNLIKE_CACHE_GB") or LIMIT_GB) * GIGABYTE))


def load_images(
    index: Index, frame: Frame, cache: Cache | None, notify: Callable[[int, int], None] | None = None
) -> ImageSet:
    """Read every image once, so that all can be taken in any order. `cache=None` keeps nothing on disk.

    `notify(done, total)` is called as images are read.
    """
    notify = notify or (lambda done, total: None)
    if index.array is not None:
        return _RowImages(index, frame, notify)
    row_bytes = frame.height * frame.width * frame.channels * (4 if frame.floating else 1)
    if cache is None or len(index) * row_bytes > cache.limit_bytes:
        return _DecodedImages(index, frame, notify)
    entry = cache.folder / _key(index, frame)
    if not entry.is_dir():
        try:
            _build(index, frame, entry, notify)
        except OSError:  # a full or read-only cache folder: slower, but no reason to stop
            return _DecodedImages(index, frame, notify)
        _evict(cache, keep=entry)
    try:
        return _CachedImages(index, entry)
    except (OSError, ValueError, KeyError):  # evicted by another process this moment, or damaged: make it anew
        shutil.rmtree(entry, ignore_errors=True)
        return _DecodedImages(index, frame, notify)


class _RowImages:
    """Rows of an array, never copied; brought to the frame as they are taken."""

    def __init__(self, index: Index, frame: Frame, notify: Callable[[int, int], None]) -> None:
        assert index.array is not None
        facts = _read_all(index, frame, notify)
        self.samples, self.unreadable = facts.samples, facts.unreadable
        self.digests, self.value_range = facts.digests, facts.value_range
        self._array: ImageArray = index.array
        self._frame = frame
        self._rows = np.array([sample.row for sample in facts.samples], np.intp)
        self._whole = index.array.size == frame.size and index.array.channels == frame.channels

    def take(self, rows: Rows) -> Pixels:
        pixels = self._array.take(self._rows[rows])
        return pixels if self._whole else np.stack([frame_image(image, self._frame) for image in pixels])


class _DecodedImages:
    """Files that are decoded each time they are taken: slow, but nothing is kept."""

    def __init__(self, index: Index, frame: Frame, notify: Callable[[int, int], None]) -> None:
        facts = _read_all(index, frame, notify)
        self.samples, self.unreadable = facts.samples, facts.unreadable
        self.digests, self.value_range = facts.digests, facts.value_range
        self._frame, self._kind = frame, facts.kind

    def take(self, rows: Rows) -> Pixels:
        paths = [self.samples[row].path for row in rows]
        return np.stack([promote(frame_image(decode(path), self._frame), self._kind) for path in paths if path])


class _CachedImages:
    """Files decoded into a memory map."""

    def __init__(self, index: Index, entry: Path) -> None:
        facts = json.loads((entry / "facts.json").read_text(encoding="utf-8"))
        kept = np.asarray(facts["kept"], np.intp)
        self._map = np.load(entry / "images.npy", mmap_mode="r", allow_pickle=False)
        self.samples: Sequence[Sample] = [index.samples[position] for position in kept]
        self.unreadable = tuple(Unreadable(*item) for item in facts["unreadable"])
        self.digests = np.load(entry / "digests.npy", allow_pickle=False)
        self.value_range: tuple[float, float] = (facts["low"], facts["high"])
        if not len(kept) == len(self.digests) <= len(self._map):
            raise ValueError("the parts of a cache entry do not agree")
        os.utime(entry)  # used now: evict it last

    def take(self, rows: Rows) -> Pixels:
        return np.asarray(self._map[rows])


@dataclass(frozen=True, slots=True, eq=False)
class _Facts:
    samples: Sequence[Sample]
    unreadable: tuple[Unreadable, ...]
    digests: npt.NDArray[np.uint64]
    value_range: tuple[float, float]
    kind: np.dtype[np.generic]


def _read_all(
    index: Index, frame: Frame, notify: Callable[[int, int], None], keep: Callable[[Pixels], None] | None = None
) -> _Facts:
    """One pass over every image: which can be read, what they hash to, what values they span."""
    samples: list[Sample] = []
    unreadable: list[Unreadable] = []
    digests: list[int] = []
    low, high, kind = np.inf, -np.inf, np.dtype(np.uint8)
    for batch in stream(index, frame):
        samples.extend(batch.samples)
        unreadable.extend(batch.unreadable)
        notify(len(samples) + len(unreadable), len(index))
        if not len(batch.samples):
            continue
        digests.extend(map(digest, batch.pixels))
        kind = max(kind, batch.pixels.dtype, key=lambda kind: kind.itemsize)
        if frame.floating:
            low, high = min(low, float(batch.pixels.min())), max(high, float(batch.pixels.max()))
        if keep is not None:
            keep(batch.pixels)
    if not samples:
        named = "; ".join(f"{item.id} {item.reason}" for item in unreadable[:3])
        raise DataError(f"{index.source}: none of its {len(index):,} images can be used: {named}")
    return _Facts(samples, tuple(unreadable), np.array(digests, np.uint64), value_range(low, high, kind), kind)


def _key(index: Index, frame: Frame) -> str:
    """Of the paths, sizes and times of all files, and how they are brought to the frame."""
    sums = hashlib.sha256(json.dumps([FORMAT, asdict(frame)]).encode())
    for sample in index.samples:
        assert sample.path is not None
        try:
            stat = sample.path.stat()
            sums.update(f"{sample.path.absolute()}\0{stat.st_size}\0{stat.st_mtime_ns}\n".encode())
        except OSError:
            sums.update(f"{sample.path.absolute()}\0missing\n".encode())
    return sums.hexdigest()[:32]


def _build(index: Index, frame: Frame, entry: Path, notify: Callable[[int, int], None]) -> None:
    """Decode into a folder of our own, then rename it: whoever comes second finds the first one's and drops his."""
    entry.parent.mkdir(parents=True, exist_ok=True)
    fresh = Path(tempfile.mkdtemp(prefix="building-", dir=entry.parent))
    try:
        try:
            facts = _write_map(index, frame, fresh, np.dtype(np.float32 if frame.floating else np.uint8), notify)
        except _Wider:
            facts = _write_map(index, frame, fresh, np.dtype(np.uint16), notify)
        np.save(fresh / "digests.npy", facts.digests)
        kept_ids = {sample.id for sample in facts.samples}
        kept = [position for position, sample in enumerate(index.samples) if sample.id in kept_ids]
        unreadable = [[item.id, item.reason] for item in facts.unreadable]
        low, high = facts.value_range
        text = json.dumps({"source": index.source, "kept": kept, "unreadable": unreadable, "low": low, "high": high})
        (fresh / "facts.json").write_text(text, encoding="utf-8")
        with contextlib.suppress(FileExistsError, OSError):
            fresh.rename(entry)
        if not entry.is_dir():
            raise OSError(f"{entry} could not be made")
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


class _Wider(Exception):
    """A 16-bit image among 8-bit ones: the map must be made with the wider type."""


def _write_map(
    index: Index, frame: Frame, folder: Path, kind: np.dtype[np.generic], notify: Callable[[int, int], None]
) -> _Facts:
    shape = (len(index), frame.height, frame.width, frame.channels)
    with (folder / "images.npy").open("wb") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": kind.str, "fortran_order": False, "shape": shape})
        written = 0

        def keep(pixels: Pixels) -> None:
            nonlocal written
            if pixels.dtype.itemsize > kind.itemsize:
                raise _Wider
            file.write(promote(pixels, kind).data)  # a plain write: a full disk raises, where a mapped page would kill
            written += len(pixels)

        facts = _read_all(index, frame, notify, keep)
        _fill(file, (len(index) - written) * int(np.prod(shape[1:])) * kind.itemsize)
    return facts


def _fill(file: BinaryIO, count: int) -> None:
    """Lengthen the file by rows that were not readable, so that it is as long as its header says."""
    file.truncate(file.tell() + count)


def _evict(cache: Cache, keep: Path) -> None:
    """Delete the least recently used entries beyond the bound, and what killed builds left behind."""
    now = time.time()
    entries = []
    for folder in cache.folder.iterdir():
        with contextlib.suppress(OSError):  # another process may evict too
            used = folder.stat().st_mtime
            if folder.name.startswith("building-"):
                if now - used > STALE_SECONDS:
                    shutil.rmtree(folder, ignore_errors=True)
                continue
            entries.append((used, sum(file.stat().st_size for file in folder.iterdir()), folder))
    total = sum(size for _, size, _ in entries)
    for _, size, folder in sorted(entries):
        if total <= cache.limit_bytes:
            return
        if folder != keep:
            shutil.rmtree(folder, ignore_errors=True)
            total -= size


def iterate(images: ImageSet, rows: Rows, frame: Frame) -> Iterator[Batch]:
    """Chosen images of a set in blocks, as `stream` gives them."""
    size = block_rows(frame)
    for start in range(0, len(rows), size):
        chosen = rows[start : start + size]
        yield Batch([images.samples[row] for row in chosen], images.take(chosen), [frame.size] * len(chosen))
