"""feature-conv: a convolutional autoencoder of frozen features, with a linear bottleneck if wanted."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

from torch import Tensor, nn

from unlike.backbones.network_cache import NetworkCache
from unlike.config import check_count, check_count_or_none, check_widths
from unlike.models.blocks import convolve
from unlike.models.feature_autoencoder import FeatureAutoencoder, FeatureAutoencoderConfig
from unlike.records import ImageShape


@dataclass(frozen=True, slots=True)
class FeatureConvConfig(FeatureAutoencoderConfig):
    """Sizes of a ConvFeatureAutoencoder, and the features that it rebuilds."""

    widths: tuple[int, ...] = (64, 96, 128)  # of each block; the first keeps the grid, each other halves it
    code: int = 16  # channels of the code
    bottleneck: int | None = None  # length of a linear code instead of that grid; none keeps the grid

    def __post_init__(self) -> None:
        FeatureAutoencoderConfig.__post_init__(self)
        check_widths("widths", self.widths)
        check_count("code", self.code)
        check_count_or_none("bottleneck", self.bottleneck)


class ConvFeatureAutoencoder(FeatureAutoencoder):
    """Squeeze the grid of features until it is coarse and narrow, and make it grow again.

    The same network as `conv`, of features instead of pixels; their differences mean more (DFR, Yang et al., 2020, who
    rebuild each position by itself). Grids of any size: what is odd is rounded up on the way down, and the way up knows.
    """

    Config = FeatureConvConfig

    def __init__(self, config: FeatureConvConfig, shape: ImageShape, networks: NetworkCache | None = None) -> None:
        super().__init__(config, shape, networks)
        widths, grids = config.widths, [self.grid]
        down = convolve(self.width, widths[0], 1)
        for inputs, outputs in pairwise(widths):
            down += convolve(inputs, outputs, 3, stride=2)
            grids.append((-(-grids[-1][0] // 2), -(-grids[-1][1] // 2)))
        down += [nn.Conv2d(widths[-1], config.code, 1)]
        up: list[nn.Module] = [nn.Dropout(config.dropout)]
        if config.bottleneck is not None:
            cells = config.code * grids[-1][0] * grids[-1][1]
            down += [nn.Flatten(), nn.Linear(cells, config.bottleneck), nn.Unflatten(1, (config.bottleneck, 1, 1))]
            up += [nn.Flatten(), nn.Linear(config.bottleneck, cells), nn.Unflatten(1, (config.code, *grids[-1]))]
        up += convolve(config.code, widths[-1], 1)
        for (inputs, outputs), grid in zip(pairwise(widths[::-1]), grids[-2::-1], strict=True):
            up += [nn.Upsample(grid, mode="bilinear"), *convolve(inputs, outputs, 3)]
        self.encoder = nn.Sequential(*down)
        self.decoder = nn.Sequential(*up, nn.Conv2d(widths[0], self.width, 1))

    def squeeze(self, features: Tensor) -> Tensor:  # (B, D, h, w)
        return self.encoder(features)  # type: ignore[no-any-return]  # (B, code, h / 2^n, w / 2^n)

    def decode(self, code: Tensor) -> Tensor:  # (B, code, h / 2^n, w / 2^n)
        return self.decoder(code)  # type: ignore[no-any-return]  # (B, D, h, w)
