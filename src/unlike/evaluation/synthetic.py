"""A test set where nobody has a defective image: normal images as they are, and each once more with a synthetic defect."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from unlike.data.arrays import ArraySource, ImageArray
from unlike.data.batches import find_insides, value_range
from unlike.data.defects import DefectConfig, add_defects
from unlike.data.input_spec import InputSpec
from unlike.data.pixels import promote
from unlike.data.source import Source
from unlike.errors import DataError, none_usable
from unlike.records import Bools, Pixels, Sample, Unreadable

MOST = 500  # normal images that are used: all are in memory, twice


def make_synthetic(
    source: Source, spec: InputSpec, seed: int = 0, config: DefectConfig | None = None
) -> tuple[Source, tuple[Unreadable, ...]]:
    """A labelled set in memory, of normal images in a detector's spec and of their damaged copies, with masks.

    Of a set with splits the normal images of the test split are used, at most 500, drawn at random. Kinds of defects take
    turns; a copy in which none could be seen is left out. Also returns the images that could not be read.

    >>> from unlike.data.source import open_source
    >>> images = np.random.default_rng(0).integers(0, 256, (6, 32, 32, 3), np.uint8)
    >>> found, _ = make_synthetic(open_source(images), InputSpec(32, 32, 3))
    >>> [sample.id for sample in found.samples][5:8]
    ['5', '0 + paste', '1 + scar']
    """
    chosen = _choose_normals(source, seed)
    samples, normal, inside, missing, unreadable = _read(chosen, spec)
    if not samples:
        raise none_usable(f"{source.name}: no normal image", "read", unreadable)
    damaged, masks, kinds = _damage(normal, inside, config or DefectConfig(), seed)
    rows = [row for row in range(len(samples)) if masks[row].any()]
    good = [Sample(s.id, row=row, anomalous=False, category=s.category, kind="good") for row, s in enumerate(samples)]
    bad = [
        replace(
            good[row],
            id=f"{samples[row].id} + {kinds[row]}",
            row=len(samples) + row,
            anomalous=True,
            kind=kinds[row],
            mask=masks[row],
        )
        for row in rows
    ]
    array = ImageArray(np.concatenate([_as_recorded(pixels, missing, spec) for pixels in (normal, damaged)]))
    return ArraySource(f"{source.name}, with synthetic defects", [*good, *bad], array), unreadable


def _choose_normals(source: Source, seed: int) -> Source:
    normal = source.where(lambda sample: sample.anomalous is not True)
    held_out = normal.where(lambda sample: sample.split == "test")
    normal = held_out if len(held_out) else normal
    if not len(normal):
        raise DataError(f"{source.name}: no image of {len(source):,} is normal; synthetic defects need normal images")
    few = np.sort(np.random.default_rng(seed).permutation(len(normal))[:MOST])
    return normal.take(few)


def _read(
    source: Source, spec: InputSpec
) -> tuple[list[Sample], Pixels, Bools | None, Bools | None, tuple[Unreadable, ...]]:
    """What can be read, of one number type (N, H, W, C), where there is something to damage, and where values are missing
    (N, H, W), and what cannot be read.
    """
    batches = list(source.stream(spec))
    samples = [sample for batch in batches for sample in batch.samples]
    read = [batch.pixels for batch in batches if len(batch.samples)]
    kind = max((pixels.dtype for pixels in read), key=lambda kind: kind.itemsize, default=np.dtype(np.uint8))
    pixels = np.concatenate([promote(pixels, kind) for pixels in read]) if read else np.empty((0, *spec.size, 1), kind)
    inside = find_insides([shape for batch in batches for shape in batch.shapes], spec) if samples else None
    missing = None
    if any(batch.missing is not None for batch in batches):
        missing = np.concatenate(
            [np.zeros((len(b.samples), *spec.size), np.bool_) if b.missing is None else b.missing for b in batches]
        )
        inside = ~missing if inside is None else inside & ~missing
    return samples, pixels, inside, missing, tuple(item for batch in batches for item in batch.unreadable)


def _as_recorded(pixels: Pixels, missing: Bools | None, spec: InputSpec) -> Pixels:
    """Images in the spec (N, H, W, C) with the values of original ones: of their bits, and none where none was."""
    if pixels.dtype == np.uint16 and spec.bits < 16:
        pixels = ((pixels.astype(np.uint32) * (2**spec.bits - 1) + 32767) // 65535).astype(np.uint16)
    if missing is None or spec.missing is None:
        return pixels
    return np.where(missing[..., None], pixels.dtype.type(spec.missing), pixels)


def _damage(normal: Pixels, inside: Bools | None, config: DefectConfig, seed: int) -> tuple[Pixels, Bools, list[str]]:
    """A copy of each image (N, H, W, C) with defects of one kind, their masks (N, H, W), and the kinds."""
    random = np.random.default_rng(seed)
    damaged, masks = normal.copy(), np.zeros(normal.shape[:3], bool)
    bounds = value_range(float(normal.min()), float(normal.max()), normal.dtype)
    several = len(config.kinds)
    for turn, kind in enumerate(config.kinds):
        alone = replace(config, kinds=(kind,))
        rows = np.s_[turn::several]
        shown = None if inside is None else inside[rows]
        damaged[rows], masks[rows] = add_defects(normal[rows], alone, random, value_range=bounds, inside=shown)
    return damaged, masks, [config.kinds[row % several] for row in range(len(normal))]
