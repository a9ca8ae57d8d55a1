"""Spoil images on purpose, so that a model learns to rebuild what it was not shown."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from unlike.training.settings import CorruptionConfig


def spoil(images: Tensor, config: CorruptionConfig) -> Tensor:
    """Images (B, C, H, W) with holes and noise, from torch's random numbers; the same tensor where nothing is asked.

    >>> images = torch.ones(1, 1, 256, 256)
    >>> spoil(images, CorruptionConfig()) is images
    True
    >>> share = (spoil(images, CorruptionConfig(hole_share=0.25)) == 0).float().mean().item()
    >>> abs(share - 0.25) <= 0.1
    True
    """
    spoilt = images
    if config.hole_share > 0:
        spoilt = spoilt.masked_fill(_holes(images, config), 0.0)
    if config.noise > 0:
        spoilt = spoilt + config.noise * torch.randn_like(spoilt)
    return spoilt


def _holes(images: Tensor, config: CorruptionConfig) -> Tensor:
    """Squares of a grid, each hidden with the same probability, whose corner lies elsewhere in each image: (B, 1, H, W)."""
    batch, _, height, width = images.shape
    side = config.hole_pixels
    cells = (-(-height // side) + 1, -(-width // side) + 1)
    hidden = (torch.rand(batch, 1, *cells, device=images.device) < config.hole_share).float()
    large = functional.interpolate(hidden, scale_factor=side, mode="nearest").bool()
    corners = torch.randint(0, side, (batch, 2)).tolist()
    return torch.stack([mask[:, y : y + height, x : x + width] for mask, (y, x) in zip(large, corners, strict=True)])
