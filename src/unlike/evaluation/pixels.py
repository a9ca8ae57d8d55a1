"""Pixel-level figures in the original pixels of every mask, in memory that does not grow with the images.

Two passes. While images are scored, `PixelSpool` writes each small map and its mask to a temporary file, and keeps a few
hundred values of each image. These choose about two thousand bins, fine where pixels are many and fine in the upper tail.
Then each image comes back alone, its map is carried to the original pixels, and only histograms of it are kept.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

import cv2
import numpy as np
import numpy.typing as npt

from unlike.data.input_spec import InputSpec, restore_map
from unlike.data.readers import decode_mask
from unlike.errors import DataError, ImageError, OutputError
from unlike.evaluation.metrics import REPLICATES, area_under_roc, with_bounds
from unlike.records import Bools, Estimate, Floats, Sample, Unreadable

FALSE_POSITIVE_LIMIT = 0.30  # AUPRO is the mean overlap up to this rate
VALUES = 256  # kept of each image's normal pixels, and of its defective ones, to choose bins by
POOL = 2**18  # values kept at most, of each class of pixels in each category
LEVELS = 500  # quantiles of a class of pixels that become edges of bins, and again as many in its upper tail
NOISE = 8  # units in the last place by which resizing blurs equal values
BLOCK = 32  # images whose histograms are added at a time


@dataclass(frozen=True, slots=True)
class PixelFigures:
    """The pixel-level figures of one group of images, and what has no value and why."""

    values: dict[str, Estimate] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)


class PixelSpool:
    """Keep maps on disk while images are scored, then measure how well they mark the defects.

    Normal images take part, and anomalous ones with a mask: those without are counted, those whose mask cannot be used
    are named in `unusable`. A map takes 4 bytes a value, a mask one bit a pixel, in Python's folder for temporary files.

    >>> with PixelSpool(InputSpec(8, 8, 3)) as spool:
    ...     spool.add(Sample("0", anomalous=False), np.zeros((8, 8), np.float32), (64, 64))
    ...     spool.measure()[""].left_out["pixel.auroc"]
    'needs masks of the defects; there is no anomalous image'
    """

    def __init__(self, spec: InputSpec, seed: int = 0) -> None:
        self.spec = spec
        self.seed = seed
        self.unusable: list[Unreadable] = []
        self._random = np.random.default_rng(seed)
        self._entries: list[_Entry] = []
        self._pools: dict[tuple[str, bool], _Pool] = {}
        self._anomalous: Counter[str] = Counter()  # images of each category, with a mask or without
        with _explained():
            self._file = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115 (closed by __exit__)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def add(self, sample: Sample, map_: Floats, shape: tuple[int, int]) -> None:
        """Keep the map (h, w) of an image whose original has `shape` (H, W)."""
        anomalous = bool(sample.anomalous)
        self._anomalous[sample.category] += anomalous
        if anomalous and sample.mask is None:
            return
        try:
            mask = _read_mask(sample, shape) if anomalous else None
        except ImageError as error:
            self.unusable.append(Unreadable(sample.id, str(error)))
            return
        map_ = np.ascontiguousarray(map_, np.float32)
        self._entries.append(_Entry(sample.category, anomalous, self._file.tell(), map_.shape, shape))
        self._write(map_.tobytes() + (b"" if mask is None else np.packbits(mask).tobytes()))
        self._sample(sample.category, restore_map(map_, shape, self.spec), mask)

    def _sample(self, category: str, values: Floats, mask: Bools | None) -> None:
        """Keep some values of the normal and of the defective pixels, in original pixels: resizing makes new values."""
        parts = {False: values} if mask is None else {False: values[~mask], True: values[mask]}
        for defective, part in parts.items():
            self._pools.setdefault((category, defective), _Pool()).add(part.ravel(), self._random)

    def measure(self) -> dict[str, PixelFigures]:
        """Pixel AUROC and AUPRO of each category, and of all images together under the empty name.

        Intervals come from a bootstrap over images, normal and anomalous ones drawn separately.
        """
        everything, found = self._tally(None), {}
        for name in sorted(self._anomalous):
            tallies = [everything, self._tally(name)] if name else [everything]
            for entry in self._entries:
                if entry.category == name:
                    pixels = self._read(entry)
                    for tally in tallies:
                        tally.add(pixels, entry.anomalous)
            if name:
                found[name] = tallies[1].finish(self._anomalous[name])
        return found | {"": everything.finish(self._anomalous.total())}

    def _tally(self, category: str | None) -> _Tally:
        """An empty tally for the images of a category, or of all."""
        classes = [entry.anomalous for entry in self._entries if category in (None, entry.category)]
        pools = [self._chosen(category, defective) for defective in (False, True)]
        return _Tally(choose_edges(pools), classes.count(False), classes.count(True), self.seed)

    def _chosen(self, category: str | None, defective: bool) -> Floats:
        pools = [p.values for (name, kind), p in self._pools.items() if category in (None, name) and kind == defective]
        return np.concatenate([np.empty(0, np.float32), *pools])

    def _write(self, content: bytes) -> None:
        rest = memoryview(content)
        with _explained():
            while rest:
                rest = rest[self._file.write(rest) :]

    def _read(self, entry: _Entry) -> _Pixels:
        self._file.seek(entry.offset)
        small = np.frombuffer(self._file.read(4 * entry.map_shape[0] * entry.map_shape[1]), np.float32)
        values = restore_map(small.reshape(entry.map_shape), entry.shape, self.spec)
        if not entry.anomalous:
            return _Pixels(np.sort(values, axis=None))
        size = entry.shape[0] * entry.shape[1]
        bits = np.frombuffer(self._file.read((size + 7) // 8), np.uint8)
        return _split(values, np.unpackbits(bits, count=size).reshape(entry.shape))


def choose_edges(pools: list[Floats]) -> Floats:
    """Edges of bins that split the values of each pool evenly, and ever more finely towards its top; rising.

    A value belongs to the bin of the first edge that is not below it. Edges lie a little above the values they are made
    of, so that values that only resizing has made unequal stay together.

    >>> choose_edges([np.array([1.0, 1.0, 3.0], np.float32), np.array([2.0], np.float32)]).round(3)
    array([1., 2., 3.], dtype=float32)
    """
    edges = np.unique(np.concatenate([np.empty(0, np.float32), *(_quantiles(pool) for pool in pools)]))
    return np.asarray(edges + NOISE * np.spacing(edges))


def area_under_pro(overlaps: Floats, rates: Floats, limit: float = FALSE_POSITIVE_LIMIT) -> Floats:
    """Mean overlap of the regions over false-positive rates up to `limit`; both (..., T), rising, rates from 0 to 1.

    >>> area_under_pro(np.array([0.0, 1.0, 1.0]), np.array([0.0, 0.3, 1.0]))
    array(0.5)
    """
    starts, lower = rates[..., :-1], overlaps[..., :-1]
    widths = np.diff(rates)
    inside = np.clip(limit - starts, 0, widths)  # of each step, what lies below the limit
    parts = np.divide(inside, widths, out=np.zeros_like(widths), where=widths > 0)
    return np.asarray((inside * (lower + np.diff(overlaps) * parts / 2)).sum(axis=-1) / limit)


@dataclass(frozen=True, slots=True)
class _Entry:
    """Where an image's map and mask lie in the file."""

    category: str
    anomalous: bool
    offset: int
    map_shape: tuple[int, ...]
    shape: tuple[int, int]


