"""The images of a proof: those that are named, or made ones that go over the whole range of the input, and normal ones."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from unlike.data.batches import Batch, read_one
from unlike.data.input_spec import InputSpec
from unlike.data.pages import Pages
from unlike.data.source import Images, open_source
from unlike.detector.storage import Fitted
from unlike.errors import DataError, none_usable
from unlike.records import Bools, Floats, Pixels, Sample
from unlike.runtime.exported import fit_depth

MOST = 24  # images of a proof
MOST_BYTES = 48_000_000  # of them, where they are large: they are kept with the export
FEWEST = 3
NORMALS = 8  # of those that a detector was fitted on


def look_at(images: Images, spec: InputSpec, pages: Pages, count: int = MOST) -> list[Batch]:
    """The first images that can be read, brought to the spec; a DataError says that there are none."""
    source = open_source(images, pages=pages)
    source = source.take(np.arange(min(len(source), count)))
    batches = list(source.stream(spec))
    if not any(len(batch.samples) for batch in batches):
        raise none_usable(f"{source.name}: no image", "used", [item for batch in batches for item in batch.unreadable])
    return [batch for batch in batches if len(batch.samples)]


def is_there(source: str) -> bool:
    """Whether what a detector was fitted on is a path at which there still is something.

    >>> is_there("no/such/folder"), is_there("x" * 5000)
    (False, False)
    """
    try:
        return Path(source).exists()
    except OSError:  # a name that no path can have
        return False


def choose_depth(spec: InputSpec, seen: list[Batch]) -> str:
    """The number type of pixels for a graph: that of the images, where the detector does not say it."""
    if spec.floating:
        return "float32"
    return "uint16" if spec.bits < 16 or any(batch.pixels.dtype == np.uint16 for batch in seen) else "uint8"


def named_images(seen: list[Batch], depth: str) -> tuple[tuple[str, ...], Pixels, Bools | None]:
    """Ids, pixels (N, H, W, C) and where values are missing (N, H, W), of images that the user names."""
    batches = [fit_depth(batch, depth) for batch in seen]
    batches = [batch for batch in batches if len(batch.samples)]
    if not batches:
        raise DataError(
            f"none of the images to check with is of {depth}; expected such images, or --depth uint16 for a graph that takes 16 bits"
        )
    pixels = np.concatenate([batch.pixels for batch in batches])
    missing = [
        np.zeros(batch.pixels.shape[:3], np.bool_) if batch.missing is None else batch.missing for batch in batches
    ]
    ids = tuple(sample.id for batch in batches for sample in batch.samples)
    count = _room_for(pixels)
    return ids[:count], pixels[:count], np.concatenate(missing)[:count]


def made_images(fitted: Fitted, depth: str, pages: Pages) -> tuple[tuple[str, ...], Pixels, Bools]:
    """The same, made: from black to white, flat and rough; and what there is of the normal images."""
    spec = fitted.spec
    made = [(name, image, np.zeros(spec.size, np.bool_)) for name, image in _make(spec, depth)]
    normal = list(itertools.islice(_normals(fitted, depth, pages), NORMALS))
    if spec.missing is not None:
        made[0][2][: spec.height // 3] = True  # something to leave out
    chosen = [*normal, *made]
    count = _room_for(chosen[0][1][None])
    ids, pixels, missing = zip(*chosen[:count], strict=True)
    return tuple(ids), np.stack(pixels), np.stack(missing)


def _room_for(pixels: Pixels) -> int:
    return int(np.clip(MOST_BYTES // max(1, pixels[0].nbytes), FEWEST, MOST))


def _make(spec: InputSpec, depth: str) -> Iterator[tuple[str, Pixels]]:
    """Images (H, W, C) over the whole range of a number type, by name; the same on every machine."""
    draw = np.random.default_rng(0)
    shape = (spec.height, spec.width, spec.channels)
    y, x = np.mgrid[: spec.height, : spec.width] / max(spec.height, spec.width)
    ramp = np.repeat((x / max(float(x.max()), 1e-9))[..., None], spec.channels, axis=2)
    waves = 0.5 + 0.5 * np.sin(40 * (x + y))[..., None] * np.linspace(1, 0.5, spec.channels)
    smooth = draw.uniform(0, 1, (1, 1, spec.channels)) * np.ones(shape)
    spot = smooth.copy()
    spot[spec.height // 3 : spec.height // 2, spec.width // 3 : spec.width // 2] = 1 - smooth[0, 0].round()
    kinds = {
        "noise": draw.uniform(0, 1, shape),
        "ramp": ramp,
        "waves": waves,
        "black": np.zeros(shape),
        "white": np.ones(shape),
        "flat": smooth,
        "spot": spot,
        "dim noise": draw.uniform(0.4, 0.6, shape),
    }
    for name, values in kinds.items():
        yield f"made: {name}", _to_depth(values, spec, depth)


def _to_depth(values: Floats, spec: InputSpec, depth: str) -> Pixels:
    """Values from 0, black, to 1, white, as pixels of a number type."""
    if depth == "float32":
        low, high = spec.value_range
        return np.asarray(low + values * (high - low), np.float32)
    return np.asarray(np.rint(values * np.iinfo(depth).max), depth)


def _normals(fitted: Fitted, depth: str, pages: Pages) -> Iterator[tuple[str, Pixels, Bools]]:
    """Normal images: those that the detector was fitted on, where they still are, or the small ones that it keeps."""
    spec = fitted.spec
    found: list[Batch] = []
    if is_there(fitted.source):
        try:
            normal = open_source(fitted.source, pages=pages).where(lambda sample: sample.anomalous is not True)
            found = look_at(normal, spec, pages, NORMALS)
        except DataError:  # they are no longer what they were
            found = []
    for batch in (fit_depth(batch, depth) for batch in found):
        missing = np.zeros(batch.pixels.shape[:3], np.bool_) if batch.missing is None else batch.missing
        yield from zip([sample.id for sample in batch.samples], batch.pixels, missing, strict=True)
    if found or spec.floating:
        return
    eight = replace(spec, convert=True, missing=None, bits=16)
    for one in fitted.strangest:
        read = read_one(Sample(one.id), lambda picture=one.picture: picture, eight)  # type: ignore[misc]
        if read.image is not None:
            image = read.image if depth == "uint8" else read.image.astype(np.uint16) * np.uint16(257)
            yield one.id, image, np.zeros(spec.size, np.bool_)
