"""residual-unet: a deep autoencoder of residual blocks, with or without the skips of a U-Net."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from unlike.config import check_count, check_widths
from unlike.errors import ConfigError
from unlike.models.base import Autoencoder
from unlike.models.blocks import BatchNorm, check_strides
from unlike.records import ImageShape


@dataclass(frozen=True, slots=True)
class ResidualUNetConfig:
    """Sizes of a ResidualUNet."""

    widths: tuple[int, ...] = (64, 128, 256, 512)  # of each block; the image is halved after each
    bottleneck: int = 1024  # width of the block that makes the code
    skips: bool = False  # true: hand what each block saw round the code to the decoder, as in the report

    def __post_init__(self) -> None:
        check_widths("widths", self.widths)
        check_count("bottleneck", self.bottleneck)


class ResidualUNet(Autoencoder):
    """Rebuild images of much detail from a deep grid of codes; with skips, for pretraining rather than for anomalies.

    Skips carry an anomaly round the code straight into the reconstruction, where it should be missing: three fifths of
    it where tests/models/test_residual.py measures it, against a fiftieth without them. They are therefore off unless
    asked for, and a model that has them rebuilds images but does not decode a code: its decoder needs the image too.
    The output is Tanh's, since images run from -1 to 1; the report's Sigmoid could not reach the dark half.
    """

    Config = ResidualUNetConfig

    def __init__(self, config: ResidualUNetConfig, shape: ImageShape) -> None:
        super().__init__(config, shape)
        check_strides(shape, len(config.widths))
        down = list(pairwise((shape.channels, *config.widths, config.bottleneck)))
        up = list(pairwise((config.bottleneck, *config.widths[::-1])))
        *blocks, bottleneck = [ResidualBlock(inputs, outputs) for inputs, outputs in down]
        self.down = nn.ModuleList(blocks)
        self.pool = nn.MaxPool2d(2)
        self.bottleneck = bottleneck
        self.grow = nn.ModuleList([nn.ConvTranspose2d(inputs, outputs, 2, stride=2) for inputs, outputs in up])
        self.up = nn.ModuleList([ResidualBlock(outputs * (2 if config.skips else 1), outputs) for _, outputs in up])
        self.last = nn.Conv2d(config.widths[0], shape.channels, 1)

    def encode(self, images: Tensor) -> Tensor:  # (B, C, H, W)
        return self._descend(images)[0]  # (B, D, H / 2^blocks, W / 2^blocks)

    @property
    def decodes(self) -> bool:
        return not self.config.skips

    def decode(self, code: Tensor) -> Tensor:  # (B, D, h, w)
        if not self.decodes:
            raise ConfigError(
                "model 'residual-unet' with skips rebuilds images, but cannot decode a code alone: set model.skips=false"
            )
        return self._ascend(code, ())  # (B, C, H, W)

    def rebuild(self, images: Tensor) -> Tensor:  # (B, C, H, W)
        return self._ascend(*self._descend(images))  # (B, C, H, W)

    def _compute(self, images: Tensor, names: Collection[str]) -> dict[str, Tensor]:
        code, seen = self._descend(images)
        found = {"features": code, "target": self.target(images)}
        return found | {"reconstruction": self._ascend(code, seen)} if "reconstruction" in names else found

    def _descend(self, images: Tensor) -> tuple[Tensor, list[Tensor]]:
        """The code, and, for the skips if there are any, what each block saw on the way to it, last first."""
        values, seen = images, list[Tensor]()
        for block in self.down:
            values = block(values)
            if self.config.skips:
                seen.insert(0, values)
            values = self.pool(values)
        return self.bottleneck(values), seen

    def _ascend(self, code: Tensor, seen: Sequence[Tensor]) -> Tensor:
        """From the code, and what `_descend` saw for the skips, to the image."""
        values = code
        for level, (grow, block) in enumerate(zip(self.grow, self.up, strict=True)):
            values = grow(values)
            values = block(torch.cat([seen[level], values], dim=1) if seen else values)
        return torch.tanh(self.last(values))


class ResidualBlock(nn.Module):
    """Two convolutions and a short cut: (B, C, H, W) -> (B, D, H, W)."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.first_norm = BatchNorm(outputs)
        self.second = nn.Conv2d(outputs, outputs, 3, padding=1)
        self.second_norm = BatchNorm(outputs)
        self.shortcut = nn.Conv2d(inputs, outputs, 1)

    def forward(self, values: Tensor) -> Tensor:
        inner = functional.relu(self.first_norm(self.first(values)))
        inner = self.second_norm(self.second(inner))
        return functional.relu(inner + self.shortcut(values))
