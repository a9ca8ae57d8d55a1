"""What an evaluation asks of those it measures, so that it needs neither a detector's code nor torch."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

import numpy as np
import numpy.typing as npt

from unlike.calibration.decision import Decision
from unlike.data.input_spec import InputSpec
from unlike.data.source import Source
from unlike.records import ScoredBatch

Digests = npt.NDArray[np.uint64]  # (M,) of images, to know those again that a detector was fitted on


class Fitted(Protocol):
    """What a detector has learned."""

    @property
    def spec(self) -> InputSpec: ...
    @property
    def decision(self) -> Decision: ...
    @property
    def digests(self) -> Digests: ...


class FittedDetector(Protocol):
    """A detector that scores images."""

    @property
    def fitted_(self) -> Fitted: ...
    def stream(self, images: Source, batch_size: int | None = None) -> Iterator[ScoredBatch]: ...


class FittedClassifier(Protocol):
    """A classifier that has been fine-tuned."""

    @property
    def classes_(self) -> tuple[str, ...]: ...  # K
    @property
    def confusion_(self) -> npt.NDArray[np.intp]: ...  # (K, K) validation images: true class, named class
    @property
    def digests_(self) -> Digests: ...
