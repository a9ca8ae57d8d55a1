"""Samples by the million: those of the rows of an array, and one fact of all without making any."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol, overload, runtime_checkable

import numpy as np
import numpy.typing as npt

from unlike.records import Bools, Rows, Sample

NAMES = ("id", "category", "kind", "split", "group")  # facts that are words; others may be unknown, which is None


@runtime_checkable
class Tabular(Protocol):
    """Samples that know their facts by the column; any other sequence is gone through one by one."""

    def column(self, fact: str) -> npt.NDArray[Any]: ...
    def take(self, positions: Rows) -> Sequence[Sample]: ...


class RowSamples(Sequence[Sample]):
    """Samples of the rows of an array, made when asked for: a million rows cost nothing."""

    def __init__(
        self,
        rows: range | Rows,
        anomalous: Bools | None = None,
        kinds: npt.NDArray[np.str_] | None = None,
    ) -> None:
        self.rows = rows
        self.anomalous = anomalous  # of every row of the array
        self.kinds = kinds  # the same, where the rows are of several classes

    def __len__(self) -> int:
        return len(self.rows)

    @overload
    def __getitem__(self, position: int) -> Sample: ...
    @overload
    def __getitem__(self, position: slice) -> RowSamples: ...
    def __getitem__(self, position: int | slice) -> Sample | RowSamples:
        if isinstance(position, slice):
            return RowSamples(self.rows[position], self.anomalous, self.kinds)
        row = int(self.rows[position])
        if self.kinds is not None:
            return Sample(str(row), row=row, kind=str(self.kinds[row]))
        if self.anomalous is None:
            return Sample(str(row), row=row)
        odd = bool(self.anomalous[row])
        return Sample(str(row), row=row, anomalous=odd, kind="anomalous" if odd else "good")

    def take(self, positions: Rows) -> RowSamples:
        return RowSamples(np.asarray(self.rows, np.intp)[positions], self.anomalous, self.kinds)

    def column(self, fact: str) -> npt.NDArray[Any]:
        """(N,) that fact of each sample; of a row most facts are not known."""
        if fact in ("category", "split", "group"):
            return np.full(len(self), "")
        if fact != "anomalous":
            return _gather(self, fact)
        if self.anomalous is None or self.kinds is not None:
            return np.full(len(self), None)
        return np.asarray(self.anomalous[np.asarray(self.rows, np.intp)])


def column(samples: Sequence[Sample], fact: str) -> npt.NDArray[Any]:
    """(N,) one fact of each sample, by the name of its field.

    >>> column([Sample("a/1.png", category="a"), Sample("2.png")], "category").tolist()
    ['a', '']
    """
    return samples.column(fact) if isinstance(samples, Tabular) else _gather(samples, fact)


def take_samples(samples: Sequence[Sample], positions: Rows) -> Sequence[Sample]:
    """The samples at these positions, in this order."""
    if isinstance(samples, Tabular):
        return samples.take(positions)
    return [samples[position] for position in positions]


def find_positions(samples: Sequence[Sample], wanted: Callable[[Sample], bool]) -> Rows:
    """Where the wanted samples are, in order."""
    return np.array([position for position, sample in enumerate(samples) if wanted(sample)], np.intp)


def rows_of(samples: Sequence[Sample]) -> Rows:
    """The rows of an array that samples stand for."""
    rows = samples.rows if isinstance(samples, RowSamples) else [sample.row for sample in samples]
    return np.asarray(rows, np.intp)


def _gather(samples: Sequence[Sample], fact: str) -> npt.NDArray[Any]:
    return np.array([getattr(sample, fact) for sample in samples], str if fact in NAMES else object)
