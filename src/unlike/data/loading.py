"""Decode once: the images of an index as one memory map in the user's cache folder, or read anew each time."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from unlike.cache import Cache, touch
from unlike.data.arrays import ImageArray, release_pages, rows_of
from unlike.data.batches import Batch, ImageSet, block_rows, digest, find_insides, stream, value_range
from unlike.data.images import InputSpec, promote, to_spec
from unlike.data.index import Index
from unlike.errors import DataError, none_usable
from unlike.records import Bools, Pixels, Rows, Sample, Unreadable

FORMAT = 2  # of an entry
Notify = Callable[[int, int], None]  # images read, of how many


def load_images(index: Index, spec: InputSpec, cache: Cache | None, notify: Notify | None = None) -> ImageSet:
    """Read every image once, so that all can be taken in any order. `cache=None` keeps nothing on disk.

    `notify(done, total)` is called as images are read.
    """
    notify = notify or _say_nothing
    if index.array is not None:
        return _RowImages(index, spec, notify)
    if cache is not None:
        entry = cache.folder / f"decoded-{_key(index, spec)}"
        with contextlib.suppress(OSError):  # a full, small or read-only cache: slower, but no reason to stop
            found = _open_entry(index, spec, entry)
            if found is not None and found.mended(index):
                shutil.rmtree(entry, ignore_errors=True)
                found = None
            return found or _build_entry(index, spec, cache, entry, notify)
    return _DecodedImages(index, spec, notify)


def _say_nothing(done: int, total: int) -> None:
    """What is called where nobody wants to know."""


class _RowImages:
    """Rows of an array, never copied; brought to the spec as they are taken."""

    def __init__(self, index: Index, spec: InputSpec, notify: Notify) -> None:
        assert index.array is not None
        facts = _read_all(index, spec, notify)
        self.samples, self.unreadable = _readable(index, facts.bad).samples, facts.unreadable
        self.digests, self.value_range = facts.digests, facts.value_range
        self._array: ImageArray = index.array
        self._frame = spec
        self._rows = rows_of(self.samples)
        self._whole = index.array.size == spec.size and index.array.channels == spec.channels

    def take(self, rows: Rows) -> Pixels:
        pixels = self._array.take(self._rows[rows])
        return pixels if self._whole else np.stack([to_spec(image, self._frame) for image in pixels])

    def inside(self, rows: Rows) -> Bools | None:
        return find_insides([self._array.size] * len(rows), self._frame)


class _DecodedImages:
    """Files that are decoded each time they are taken: slow, but nothing is kept."""

    def __init__(self, index: Index, spec: InputSpec, notify: Notify) -> None:
        facts = _read_all(index, spec, notify)
        self._index, self._frame, self._kind = _readable(index, facts.bad), spec, facts.kind
        self._shapes = facts.shapes
        self.samples, self.unreadable = self._index.samples, facts.unreadable
        self.digests, self.value_range = facts.digests, facts.value_range

    def take(self, rows: Rows) -> Pixels:
        batch = next(stream(self._index.take(rows), self._frame, len(rows)))
        for lost in batch.unreadable:
            raise DataError(
                f"{lost.id}: could be read before, but now {lost.reason}; leave the images as they are until all is done"
            )
        return promote(batch.pixels, self._kind)

    def inside(self, rows: Rows) -> Bools | None:
        return find_insides(self._shapes[rows], self._frame)


class _CachedImages:
    """Files decoded into a memory map. Each image is compared with its digest when it is first taken."""

    def __init__(self, index: Index, spec: InputSpec, entry: Path) -> None:
        facts = json.loads((entry / "facts.json").read_text(encoding="utf-8"))
        bad = {int(position): str(reason) for position, reason in facts["unreadable"]}
        self.samples: Sequence[Sample] = _readable(index, list(bad)).samples
        self.unreadable = tuple(Unreadable(index.samples[position].id, reason) for position, reason in bad.items())
        self.digests = np.load(entry / "digests.npy", allow_pickle=False)
        self._shapes, self._frame = np.load(entry / "shapes.npy", allow_pickle=False), spec
        self.value_range: tuple[float, float] = (float(facts["low"]), float(facts["high"]))
        self._map = np.load(entry / "images.npy", mmap_mode="r", allow_pickle=False)
        if not (len(self.samples) == len(self.digests) == len(self._shapes) and len(self._map) == len(index)):
            raise ValueError("the parts of a cache entry do not agree")
        self._bad, self._entry = list(bad), entry
        self._checked = np.zeros(len(self.samples), np.bool_)
        touch(entry)

    def mended(self, index: Index) -> bool:
        """Whether an image that could not be read can be by now: nothing but its permissions need have changed."""
        bad = index.take(np.array(self._bad, np.intp)) if self._bad else None
        return bad is not None and any(len(batch.samples) for batch in stream(bad, self._frame))

    def take(self, rows: Rows) -> Pixels:
        pixels = np.asarray(self._map[rows])
        for image, row in zip(pixels, np.asarray(rows).tolist(), strict=True):
            if not self._checked[row]:
                self._check(image, row)
        release_pages(self._map)
        return pixels

    def inside(self, rows: Rows) -> Bools | None:
        return find_insides(self._shapes[rows], self._frame)

    def _check(self, image: Pixels, row: int) -> None:
        if digest(image) != self.digests[row]:
            shutil.rmtree(self._entry, ignore_errors=True)
            raise DataError(
                f"{self.samples[row].id}: what the cache folder has of it is not what was decoded ({self._entry} was damaged, "
                "and is deleted now); run the same again"
            )
        self._checked[row] = True


@dataclass(frozen=True, slots=True, eq=False)
class _Facts:
    bad: list[int]  # positions in the index of the unreadable images
    unreadable: tuple[Unreadable, ...]
    digests: npt.NDArray[np.uint64]
    shapes: npt.NDArray[np.intp]  # (N, 2) of the original images
    value_range: tuple[float, float]
    kind: np.dtype[np.generic]


def _read_all(index: Index, spec: InputSpec, notify: Notify, keep: Callable[[Pixels], None] | None = None) -> _Facts:
    """One pass over every image: which can be read, what they hash to, what values they span."""
    unreadable: list[Unreadable] = []
    digests: list[npt.NDArray[np.uint64]] = []
    shapes: list[tuple[int, int]] = []
    done, low, high, kind = 0, np.inf, -np.inf, np.dtype(np.uint8)
    for batch in stream(index, spec):
        unreadable.extend(batch.unreadable)
        done += len(batch.samples) + len(batch.unreadable)
        notify(done, len(index))
        if not len(batch.samples):
            continue
        digests.append(np.array([digest(image) for image in batch.pixels], np.uint64))
        shapes.extend(batch.shapes)
        kind = max(kind, batch.pixels.dtype, key=lambda kind: kind.itemsize)
        if spec.floating:
            low, high = min(low, float(batch.pixels.min())), max(high, float(batch.pixels.max()))
        if keep is not None:
            keep(batch.pixels)
    if not digests:
        raise none_usable(f"{index.source}: no image", "used", unreadable)
    ids = {item.id for item in unreadable}
    bad = [position for position, sample in enumerate(index.samples) if sample.id in ids] if ids else []
    bounds = value_range(low, high, kind)
    return _Facts(bad, tuple(unreadable), np.concatenate(digests), np.array(shapes, np.intp), bounds, kind)


def _readable(index: Index, bad: list[int]) -> Index:
    return index.take(np.delete(np.arange(len(index)), bad)) if bad else index


def _key(index: Index, spec: InputSpec) -> str:
    """Of the paths, sizes and times of all files, and how they are brought to the spec."""
    sums = hashlib.sha256(json.dumps([FORMAT, cv2.__version__, asdict(spec)]).encode())
    for sample in index.samples:
        assert sample.path is not None
        sums.update(os.fsencode(sample.path.absolute()))
        try:
            stat = sample.path.stat()
            sums.update(f"\0{stat.st_size}\0{stat.st_mtime_ns}\n".encode())
        except OSError:
            sums.update(b"\0missing\n")
    return sums.hexdigest()[:32]


def _open_entry(index: Index, spec: InputSpec, entry: Path) -> _CachedImages | None:
    if not entry.is_dir():
        return None
    try:
        return _CachedImages(index, spec, entry)
    except (OSError, EOFError, ValueError, TypeError, LookupError):  # damaged, or another process evicts it this moment
        shutil.rmtree(entry, ignore_errors=True)
        return None


def _build_entry(index: Index, spec: InputSpec, cache: Cache, entry: Path, notify: Notify) -> _CachedImages:
    """Decode every image into an entry of the cache."""
    with cache.building(entry) as fresh:
        try:
            _write_entry(index, spec, cache, fresh, np.dtype(np.float32 if spec.floating else np.uint8), notify)
        except _WiderError:
            _write_entry(index, spec, cache, fresh, np.dtype(np.uint16), notify)
    built = _open_entry(index, spec, entry)
    if built is None:
        raise OSError(f"{entry} could not be made")
    return built


class _WiderError(Exception):
    """A 16-bit image among 8-bit ones: the map must be made with the wider type."""


def _write_entry(
    index: Index, spec: InputSpec, cache: Cache, folder: Path, kind: np.dtype[np.generic], notify: Notify
) -> None:
    shape = (len(index), spec.height, spec.width, spec.channels)
    size = int(np.prod(shape)) * kind.itemsize
    cache.make_room(size)
    with (folder / "images.npy").open("wb") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": kind.str, "fortran_order": False, "shape": shape})
        end = file.tell() + size

        def keep(pixels: Pixels) -> None:
            if pixels.dtype.itemsize > kind.itemsize:
                raise _WiderError
            file.write(promote(pixels, kind).data)  # a plain write: a full disk raises, where a mapped page would kill

        facts = _read_all(index, spec, notify, keep)
        file.truncate(end)  # as long as the header says: the rows of unreadable images are a hole at the end
        file.flush()
        os.fsync(file.fileno())
    np.save(folder / "digests.npy", facts.digests)
    np.save(folder / "shapes.npy", facts.shapes)
    unreadable = [(position, item.reason) for position, item in zip(facts.bad, facts.unreadable, strict=True)]
    low, high = facts.value_range
    text = json.dumps({"unreadable": unreadable, "low": low, "high": high})
    (folder / "facts.json").write_text(text, encoding="utf-8")


def iterate(images: ImageSet, rows: Rows, spec: InputSpec) -> Iterator[Batch]:
    """Chosen images of a set in blocks, as `stream` gives them; their shapes are the spec's."""
    size = block_rows(spec)
    for start in range(0, len(rows), size):
        chosen = rows[start : start + size]
        yield Batch([images.samples[row] for row in chosen], images.take(chosen), [spec.size] * len(chosen))


def value_range_of(images: ImageSet, rows: Rows, spec: InputSpec) -> tuple[float, float]:
    """The values of black and white for chosen images alone; integers have their type's, whatever the images."""
    if not spec.floating:
        return images.value_range
    extremes = [(float(batch.pixels.min()), float(batch.pixels.max())) for batch in iterate(images, rows, spec)]
    lows, highs = zip(*extremes, strict=True)
    return value_range(min(lows), max(highs), np.dtype(np.float32))
