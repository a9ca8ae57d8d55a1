"""The values that pass from one layer to the next. Plain, frozen, and checked once, here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from unlike.errors import DataError

Floats = npt.NDArray[np.floating[Any]]
Bools = npt.NDArray[np.bool_]
Rows = npt.NDArray[np.intp]  # which of some images, by their position
Thresholds = float | Floats  # one for all images, or one for each, (N,)
Pixels = npt.NDArray[Any]  # (H, W, C) or (B, H, W, C), of uint8, uint16 or float32


@dataclass(frozen=True, slots=True)
class ImageShape:
    """What a model is built for: channels, height and width of its images."""

    channels: int
    height: int
    width: int


@dataclass(frozen=True, slots=True)
class Sample:
    """Where one image lies, and what is known of it before anyone looks.

    >>> Sample("bent/003.png", anomalous=True, kind="bent").anomalous
    True
    """

    id: str  # relative path with forward slashes, or the row number
    path: Path | None = None  # of a file; None for a row of an array
    row: int | None = None  # of an array; None for a file
    anomalous: bool | None = None  # None: nobody said
    category: str = ""  # the product or subject, where a set holds several
    kind: str = ""  # "good", or the kind of defect; where classes are told apart, the class
    split: str = ""  # "train" or "test", where the source says
    group: str = (
        ""  # what it belongs to with others, such as one part of which there are several shots; empty: to itself
    )
    mask: Path | Bools | None = None  # image of the defect: non-zero is defective; (H, W) where images are in memory


@dataclass(frozen=True, slots=True)
class Unreadable:
    """An image that was left out, and why."""

    id: str
    reason: str

    def __str__(self) -> str:
        return f"{self.id} {self.reason}"


@dataclass(frozen=True, slots=True, eq=False)
class Scores:
    """How unusual each image is, and where. Higher is more unusual, always.

    >>> Scores(("a.png", "b.png"), np.array([0.1, 2.5])).image
    array([0.1, 2.5])
    """

    ids: tuple[str, ...]  # N image ids
    image: Floats  # (N,)
    maps: Floats | None = None  # (N, H, W) at the detector's size, each >= 0
    unreadable: tuple[Unreadable, ...] = ()
    clipped: tuple[str, ...] = ()  # ids of images with values beyond white, which were cut off there

    def __post_init__(self) -> None:
        if self.image.shape != (len(self.ids),):
            raise DataError(f"{len(self.ids)} ids need as many scores, came an array of shape {self.image.shape}")
        if not np.isfinite(self.image).all():
            first = self.ids[int(np.argmin(np.isfinite(self.image)))]
            raise DataError(
                f"the score of {first!r} is not finite: the detector did not learn; fit it with a smaller training.learning_rate"
            )
        if self.maps is not None and (self.maps.ndim != 3 or len(self.maps) != len(self.ids)):
            raise DataError(f"{len(self.ids)} ids need maps of shape (N, H, W), came {self.maps.shape}")

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True, slots=True, eq=False)
class ScoredBatch:
    """Some images of a stream with what the detector says of each: what `Scores` is made of, a piece at a time."""

    samples: Sequence[Sample]  # B
    image: Floats  # (B,) scores
    maps: Floats  # (B, h, w) at the detector's size, each >= 0
    shapes: Sequence[tuple[int, int]]  # height and width of the B original images
    digests: npt.NDArray[np.uint64]  # (B,) of the pixels: equal for identical images
    unreadable: tuple[Unreadable, ...] = ()
    clipped: tuple[str, ...] = ()  # ids of images with values beyond white, which were cut off there


@dataclass(frozen=True, slots=True, eq=False)
class Codes:
    """What a model makes of images: the rows of a picture of the code space.

    >>> Codes([Sample("a.png")], np.zeros((1, 32, 1, 1), np.float32)).vectors.shape
    (1, 32)
    """

    samples: Sequence[Sample]  # N
    grids: Floats  # (N, D, h, w); a vector is h = w = 1
    unreadable: tuple[Unreadable, ...] = ()

    @property
    def ids(self) -> tuple[str, ...]:
        """N image ids."""
        return tuple(sample.id for sample in self.samples)

    @property
    def vectors(self) -> Floats:
        """(N, D h w) each code as one row of numbers."""
        return self.grids.reshape(len(self.grids), -1)


@dataclass(frozen=True, slots=True, eq=False)
class Predictions:
    """Which class each image is of, and how likely each class is: one batch of a stream, or all.

    >>> samples, chances = [Sample("a.png"), Sample("b.png")], np.array([[0.9, 0.1], [0.3, 0.7]])
    >>> found = Predictions(samples, ("cat", "dog"), chances, np.zeros(2, np.uint64))
    >>> found.ids, found.names
    (('a.png', 'b.png'), ('cat', 'dog'))
    """

    samples: Sequence[Sample]  # N
    classes: tuple[str, ...]  # K, in the order of the columns
    probabilities: Floats  # (N, K); each row sums to 1
    digests: npt.NDArray[np.uint64]  # (N,) of the pixels: equal for identical images
    unreadable: tuple[Unreadable, ...] = ()

    @property
    def ids(self) -> tuple[str, ...]:
        """N image ids."""
        return tuple(sample.id for sample in self.samples)

    @property
    def codes(self) -> npt.NDArray[np.intp]:
        """(N,) position of the most likely class of each image among `classes`."""
        return np.asarray(np.argmax(self.probabilities, axis=1), np.intp)

    @property
    def names(self) -> tuple[str, ...]:
        """The most likely class of each of the N images."""
        return tuple(self.classes[code] for code in self.codes)


@dataclass(frozen=True, slots=True)
class Region:
    """A connected patch of an image that is unlike the normal ones, in pixels of the original image."""

    x: int  # left edge
    y: int  # top edge
    width: int
    height: int
    area: int  # pixels
    peak: float  # largest value of the map inside


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the detector says of one image."""

    id: str
    score: float
    threshold: float
    p_value: float  # share of normal images at least this unusual; never 0
    anomalous: bool
    regions: tuple[Region, ...] = ()
    # of a batch that was judged together: the lowest false-discovery rate at which this one is named anomalous
    q_value: float | None = None
    explanation: str = (
        ""  # all of that in a line for people, and the normal images it is most like, where that was asked for
    )


