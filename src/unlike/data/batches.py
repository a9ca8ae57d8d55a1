"""Images by the batch, as they come from disk: uint8 (uint16, float32) until the last moment, then converted at once."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from unlike.data.input_spec import InputSpec, conform, find_inside, find_missing, is_clipped
from unlike.data.pixels import promote
from unlike.errors import ImageError, none_usable
from unlike.records import Bools, Pixels, Rows, Sample, Unreadable

BLOCK_BYTES = 8 * 1024 * 1024  # of images in flight at a time
Notify = Callable[[int, int], None]  # images read, of how many


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """Some images in a row, and those among them that could not be read."""

    samples: Sequence[Sample]  # B that could be read
    pixels: Pixels  # (B, H, W, C)
    shapes: Sequence[tuple[int, int]]  # of the B original images
    unreadable: tuple[Unreadable, ...] = ()
    missing: Bools | None = None  # (B, H, W) where an image has no value of its own; None where all have one everywhere
    clipped: tuple[str, ...] = ()  # ids of images with values beyond white, which were cut off there


class ImageSet(Protocol):
    """All readable images of a source in one input spec, in any order and as often as one likes."""

    @property
    def samples(self) -> Sequence[Sample]: ...  # N
    @property
    def unreadable(self) -> tuple[Unreadable, ...]: ...
    @property
    def digests(self) -> npt.NDArray[np.uint64]: ...  # (N,) of the pixels as they are taken: equal for identical images

    def take(self, rows: Rows) -> Pixels:
        """(B, H, W, C)"""
        ...

    def inside(self, rows: Rows) -> Bools | None:
        """(B, H, W) the pixels that show the image, not the bars that fill the input spec up; None where no image has any."""
        ...

    def missing(self, rows: Rows) -> Bools | None:
        """(B, H, W) where an image has no value of its own; None where all have one everywhere."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class Read:
    """One image in an input spec, or why it is none."""

    sample: Sample
    image: Pixels | None
    shape: tuple[int, int] = (0, 0)  # of the original
    reason: str = ""
    missing: Bools | None = None  # (H, W) in the spec, where the image has no value of its own
    clipped: bool = False  # it has values beyond white


def read_one(sample: Sample, read: Callable[[], Pixels], spec: InputSpec) -> Read:
    """Read an image by `read` and bring it to the spec."""
    try:
        image = read()
        seen, missing = conform(image, spec), find_missing(image, spec)
        return Read(sample, seen, image.shape[:2], missing=missing, clipped=is_clipped(image, spec))
    except ImageError as error:
        return Read(sample, None, reason=str(error))


def collect(reads: Sequence[Read]) -> Batch:
    """Images that were read one by one as a batch, 8-bit ones as 16-bit where there is one of those."""
    good = [read for read in reads if read.image is not None]
    unreadable = tuple(Unreadable(read.sample.id, read.reason) for read in reads if read.image is None)
    images = [read.image for read in good if read.image is not None]
    kind = max((image.dtype for image in images), key=lambda kind: kind.itemsize, default=np.dtype(np.uint8))
    pixels = np.stack([promote(image, kind) for image in images]) if images else np.empty((0, 0, 0, 0), kind)
    missing = stack_missing([read.missing for read in good], pixels.shape[1:3])
    clipped = tuple(read.sample.id for read in good if read.clipped)
    return Batch([read.sample for read in good], pixels, [read.shape for read in good], unreadable, missing, clipped)


def stack_missing(holes: Sequence[Bools | None], size: tuple[int, ...]) -> Bools | None:
    """(B, H, W) of what `find_missing` says of each image; None where it says nothing of any."""
    if all(one is None for one in holes):
        return None
    return np.stack([np.zeros(size, np.bool_) if one is None else one for one in holes])


@dataclass(frozen=True, slots=True, eq=False)
class Survey:
    """What one pass over all images has shown."""

    bad: list[int]  # positions of the unreadable images
    unreadable: tuple[Unreadable, ...]
    digests: npt.NDArray[np.uint64]  # (N,) of those that can be read,
    shapes: npt.NDArray[np.intp]  # (N, 2) what their originals measure
    kind: np.dtype[np.generic]  # that holds the values of all


def survey(
    batches: Iterable[Batch],
    samples: Sequence[Sample],
    name: str,
    notify: Notify | None = None,
    keep: Callable[[Batch], None] | None = None,
) -> Survey:
    """Go once over the images of these samples: which can be read, and what they hash to.

    `notify(done, total)` is called as they are read, `keep` with what is read. A DataError that names their source says that
    none can be.
    """
    unreadable: list[Unreadable] = []
    digests: list[npt.NDArray[np.uint64]] = []
    shapes: list[tuple[int, int]] = []
    done, kind = 0, np.dtype(np.uint8)
    for batch in batches:
        unreadable.extend(batch.unreadable)
        done += len(batch.samples) + len(batch.unreadable)
        if notify is not None:
            notify(done, len(samples))
        if not len(batch.samples):
            continue
        digests.append(np.array([digest(image) for image in batch.pixels], np.uint64))
        shapes.extend(batch.shapes)
        kind = max(kind, batch.pixels.dtype, key=lambda kind: kind.itemsize)
        if keep is not None:
            keep(batch)
    if not digests:
        raise none_usable(f"{name}: no image", "used", unreadable)
    ids = {item.id for item in unreadable}
    bad = [position for position, sample in enumerate(samples) if sample.id in ids] if ids else []
    return Survey(bad, tuple(unreadable), np.concatenate(digests), np.array(shapes, np.intp), kind)


def iterate(images: ImageSet, rows: Rows, spec: InputSpec) -> Iterator[Batch]:
    """Chosen images of a set in blocks, as a source streams them; their shapes are the spec's."""
    size = block_rows(spec)
    for start in range(0, len(rows), size):
        chosen = rows[start : start + size]
        yield Batch([images.samples[row] for row in chosen], images.take(chosen), [spec.size] * len(chosen))


def value_range_of(images: ImageSet, rows: Rows, spec: InputSpec) -> tuple[float, float]:
    """The values of black and white for chosen images alone; integers have their type's, whatever the images."""
    if not spec.floating:
        return value_range(0, 0, images.take(rows[:1]).dtype)
    extremes = [(float(batch.pixels.min()), float(batch.pixels.max())) for batch in iterate(images, rows, spec)]
    lows, highs = zip(*extremes, strict=True)
    return value_range(min(lows), max(highs), np.dtype(np.float32))


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
