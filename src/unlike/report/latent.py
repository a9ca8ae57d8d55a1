"""The code space: some images as detectors see them.

The pictures of it are figures of `projection`, `edits`, `extremes`, `histograms` and `clusters`, which take arrays and
records; `captioned` makes them of what is here, and `pictures` files of them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np

from unlike.data.input_spec import InputSpec
from unlike.data.source import Source
from unlike.errors import DataError, none_usable
from unlike.records import Floats, Rows, Sample, Unreadable
from unlike.report.subject import Subject

MOST = 2000  # images of a picture: more dots say no more, and t-SNE takes a minute
PART = 256  # images encoded at a time
SMALL_SIDE = 64  # pixels of an image that stands beside a dot, or is compared pixel by pixel
MOST_NUMBERS = 16_384  # of a code that is kept whole; a larger grid is averaged over its positions
Notify = Callable[[int, int], None]  # images done, of all


@dataclass(frozen=True, slots=True, eq=False)
class Seen:
    """What one detector says of images, a number each."""

    name: str  # of the detector, where there are several
    detector: Subject
    source: Source  # where the images come from
    samples: tuple[Sample, ...]  # N
    scores: Floats  # (N,)
    unreadable: tuple[Unreadable, ...] = ()

    @property
    def note(self) -> str:
        """What the detector is made of, in a few words."""
        described = self.detector.describe()
        return f"{described['model']['name']} by {described['scorer']['name']}"

    @property
    def images(self) -> Source:
        """The images themselves."""
        return self.source.with_samples(list(self.samples))

    @property
    def thresholds(self) -> Floats:
        """(N,) the threshold of each image: its category's, or else the one for all."""
        decision = self.detector.fitted_.decision
        return np.array([decision.threshold_of(sample.category).score for sample in self.samples])

    @property
    def threshold(self) -> float | None:
        """The threshold of all these images, or None where they have several."""
        thresholds = np.unique(self.thresholds)
        return float(thresholds[0]) if len(thresholds) == 1 else None

    def take(self, rows: Rows) -> Seen:
        """The images in these rows, in this order."""
        return replace(self, samples=tuple(self.samples[row] for row in rows), scores=self.scores[rows])


@dataclass(frozen=True, slots=True, eq=False)
class View:
    """Where images lie in one space: that of a detector's codes, or that of the pixels.

    >>> view = View("conv", (Sample("a"), Sample("b")), np.array([0.1, 0.9]), np.zeros((2, 32)))
    >>> view.take(np.array([1])).scores
    array([0.9])
    """

    name: str
    samples: tuple[Sample, ...]  # N
    scores: Floats  # (N,)
    points: Floats  # (N, D)

    def take(self, rows: Rows) -> View:
        """The images in these rows, in this order."""
        return View(self.name, tuple(self.samples[row] for row in rows), self.scores[rows], self.points[rows])


Several = TypeVar("Several", Seen, View)


def draw_rows(count: int, most: int, seed: int) -> Rows:
    """At most `most` of `count` rows, drawn at random and kept in order: the same for the same seed.

    >>> draw_rows(5, most=9, seed=0)
    array([0, 1, 2, 3, 4])
    """
    if count <= most:
        return np.arange(count)
    return np.sort(np.random.default_rng(seed).choice(count, most, replace=False)).astype(np.intp)


def rate(detector: Subject, name: str, source: Source, notify: Notify | None = None) -> Seen:
    """The score of every image that can be read; a DataError where there is none."""
    samples: list[Sample] = []
    scores: list[Floats] = []
    unreadable: list[Unreadable] = []
    for batch in detector.stream(source):
        samples += batch.samples
        scores.append(batch.image)
        unreadable += batch.unreadable
        if notify:
            notify(len(samples) + len(unreadable), len(source))
    if not samples:
        raise none_usable(f"{source.name}: no image", "scored", unreadable)
    return Seen(name, detector, source, tuple(samples), np.concatenate(scores), tuple(unreadable))


def view_codes(seen: Seen) -> View:
    """Where the images lie in the space of the detector's codes."""
    starts = range(0, len(seen.samples), PART)
    parts = [
        seen.detector.encode(seen.source.with_samples(list(seen.samples[start : start + PART]))) for start in starts
    ]
    samples = tuple(sample for part in parts for sample in part.samples)  # one may have gone since it was scored
    points = np.concatenate([flatten(part.grids) for part in parts])
    return View(seen.name, samples, _scores_of(samples, seen), points)


def view_pixels(seen: Seen) -> View:
    """Where the images themselves lie, pixel by pixel, in the detector's `small_spec`."""
    spec = small_spec(seen.detector.fitted_.spec)
    batches = [batch for batch in seen.images.stream(spec) if len(batch.samples)]
    samples = tuple(sample for batch in batches for sample in batch.samples)
    pixels = np.concatenate([batch.pixels for batch in batches])
    return View("images", samples, _scores_of(samples, seen), pixels.reshape(len(pixels), -1))


def _scores_of(samples: Sequence[Sample], seen: Seen) -> Floats:
    known = dict(zip((sample.id for sample in seen.samples), seen.scores, strict=True))
    return np.array([known[sample.id] for sample in samples])


def keep_shared(several: Sequence[Several]) -> list[Several]:
    """Each with the images that all of them have, in the order of the first; a DataError where there is none.

    >>> a = View("a", (Sample("x"), Sample("y")), np.zeros(2), np.zeros((2, 1)))
    >>> b = View("b", (Sample("y"), Sample("z")), np.zeros(2), np.zeros((2, 1)))
    >>> [[sample.id for sample in view.samples] for view in keep_shared([a, b])]
    [['y'], ['y']]
    """
    rows = [{sample.id: row for row, sample in enumerate(one.samples)} for one in several]
    names = [name for name in rows[0] if all(name in row_of for row_of in rows)]
    if not names:
        raise DataError("no image can be read by all of these detectors; take detectors of the same kind of images")
    return [one.take(np.array([row_of[name] for name in names])) for one, row_of in zip(several, rows, strict=True)]


def flatten(grids: Floats) -> Floats:
    """Codes (N, D, h, w) as rows of numbers; a grid of more than 16,384 is averaged over its positions, (N, D).

    >>> flatten(np.zeros((2, 32, 4, 4))).shape, flatten(np.zeros((2, 32, 64, 64))).shape
    ((2, 512), (2, 32))
    """
    if grids[0].size > MOST_NUMBERS:
        return np.asarray(grids.mean(axis=(2, 3)))
    return grids.reshape(len(grids), -1)


def small_spec(spec: InputSpec) -> InputSpec:
    """The same form of images, at most 64 pixels a side.

    >>> small_spec(InputSpec(128, 256, 3)).size
    (32, 64)
    """
    factor = min(1.0, SMALL_SIDE / max(spec.size))
    height, width = (max(1, round(side * factor)) for side in spec.size)
    return replace(spec, height=height, width=width)


def kinds_of(samples: Sequence[Sample]) -> list[str]:
    """What is known of each image, in a word: its kind of defect, where that has a name.

    >>> kinds_of([Sample("a", anomalous=False), Sample("b", anomalous=True, kind="bent"), Sample("c")])
    ['normal', 'bent', 'no label']
    """
    return [_kind_of(sample) for sample in samples]


def _kind_of(sample: Sample) -> str:
    if sample.anomalous is None:
        return sample.kind or "no label"
    if not sample.anomalous:
        return "normal"
    return sample.kind or "anomalous"
