"""pixels: the image itself, small; no model at all. What every other one must beat."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor
from torch.nn import functional

from unlike.config import check_count
from unlike.models.base import Model, Objective
from unlike.records import ImageShape


@dataclass(frozen=True, slots=True)
class PixelsConfig:
    """How small the image is made."""

    side: int = 8  # of the grid of averages; an image that is smaller stays as it is

    def __post_init__(self) -> None:
        check_count("side", self.side)


class Pixels(Model):
    """The code is a thumbnail, as one vector: a yardstick that needs no training.

    >>> import torch
    >>> Pixels(PixelsConfig(side=4), ImageShape(3, 32, 32)).encode(torch.zeros(2, 3, 32, 32)).shape
    torch.Size([2, 48, 1, 1])
    """

    Config = PixelsConfig
    trains = False

    def __init__(self, config: PixelsConfig, shape: ImageShape) -> None:
        super().__init__(config, shape)
        self.size = min(config.side, shape.height), min(config.side, shape.width)

    def encode(self, images: Tensor) -> Tensor:  # (B, C, H, W)
        return functional.adaptive_avg_pool2d(images, self.size).flatten(1)[..., None, None]  # (B, C side side, 1, 1)

    def loss(self, images: Tensor, objective: Objective, clean: Tensor | None = None) -> Tensor:  # noqa: ARG002
        return images.new_zeros(())  # there is nothing to train
