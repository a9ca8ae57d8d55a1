"""segmentation: where a model that has learned to mark defects marks one."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor
from torch.nn import functional

from unlike.errors import ConfigError
from unlike.models.base import OutputSpec
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
    inputs = ("marks",)

    def __init__(self, config: SegmentationConfig, spec: OutputSpec) -> None:
        super().__init__(config, spec)
        if "marks" not in spec.names:
            raise ConfigError(
                f"scorer 'segmentation' needs a model that marks defects; {spec.model} does not: take model 'repair'"
            )

    def forward(self, marks: Tensor) -> Tensor:  # (B, h, w), logarithms of the odds that a cell is defective
        return functional.softplus(marks)
