"""segmentation: where a model that has learned to mark defects marks one."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor
from torch.nn import functional

from unlike.errors import ConfigError
from unlike.models import Model
from unlike.models.repair import MarksDefects
from unlike.scoring.base import Scorer


@dataclass(frozen=True, slots=True)
class SegmentationConfig:
    """Nothing to choose: the model has learned what a defect looks like."""


class SegmentationScorer(Scorer):
    """How surely a cell of the image is defective, by the model's own word.

    The map is -log(1 - p) of the chance p that the model gives: 0 where it sees no defect, and, other than p itself,
    without an end, so that two sure finds can still be told apart.
    """

    Config = SegmentationConfig

    def check(self, model: Model) -> None:
        if not isinstance(model, MarksDefects):
            raise ConfigError(
                f"scorer 'segmentation' needs a model that marks defects; {type(model).__name__} does not: take model 'repair'"
            )

    def maps(self, model: Model, images: Tensor) -> Tensor:
        assert isinstance(model, MarksDefects)
        return functional.softplus(model.mark(images))  # (B, h, w)