@dataclass(frozen=True, slots=True)
class Estimate:
    """A figure, with the bounds of its confidence interval where it has one.

    >>> print(Estimate(0.9312, 0.9071, 0.9512))
    0.931 [0.907, 0.951]
    """

    value: float
    low: float | None = None
    high: float | None = None

    def __str__(self) -> str:
        if self.low is None or self.high is None:
            return f"{self.value:.3f}"
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"


@dataclass(frozen=True, slots=True)
class Metrics:
    """The figures of one group of images, by the names that `metrics.json` uses."""

    normal: int
    anomalous: int
    image: Mapping[str, Estimate] = field(default_factory=dict)
    pixel: Mapping[str, Estimate] = field(default_factory=dict)
    left_out: Mapping[str, str] = field(default_factory=dict)  # figure -> why it has no value

    @property
    def figures(self) -> dict[str, Estimate]:
        """All of them by one name each.

        >>> list(Metrics(1, 2, {"auroc": Estimate(0.9)}, {"auroc": Estimate(0.8)}).figures)
        ['image.auroc', 'pixel.auroc']
        """
        parts = {"image": self.image, "pixel": self.pixel}
        return {f"{part}.{name}": estimate for part, found in parts.items() for name, estimate in found.items()}


@dataclass(frozen=True, slots=True, eq=False)
class Evaluation:
    """How good a detector is on labelled images: all of them, per category, and per kind of defect."""

    overall: Metrics
    categories: Mapping[str, Metrics]
    kinds: Mapping[str, Metrics]
    scores: Scores
    samples: tuple[Sample, ...]  # one for each score
    p_values: Floats  # (N,)
    image_thresholds: Floats  # (N,) by which each image is judged: that of its category, or else `threshold`
    alarms: Bools  # (N,) which images are called anomalous
    threshold: float  # of images whose category has none of its own
    promised_false_alarms: float | None  # None where the rule promises nothing
    calibrated_on: int = 0  # held-out normal images on which the threshold rests
    leaked: tuple[str, ...] = ()  # test images that are identical to an image the detector was fitted on
    source: Any = None  # the Source of the images, so that some can be looked at again
    synthetic: bool = False  # the defects were made, not found: no promise for real ones
    thresholds: Mapping[str, float] = field(default_factory=dict)  # by category, of those that have their own

    @property
    def anomalous(self) -> Bools:
        """(N,) the labels."""
        return np.array([bool(sample.anomalous) for sample in self.samples])


@dataclass(frozen=True, slots=True, eq=False)
class ClassEvaluation:
    """How good a classifier is on labelled images."""

    part: str  # "validation": the images that chose its weights; "test": others
    classes: tuple[str, ...]  # K
    confusion: npt.NDArray[np.intp]  # (K, K) images, by true class (rows) and named class (columns)
    accuracy: Estimate
    accuracy_largest_class: Estimate  # of always naming the class that has most images
    recall: Mapping[str, Estimate]  # by class: of its images, the share that is named rightly
    precision: Mapping[str, Estimate]  # by class: of the images named so, the share that is of it
    leaked: tuple[str, ...] = ()  # test images that are identical to an image the classifier was fine-tuned on
    unreadable: tuple[Unreadable, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class Explanation:
    """One image with what the detector made of it, all at the detector's size: what a gallery shows."""

    sample: Sample
    score: float
    image: Pixels  # (H, W, C)
    map: Floats  # (h, w)
    reconstruction: Pixels | None = None  # (H, W, C); None where the model has no decoder of images
    nearest: tuple[str, ...] = ()  # ids of the normal images that it is most like, the most alike first,
    nearest_pictures: tuple[Pixels, ...] = ()  # and small pictures of them, where those were kept
