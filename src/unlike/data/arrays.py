"""Images that are already an array: in memory, `.npy` (memory-mapped) or `.npz`."""

from __future__ import annotations

import contextlib
import mmap
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from unlike.cache import Cache
from unlike.data.batches import Batch, Notify, block_rows, collect, find_insides, read_one, stack_missing, survey
from unlike.data.input_spec import InputSpec, conform, find_missing, fits
from unlike.data.numpy_files import DAMAGE, ZIP, holds_objects
from unlike.data.pixels import as_pixels
from unlike.data.samples import RowSamples, find_positions, rows_of, take_samples
from unlike.errors import DataError
from unlike.records import Bools, Pixels, Rows, Sample

IMAGE_KEYS = ("images", "x", "X", "data", "arr_0")
MAX_UNPACKED_BYTES = 8_000_000_000  # of an .npz, which is read into memory whole
LABEL_KEYS = ("labels", "y", "anomaly")


@dataclass(frozen=True, slots=True, eq=False)
class ImageArray:
    """N images as rows of one array (N, H, W) or (N, H, W, C); rows come out as (B, H, W, C).

    A file is mapped anew for each block of rows that is read in order, so that reading a million images in a row
    leaves none of them in memory; scattered rows are gathered from one map, whose pages are let go.
    """

    array: npt.NDArray[Any]

    def __len__(self) -> int:
        return len(self.array)

    @property
    def channels(self) -> int:
        return 1 if self.array.ndim == 3 else int(self.array.shape[3])

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of every image."""
        return int(self.array.shape[1]), int(self.array.shape[2])

    @property
    def floating(self) -> bool:
        """Whether rows come out as floats: whole numbers of other types than images have do too."""
        return self.array.dtype.newbyteorder("=") not in (np.uint8, np.uint16, np.bool_)

    def block(self, start: int, stop: int) -> Pixels:
        """Rows start to stop, (B, H, W, C), of uint8, uint16 or float32."""
        source = self.array
        if not (isinstance(source, np.memmap) and source.filename and _is_whole_map(source)):
            return self._native(source[start:stop])
        skipped = start * source.strides[0]
        shape = (min(stop, len(source)) - start, *source.shape[1:])
        rows = np.memmap(source.filename, source.dtype, mode="r", offset=source.offset + skipped, shape=shape)
        return self._native(rows)

    def take(self, rows: npt.NDArray[np.intp]) -> Pixels:
        """The given rows, in the given order, (B, H, W, C)."""
        taken = self._native(self.array[rows])
        release_pages(self.array)
        return taken

    def __reduce__(self) -> tuple[Any, ...]:
        """To another process a file goes by its path, and is mapped there again; what is in memory goes as it is."""
        source = self.array
        if isinstance(source, np.memmap) and source.filename and _is_whole_map(source):
            where = os.path.abspath(source.filename)  # noqa: PTH100 - of a str or a Path
            return _map_file, (where, source.dtype, source.offset, source.shape)
        return ImageArray, (np.asarray(source),)

    def _native(self, rows: npt.NDArray[Any]) -> Pixels:
        rows = np.asarray(rows)
        if rows.ndim == 3:
            rows = rows[..., None]
        return as_pixels(rows)


def _map_file(path: str, kind: np.dtype[Any], offset: int, shape: tuple[int, ...]) -> ImageArray:
    return ImageArray(np.memmap(path, kind, mode="r", offset=offset, shape=shape))


def _is_whole_map(array: np.memmap[Any, Any]) -> bool:
    """Whether rows lie in the file as in memory: a part or copy of a map keeps the `offset` of the whole, and lies."""
    base: object = array.base
    return isinstance(base, mmap.mmap) and bool(array.flags.c_contiguous) and array.mode != "c"


def release_pages(array: npt.NDArray[Any]) -> None:
    """Let go of the pages of a file that is mapped to be read, or all that was ever read would count as our memory."""
    memory: Any = array.base
    if isinstance(array, np.memmap) and array.mode == "r" and isinstance(memory, mmap.mmap):
        with contextlib.suppress(OSError, AttributeError):  # of a process whose pages are locked; on Windows
            memory.madvise(mmap.MADV_DONTNEED)


@dataclass(frozen=True, slots=True, eq=False)
class ArraySource:
    """Rows of an array as a source of images: in a spec that is their own form they are not copied."""

    name: str
    samples: Sequence[Sample]
    array: ImageArray

    def __len__(self) -> int:
        return len(self.samples)

    @property
    def notes(self) -> tuple[str, ...]:
        """Rows of an array are all there is; where they may as well be one image of many channels, that is said."""
        shape = self.array.array.shape
        if len(shape) > 3 or shape[0] != shape[1] or shape[1] == shape[2]:
            return ()
        came, channels = " x ".join(map(str, shape)), f"{shape[2]:,} channels"
        said = f"{came} values are taken as {shape[0]:,} grey images of {shape[1]} x {shape[2]}"
        return (f"{said}; one image of {channels} is array[None], saved.",)

    @property
    def natural_size(self) -> tuple[int, int]:
        return self.array.size

    def with_samples(self, samples: Sequence[Sample]) -> ArraySource:
        return replace(self, samples=samples)

    def take(self, positions: Rows) -> ArraySource:
        return self.with_samples(take_samples(self.samples, positions))

    def where(self, wanted: Callable[[Sample], bool]) -> ArraySource:
        return self.take(find_positions(self.samples, wanted))

    def read(self, sample: Sample) -> Pixels:
        if sample.row is None:
            raise DataError(f"{sample.id}: has neither a file nor a row in {self.name}")
        return np.asarray(self.array.take(np.array([sample.row]))[0])

    def stream(self, spec: InputSpec, batch_size: int | None = None) -> Iterator[Batch]:
        size = batch_size or block_rows(spec)
        for start in range(0, len(self.samples), size):
            chosen = self.samples[start : start + size]
            pixels = self._take_rows(rows_of(chosen))
            if fits(pixels, spec):
                yield Batch(chosen, pixels, [self.array.size] * len(chosen))
            else:
                images = zip(chosen, pixels, strict=True)
                yield collect([read_one(sample, partial(np.asarray, image), spec) for sample, image in images])

    def load(self, spec: InputSpec, cache: Cache | None, notify: Notify | None = None) -> RowImages:  # noqa: ARG002
        return RowImages(self, spec, notify)

    def __reduce__(self) -> tuple[Any, ...]:
        """To another process go the rows of its samples alone, where the array is no file that can be mapped there."""
        mapped = isinstance(self.array.array, np.memmap) and _is_whole_map(self.array.array)
        if mapped:
            return ArraySource, (self.name, self.samples, self.array)
        own = [replace(sample, row=row) for row, sample in enumerate(self.samples)]
        return ArraySource, (self.name, own, ImageArray(np.asarray(self.array.array[rows_of(self.samples)])))

    def _take_rows(self, rows: Rows) -> Pixels:
        contiguous = bool((np.diff(rows) == 1).all())
        return self.array.block(int(rows[0]), int(rows[-1]) + 1) if contiguous else self.array.take(rows)


class RowImages:
    """Rows of an array, never copied; brought to the spec as they are taken."""

    def __init__(self, source: ArraySource, spec: InputSpec, notify: Notify | None) -> None:
        found = survey(source.stream(spec), source.samples, source.name, notify)
        good = np.delete(np.arange(len(source)), found.bad)
        self.samples = take_samples(source.samples, good) if found.bad else source.samples
        self.unreadable, self.digests = found.unreadable, found.digests
        self._array, self._spec, self._rows = source.array, spec, rows_of(self.samples)
        own_form = self._array.size == spec.size and self._array.channels == spec.channels and spec.missing is None
        self._whole = own_form and not (self._array.array.dtype.itemsize == 2 and not spec.floating and spec.bits < 16)

    def take(self, rows: Rows) -> Pixels:
        pixels = self._array.take(self._rows[rows])
        return pixels if self._whole else np.stack([conform(image, self._spec) for image in pixels])

    def inside(self, rows: Rows) -> Bools | None:
        return find_insides([self._array.size] * len(rows), self._spec)

    def missing(self, rows: Rows) -> Bools | None:
        if self._spec.missing is None:
            return None
        holes = [find_missing(image, self._spec) for image in self._array.take(self._rows[rows])]
        return stack_missing(holes, self._spec.size)


def open_rows(images: Any, labels: Any, list_samples: Callable[[Any, int, str], RowSamples]) -> ArraySource | None:
    """An array, or a file of one, as a source; None where `images` is neither.

    `list_samples` makes the samples of labels as they were given, or as the file has them, of so many rows of what is called so.
    """
    if isinstance(images, str | os.PathLike):
        path = Path(images)
        if not is_array_file(path):
            return None
        array, own_labels = read_array_file(path)
        if _is_single(array) and labels is None and own_labels is None and not array.dtype.hasobject:
            return None  # a file of one image, as others are
        name, labels = str(path), own_labels if labels is None else labels
    elif hasattr(images, "__array__"):
        name, array = "the array", np.asanyarray(images)
    else:
        return None
    rows = check_images(array, name)
    return ArraySource(name, list_samples(labels, len(rows), name), rows)


def check_images(array: npt.NDArray[Any], source: str) -> ImageArray:
    """Make sure that `array` holds images, and say what else it looks like if not."""
    expected = f"{source}: expected N x H x W or N x H x W x C of whole numbers, floats or yes and no, came "
    shape = " x ".join(map(str, array.shape)) or "a single value"
    if array.dtype.hasobject:
        raise DataError(
            f"{source}: holds Python objects, which can run code when they are loaded; save the images as uint8 or float"
        )
    if array.dtype.kind not in "iufb":
        size = "; give numpy.abs(array)" if array.dtype.kind == "c" else ""
        raise DataError(f"{expected}{array.dtype}{size}")
    if _is_single(array):
        raise DataError(f"{expected}{shape}, which looks like one image; for one image give array[None]")
    if array.ndim not in (3, 4) or 0 in array.shape[1:]:
        raise DataError(f"{expected}{shape}")
    if array.ndim == 4 and array.shape[1] <= 4 < min(array.shape[2:]):
        raise DataError(f"{expected}{shape}, which looks like channels first; give numpy.moveaxis(array, 1, -1)")
    if len(array) == 0:
        raise DataError(f"{source}: holds no image")
    return ImageArray(array)


def is_array_file(path: Path) -> bool:
    """Whether a path is that of a `.npy` or `.npz` file."""
    return path.suffix.lower() in (".npy", ".npz") and path.is_file()


def _is_single(array: npt.NDArray[Any]) -> bool:
    """Whether an array looks like one image: grey, or with its few channels last."""
    return array.ndim == 2 or (array.ndim == 3 and array.shape[2] <= 4 < min(array.shape[:2]))


def read_array_file(path: Path) -> tuple[npt.NDArray[Any], npt.NDArray[Any] | None]:
    """Images, and labels if the file has any, of a `.npy` (memory-mapped) or `.npz`; never runs code from it."""
    try:
        with path.open("rb") as file:
            if file.read(len(ZIP)) == ZIP:
                file.seek(0)
                return _unpack(np.load(file, allow_pickle=False), path)
        return np.load(path, mmap_mode="r", allow_pickle=False), None
    except DataError:
        raise
    except DAMAGE as error:
        raise _explain(path, error) from None


def _unpack(archive: np.lib.npyio.NpzFile, path: Path) -> tuple[npt.NDArray[Any], npt.NDArray[Any] | None]:
    names = archive.files
    unpacked = sum(entry.file_size for entry in archive.zip.infolist()) if archive.zip is not None else 0
    if unpacked > MAX_UNPACKED_BYTES:
        raise DataError(
            f"{path}: unpacks to {unpacked / 1e9:,.1f} GB, more than {MAX_UNPACKED_BYTES / 1e9:,.0f}; save the images as .npy, "
            "which is read where it lies"
        )
    images = names[0] if len(names) == 1 else next((key for key in IMAGE_KEYS if key in names), None)
    if images is None:
        raise DataError(
            f"{path}: expected one array, or one named {' or '.join(IMAGE_KEYS)}; came {', '.join(names) or 'none'}"
        )
    labels = next((key for key in LABEL_KEYS if key in names), None)
    return np.asarray(archive[images]), None if labels is None else np.asarray(archive[labels])


def _explain(path: Path, error: Exception) -> DataError:
    if not path.stat().st_size:
        return DataError(f"{path}: is empty (0 bytes)")
    with path.open("rb") as file:  # never whole: it may be larger than memory
        objects = holds_objects(file)
        file.seek(0)
        start = file.read(1) if isinstance(error, ValueError) else b""
    if objects:
        return DataError(
            f"{path}: holds Python objects (pickle), which can run code when they are loaded; save the images as uint8 or float"
        )
    if start not in (b"\x93", ZIP[:1], b""):
        return DataError(f"{path}: is no {path.suffix} file, whatever its name says; expected what numpy.save writes")
    return DataError(f"{path}: is cut short or damaged ({error}); copy or save it again")