@dataclass(frozen=True, slots=True, eq=False)
class _Pixels:
    """The values of one map in original pixels, sorted."""

    normal: Floats
    defective: Floats = field(default_factory=lambda: np.empty(0, np.float32))
    overlap: Floats = field(default_factory=lambda: np.zeros(1))  # summed shares of their regions up to each, from 0
    regions: int = 0

    def histogram(self, edges: Floats) -> Floats:
        """Normal pixels, defective pixels and shares of regions in each bin, and the number of regions: (3 B + 1,)."""
        normal = np.append(np.searchsorted(self.normal, edges, side="right"), len(self.normal))
        defects = np.append(np.searchsorted(self.defective, edges, side="right"), len(self.defective))
        sums = [np.diff(counts, prepend=0) for counts in (normal, defects, self.overlap[defects])]
        return np.concatenate([*sums, [self.regions]])


class _Pool:
    """Some values of each image, a bounded number of all: when they are too many, half of them go, by chance."""

    def __init__(self) -> None:
        self.share = VALUES
        self._values: list[Floats] = []
        self._count = 0

    @property
    def values(self) -> Floats:
        return np.concatenate(self._values)

    def add(self, values: Floats, random: np.random.Generator) -> None:  # (P,)
        if len(values) > self.share:
            values = np.append(random.choice(values, self.share - 1), values.max())
        self._values.append(values)
        self._count += len(values)
        if self._count > POOL:
            self._values = [random.permutation(self.values)[: POOL // 2]]
            self._count = POOL // 2
            self.share = max(2, self.share // 2)


class _Tally:
    """Histograms summed over images: as they are, and as often as each bootstrap replicate has drawn them."""

    def __init__(self, edges: Floats, normal: int, anomalous: int, seed: int) -> None:
        self.edges = edges
        self.masks = anomalous
        width = 3 * (len(edges) + 1) + 1
        self._random = np.random.default_rng(seed)
        self._coming = {False: normal, True: anomalous}  # images
        self._draws = {
            False: np.full(REPLICATES, normal),
            True: np.full(REPLICATES, anomalous),
        }  # still to be given out
        self._exact = np.zeros(width)
        self._resampled = np.zeros((REPLICATES, width), np.float32)
        self._waiting: list[tuple[npt.NDArray[np.int64], Floats]] = []

    def add(self, pixels: _Pixels, anomalous: bool) -> None:
        histogram = pixels.histogram(self.edges)
        self._exact += histogram
        self._waiting.append((self._draw(anomalous), histogram))
        if len(self._waiting) == BLOCK:
            self._flush()

    def _draw(self, anomalous: bool) -> npt.NDArray[np.int64]:
        """How often each replicate has drawn one more image: a multinomial, an image at a time."""
        counts = self._random.binomial(self._draws[anomalous], 1 / self._coming[anomalous])
        self._coming[anomalous] -= 1
        self._draws[anomalous] -= counts
        return counts

    def _flush(self) -> None:
        if self._waiting:
            weights, histograms = (np.stack(column).astype(np.float32) for column in zip(*self._waiting, strict=True))
            self._resampled += weights.T @ histograms
            self._waiting = []

    def finish(self, anomalous: int) -> PixelFigures:
        """The figures, for a group with so many anomalous images, with a mask or without."""
        self._flush()
        left_out = _no_masks(anomalous, self.masks) if self.masks < anomalous or not anomalous else {}
        try:
            values = _areas(self._exact[None])
        except DataError as error:
            return PixelFigures({}, {"pixel.auroc": str(error), "pixel.aupro": str(error)} | left_out)
        drawn = [_areas(rows) for rows in np.array_split(self._resampled, 20) if _usable(rows).any()]
        estimates = {
            name: with_bounds(float(value[0]), np.concatenate([block[name] for block in drawn]))
            for name, value in values.items()
        }
        return PixelFigures(estimates, left_out)


def _areas(sums: Floats) -> dict[str, Floats]:
    """Pixel AUROC and AUPRO of summed histograms (R, 3 B + 1); of those rows that have both kinds of pixels."""
    rows = sums[_usable(sums)].astype(np.float64)
    if not len(rows):
        missing = (
            "defective pixels; the masks are empty" if not sums[:, -1].any() else "normal pixels; the masks leave none"
        )
        raise DataError(f"needs {missing}")
    bins = rows[:, :-1].reshape(len(rows), 3, -1)[..., ::-1]  # (R, 3, B) from the largest values down
    normal, defective, overlap = np.moveaxis(np.pad(bins, ((0, 0), (0, 0), (1, 0))).cumsum(axis=-1), 1, 0)
    return {
        "auroc": area_under_roc(defective, normal),
        "aupro": area_under_pro(overlap / rows[:, -1:], normal / normal[:, -1:]),
    }


def _usable(sums: Floats) -> Bools:
    """Which rows have normal pixels and regions, (R,)."""
    bins = (sums.shape[1] - 1) // 3
    return np.asarray((sums[:, :bins].sum(axis=1) > 0) & (sums[:, -1] > 0))


def _no_masks(anomalous: int, masks: int) -> dict[str, str]:
    """Why figures are missing (no mask at all), or which images take no part in them."""
    if masks:
        return {"pixel": f"{anomalous - masks:,} of {anomalous:,} anomalous images take no part: no usable mask"}
    none = f"no anomalous image of {anomalous:,} has a usable one" if anomalous else "there is no anomalous image"
    return dict.fromkeys(("pixel.auroc", "pixel.aupro"), f"needs masks of the defects; {none}")


def _read_mask(sample: Sample, shape: tuple[int, int]) -> Bools:
    assert sample.mask is not None
    if not isinstance(sample.mask, Path):
        return sample.mask
    mask = decode_mask(sample.mask)
    if mask.shape != shape:
        came, expected = (f"{size[1]} x {size[0]}" for size in (mask.shape, shape))
        raise ImageError(f"mask {sample.mask.name} has {came} pixels where the image has {expected}")
    return mask


def _split(values: Floats, mask: npt.NDArray[np.uint8]) -> _Pixels:
    """The pixels of a map (H, W) outside and inside the mask, separately; regions are connected also across corners."""
    count, labels, stats, _ = cv2.connectedComponentsWithStats(mask, connectivity=8)
    inside = mask > 0
    defective = values[inside]
    order = np.argsort(defective)
    shares = 1.0 / stats[labels[inside][order], cv2.CC_STAT_AREA]
    return _Pixels(np.sort(values[~inside]), defective[order], np.append(0.0, np.cumsum(shares)), count - 1)


def _quantiles(pool: Floats) -> Floats:
    values = np.sort(pool)
    if len(values) <= LEVELS:
        return values
    tail = 1 - np.geomspace(1 / len(values), 0.5, LEVELS)
    levels = np.concatenate([np.linspace(0, 1, LEVELS), tail])
    return values[np.minimum((levels * len(values)).astype(np.intp), len(values) - 1)]


@contextmanager
def _explained() -> Iterator[None]:
    """Say what a full disk means here."""
    try:
        yield
    except OSError as error:
        raise OutputError(
            f"the maps cannot be kept in the folder for temporary files ({error.strerror}); "
            "name one with more room in the environment variable TMPDIR"
        ) from None
