"""conv: a convolutional autoencoder, with a linear bottleneck if wanted."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from unlike.config import check_count_or_none, check_widths
from unlike.models.base import Autoencoder
from unlike.models.blocks import (
    check_strides,
    doubling_convolutions,
    halving_convolutions,
)
from unlike.records import ImageShape


@dataclass(frozen=True, slots=True)
class ConvConfig:
    """Sizes of a ConvAutoencoder."""

    widths: tuple[int, ...] = (12, 24, 48)  # of each block; each halves the image
    bottleneck: int | None = None  # length of a linear code between the halves; none keeps the grid

    def __post_init__(self) -> None:
        check_widths("widths", self.widths)
        check_count_or_none("bottleneck", self.bottleneck)


class ConvAutoencoder(Autoencoder):
    """Squeeze an image through a narrow code and paint it back."""

    Config = ConvConfig

    def __init__(self, config: ConvConfig, shape: ImageShape) -> None:
        super().__init__(config, shape)
        check_strides(shape, len(config.widths))
        widths = (shape.channels, *config.widths)
        scale = 2 ** len(config.widths)
        self.grid = (config.widths[-1], shape.height // scale, shape.width // scale)
        down = halving_convolutions(widths)
        up = doubling_convolutions(widths[::-1])
        if config.bottleneck is not None:
            cells = self.grid[0] * self.grid[1] * self.grid[2]
            down += [nn.Flatten(), nn.Linear(cells, config.bottleneck), nn.Unflatten(1, (config.bottleneck, 1, 1))]
            up = [nn.Flatten(), nn.Linear(config.bottleneck, cells), nn.Unflatten(1, self.grid), nn.ReLU(), *up]
        self.encoder = nn.Sequential(*down)
        self.decoder = nn.Sequential(*up, nn.Tanh())

    def encode(self, images: Tensor) -> Tensor:  # (B, C, H, W)
        return self.encoder(images)  # type: ignore[no-any-return]  # (B, D, H / 2^blocks, W / 2^blocks)

    def decode(self, code: Tensor) -> Tensor:  # (B, D, h, w)
        return self.decoder(code)  # type: ignore[no-any-return]  # (B, C, H, W)
