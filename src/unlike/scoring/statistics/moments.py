"""Mean and covariance of rows that stream by, and how far the covariance of few rows can be trusted."""

from __future__ import annotations

import copy

import numpy as np
import torch
from torch import Tensor

from unlike.config import check_range
from unlike.records import Floats

FLOOR = 1e-6  # share of a sphere in every covariance, so that each can be inverted

AT_ONCE = 1 << 18  # numbers, in doubles and several copies


class Moments:
    """Count, mean and covariance of rows (N, D) that come a batch at a time, in double precision.

    With `positions`, rows (N, P, D) are P separate clouds, each with moments of its own. Sums are taken about the mean
    of the first rows, so that values far from zero lose nothing.

    >>> moments = Moments(2)
    >>> for part in (torch.tensor([[0.0, 1.0], [2.0, 1.0]]), torch.tensor([[4.0, 4.0]])):
    ...     moments.add(part)
    >>> moments.count, moments.mean.tolist(), moments.covariance.tolist()
    (3, [2.0, 2.0], [[2.6666666666666665, 2.0], [2.0, 2.0]])
    """

    def __init__(self, width: int, *, positions: int | None = None, covariance: bool = True) -> None:
        self.width = width
        self.count = 0
        self._shape = (width,) if positions is None else (positions, width)
        self._with_covariance = covariance
        self._origin: Tensor | None = None  # (..., D)
        self._sum = torch.zeros(self._shape, dtype=torch.float64)
        self._squares = torch.zeros((*self._shape, width) if covariance else self._shape, dtype=torch.float64)
        self._lengths_by_row = torch.zeros(self._shape, dtype=torch.float64)  # sum of |y|^2 y
        self._lengths_squared = torch.zeros(self._shape[:-1], dtype=torch.float64)  # sum of |y|^4

    def add(self, rows: Tensor) -> None:  # (B, D) or (B, P, D)
        """Take these rows into account; some at a time, but those of clouds at once, whose covariances may be large."""
        step = max(1, AT_ONCE // self.width) if rows.ndim == 2 else len(rows)
        for part in torch.split(rows, step) if len(rows) else ():
            self._add(part)

    def _add(self, rows: Tensor) -> None:
        if self._origin is None:
            self._origin = rows.cpu().double().mean(dim=0)  # some accelerators know no doubles
        values = rows.cpu().double() - self._origin
        self.count += len(values)
        self._sum += values.sum(dim=0)
        if not self._with_covariance:
            self._squares += values.square().sum(dim=0)
            return
        clouds = values[:, None] if values.ndim == 2 else values  # (B, P, D)
        clouds = clouds.transpose(0, 1)  # (P, B, D)
        self._squares.view(-1, self.width, self.width).baddbmm_(clouds.mT, clouds)  # in place: it may be large
        lengths = values.square().sum(dim=-1, keepdim=True)  # (B, ..., 1)
        self._lengths_by_row += (lengths * values).sum(dim=0)
        self._lengths_squared += lengths[..., 0].square().sum(dim=0)

    @property
    def finite(self) -> bool:
        """Whether every number was: a sum with one that is not is not either."""
        return bool(torch.isfinite(self._sum).all())

    @property
    def mean(self) -> Floats:
        """(D,) or (P, D)"""
        assert self._origin is not None, "no rows yet"
        return np.asarray((self._origin + self._shift).numpy())

    @property
    def covariance(self) -> Floats:
        """(D, D) or (P, D, D), of all rows: divided by their number."""
        assert self._with_covariance, "only the variance was asked for"
        shift = self._shift
        return np.asarray((self._squares / self.count - shift[..., :, None] * shift[..., None, :]).numpy())

    @property
    def variances(self) -> Floats:
        """(D,) or (P, D), of each number by itself."""
        total = self._squares
        if self._with_covariance:
            total = torch.diagonal(self._squares, dim1=-2, dim2=-1)
        return np.asarray((total / self.count - self._shift.square()).numpy())

    @property
    def variance(self) -> float:
        """The mean squared distance of a row from the mean, of all clouds together."""
        return float(self.variances.sum())

    def at(self, positions: slice) -> Moments:
        """The moments of some of the clouds, without a copy."""
        assert self._origin is not None, "no rows yet"
        part = copy.copy(self)
        for name in ("_origin", "_sum", "_squares", "_lengths_by_row", "_lengths_squared"):
            setattr(part, name, getattr(self, name)[positions])
        return part

    def through(self, basis: Floats | None) -> Moments:
        """Mean and covariance of (rows - mean) @ basis, of (D, d); `shrinkage` needs more than that."""
        moved = Moments(self.width if basis is None else basis.shape[1], covariance=self._with_covariance)
        moved.count, moved._origin = self.count, torch.zeros(moved.width, dtype=torch.float64)
        if self._with_covariance:
            covariance = self.covariance if basis is None else basis.T @ self.covariance @ basis
            moved._squares = torch.from_numpy(np.asarray(covariance)) * self.count
        else:
            moved._squares = self._squares - self.count * self._shift.square()
        return moved

    def shrinkage(self) -> Floats:
        """How much of each covariance to replace by a sphere of the same size, 0 to 1, for the least expected error.

        Ledoit & Wolf (2004), for rows whose fourth moments were seen; () or (P,). See
        docs/derivations.md#how-far-a-covariance-can-be-trusted.
        """
        covariance = self.covariance
        size = np.trace(covariance, axis1=-2, axis2=-1) / self.width  # of the sphere
        squared = np.square(covariance).sum(axis=(-2, -1))
        noise = (self._centred_lengths_squared() / self.count - squared) / (self.width * self.count)
        apart = (squared - self.width * size**2) / self.width  # how far the covariance is from a sphere
        with np.errstate(divide="ignore", invalid="ignore"):
            share = np.where(apart > 0, np.minimum(noise, apart) / apart, 0.0)
        return np.asarray(np.clip(share, 0, 1))

    @property
    def _shift(self) -> Tensor:
        return self._sum / self.count  # the mean, from the origin

    def _centred_lengths_squared(self) -> Floats:
        """Sum of |x - mean|^4 over the rows, from sums about the origin."""
        shift = self._shift
        square = shift.square().sum(dim=-1)
        total = torch.diagonal(self._squares, dim1=-2, dim2=-1).sum(dim=-1)
        along = (shift[..., None, :] @ self._squares @ shift[..., :, None])[..., 0, 0]
        sums = self._lengths_squared + 4 * along + self.count * square**2
        sums -= 4 * (shift * self._lengths_by_row).sum(dim=-1) - 2 * square * total
        return np.asarray((sums - 4 * square * (shift * self._sum).sum(dim=-1)).numpy())


def moments_of(rows: Floats, *, covariance: bool = True) -> Moments:
    """The moments of rows (N, D) that are all there at once."""
    moments = Moments(rows.shape[1], covariance=covariance)
    moments.add(torch.from_numpy(rows))
    return moments


def whitening_of(moments: Moments, share: Floats, floors: Floats | None = None) -> Floats:
    """Matrices (..., D, D) after which the covariances, each shrunk by its share (...), are spheres of radius 1.

    `floors` (...) are added to every variance, so that each can be inverted: a millionth of their mean, if none are given.
    """
    shrunk = shrink(moments.covariance, share)
    width = shrunk.shape[-1]
    floors = floors_of(moments) if floors is None else floors
    roots = torch.linalg.cholesky(torch.from_numpy(shrunk + floors[..., None, None] * np.eye(width)))  # L L^T
    inverse = torch.linalg.solve_triangular(roots, torch.eye(width, dtype=roots.dtype), upper=False)
    return np.asarray(inverse.mT)


def check_shrinkage(share: float | str) -> None:
    """Raise ConfigError unless it is a share, or auto: Ledoit & Wolf's rule."""
    if share != "auto":
        check_range("scorer.shrinkage", float(share), 0, 1)


def floors_of(moments: Moments) -> Floats:
    """A millionth of the mean variance, () or (P,); where nothing varies, of that where most does."""
    sizes = moments.variances.mean(axis=-1)
    return np.asarray(FLOOR * np.where(sizes > 0, sizes, sizes.max() if sizes.max() > 0 else 1.0))


def shrink(covariance: Floats, share: Floats) -> Floats:
    """Covariances (..., D, D), each blended with a sphere of its own size by its share (...).

    >>> shrink(np.diag([3.0, 1.0]), np.array(0.5)).tolist()
    [[2.5, 0.0], [0.0, 1.5]]
    """
    width = covariance.shape[-1]
    size = np.trace(covariance, axis1=-2, axis2=-1) / width
    sphere = (share * size)[..., None, None] * np.eye(width)
    return np.asarray((1 - share)[..., None, None] * covariance + sphere)
