"""Images by the batch, as they come from disk: uint8 (uint16, float32) until the last moment, then converted at once."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

from unlike.data.arrays import ImageArray, rows_of
from unlike.data.images import InputSpec, decode, find_inside, promote, to_spec
from unlike.data.index import Index, read_original
from unlike.errors import ImageError, none_usable
from unlike.records import Bools, Pixels, Rows, Sample, Unreadable

BLOCK_BYTES = 8 * 1024 * 1024  # of images in flight at a time


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """Some images in a row, and those among them that could not be read."""

    samples: Sequence[Sample]  # B that could be read
    pixels: Pixels  # (B, H, W, C)
    shapes: Sequence[tuple[int, int]]  # of the B original images
    unreadable: tuple[Unreadable, ...] = ()


class ImageSet(Protocol):
    """All readable images of an index in one spec, in any order and as often as one likes."""

    samples: Sequence[Sample]  # N
    unreadable: tuple[Unreadable, ...]
    digests: npt.NDArray[np.uint64]  # (N,) of the framed pixels: equal for identical images
    value_range: tuple[float, float]  # the values that stand for black and white

    def take(self, rows: Rows) -> Pixels:
        """(B, H, W, C)"""
        ...

    def inside(self, rows: Rows) -> Bools | None:
        """(B, H, W) the pixels that show the image, not the bars that fill its spec up; None where no image has any."""
        ...


def stream(index: Index, spec: InputSpec, batch_size: int | None = None) -> Iterator[Batch]:
    """Read all images once, in order, a batch at a time; what cannot be read is named and left out.

    No more than two batches are in memory, however many images there are; files are decoded on several threads.
    """
    size = batch_size or block_rows(spec)
    if index.array is not None:
        yield from _stream_array(index.array, index.samples, spec, size)
        return
    pool = ThreadPoolExecutor(_threads())
    try:
        pending: list[Future[_Read]] = []
        for start in range(0, len(index), size):
            upcoming = [pool.submit(_read, sample, sample.path, spec) for sample in index.samples[start : start + size]]
            if pending:
                yield _collect([future.result() for future in pending])
            pending = upcoming
        if pending:
            yield _collect([future.result() for future in pending])
    finally:  # whoever stops early does not wait for images that nobody will see
        pool.shutdown(cancel_futures=True)


def choose_spec(
    index: Index, size: tuple[int, int] | None, channels: int | None, aspect: str, fallback: tuple[int, int]
) -> InputSpec:
    """The spec to fit in: what was asked for, and for the rest what the first readable image is.

    Arrays keep their own size unless another is asked for; files get `fallback`.
    """
    first, reasons = _first_readable(index)
    if first is None:
        raise none_usable(f"{index.source}: no image", "read", reasons)
    natural = index.array.size if index.array is not None else fallback
    height, width = size or natural
    return InputSpec(
        height,
        width,
        channels or first.shape[2],
        floating=first.dtype.kind == "f",
        aspect="pad" if aspect == "pad" else "stretch",
        convert=channels is not None,
    )


def digest(image: Pixels) -> int:
    """A number that identical images share (64 bits of BLAKE2), whether 8-bit or the same widened to 16."""
    if image.dtype == np.uint16 and not (image % 257).any():
        image = (image // 257).astype(np.uint8)
    return int.from_bytes(hashlib.blake2b(np.ascontiguousarray(image).data, digest_size=8).digest(), "little")


def value_range(low: float, high: float, kind: np.dtype[np.generic]) -> tuple[float, float]:
    """The values that stand for black and white: a type's own for integers, for floats the first that holds them all.

    >>> value_range(0.1, 0.7, np.dtype(np.float32)), value_range(-900.0, 3000.0, np.dtype(np.float32))
    ((0.0, 1.0), (-900.0, 3000.0))
    """
    if kind.kind != "f":
        return 0.0, float(np.iinfo(kind).max)  # type: ignore[type-var]
    for bounds in ((0.0, 1.0), (-1.0, 1.0), (0.0, 255.0)):
        if bounds[0] <= low and high <= bounds[1]:
            return bounds
    return low, high if high > low else low + 1.0


def find_insides(shapes: Sequence[tuple[int, int]] | npt.NDArray[np.intp], spec: InputSpec) -> Bools | None:
    """Which pixels (B, H, W) show images of these shapes in the spec; None where an image always fills it."""
    if spec.aspect == "stretch":
        return None
    return np.stack([find_inside((int(height), int(width)), spec) for height, width in shapes])


def block_rows(spec: InputSpec) -> int:
    """How many images, as the floats that a model sees, make a block of work that is neither small nor heavy."""
    return int(np.clip(BLOCK_BYTES // (4 * spec.height * spec.width * spec.channels), 8, 512))


@dataclass(frozen=True, slots=True, eq=False)
class _Read:
    sample: Sample
    image: Pixels | None
    shape: tuple[int, int] = (0, 0)
    reason: str = ""


def _threads() -> int:
    return min(8, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)


def _read(sample: Sample, source: Path | Pixels | None, spec: InputSpec) -> _Read:
    assert source is not None
    try:
        image = decode(source) if isinstance(source, Path) else source
        return _Read(sample, to_spec(image, spec), image.shape[:2])
    except ImageError as error:
        return _Read(sample, None, reason=str(error))


def _collect(reads: list[_Read]) -> Batch:
    good = [read for read in reads if read.image is not None]
    unreadable = tuple(Unreadable(read.sample.id, read.reason) for read in reads if read.image is None)
    images = [read.image for read in good if read.image is not None]
    kind = max((image.dtype for image in images), key=lambda kind: kind.itemsize, default=np.dtype(np.uint8))
    pixels = np.stack([promote(image, kind) for image in images]) if images else np.empty((0, 0, 0, 0), kind)
    return Batch([read.sample for read in good], pixels, [read.shape for read in good], unreadable)


def _stream_array(array: ImageArray, samples: Sequence[Sample], spec: InputSpec, size: int) -> Iterator[Batch]:
    for start in range(0, len(samples), size):
        chosen = samples[start : start + size]
        rows = rows_of(chosen)
        contiguous = bool((np.diff(rows) == 1).all())
        pixels = array.block(int(rows[0]), int(rows[-1]) + 1) if contiguous else array.take(rows)
        if _fits(pixels, spec):
            yield Batch(chosen, pixels, [array.size] * len(rows))
        else:
            images = zip(chosen, pixels, strict=True)
            yield _collect([_read(sample, image, spec) for sample, image in images])


def _fits(pixels: Pixels, spec: InputSpec) -> bool:
    """Whether a whole block is in the spec as it is."""
    if pixels.shape[1:] != (spec.height, spec.width, spec.channels) or (pixels.dtype.kind == "f") != spec.floating:
        return False
    return not spec.floating or bool(np.isfinite(pixels).all())


def _first_readable(index: Index) -> tuple[Pixels | None, list[Unreadable]]:
    failures: list[Unreadable] = []
    for sample in index.samples:
        try:
            return read_original(index, sample), failures
        except ImageError as error:
            failures.append(Unreadable(sample.id, str(error)))
    return None, failures
