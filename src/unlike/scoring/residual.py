"""residual: what could not be rebuilt."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from unlike.errors import ConfigError, unknown
from unlike.models import Autoencoder, Model
from unlike.models.measures import MEASURES
from unlike.scoring.base import Scorer


@dataclass(frozen=True, slots=True)
class ResidualConfig:
    """How a reconstruction is compared with its target."""

    difference: str = "squared"  # or absolute, ssim

    def __post_init__(self) -> None:
        if self.difference not in MEASURES:
            raise unknown("scorer.difference", self.difference, MEASURES)


class ResidualScorer(Scorer):
    """The textbook score of an autoencoder: what it has not seen, it rebuilds badly."""

    Config = ResidualConfig

    def check(self, model: Model) -> None:
        if not isinstance(model, Autoencoder):
            raise ConfigError(
                f"scorer 'residual' needs a model that rebuilds its target; {type(model).__name__} does not"
            )

    def maps(self, model: Model, images: Tensor) -> Tensor:
        assert isinstance(model, Autoencoder)
        difference = MEASURES[self.config.difference]
        return difference(model.rebuild(images), model.target(images))  # (B, h, w)
