"""Places: a Gaussian at each place of a grid, for what always lies the same way."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from unlike.errors import ConfigError
from unlike.records import Floats
from unlike.scoring.moments import Moments, floors_of, whitening_of

MOST_BYTES = 2_000_000_000  # of covariances, one a place, and of the matrices that are learned from them
BLOCK_BYTES = 16_000_000  # of the covariances that are inverted at a time, several copies of which are made


def check_places(positions: int, width: int, instead: str) -> None:
    """Raise ConfigError where a covariance at each place would take too much memory; `instead` says what to take."""
    size = (8 + 4) * positions * width * width  # sums in double precision, and what is learned
    if size > MOST_BYTES:
        raise ConfigError(
            f"{positions:,} positions with a covariance of {width:,} x {width:,} each take {size / 1e9:,.1f} GB, more than "
            f"{MOST_BYTES / 1e9:.0f}; take {instead}, a narrower code, a coarser grid or a smaller size"
        )


def rows_of(code: Tensor) -> Tensor:
    """(B, D, h, w) -> (B, P, D), a row for each place."""
    return code.flatten(2).transpose(1, 2)


def moments_at(codes: Iterable[Tensor], instead: str) -> Moments:
    """The moments of codes (B, D, h, w) at each place; a ConfigError where they are too many, as `check_places` says."""
    moments: Moments | None = None
    with torch.no_grad():
        for code in codes:
            rows = rows_of(code)
            if moments is None:
                check_places(rows.shape[1], rows.shape[2], instead)
                moments = Moments(rows.shape[2], positions=rows.shape[1])
            moments.add(rows)
    assert moments is not None, "there are normal images"
    return moments


def lengths_at(gaps: Tensor, whitening: Tensor) -> Tensor:
    """(B, D, h, w) -> (B, h, w), the length of what is at each place, as its matrix of (P, D, D) whitens it."""
    count, _, height, width = gaps.shape
    lengths: Tensor = torch.linalg.vector_norm(gaps.flatten(2).permute(2, 0, 1) @ whitening, dim=2)  # (P, B)
    return lengths.T.reshape(count, height, width)


def whiten_each(moments: Moments, shrinkage: float | Literal["auto"], least: float = 0.0) -> Floats:
    """Matrices (P, D, D), one for each place, made some places at a time: beside the sums there is little else.

    No variance counts as smaller than `least`.
    """
    count, width = moments.mean.shape
    floors = np.maximum(floors_of(moments), least)
    whitening = np.empty((count, width, width), np.float32)
    for block in blocks(count, width):
        part = moments.at(block)
        share = part.shrinkage() if shrinkage == "auto" else np.array(shrinkage)
        whitening[block] = whitening_of(part, share, floors[block])
    return whitening


def blocks(positions: int, width: int) -> list[slice]:
    """Places whose covariances of `width` numbers a side are no more than BLOCK_BYTES together, or one at a time.

    >>> blocks(5, 1000)
    [slice(0, 2, None), slice(2, 4, None), slice(4, 6, None)]
    """
    step = max(1, BLOCK_BYTES // (8 * width * width))
    return [slice(start, start + step) for start in range(0, positions, step)]
