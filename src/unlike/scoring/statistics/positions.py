"""A Gaussian at each position of a grid, for what always lies the same way."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import partial

import numpy as np
import torch
from torch import Tensor

from unlike.errors import ConfigError
from unlike.records import Floats, Rows
from unlike.scoring.statistics.moments import FLOOR, Moments, floors_of, whitening_of

MOST_BYTES = 2_000_000_000  # of covariances, one a position, and of the matrices that are learned from them
FEWEST_LEFT = 3  # images of which each can be left out: two must be there to whiten by
OWN = 1e-4  # of what is left of an image, the least that can be its own: less is rounding
NOTHING = 1e-6  # of a variance: what is left of it where all of it was one image's, by rounding
TINY = 1e-6  # what a determinant that is above 0 but for rounding counts as
BLOCK_BYTES = 16_000_000  # of the covariances that are inverted at a time, several copies of which are made


def check_positions(positions: int, width: int, instead: str) -> None:
    """Raise ConfigError where a covariance at each position would take too much memory; `instead` says what to take."""
    size = (8 + 4) * positions * width * width  # sums in double precision, and what is learned
    if size > MOST_BYTES:
        raise ConfigError(
            f"{positions:,} positions with a covariance of {width:,} x {width:,} each take {size / 1e9:,.1f} GB, more than "
            f"{MOST_BYTES / 1e9:.0f}; take {instead}, a narrower code, a coarser grid or a smaller size"
        )


def rows_at(code: Tensor) -> Tensor:
    """(B, D, h, w) -> (B, P, D), a row for each position."""
    return code.flatten(2).transpose(1, 2)


def moments_at(features: Iterable[Tensor], instead: str) -> tuple[Moments, torch.device]:
    """The moments of features (B, D, h, w) at each position, and where these were; a ConfigError where they are too many."""
    moments, device = None, torch.device("cpu")
    for batch in features:
        rows, device = rows_at(batch), batch.device
        if moments is None:
            check_positions(rows.shape[1], rows.shape[2], instead)
            moments = Moments(rows.shape[2], positions=rows.shape[1])
        moments.add(rows)
    assert moments is not None, "there are normal images"
    return moments, device


def lengths_at(gaps: Tensor, whitening: Tensor) -> Tensor:
    """(B, D, h, w) -> (B, h, w), the length of what is at each position, as its matrix of (P, D, D) whitens it."""
    count, _, height, width = gaps.shape
    lengths: Tensor = torch.linalg.vector_norm(gaps.flatten(2).permute(2, 0, 1) @ whitening, dim=2)  # (P, B)
    return lengths.T.reshape(count, height, width)


def lengths_leave_one_out(
    left: Tensor,
    whitening: Tensor,
    influence: Tensor,
    chosen: Tensor,
    groups: Rows,
    shrinkage: float,
    least: float = 0.0,
) -> Tensor:
    """Lengths (n, h, w) that the `chosen` of N images would have at each position, had its group not been learned from.

    `left` (N, D, h, w) is what is left of each, `influence @ codes`, with (N, N) how much of each image is in that of each.
    `groups` (N,) numbers the group of each image. `whitening` is by what is left, shrunk, no variance below `least`. The
    lengths are never below those of learning again, and hardly above: see docs/derivations.md#a-whitened-length-by-leave-one-out.
    """
    lengths = left.new_empty(len(chosen), *left.shape[2:])
    alone = np.ones(len(chosen), bool)
    for rows, places in shared_groups(groups, chosen):
        found = _lengths_without_group(left, whitening, influence, rows, shrinkage, least)
        lengths[places] = found[torch.searchsorted(rows, chosen[places])]
        alone[places.cpu().numpy()] = False
    if alone.any():
        rest = torch.from_numpy(np.flatnonzero(alone)).to(chosen.device)
        lengths[rest] = _lengths_without_each(left, whitening, influence, chosen[rest], shrinkage, least)
    return lengths


def shared_groups(groups: Rows, chosen: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Of each group of more than one image, of which some are chosen: its rows in order, and where in `chosen` some of them are.

    >>> [(rows.tolist(), places.tolist()) for rows, places in shared_groups(np.array([0, 1, 0, 2]), torch.tensor([3, 2]))]
    [([0, 2], [1])]
    """
    asked = groups[chosen.cpu().numpy()]
    for group in np.unique(asked):
        rows = np.flatnonzero(groups == group)
        if len(rows) > 1:
            places = np.flatnonzero(asked == group)
            yield torch.from_numpy(rows).to(chosen.device), torch.from_numpy(places).to(chosen.device)


