"""What an inspection found: plain values, which a report shows and a program can ask."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from unlike.calibration.groups import Groups
from unlike.calibration.thresholds import AUTO_FALSE_ALARMS, auto_promise, normals_needed
from unlike.data.facts import Defect, Facts
from unlike.data.input_spec import InputSpec
from unlike.records import Floats, Pixels, Rows, Sample

THIN = 2.0  # pixels across, as the detector sees it: a defect that is thinner is blurred away
SEEN = 4.0  # pixels across, as the detector sees it: half a cell of the features of most presets; of less there is little left
CLOSE = 1.5  # times smaller, at which an image is still near its own size
MUCH_SMALLER = 2.0  # times, that the detector sees an image: said after a fit
WANTED = 3.0  # pixels across that a larger size should give it


@dataclass(frozen=True, slots=True, eq=False)
class Strange:
    """A normal image that is unlike the others, and where."""

    sample: Sample
    ratio: float  # its score over the median of the normal images', each scored by what the others show
    image: Pixels  # (H, W, C) in the input spec
    map: Floats  # (h, w)


@dataclass(frozen=True, slots=True, eq=False)
class Look:
    """What the features of some normal images show."""

    rows: Rows  # (n,) of the facts: the images that were looked at
    series: Groups  # (n,) those of one part or scene
    strangest: tuple[Strange, ...]  # the strangest first
    given: bool = False  # whether series are as the user gave them
    words: tuple[str, ...] = ()  # what fit would say of them, where it looks itself


@dataclass(frozen=True, slots=True)
class Size:
    """A size that would show the smallest labelled defect, and what to add to `fit` for it."""

    options: str  # of the command line
    pixels: float  # across, that the defect then has


@dataclass(frozen=True, slots=True, eq=False)
class Inspection:
    """What `fit` would take of some images, and what is worth knowing of them before."""

    name: str  # what the user named
    notes: tuple[str, ...]  # what was understood of the layout
    samples: Sequence[Sample]  # all that were found
    spec: InputSpec  # the form in which the detector would see them
    facts: Facts
    taken: Rows  # (n,) of the facts: the images that `fit` would take
    refusal: str  # why `fit` would take none
    copies: Groups  # (N,) of the facts: images that are the same, pixel by pixel
    same: Groups  # (N,) and those that are the same but for light, noise or compression
    held_out: int  # of the images that `fit` would take, copies left out, those by which the threshold would be found
    leaked: tuple[tuple[int, int], ...]  # rows of the facts: an image to train on that a test image is the same as
    look: Look | None = None  # None where nothing was looked at by features,
    not_looked: str = ""  # and why
    source: Any = None  # the Source, so that some can be shown

    def sample(self, row: int) -> Sample:
        """That of a row of the facts."""
        return self.samples[int(self.facts.rows[row])]

    @property
    def distinct(self) -> int:
        """Images that `fit` would learn from: copies are left out."""
        return len(np.unique(self.copies.numbers[self.taken]))

    @property
    def groups(self) -> int:
        """Of the images that `fit` would take, how many are independent: series count once.

        Where not all were looked at, as many as if the rest were like those.
        """
        pictures = len(np.unique(self.same.numbers[self.taken]))
        if self.look is None or not len(self.look.rows):
            return pictures
        looked = len(np.unique(self.same.numbers[self.look.rows]))
        return max(1, round(pictures * min(1.0, len(self.look.series) / looked)))

    @property
    def promise(self) -> float:
        """The share of false alarms that `fit` promises by itself with so many images."""
        return auto_promise(self.held_out)

    @property
    def promise_of_groups(self) -> float:
        """The same, where each series counts as one image."""
        independent = int(self.held_out * self.groups / max(self.distinct, 1))
        return auto_promise(independent)

    @property
    def smallest(self) -> Defect | None:
        """The labelled defect that is thinnest as the detector would see it; of each image the largest counts."""
        return min(self.facts.defects, key=lambda defect: defect.width, default=None)


def advise_size(defect: Defect, shape: tuple[int, int], spec: InputSpec) -> Size | None:
    """How to see a thin defect of an image of that shape (H, W) at WANTED pixels across; None where that is no question.

    A larger size, while that is no more than four times as many pixels; or tiles of the image as it is. No size shows more
    than the image has.

    >>> advise_size(Defect(0, 1.5, 30.0, 6.0), (1024, 1024), InputSpec(256, 256, 3))
    Size(options='--size 512', pixels=3.0)
    >>> advise_size(Defect(0, 0.3, 66.0, 4.0), (256, 4000), InputSpec(256, 256, 3)).options
    '--size 256x4000 --set data.tile=256'
    """
    factor = WANTED / max(defect.width, 1e-6)
    largest = max(shape[0] / spec.height, shape[1] / spec.width)
    if defect.width >= THIN or largest <= 1:
        return None
    factor = min(factor, largest)
    if factor <= 2:
        side = -(-round(factor * max(spec.size)) // 32) * 32
        return Size(f"--size {side}", defect.width * side / max(spec.size))
    return Size(_tiled(shape), defect.original)


def fit_lines(
    shape: tuple[int, int], spec: InputSpec, normals: int, promised: float | None, *, native: bool = False
) -> list[str]:
    """What is worth telling whoever has just fitted: what more images would promise, and what the size is and costs.

    `shape` is the median of the originals (H, W); `normals` calibrated, and as few false alarms as they can hold are `promised`;
    the size was read off the images where it is `native`.

    >>> for line in fit_lines((256, 4000), InputSpec(256, 256, 3), 31, 3 / 32):
    ...     print(line)
    99 normal images that calibrate would hold 1 % if asked for, here are 31; `unlike inspect` says how many are independent.
    Images of 256 x 4000 are seen at 256 x 256: what is less than about 62 of their pixels across will mostly be missed.
    To see it: --set data.size=[256,512], a larger size; or in tiles, --size 256x4000 --set data.tile=256.
    >>> fit_lines((612, 600), InputSpec(512, 512, 3), 99, None, native=True)
    ['Images of some 612 pixels are seen at 512 x 512, near their own size; --size takes another.']
    """
    lines = []
    needed = normals_needed(AUTO_FALSE_ALARMS)
    if promised is not None and normals < needed and math.isclose(promised, auto_promise(normals)):
        lines.append(
            f"{needed} normal images that calibrate would hold {AUTO_FALSE_ALARMS:.0%} if asked for".replace("%", " %")
            + f", here are {normals:,}; `unlike inspect` says how many are independent."
        )
    factor = max(shape[0] / spec.height, shape[1] / spec.width)
    if factor >= MUCH_SMALLER:
        lines.append(
            f"Images of {shape[0]} x {shape[1]} are seen at {spec.height} x {spec.width}: what is less than about "
            f"{SEEN * factor:.0f} of their pixels across will mostly be missed."
        )
        lines.append(f"To see it: --set data.size={_larger(shape, spec)}, a larger size; or in tiles, {_tiled(shape)}.")
    elif native:
        near = "near their own size" if factor < CLOSE else "smaller than they are"
        why = "enlarged, for networks see more so" if max(shape) < max(spec.size) else near
        lines.append(
            f"Images of some {max(shape)} pixels are seen at {spec.height} x {spec.width}, {why}; --size takes another."
        )
    return lines


def _larger(shape: tuple[int, int], spec: InputSpec) -> str:
    """Twice the size, or that of the original where it is less, as `--set data.size` takes it.

    >>> _larger((640, 480), InputSpec(256, 256, 3))
    '[512,480]'
    """
    height, width = min(shape[0], 2 * spec.height), min(shape[1], 2 * spec.width)
    return f"{height}" if height == width else f"[{height},{width}]"


def _tiled(shape: tuple[int, int]) -> str:
    """What makes `fit` see images of that shape as they are, a tile at a time."""
    return f"--size {shape[0]}x{shape[1]} --set data.tile={min(256, *shape)}"
