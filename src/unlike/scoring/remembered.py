"""Codes that are known already, in the place of a model and its images: what learns from codes can do so again and again."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from unlike.models import ImageShape, Model, Objective

Rows = npt.NDArray[np.intp]


class Remembered(Model):
    """Stands for a model, of those looks, whose codes are known already: they come in the place of images."""

    def __init__(self, looks: tuple[int, ...] = ()) -> None:
        super().__init__(None, ImageShape(0, 0, 0))
        self._looks = looks

    @property
    def looks(self) -> tuple[int, ...]:
        return self._looks

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
        for start in range(0, len(self.rows), self.size):  # `torch.split` of none is one batch of none
            yield self.codes[self.rows[start : start + self.size]]
