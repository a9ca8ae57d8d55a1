"""conv-dense: convolutions down to a small grid, then linear layers down to a vector."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

from torch import Tensor, nn

from unlike.config import check_count, check_range, check_widths
from unlike.models.base import Autoencoder
from unlike.models.blocks import BatchNorm, check_strides, linears
from unlike.records import ImageShape


@dataclass(frozen=True, slots=True)
class ConvDenseConfig:
    """Sizes of a ConvDenseAutoencoder."""

    widths: tuple[int, ...] = (6, 12, 24, 48, 96)  # of the first convolution, then of each halving block
    hidden: int = 96  # width of the linear layer between the grid and the code
    code: int = 32  # length of the code
    dropout: float = 0.5  # share of the values that each block forgets while it learns

    def __post_init__(self) -> None:
        check_widths("widths", self.widths)
        check_count("hidden", self.hidden)
        check_count("code", self.code)
        check_range("model.dropout", self.dropout, 0, 0.95)


class ConvDenseAutoencoder(Autoencoder):
    """Look for patterns first, then squeeze where they are into a short vector, forgetting at random on the way."""

    Config = ConvDenseConfig

    def __init__(self, config: ConvDenseConfig, shape: ImageShape) -> None:
        super().__init__(config, shape)
        widths, blocks = config.widths, len(config.widths) - 1
        check_strides(shape, blocks)
        grid = (widths[-1], shape.height // 2**blocks, shape.width // 2**blocks)
        narrowing = (grid[0] * grid[1] * grid[2], config.hidden, config.code)
        down: list[nn.Module] = [nn.Conv2d(shape.channels, widths[0], 3, padding=1)]
        for inputs, outputs in pairwise(widths):
            down += [nn.Conv2d(inputs, outputs, 3, padding=1), nn.MaxPool2d(2), *_follow(outputs, config.dropout)]
        up: list[nn.Module] = []
        for inputs, outputs in list(pairwise(widths[::-1]))[:-1]:
            up += [nn.ConvTranspose2d(inputs, outputs, 3, padding=1), nn.Upsample(scale_factor=2)]
            up += _follow(outputs, config.dropout)
        last = (*widths[1::-1], shape.channels)  # the last two convolutions share a block, which mirrors the first two
        up += [nn.ConvTranspose2d(inputs, outputs, 3, padding=1) for inputs, outputs in pairwise(last)]
        if blocks:
            up += [nn.Upsample(scale_factor=2), *_follow(shape.channels, config.dropout)[:-1]]
        self.encoder = nn.Sequential(*down, nn.Flatten(), *linears(narrowing))
        self.decoder = nn.Sequential(*linears(narrowing[::-1]), nn.Unflatten(1, grid), *up, nn.Tanh())

    def encode(self, images: Tensor) -> Tensor:  # (B, C, H, W)
        return self.encoder(images)[..., None, None]  # type: ignore[no-any-return]  # (B, D, 1, 1)

    def decode(self, code: Tensor) -> Tensor:  # (B, D, 1, 1)
        return self.decoder(code.flatten(1))  # type: ignore[no-any-return]  # (B, C, H, W)


def _follow(width: int, dropout: float) -> list[nn.Module]:
    """What follows the change of size in every block."""
    return [BatchNorm(width), nn.Dropout(dropout), nn.ReLU()]