def undo(influence: Tensor, rows: Tensor) -> Tensor:
    """(m, m) what turns that which is left of the images in `rows` to what would be left, had none of them been learned from.

    The inverse of how much of each is in what is left of each; no direction counts as less than OWN, which is rounding.
    """
    own, sizes, others = torch.linalg.svd(influence[rows][:, rows].double())
    inverse: Tensor = (others.mT / sizes.clamp_min(OWN)) @ own.mT
    return inverse.to(influence.dtype)


def _lengths_without_group(
    left: Tensor, whitening: Tensor, influence: Tensor, rows: Tensor, shrinkage: float, least: float
) -> Tensor:
    """Lengths (m, h, w) of the m images of one group, had none of them been learned from.

    See docs/derivations.md#a-group-left-out-at-once.
    """
    count, width, height, across = left.shape
    fewer, share = (count - len(rows)) / count, (1 - shrinkage) / (count - len(rows))
    inverse = undo(influence, rows)
    rest = influence[:, rows] @ inverse  # (N, m) of the group, in what is left of each
    total = rest.T @ rest
    none, eye = torch.zeros_like(total), torch.eye(len(rows), dtype=left.dtype, device=left.device)
    turned = torch.cat([torch.cat([none, -eye], 1), torch.cat([-eye, -total], 1)])  # K^-1
    flat, found = left.flatten(2), []
    sizes = flat.square().sum(dim=(0, 1)) / (count * width)  # (P,) of the spheres
    radius = partial(_radius, largest=sizes.max(), shrinkage=shrinkage, least=least)
    for block in blocks(flat.shape[2], max(count, width)):
        plain, matrix, size = flat[:, :, block].permute(2, 0, 1), whitening[block], sizes[block, None]  # (p, N, D)
        own, shared = plain[:, rows], rest.T @ plain  # (p, m, D)
        changed = ((total @ own - 2 * shared) * own).sum(dim=(1, 2))[:, None]
        without = (count * size + changed / width).clamp_min(0) / (count - len(rows))
        both = torch.cat([own, shared], 1) @ matrix  # (p, 2 m, D)
        new = inverse @ both[:, : len(rows)]
        along = fewer * both @ new.mT  # (p, 2 m, m)
        weights = share * torch.linalg.solve(turned + share * fewer * both @ both.mT, along)
        smallest = torch.finfo(left.dtype).tiny
        squared = (fewer * new.square().sum(dim=2) - (along * weights).sum(dim=1)).clamp_min(smallest)
        solved = (new - weights.mT @ both) @ matrix.mT
        sphere = radius(size, size)
        by_sphere = (fewer * sphere * solved.square().sum(dim=2) / squared).clamp(0, 1)
        squared *= 1 + by_sphere * (sphere / fewer / radius(without, size) - 1)
        found.append(squared.sqrt())
    lengths: Tensor = torch.cat(found)
    return lengths.T.reshape(len(rows), height, across)


