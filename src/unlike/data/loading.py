"""Files as pixels: streamed, decoded once into a memory map in the user's cache folder, or anew each time they are taken."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from unlike.cache import Cache, touch
from unlike.data.arrays import release_pages
from unlike.data.batches import (
    Batch,
    ImageSet,
    Notify,
    Read,
    block_rows,
    collect,
    digest,
    find_insides,
    read_one,
    survey,
)
from unlike.data.input_spec import InputSpec
from unlike.data.pixels import promote
from unlike.data.readers import decode
from unlike.data.readers.addresses import Address
from unlike.data.samples import take_samples
from unlike.errors import DataError
from unlike.records import Bools, Pixels, Rows, Sample, Unreadable

FORMAT = 4  # of an entry


def stream_files(samples: Sequence[Sample], spec: InputSpec, batch_size: int | None = None) -> Iterator[Batch]:
    """Read all files once, in order, a batch at a time; what cannot be read is named and left out.

    No more than two batches are in memory, however many files there are; they are decoded on several threads.
    """
    size = batch_size or block_rows(spec)
    pool = ThreadPoolExecutor(threads())
    try:
        pending: list[Future[Read]] = []
        for start in range(0, len(samples), size):
            upcoming = [pool.submit(_read, sample, spec) for sample in samples[start : start + size]]
            if pending:
                yield collect([future.result() for future in pending])
            pending = upcoming
        if pending:
            yield collect([future.result() for future in pending])
    finally:  # whoever stops early does not wait for images that nobody will see
        pool.shutdown(cancel_futures=True)


def threads() -> int:
    """That decode images at a time."""
    return min(8, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)


def _read(sample: Sample, spec: InputSpec) -> Read:
    assert sample.path is not None
    return read_one(sample, partial(decode, sample.path, spec.most_pixels), spec)


def load_files(
    samples: Sequence[Sample], name: str, spec: InputSpec, cache: Cache | None, notify: Notify | None = None
) -> ImageSet:
    """Read every file once, so that all can be taken in any order. `cache=None` keeps nothing on disk.

    `notify(done, total)` is called as files are read; `name` is what their source is called in messages.
    """
    if cache is not None:
        entry = cache.folder / f"decoded-{_key(samples, spec)}"
        with contextlib.suppress(OSError):  # a full, small or read-only cache: slower, but no reason to stop
            found = _open_entry(samples, spec, entry)
            if found is not None and found.mended(samples):
                shutil.rmtree(entry, ignore_errors=True)
                found = None
            return found or _build_entry(samples, name, spec, cache, entry, notify)
    return _DecodedImages(samples, name, spec, notify)


class _DecodedImages:
    """Files that are decoded each time they are taken: slow, but nothing is kept."""

    def __init__(self, samples: Sequence[Sample], name: str, spec: InputSpec, notify: Notify | None) -> None:
        found = survey(stream_files(samples, spec), samples, name, notify)
        self.samples, self.unreadable = _readable(samples, found.bad), found.unreadable
        self.digests = found.digests
        self._spec, self._kind, self._shapes = spec, found.kind, found.shapes

    def take(self, rows: Rows) -> Pixels:
        batch = next(stream_files(take_samples(self.samples, rows), self._spec, len(rows)))
        for lost in batch.unreadable:
            raise DataError(
                f"{lost.id}: could be read before, but now {lost.reason}; leave the images as they are until all is done"
            )
        return promote(batch.pixels, self._kind)

    def inside(self, rows: Rows) -> Bools | None:
        return find_insides(self._shapes[rows], self._spec)

    def missing(self, rows: Rows) -> Bools | None:
        if self._spec.missing is None:
            return None
        return next(stream_files(take_samples(self.samples, rows), self._spec, len(rows))).missing


class _CachedImages:
    """Files decoded into a memory map. Each image is compared with its digest when it is first taken."""

    def __init__(self, samples: Sequence[Sample], spec: InputSpec, entry: Path) -> None:
        facts = json.loads((entry / "facts.json").read_text(encoding="utf-8"))
        bad = {int(position): str(reason) for position, reason in facts["unreadable"]}
        self.samples = _readable(samples, list(bad))
        self.unreadable = tuple(Unreadable(samples[position].id, reason) for position, reason in bad.items())
        self.digests = np.load(entry / "digests.npy", allow_pickle=False)
        self._shapes, self._spec = np.load(entry / "shapes.npy", allow_pickle=False), spec
        self._map = np.load(entry / "images.npy", mmap_mode="r", allow_pickle=False)
        if not (len(self.samples) == len(self.digests) == len(self._shapes) and len(self._map) == len(samples)):
            raise ValueError("the parts of a cache entry do not agree")
        self._holes = None
        if spec.missing is not None:
            self._holes = np.load(entry / "missing.npy", mmap_mode="r", allow_pickle=False)
        self._bad, self._entry = list(bad), entry
        self._checked = np.zeros(len(self.samples), np.bool_)
        touch(entry)

    def mended(self, samples: Sequence[Sample]) -> bool:
        """Whether an image that could not be read can be by now: nothing but its permissions need have changed."""
        bad = [samples[position] for position in self._bad]
        return any(len(batch.samples) for batch in stream_files(bad, self._spec))

    def take(self, rows: Rows) -> Pixels:
        pixels = np.asarray(self._map[rows])
        for image, row in zip(pixels, np.asarray(rows).tolist(), strict=True):
            if not self._checked[row]:
                self._check(image, row)
        release_pages(self._map)
        return pixels

    def inside(self, rows: Rows) -> Bools | None:
        return find_insides(self._shapes[rows], self._spec)

    def missing(self, rows: Rows) -> Bools | None:
        if self._holes is None:
            return None
        flat = np.unpackbits(self._holes[rows], axis=1, count=self._spec.height * self._spec.width)
        return flat.reshape(len(flat), *self._spec.size).astype(np.bool_) if flat.any() else None

    def _check(self, image: Pixels, row: int) -> None:
        if digest(image) != self.digests[row]:
            shutil.rmtree(self._entry, ignore_errors=True)
            raise DataError(
                f"{self.samples[row].id}: what the cache folder has of it is not what was decoded ({self._entry} was damaged, "
                "and is deleted now); run the same again"
            )
        self._checked[row] = True


def _readable(samples: Sequence[Sample], bad: list[int]) -> Sequence[Sample]:
    return take_samples(samples, np.delete(np.arange(len(samples)), bad)) if bad else samples


def _key(samples: Sequence[Sample], spec: InputSpec) -> str:
    """Of the paths, sizes and times of all files, and how they are brought to the spec."""
    form = asdict(spec)
    del form["value_range"]  # which changes no pixel
    sums = hashlib.sha256(json.dumps([FORMAT, cv2.__version__, form]).encode())
    for sample in samples:
        assert sample.path is not None
        sums.update(os.fsencode(sample.path.absolute()))
        try:
            sums.update(f"\0{Address.of(sample.path).state()}\n".encode())
        except OSError:
            sums.update(b"\0missing\n")
    return sums.hexdigest()[:32]


def _open_entry(samples: Sequence[Sample], spec: InputSpec, entry: Path) -> _CachedImages | None:
    if not entry.is_dir():
        return None
    try:
        return _CachedImages(samples, spec, entry)
    except (OSError, EOFError, ValueError, TypeError, LookupError):  # damaged, or another process evicts it this moment
        shutil.rmtree(entry, ignore_errors=True)
        return None


def _build_entry(
    samples: Sequence[Sample], name: str, spec: InputSpec, cache: Cache, entry: Path, notify: Notify | None
) -> _CachedImages:
    """Decode every image into an entry of the cache."""
    with cache.building(entry) as fresh:
        try:
            _write_entry(samples, name, spec, cache, fresh, np.dtype(np.float32 if spec.floating else np.uint8), notify)
        except _WiderError:
            _write_entry(samples, name, spec, cache, fresh, np.dtype(np.uint16), notify)
    built = _open_entry(samples, spec, entry)
    if built is None:
        raise OSError(f"{entry} could not be made")
    return built


class _WiderError(Exception):
    """A 16-bit image among 8-bit ones: the map must be made with the wider type."""


def _write_entry(
    samples: Sequence[Sample],
    name: str,
    spec: InputSpec,
    cache: Cache,
    folder: Path,
    kind: np.dtype[np.generic],
    notify: Notify | None,
) -> None:
    shape = (len(samples), spec.height, spec.width, spec.channels)
    size = int(np.prod(shape)) * kind.itemsize
    cache.make_room(size)
    holes: list[npt.NDArray[np.uint8]] = []  # a bit a pixel, where values may be missing
    with (folder / "images.npy").open("wb") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": kind.str, "fortran_order": False, "shape": shape})
        end = file.tell() + size

        def keep(batch: Batch) -> None:
            if batch.pixels.dtype.itemsize > kind.itemsize:
                raise _WiderError
            file.write(
                promote(batch.pixels, kind).data
            )  # a plain write: a full disk raises, where a mapped page would kill
            if spec.missing is not None:
                found = np.zeros(batch.pixels.shape[:3], np.bool_) if batch.missing is None else batch.missing
                holes.append(np.packbits(found.reshape(len(found), -1), axis=1))

        found = survey(stream_files(samples, spec), samples, name, notify, keep)
        file.truncate(end)  # as long as the header says: the rows of unreadable images are a hole at the end
        file.flush()
        os.fsync(file.fileno())
    np.save(folder / "digests.npy", found.digests)
    np.save(folder / "shapes.npy", found.shapes)
    if holes:
        np.save(folder / "missing.npy", np.concatenate(holes))
    unreadable = [(position, item.reason) for position, item in zip(found.bad, found.unreadable, strict=True)]
    (folder / "facts.json").write_text(json.dumps({"unreadable": unreadable}), encoding="utf-8")
