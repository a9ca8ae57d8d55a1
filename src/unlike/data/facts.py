"""What one look at each image shows, before anything is learned: its size, values, copies, and how large its defect is."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from unlike.data.batches import Notify, digest
from unlike.data.input_spec import InputSpec, conform
from unlike.data.loading import threads
from unlike.data.readers import decode_mask
from unlike.data.source import Source, read_original
from unlike.errors import ImageError
from unlike.records import Bools, Floats, Pixels, Rows, Sample, Unreadable

THUMBNAIL = 32  # pixels a side: enough to tell whether two images are the same picture
BLUR = 2.0  # of those: what is coarser, such as light that falls off, is the same in many pictures, and is not compared
BLOCK = 64  # images in flight at a time
BOXES = ((-0.5, -0.5), (-0.5, 0.5), (0.5, -0.5), (0.5, 0.5))  # the corners of a pixel, from its middle


@dataclass(frozen=True, slots=True)
class Defect:
    """The largest labelled defect of an image, as the detector would see it."""

    row: int  # of the image
    width: float  # pixels across where it is narrow, at the size of the input spec
    area: float  # pixels, at that size
    original: float  # pixels across, in the image itself


@dataclass(frozen=True, slots=True, eq=False)
class Facts:
    """What was seen of N images that can be read, a row each, and those that cannot be."""

    rows: Rows  # (N,) which of the source's samples they are
    shapes: Rows  # (N, 3) height, width and channels of the originals
    kinds: tuple[str, ...]  # N types of their values: uint8, uint16 or float32
    extremes: Floats  # (N, 2) lowest and highest value of each
    means: Floats  # (N,)
    digests: npt.NDArray[np.uint64]  # (N,) equal for images that are the same, pixel by pixel, to the detector
    thumbnails: Floats  # (N, 1024) the details of a small grey picture of each, float16
    unreadable: tuple[Unreadable, ...]  # broken files, and images that do not suit the input spec
    defects: tuple[Defect, ...]  # of anomalous images that have a mask
    bad_masks: tuple[Unreadable, ...] = ()

    def __len__(self) -> int:
        return len(self.rows)


@dataclass(frozen=True, slots=True, eq=False)
class _Seen:
    """One image, as a worker saw it."""

    shape: tuple[int, int, int]
    kind: str
    low: float
    high: float
    mean: float
    digest: int
    thumbnail: Floats
    defect: tuple[float, float, float] | None
    bad_mask: str = ""


def read_facts(source: Source, spec: InputSpec, notify: Notify | None = None) -> Facts:
    """Look once at each image, on several threads; few are in memory at a time, and of each a kilobyte is kept.

    What cannot be read, or brought to the spec, is named. `notify(done, total)` is called as images are read.

    >>> from unlike.data.source import open_source
    >>> images = np.stack([np.full((8, 8), 10, np.uint8), np.full((8, 8), 200, np.uint8)])
    >>> facts = read_facts(open_source(images), InputSpec(8, 8, 1))
    >>> facts.means.tolist(), facts.shapes[0].tolist(), facts.kinds[0]
    ([10.0, 200.0], [8, 8, 1], 'uint8')
    """
    rows: list[int] = []
    found: list[_Seen] = []
    broken: list[Unreadable] = []
    for row, seen in enumerate(_look_at_all(source, spec)):
        if notify is not None:
            notify(row + 1, len(source))
        if isinstance(seen, ImageError):
            broken.append(Unreadable(source.samples[row].id, str(seen)))
            continue
        rows.append(row)
        found.append(seen)
    masks = [(row, seen.bad_mask) for row, seen in zip(rows, found, strict=True) if seen.bad_mask]
    return Facts(
        np.array(rows, np.intp),
        np.array([seen.shape for seen in found], np.intp).reshape(-1, 3),
        tuple(seen.kind for seen in found),
        np.array([(seen.low, seen.high) for seen in found], np.float64).reshape(-1, 2),
        np.array([seen.mean for seen in found], np.float64),
        np.array([seen.digest for seen in found], np.uint64),
        np.array([seen.thumbnail for seen in found], np.float16).reshape(-1, THUMBNAIL * THUMBNAIL),
        tuple(broken),
        tuple(Defect(row, *seen.defect) for row, seen in zip(rows, found, strict=True) if seen.defect is not None),
        tuple(Unreadable(source.samples[row].id, reason) for row, reason in masks),
    )


def measure_defect(mask: Bools, spec: InputSpec) -> tuple[float, float, float] | None:
    """Of the largest region of a mask (H, W): its width and area in the spec's pixels, and its width in its own.

    The width is that of a rectangle as long as the region, turned as it lies, with the same area: of a scratch, how thin it is.

    >>> mask = np.zeros((256, 4000), bool)
    >>> mask[:, 2000:2004] = True
    >>> width, area, original = measure_defect(mask, InputSpec(256, 256, 3))
    >>> round(width, 2), round(original, 2)
    (0.26, 4.0)
    """
    factors = _factors(mask.shape, spec)
    count, labels, boxes, _ = cv2.connectedComponentsWithStats(np.asarray(mask, np.uint8), connectivity=8)
    if count < 2:
        return None
    largest = 1 + int(boxes[1:, cv2.CC_STAT_AREA].argmax())
    x, y, width, height, pixels = (int(value) for value in boxes[largest])
    inside = (labels[y : y + height, x : x + width] == largest).astype(np.uint8)
    outlines, _ = cv2.findContours(inside, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    outline = np.concatenate([line.reshape(-1, 2) for line in outlines]).astype(np.float32)
    area = pixels * factors[0] * factors[1]
    return _width(outline, area, factors), area, _width(outline, float(pixels), (1.0, 1.0))


def _width(outline: Floats, area: float, factors: tuple[float, float]) -> float:
    """Of a region with that outline (n, 2) of pixels and that area, both seen smaller by the factors down and across."""
    corners = np.concatenate([outline + np.array(corner, np.float32) for corner in BOXES])
    corners = corners * np.array(factors[::-1], np.float32)
    _, sides, _ = cv2.minAreaRect(corners)
    return min(area / max(sides), *sides) if max(sides) > 0 else 0.0


def _factors(shape: tuple[int, ...], spec: InputSpec) -> tuple[float, float]:
    """How much smaller, down and across, an image of that shape is in the spec."""
    down, across = spec.height / shape[0], spec.width / shape[1]
    return (down, across) if spec.aspect == "stretch" else (min(down, across), min(down, across))


def _look_at_all(source: Source, spec: InputSpec) -> Iterator[_Seen | ImageError]:
    """In order; some are read ahead."""
    pool = ThreadPoolExecutor(threads())
    try:
        pending: list[Future[_Seen | ImageError]] = []
        for start in range(0, len(source), BLOCK):
            samples = source.samples[start : start + BLOCK]
            upcoming = [pool.submit(_look, source, sample, spec) for sample in samples]
            yield from (future.result() for future in pending)
            pending = upcoming
        yield from (future.result() for future in pending)
    finally:
        pool.shutdown(cancel_futures=True)


def _look(source: Source, sample: Sample, spec: InputSpec) -> _Seen | ImageError:
    try:
        image = read_original(source, sample, spec.most_pixels)
        seen = conform(image, spec)
    except ImageError as error:
        return error
    defect, reason = None, ""
    if sample.anomalous and sample.mask is not None:
        try:
            defect = measure_defect(_read_mask(sample, image), spec)
            reason = "its mask is empty" if defect is None else ""
        except ImageError as error:
            reason = str(error)
    height, width, channels = image.shape
    low, high, mean = float(image.min()), float(image.max()), float(image.mean())
    small = make_thumbnail(seen)
    return _Seen((height, width, channels), str(image.dtype), low, high, mean, digest(seen), small, defect, reason)


def make_thumbnail(image: Pixels) -> Floats:
    """(H, W, C) -> (1024,) the details of its grey as a small picture, whatever the light: mean 0, length 1.

    A picture of one shade is all zeros.

    >>> image = np.random.default_rng(0).integers(0, 100, (40, 40, 3)).astype(np.uint8)
    >>> bool(np.allclose(make_thumbnail(image), make_thumbnail(image * 2), atol=1e-3))
    True
    """
    grey = image.mean(axis=2, dtype=np.float32)
    small = cv2.resize(grey, (THUMBNAIL, THUMBNAIL), interpolation=cv2.INTER_AREA)
    small = (small - cv2.GaussianBlur(small, (0, 0), BLUR, borderType=cv2.BORDER_REFLECT)).ravel()
    small = small - small.mean()
    length = float(np.linalg.norm(small))
    steady = length > 1e-3 * max(1.0, float(np.abs(grey).max()))  # less is rounding
    return np.asarray(small / length if steady else np.zeros_like(small), np.float16)


def _read_mask(sample: Sample, image: Pixels) -> Bools:
    assert sample.mask is not None
    mask = decode_mask(sample.mask) if isinstance(sample.mask, Path) else sample.mask
    if mask.shape != image.shape[:2]:
        came, expected = (" x ".join(map(str, shape)) for shape in (mask.shape, image.shape[:2]))
        raise ImageError(f"its mask has {came} pixels where the image has {expected}")
    return mask
