"""apart: of several categories each is learned by itself, and an image is held against the one that it looks like."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from unlike.models import ImageShape, Model, Objective
from unlike.scoring.base import Arrays, Scorer
from unlike.scoring.moments import Moments, moments_of, shrink

LEAST = 20  # images of a category that is learned by itself; those of rarer ones are learned together
FLOOR = 1e-6  # share of a sphere in the covariance, so that it can be inverted

Rows = npt.NDArray[np.intp]
Batches = Callable[[Rows], Iterable[Tensor]]  # of the images of those rows, as often as one likes


class Remembered(Model):
    """Stands for a model whose codes are known already: they come in the place of images."""

    def __init__(self) -> None:
        super().__init__(None, ImageShape(0, 0, 0))

    def encode(self, images: Tensor) -> Tensor:
        return images

    def loss(self, images: Tensor, objective: Objective, clean: Tensor | None = None) -> Tensor:  # noqa: ARG002
        return images.new_zeros(())  # there is nothing to train


@dataclass(frozen=True, slots=True)
class Remembering:
    """Codes (N, D, h, w) that are known already, as batches of chosen rows."""

    codes: Tensor
    size: int = 16  # codes at once

    def __call__(self, rows: Rows) -> Iterable[Tensor]:
        return _Blocks(self.codes, torch.from_numpy(rows), self.size)


@dataclass(frozen=True, slots=True)
class _Blocks:
    codes: Tensor
    rows: Tensor
    size: int

    def __iter__(self) -> Iterator[Tensor]:
        for rows in torch.split(self.rows, self.size):
            yield self.codes[rows]


class Apart(Scorer):
    """Scorers of codes, one for each category, and whose turn it is: that of the category an image looks like.

    An image's looks are the mean and the deviation of its code over the grid; it is like the category to whose mean looks
    it is nearest, under the covariance that all have in common (Fisher's rule). What an image is called is not asked, so
    one detector serves images of which nobody says what they show.
    """

    def __init__(self, members: Sequence[Scorer]) -> None:
        super().__init__(members[0].config)
        self.members = list(members)
        self.centres = torch.empty(0)  # (K, L) of the categories' looks, under the whitening
        self.whitening = torch.empty(0)  # (L, L)

    def learn_parts(self, model: Model, parts: Sequence[tuple[Iterable[Tensor], Iterable[Tensor]]], seed: int) -> None:
        """Let each member learn from its category's batches of normal images: those the model knows, and others."""
        looks = []
        for member, (train, held_out) in zip(self.members, parts, strict=True):
            noting = _Noting(model)
            member.fit(noting, train, held_out, seed)
            looks.append(torch.cat(noting.looks).double().cpu())
        inner = moments_of(np.concatenate([(part - part.mean(dim=0)).numpy() for part in looks]))
        self.whitening = torch.from_numpy(_whiten(inner).astype(np.float32))
        self.centres = torch.stack([part.mean(dim=0) for part in looks]).float() @ self.whitening

    def maps(self, model: Model, images: Tensor) -> Tensor:
        codes = model.encode(images)
        chosen = self.choose(codes)
        maps = None
        for number in set(chosen.tolist()):
            found = self.members[number].maps(Remembered(), codes[chosen == number])
            maps = found.new_empty(len(images), *found.shape[1:]) if maps is None else maps
            maps[chosen == number] = found
        return codes.new_empty(0, 1, 1) if maps is None else maps

    def choose(self, codes: Tensor) -> Tensor:
        """(B, D, h, w) -> (B,) the number of the category that each image looks like."""
        looks = _looks_of(codes).cpu() @ self.whitening
        return (looks[:, None] - self.centres).square().sum(dim=2).argmin(dim=1).to(codes.device)

    def state(self) -> dict[str, npt.NDArray[Any]]:
        arrays: dict[str, npt.NDArray[Any]] = {
            "apart.centres": self.centres.numpy(),
            "apart.whitening": self.whitening.numpy(),
        }
        for number, member in enumerate(self.members):
            arrays |= {f"{number}.{name}": value for name, value in member.state().items()}
        return arrays

    def restore(self, arrays: Arrays) -> None:
        self.centres = torch.from_numpy(np.ascontiguousarray(arrays["apart.centres"]))
        self.whitening = torch.from_numpy(np.ascontiguousarray(arrays["apart.whitening"]))
        for number, member in enumerate(self.members):
            start = f"{number}."
            member.restore({name.removeprefix(start): arrays[name] for name in arrays if name.startswith(start)})


def restore_scorer(make: Callable[[], Scorer], arrays: Arrays) -> Scorer:
    """The scorer that gave these arrays: one alone, or one of several categories."""
    count = len(arrays["apart.centres"]) if "apart.centres" in arrays else 1
    scorer = make() if count == 1 else Apart([make() for _ in range(count)])
    scorer.restore(arrays)
    return scorer


def number_categories(names: npt.NDArray[np.str_], known: Rows) -> Rows:
    """(N,) the number, from 0, of the part in which each image's category is learned; `known` are the rows to learn from.

    A category with LEAST images has a part of its own. All others share one more, where they come to as many, or else
    the part of the largest.

    >>> names = np.repeat(["cup", "pin", "rod"], [30, 3, 40])
    >>> np.unique(number_categories(names, np.arange(len(names))), return_counts=True)
    (array([0, 1]), array([30, 43]))
    """
    kinds, own = np.unique(names, return_inverse=True)
    counts = np.bincount(own[known], minlength=len(kinds))
    large = np.flatnonzero(counts >= LEAST)
    if len(large) == 0:
        return np.zeros(len(names), np.intp)
    rare = int(counts.sum() - counts[large].sum())
    numbers = np.full(len(kinds), len(large) if rare >= LEAST else int(counts[large].argmax()))
    numbers[large] = np.arange(len(large))
    return np.asarray(numbers[own], np.intp)


def learn(
    scorer: Scorer, model: Model, batches: Batches, known: Rows, others: Rows, numbers: Rows, seed: int
) -> Scorer:
    """Let a scorer learn from the rows of images that the model knows, and others; `numbers` (N,) are all rows' categories."""
    if not isinstance(scorer, Apart):
        return scorer.fit(model, batches(known), batches(others), seed)
    parts = [
        (batches(known[numbers[known] == number]), batches(others[numbers[others] == number]))
        for number in range(len(scorer.members))
    ]
    scorer.learn_parts(model, parts, seed)
    return scorer


class _Noting(Remembered):
    """A model that notes what every image it sees looks like."""

    def __init__(self, model: Model) -> None:
        super().__init__()
        self._encode = model.encode
        self.looks: list[Tensor] = []

    def encode(self, images: Tensor) -> Tensor:
        code = self._encode(images)
        self.looks.append(_looks_of(code))
        return code


def _looks_of(codes: Tensor) -> Tensor:
    """(B, D, h, w) -> (B, 2 D) mean and deviation of each number over the grid; (B, D) where there is no grid."""
    flat = codes.flatten(2)
    return torch.cat([flat.mean(dim=2), flat.std(dim=2)], dim=1) if flat.shape[2] > 1 else flat[:, :, 0]


def _whiten(moments: Moments) -> npt.NDArray[np.float64]:
    """The matrix (D, D) after which the shrunk covariance of looks is a sphere of radius 1."""
    size = float(np.trace(moments.covariance)) / moments.width
    covariance = shrink(moments.covariance, moments.shrinkage()) + FLOOR * (size or 1.0) * np.eye(moments.width)
    return np.asarray(np.linalg.inv(np.linalg.cholesky(covariance)).T)