def _lengths_without_each(
    left: Tensor, whitening: Tensor, influence: Tensor, chosen: Tensor, shrinkage: float, least: float
) -> Tensor:
    """Lengths (n, h, w) of the `chosen`, had each alone not been learned from."""
    count, width, height, across = left.shape
    own_share = influence[chosen, chosen].clamp_min(OWN)
    rest = influence[:, chosen] / own_share  # (N, n) of an image, in what is left of each, by its own
    share, fewer = (1 - shrinkage) / (count - 1), (count - 1) / count
    total = rest.square().sum(dim=0)
    flat, found = left.flatten(2), []
    sizes = flat.square().sum(dim=(0, 1)) / (count * width)  # (P,) of the spheres
    radius = partial(_radius, largest=sizes.max(), shrinkage=shrinkage, least=least)
    for block in blocks(flat.shape[2], max(count, width)):
        plain, matrix, size = flat[:, :, block].permute(2, 0, 1), whitening[block], sizes[block, None]  # (p, N, D)
        own, shared = plain[:, chosen], rest.T @ plain
        # without an image: S' = S - own shared' - shared own' + total own own', and its trace, of one image less
        changed = total * own.square().sum(dim=2) - 2 * (own * shared).sum(dim=2)
        without = (count * size + changed / width).clamp_min(0) / (count - 1)
        # own' M^-1 own, from three products under C^-1 (Woodbury)
        own, shared = own @ matrix, shared @ matrix
        length, both, spread = (fewer * (a * b).sum(dim=2) for a, b in ((own, own), (own, shared), (shared, shared)))
        cross, apart = 1 - share * both, total - share * spread
        determinant = (cross**2 + share * length * apart).clamp_min(TINY)
        of_own = 1 - share * (apart * length - cross * both) / determinant
        of_shared = share * length / determinant
        squared = (of_own * length + of_shared * both).clamp_min(torch.finfo(length.dtype).tiny)
        # the sphere shrinks as the trace does: docs/derivations.md#the-bound-on-the-smaller-sphere
        solved = (of_own[..., None] * own + of_shared[..., None] * shared) @ matrix.mT
        sphere = radius(size, size)
        by_sphere = (fewer * sphere * solved.square().sum(dim=2) / squared).clamp(0, 1)
        squared *= 1 + by_sphere * (sphere / fewer / radius(without, size) - 1)
        found.append(squared.sqrt())
    lengths: Tensor = torch.cat(found) / own_share  # what a new image would have left
    return lengths.T.reshape(len(chosen), height, across)


def _radius(size: Tensor, whole: Tensor, *, largest: Tensor, shrinkage: float, least: float) -> Tensor:
    """The variance that is added in all directions where the spheres are of those sizes, as `whitening_of` and its floors do."""
    floor = FLOOR * torch.where(size > NOTHING * whole, size, largest)
    return shrinkage * size + floor.clamp_min(least).clamp_min(torch.finfo(size.dtype).tiny)


def shares_at(moments: Moments) -> Floats:
    """(P,) how far the covariance at each position is to be shrunk, by Ledoit & Wolf's rule."""
    return np.concatenate([moments.at(block).shrinkage() for block in blocks(*moments.mean.shape)])


def whiten_each(moments: Moments, shares: Floats | float, least: float = 0.0) -> Floats:
    """Matrices (P, D, D), one for each position, made some positions at a time: beside the sums there is little else.

    Each covariance is shrunk by its share, (P,), or all by one. No variance counts as smaller than `least`.
    """
    count, width = moments.mean.shape
    floors, shares = np.maximum(floors_of(moments), least), np.broadcast_to(shares, count)
    whitening = np.empty((count, width, width), np.float32)
    for block in blocks(count, width):
        whitening[block] = whitening_of(moments.at(block), shares[block], floors[block])
    return whitening


def blocks(positions: int, width: int) -> list[slice]:
    """Positions whose covariances of `width` numbers a side are no more than BLOCK_BYTES together, or one at a time.

    >>> blocks(5, 1000)
    [slice(0, 2, None), slice(2, 4, None), slice(4, 6, None)]
    """
    step = max(1, BLOCK_BYTES // (8 * width * width))
    return [slice(start, start + step) for start in range(0, positions, step)]
