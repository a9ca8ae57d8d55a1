"""From the map of an image to its score."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from unlike.config import check_range
from unlike.models.losses import blur


@dataclass(frozen=True, slots=True)
class MapConfig:
    """How a map is smoothed and reduced to one number."""

    blur_pixels: float = 0.0  # standard deviation of a Gaussian, in the map's pixels; 0 leaves the map as it is
    reduction: Literal["mean", "max", "top"] = "mean"  # of a map to its score; top: the mean of the highest top_share
    top_share: float = 0.01  # of the pixels, where reduction is top

    def __post_init__(self) -> None:
        if self.blur_pixels != 0:
            check_range("map.blur_pixels", self.blur_pixels, 0.1, 1000)
        check_range("map.top_share", self.top_share, 1e-9, 1)


def smooth(maps: Tensor, config: MapConfig) -> Tensor:
    """(B, h, w) -> (B, h, w)"""
    return maps if config.blur_pixels == 0 else blur(maps[:, None], config.blur_pixels, window=None)[:, 0]


def reduce_maps(maps: Tensor, config: MapConfig) -> Tensor:
    """(B, h, w) -> (B,), each image by itself.

    >>> import torch
    >>> reduce_maps(torch.tensor([[[0.0, 1.0], [2.0, 5.0]]]), MapConfig(reduction="top", top_share=0.5)).item()
    3.5
    """
    values = maps.flatten(1)
    if config.reduction == "max":
        return values.amax(dim=1)
    if config.reduction == "top":
        return values.topk(max(1, round(config.top_share * values.shape[1])), dim=1).values.mean(dim=1)
    return values.mean(dim=1)
