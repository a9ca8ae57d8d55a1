"""What pages and pictures ask of a fitted detector, and how a detector is made to answer.

Nothing else in the report knows detectors: it draws whatever keeps these promises.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from unlike.data.source import Source
from unlike.evaluation.protocols import Fitted, FittedDetector
from unlike.records import Codes, Explanation, Floats, Layer, Pixels, Sample, ScoredBatch

Described = Mapping[str, Mapping[str, Any]]  # section -> name -> value


class StrangeNormal(Protocol):
    """A held-out normal image of a high score, small, and where it is strange."""

    @property
    def id(self) -> str: ...
    @property
    def score(self) -> float: ...
    @property
    def picture(self) -> Pixels: ...  # (H, W, 1 or 3) 8 bits
    @property
    def map(self) -> Floats: ...  # (h, w)


class DistrustedImages(Protocol):
    """Images that were given as normal and not learned from, the strangest first."""

    @property
    def ids(self) -> Sequence[str]: ...
    @property
    def shown(self) -> Sequence[StrangeNormal]: ...  # the first of them
    @property
    def of(self) -> int: ...  # how many different images there are, these among them


class FittedHistory(Fitted, Protocol):
    """What a detector has learned, and how that came about."""

    @property
    def counts(self) -> Mapping[str, int]: ...  # of the images of the fit, by what they were used for
    @property
    def warnings(self) -> Sequence[str]: ...  # what is wrong with the training, in sentences
    @property
    def history(self) -> Sequence[Mapping[str, Any]]: ...  # a row an epoch; empty where nothing was trained
    @property
    def distrusted(self) -> DistrustedImages | None: ...  # that were not learned from; None: nobody asked for that
    @property
    def strangest(
        self,
    ) -> Sequence[StrangeNormal]: ...  # held-out normal images of the highest scores, the highest first


class Reportable(FittedDetector, Protocol):
    """A detector that a report can be about."""

    @property
    def fitted_(self) -> FittedHistory: ...


class Subject(Protocol):
    """A fitted detector, as pages and pictures see it."""

    @property
    def fitted_(self) -> FittedHistory: ...
    def describe(self) -> Described: ...
    def stream(self, images: Source) -> Iterator[ScoredBatch]: ...
    def explain(self, images: Source, samples: Sequence[Sample]) -> Sequence[Explanation]: ...
    def encode(self, images: Source) -> Codes: ...
    def decode(self, grids: Floats) -> Pixels: ...
    def layers(self) -> Sequence[Layer]: ...


def subject_of(detector: Reportable) -> Subject:
    """A detector as pages and pictures see it."""
    return _Subject(detector)


@dataclass(frozen=True, slots=True, eq=False)
class _Subject:
    """Asks the functions that know detectors: the one step from the report to code that needs torch.

    They are imported when they are asked, and whoever has a detector has loaded them already.
    """

    detector: Any  # a Detector, whose type would bring torch along

    @property
    def fitted_(self) -> FittedHistory:
        fitted: FittedHistory = self.detector.fitted_
        return fitted

    def describe(self) -> Described:
        from unlike.detector.explain import describe

        return describe(self.detector)

    def stream(self, images: Source) -> Iterator[ScoredBatch]:
        batches: Iterator[ScoredBatch] = self.detector.stream(images)
        return batches

    def explain(self, images: Source, samples: Sequence[Sample]) -> Sequence[Explanation]:
        from unlike.detector.explain import explain

        return explain(self.detector, images, samples)

    def encode(self, images: Source) -> Codes:
        from unlike.detector.explain import encode

        return encode(self.detector, images)

    def decode(self, grids: Floats) -> Pixels:
        from unlike.detector.explain import decode

        return decode(self.detector, grids)

    def layers(self) -> Sequence[Layer]:
        from unlike.detector.explain import layers

        return layers(self.detector)
