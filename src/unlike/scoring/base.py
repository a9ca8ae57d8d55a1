"""The promise of a scorer: learn what normal looks like, then say where an image is strange."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar

import numpy.typing as npt
from torch import Tensor

from unlike.models import Model
from unlike.records import Floats, Rows

Arrays = Mapping[str, npt.NDArray[Any]]


class Scorer(ABC):
    """A distance from normal, in some view that a model has of an image.

    A subclass names its `Config`, a frozen dataclass, and is built as `Kind(config)`.
    """

    Config: ClassVar[type[Any]]
    needs_held_out: bool = False  # False: where no model is trained, the held-out images teach too
    only_codes: bool = False  # it asks a model for nothing but codes
    parts: Sequence[tuple[str, ...]] = ()  # the categories of each that it learns by itself; none: it learns all as one
    wants_held_out: bool = False  # it uses them where there are some, but can `settle` by what they would have had

    def __init__(self, config: Any) -> None:
        self.config = config

    @property
    def passes(self) -> int:
        """How often it goes through the images that it learns from."""
        return 1

    @property
    def learns_apart(self) -> bool:
        """Whether several categories are learned each by itself."""
        return False

    def check(self, model: Model) -> None:  # noqa: B027 - most scorers suit every model
        """Raise ConfigError if this scorer cannot work with that model."""

    def fit(self, model: Model, train: Iterable[Tensor], held_out: Iterable[Tensor], seed: int) -> Scorer:  # noqa: ARG002
        """Learn what normal looks like from batches of normal images (B, C, H, W); some learn nothing.

        `train` are the images the model was trained on, `held_out` others, for what must not be learned from images the
        model knows by heart, such as a scale; there are none where no model was trained. Both may be gone through more
        than once. `seed` is of every random choice.
        """
        return self

    @abstractmethod
    def maps(self, model: Model, images: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, h, w), each value >= 0 and the higher the stranger."""

    def views(self, model: Model, images: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, M, h, w), the maps of which `maps` makes one, if there are several."""
        return self.maps(model, images)[:, None]

    def settle(self, views: Tensor) -> Tensor:
        """Learn a scale from views (N, M, h, w) of normal images by scorers that had not seen them; their maps (N, h, w)."""
        return views[:, 0]

    def rescale(self, scores: Floats, peaks: Floats, numbers: Rows) -> tuple[Floats, Floats]:  # noqa: ARG002
        """Choose a scale for each part by the scores (n,) of held-out normal images, and bring these and their peaks to it.

        `numbers` (n,) are the parts that the images are of. What has no parts leaves both as they are.
        """
        return scores, peaks

    def knows_left_out(self, count: int) -> bool:  # noqa: ARG002
        """Whether, having learned from so many images or more, it can tell `left_out` without learning again."""
        return False

    def left_out(self, model: Model, codes: Tensor, chosen: Tensor) -> Tensor:
        """The views (n, M, h, w) of the `chosen` of all codes (N, D, h, w) it learned from, each as if it alone were new."""
        raise NotImplementedError(f"{type(self).__name__} has to learn again for that")

    def state(self) -> dict[str, npt.NDArray[Any]]:
        """What was learned, as arrays to keep with the detector."""
        return {}

    def restore(self, arrays: Arrays) -> None:  # noqa: B027 - some learn nothing
        """Take back what `state` gave."""
