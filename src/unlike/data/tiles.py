"""Large images as overlapping tiles: cut for a model that sees one tile at a time, and what it finds put together again."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import overload

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from unlike.data.batches import BLOCK_BYTES, ImageSet
from unlike.data.input_spec import InputSpec
from unlike.data.split import Split
from unlike.errors import ConfigError
from unlike.records import Bools, Floats, Pixels, Rows, Sample, Unreadable

ALIGNED = 32  # pixels: tiles begin at multiples of it where they can, so that the cells of their maps lie on one grid
TINY = 1e-9
LEAST_WEIGHT = 1e-6  # of a cell on the very edge of a tile, which may be the only one there


@dataclass(frozen=True, slots=True)
class Tiling:
    """Where the tiles of an image lie, side by side and with some overlap, from its first pixel to its last.

    >>> tiling = Tiling(height=512, width=1000, tile=256, overlap=64)
    >>> tiling.tops, tiling.lefts, len(tiling)
    ((0, 192, 256), (0, 192, 384, 576, 744), 15)
    """

    height: int  # of the images
    width: int
    tile: int  # pixels a side
    overlap: int  # pixels that neighbours share at least

    def __post_init__(self) -> None:
        if self.tile > min(self.height, self.width):
            raise ConfigError(
                f"data.tile: expected no more than the images have, {self.height} x {self.width} pixels, came {self.tile}; "
                "choose smaller tiles, or larger images by --size"
            )

    def __len__(self) -> int:
        """Tiles an image."""
        return len(self.tops) * len(self.lefts)

    @property
    def tops(self) -> tuple[int, ...]:
        """The first row of each row of tiles."""
        return (*range(0, self.height - self.tile, self.stride), self.height - self.tile)

    @property
    def lefts(self) -> tuple[int, ...]:
        """The first column of each column of tiles."""
        return (*range(0, self.width - self.tile, self.stride), self.width - self.tile)

    @property
    def stride(self) -> int:
        """Pixels from one tile to the next; to the last, which ends where the image does, there may be fewer."""
        farthest = self.tile - self.overlap
        return farthest // ALIGNED * ALIGNED or farthest

    def spec_of(self, spec: InputSpec) -> InputSpec:
        """The input spec of the tiles of images in that one."""
        return replace(spec, height=self.tile, width=self.tile)

    def rows_of(self, rows: Rows) -> Rows:
        """The rows of all tiles of the images in these rows, as `TiledImages` counts them."""
        return np.asarray(rows[:, None] * len(self) + np.arange(len(self))).ravel()

    @property
    def images_at_once(self) -> int:
        """How many images, with their maps, make a block that is not heavy."""
        return int(np.clip(BLOCK_BYTES // (4 * self.height * self.width), 1, 8))

    def cut(self, images: Tensor, at_once: int) -> Iterator[Tensor]:
        """(B, C, H, W) -> all B T tiles (n, C, tile, tile), at most so many at a time, those of an image in a row.

        They come from top left to bottom right; in a graph, which knows no number of blocks, all at once.
        """
        places = [(top, left) for top in self.tops for left in self.lefts]
        if torch.compiler.is_exporting() or len(images) * len(places) <= at_once:
            yield self._cut_out(images, places)
            return
        for image in torch.split(images, 1):
            for start in range(0, len(places), at_once):
                yield self._cut_out(image, places[start : start + at_once])

    def _cut_out(self, images: Tensor, places: Sequence[tuple[int, int]]) -> Tensor:
        tiles = [images[:, :, top : top + self.tile, left : left + self.tile] for top, left in places]
        return torch.stack(tiles, dim=1).flatten(0, 1)

    def stitch(self, maps: Tensor) -> Tensor:
        """What was found in the tiles, (B T, [C,] h, w), over whole images: (B, [C,] H', W').

        The cells have the size that they have in a tile, or less where a tile has so few that another would cover its own.
        Where tiles overlap, each counts the more the farther the place is from its edge: no seam shows. Where their cells
        do not lie on one grid, values between two cells are on a straight line.
        """
        down, across = len(self.tops), len(self.lefts)
        height, width = maps.shape[-2:]
        grid = maps.reshape(-1, down, across, *((1,) if maps.ndim == 3 else ()), *maps.shape[1:])
        images, channels = grid.shape[0], grid.shape[3]
        strips = grid.permute(0, 1, 4, 2, 3, 5).reshape(images, down, height, -1)  # (B, down, h, across C w)
        rows = _join(strips, self._places(self.tops, self.height, height))  # (B, H', across C w)
        strips = rows.reshape(images, -1, across, channels, width).permute(0, 2, 4, 1, 3)  # (B, across, w, H', C)
        columns = _join(strips.reshape(images, across, width, -1), self._places(self.lefts, self.width, width))
        whole = columns.reshape(images, columns.shape[1], -1, channels).permute(0, 3, 2, 1).contiguous()
        return whole[:, 0] if maps.ndim == 3 else whole

    def _places(self, starts: Sequence[int], length: int, cells: int) -> list[_Place]:
        """Of each tile, for maps of so many cells along an axis of `length` pixels."""
        whole = math.ceil(length / min(self.tile / cells, self.stride) - TINY)
        middles = (np.arange(whole) + 0.5) * (length / whole)  # in pixels
        shares = (middles - np.array(starts)[:, None]) / self.tile  # (T, whole), 0 to 1 inside a tile
        inside = (shares > -TINY) & (shares < 1 + TINY)
        windows = np.where(inside, np.maximum(np.sin(np.pi * shares) ** 2, LEAST_WEIGHT), 0.0)
        weights = windows / windows.sum(axis=0)
        return [
            _place(share[own] * cells - 0.5, np.flatnonzero(own), weight[own], cells)
            for share, own, weight in zip(shares, inside, weights, strict=True)
        ]


class TiledImages:
    """The tiles of a set of images as a set of images: T rows for each. Digests are those of the whole images."""

    def __init__(self, images: ImageSet, tiling: Tiling) -> None:
        self.samples: Sequence[Sample] = _TileSamples(images.samples, len(tiling))
        self.unreadable: tuple[Unreadable, ...] = images.unreadable
        self.digests: npt.NDArray[np.uint64] = images.digests
        self._images, self._tiling = images, tiling

    def take(self, rows: Rows) -> Pixels:
        """(B, tile, tile, C); no more than one whole image is in memory."""
        return self._cut(rows, self._images.take)

    def inside(self, rows: Rows) -> Bools | None:
        """(B, tile, tile); a tile may lie in a bar altogether."""
        if self._images.inside(rows[:1] // len(self._tiling)) is None:
            return None
        return self._cut(rows, self._images.inside)

    def missing(self, rows: Rows) -> Bools | None:
        """(B, tile, tile)"""
        whole = self._images.missing(np.unique(rows // len(self._tiling)))
        return None if whole is None else self._cut(rows, partial(_take_missing, self._images))

    def _cut(self, rows: Rows, take: Callable[[Rows], Pixels | None]) -> Pixels:
        """The tiles of what `take` gives of one whole image after the other."""
        owners, numbers = np.divmod(rows, len(self._tiling))
        tiles: list[Pixels] = [np.empty(0)] * len(rows)
        for owner in np.unique(owners):
            taken = take(np.array([owner], np.intp))
            assert taken is not None, "there is something to cut"
            for place in np.flatnonzero(owners == owner).tolist():
                tiles[place] = self._cut_one(taken[0], int(numbers[place])).copy()  # a view would keep the whole image
        return np.stack(tiles)

    def _cut_one(self, image: Pixels, number: int) -> Pixels:
        tiling = self._tiling
        top, left = tiling.tops[number // len(tiling.lefts)], tiling.lefts[number % len(tiling.lefts)]
        return image[top : top + tiling.tile, left : left + tiling.tile]


def cut_split(split: Split, tiling: Tiling) -> Split:
    """The tiles of each part of a split: those of an image are all in the same one."""
    return Split(*(tiling.rows_of(rows) for rows in (split.train, split.validation, split.calibration)))


def _take_missing(images: ImageSet, rows: Rows) -> Bools:
    """The same as `missing`, where there is something to cut."""
    found = images.missing(rows)
    return np.zeros(images.take(rows).shape[:3], np.bool_) if found is None else found


class _TileSamples(Sequence[Sample]):
    """The sample of a tile is its image's."""

    def __init__(self, samples: Sequence[Sample], tiles: int) -> None:
        self._samples, self._tiles = samples, tiles

    def __len__(self) -> int:
        return len(self._samples) * self._tiles

    @overload
    def __getitem__(self, position: int) -> Sample: ...
    @overload
    def __getitem__(self, position: slice) -> Sequence[Sample]: ...
    def __getitem__(self, position: int | slice) -> Sample | Sequence[Sample]:
        if isinstance(position, slice):
            return [self[number] for number in range(*position.indices(len(self)))]
        return self._samples[range(len(self))[position] // self._tiles]


@dataclass(frozen=True, slots=True, eq=False)
class _Place:
    """Which cells of a whole map a tile has something to say of, along one axis, and how it says it."""

    cells: slice  # of the whole
    below: npt.NDArray[np.intp]  # the tile's cell at or before each of them,
    above: npt.NDArray[np.intp]  # the next one,
    between: Floats  # and how far between the two it lies, 0 to 1
    weights: Floats  # those of all tiles that cover a cell sum to 1


def _place(places: Floats, covered: Rows, weights: Floats, cells: int) -> _Place:
    places = np.clip(np.round(places, 9), 0, cells - 1)  # in the tile's cells; whole numbers where the grids agree
    below = np.floor(places).astype(np.intp)
    span = slice(int(covered[0]), int(covered[-1]) + 1)
    return _Place(span, below, np.minimum(below + 1, cells - 1), places - below, weights)


def _join(strips: Tensor, places: Sequence[_Place]) -> Tensor:
    """(B, T, cells, K) -> (B, whole, K): what each tile says of the cells it covers, weighted and added up."""
    joined = strips.new_zeros(strips.shape[0], places[-1].cells.stop, strips.shape[3])
    for number, place in enumerate(places):
        below, above = (torch.from_numpy(rows).to(strips.device) for rows in (place.below, place.above))
        between, weights = (
            torch.from_numpy(values).to(strips.device, strips.dtype)[:, None]
            for values in (place.between, place.weights)
        )
        tile = strips[:, number]
        joined[:, place.cells] += weights * torch.lerp(tile[:, below], tile[:, above], between)
    return joined
