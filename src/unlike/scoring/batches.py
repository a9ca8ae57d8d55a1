"""What scorers learn from: batches of a model's outputs, gone through as often as wanted, computed once where they fit."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor

from unlike.records import Rows

OVERHEAD = 600  # bytes of a tensor that is kept, beside its numbers

Inputs = tuple[Tensor, ...]  # of some images, what a scorer's `forward` takes: (b, ...) each


@dataclass(frozen=True, slots=True, eq=False)
class Batches:
    """Inputs of normal images, in batches, as often as one likes, and the number of each image's category.

    >>> batches = Batches.of_tensors(torch.arange(5.0), categories=np.array([0, 1, 0, 1, 1]))
    >>> [values.tolist() for values, in batches.of_categories([1])], len(batches)
    ([[1.0, 3.0, 4.0]], 5)
    """

    read: Callable[[Rows], Iterable[Inputs]]  # the inputs of the images in those rows
    rows: Rows  # (N,)
    categories: Rows  # (N,)

    @classmethod
    def of_tensors(cls, *inputs: Tensor, categories: Rows | None = None, size: int = 16) -> Batches:
        """Inputs (N, ...) that are all there, `size` images at a time."""
        rows = np.arange(len(inputs[0]))
        numbers = np.zeros(len(rows), np.intp) if categories is None else categories
        return cls(lambda chosen: _blocks(inputs, chosen, size), rows, numbers)

    def __iter__(self) -> Iterator[Inputs]:
        return iter(self.read(self.rows))

    def __len__(self) -> int:
        """Images."""
        return len(self.rows)

    def take(self, positions: Rows) -> Batches:
        """The images at these positions."""
        return replace(self, rows=self.rows[positions], categories=self.categories[positions])

    def of_categories(self, numbers: Sequence[int]) -> Batches:
        """The images of some categories."""
        return self.take(np.flatnonzero(np.isin(self.categories, numbers)))

    def select(self, positions: tuple[int, ...]) -> Batches:
        """The same images with some of their inputs."""
        return replace(
            self, read=lambda rows: (tuple(map(inputs.__getitem__, positions)) for inputs in self.read(rows))
        )

    def noting(self, describe: Callable[[Inputs], Tensor], notes: list[Tensor]) -> Batches:
        """The same, with a note of what `describe` says of each batch that passes."""

        def read(rows: Rows) -> Iterator[Inputs]:
            for inputs in self.read(rows):
                notes.append(describe(inputs))
                yield inputs

        return replace(self, read=read)


@dataclass(frozen=True, slots=True)
class PrecomputedFeatures:
    """Features of chosen rows, computed in batches, and kept as they come while there is memory for them.

    Whoever goes through the same rows again finds the first of them there, and the rest is computed anew.

    >>> asked = []
    >>> compute = lambda rows: (asked.append(len(rows)) or (torch.zeros(len(rows), 2, 1, 1),) for _ in range(1))
    >>> features = PrecomputedFeatures(compute, most_bytes=1900)
    >>> [sum(len(batch) for batch, in features(np.arange(5))) for _ in range(2)], asked
    ([5, 5], [5, 2])
    """

    compute: Callable[[Rows], Iterable[Inputs]]
    most_bytes: int
    known: dict[int, Tensor] = field(default_factory=dict)  # by row, (D, h, w)
    size: int = 16  # images at once, of those that are known

    def __call__(self, rows: Rows) -> Iterator[Inputs]:
        known, wanted = self.known, rows.tolist()
        first_new = next((start for start, row in enumerate(wanted) if row not in known), len(wanted))
        for start in range(0, first_new, self.size):
            yield (torch.stack([known[row] for row in wanted[start : min(start + self.size, first_new)]]),)
        start = first_new
        for (batch,) in self.compute(rows[first_new:]) if first_new < len(wanted) else ():
            for row, features in zip(wanted[start : start + len(batch)], batch, strict=True):
                if (len(known) + 1) * (features.nbytes + OVERHEAD) > self.most_bytes:
                    break
                known[row] = features.clone()  # not a view that keeps a whole batch
            start += len(batch)
            yield (batch,)


def _blocks(inputs: Inputs, rows: Rows, size: int) -> Iterator[Inputs]:
    chosen = torch.from_numpy(rows)
    for start in range(0, len(rows), size):  # `torch.split` of none is one batch of none
        yield tuple(values[chosen[start : start + size]] for values in inputs)


def in_blocks(values: Tensor, size: int) -> tuple[Tensor, ...]:
    """Values (N, ...) some at a time, where memory is short; all at once in a graph, which knows no number of blocks.

    >>> [len(block) for block in in_blocks(torch.zeros(5, 2), 2)]
    [2, 2, 1]
    """
    return (values,) if torch.compiler.is_compiling() or torch.compiler.is_exporting() else torch.split(values, size)
