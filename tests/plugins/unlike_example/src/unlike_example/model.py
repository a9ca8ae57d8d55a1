"""A model: the mean of each column of an image."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor
from torch.nn import functional

from unlike.models.base import Model


@dataclass(frozen=True, slots=True)
class ColumnsConfig:
    """How finely columns are told apart."""

    count: int = 8  # columns, each a mean of some


class Columns(Model):
    """The mean of each column: enough where defects are upright."""

    Config = ColumnsConfig
    trains = False

    def encode(self, images: Tensor) -> Tensor:  # (B, C, H, W)
        return functional.adaptive_avg_pool2d(images, (1, self.config.count))  # (B, C, 1, count)

    def loss(self, images: Tensor, objective, clean: Tensor | None = None) -> Tensor:
        return images.new_zeros(())
