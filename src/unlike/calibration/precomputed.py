"""Codes that are known already, in the place of a model and its images: what learns from codes can do so again and again."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor

from unlike.models import Model, Objective
from unlike.records import ImageShape, Rows

OVERHEAD = 600  # bytes of a tensor that is remembered, beside its numbers


class Remembered(Model):
    """Stands for a model, of those looks, whose codes are known already: they come in the place of images."""

    def __init__(self, looks: tuple[int, ...] = ()) -> None:
        super().__init__(None, ImageShape(0, 0, 0))
        self._looks = looks

    @property
    def feature_groups(self) -> tuple[int, ...]:
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
class Recalling:
    """Codes of chosen rows, looked up in batches, that are remembered as they come while there is memory for them.

    Whoever goes through the same rows again finds the first of them known, and the rest is looked up anew.

    >>> import numpy as np
    >>> asked = []
    >>> look = lambda rows: (asked.append(len(rows)) or torch.zeros(len(rows), 2, 1, 1) for _ in range(1))
    >>> codes = Recalling(look, most_bytes=1900)
    >>> [sum(len(batch) for batch in codes(np.arange(5))) for _ in range(2)], asked
    ([5, 5], [5, 2])
    """

    look: Callable[[Rows], Iterable[Tensor]]
    most_bytes: int
    known: dict[int, Tensor] = field(default_factory=dict)  # by row, (D, h, w)
    size: int = 16  # codes at once, of those that are known

    def __call__(self, rows: Rows) -> Iterable[Tensor]:
        return _Recalled(self, rows)


@dataclass(frozen=True, slots=True)
class _Recalled:
    memory: Recalling
    rows: Rows

    def __iter__(self) -> Iterator[Tensor]:
        known, rows, size = self.memory.known, self.rows.tolist(), self.memory.size
        first_new = next((place for place, row in enumerate(rows) if row not in known), len(rows))
        for start in range(0, first_new, size):
            yield torch.stack([known[row] for row in rows[start : min(start + size, first_new)]])
        place = first_new
        for batch in self.memory.look(self.rows[first_new:]) if first_new < len(rows) else ():
            for row, code in zip(rows[place : place + len(batch)], batch, strict=True):
                if (len(known) + 1) * (code.nbytes + OVERHEAD) > self.memory.most_bytes:
                    break
                known[row] = code.clone()  # not a view that keeps a whole batch
            place += len(batch)
            yield batch


@dataclass(frozen=True, slots=True)
class _Blocks:
    codes: Tensor
    rows: Tensor
    size: int

    def __iter__(self) -> Iterator[Tensor]:
        for start in range(0, len(self.rows), self.size):  # `torch.split` of none is one batch of none
            yield self.codes[self.rows[start : start + self.size]]
