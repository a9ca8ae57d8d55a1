"""conv: a convolutional autoencoder (A3), with a linear bottleneck if wanted."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

from torch import Tensor, nn

from unlike.errors import ConfigError
from unlike.models.base import Autoencoder, ImageShape


@dataclass(frozen=True, slots=True)
class ConvConfig:
    """Sizes of a ConvAutoencoder."""

    widths: tuple[int, ...] = (12, 24, 48)  # of each block; each halves the image
    bottleneck: int | None = None  # length of a linear code between the halves; none keeps the grid

    def __post_init__(self) -> None:
        if not self.widths or min(self.widths) < 1:
            raise ConfigError(f"model.widths: expected one width or more, each 1 or more, came {list(self.widths)}")
        if self.bottleneck is not None and self.bottleneck < 1:
            raise ConfigError(f"model.bottleneck: expected 1 or more, or none, came {self.bottleneck}")


class ConvAutoencoder(Autoencoder):
    """Squeeze an image through a narrow code and paint it back."""

    Config = ConvConfig

    def __init__(self, config: ConvConfig, shape: ImageShape) -> None:
        super().__init__(config, shape)
        check_strides(shape, len(config.widths))
        widths = (shape.channels, *config.widths)
        scale = 2 ** len(config.widths)
        self.grid = (config.widths[-1], shape.height // scale, shape.width // scale)
        down: list[nn.Module] = []
        for fewer, more in pairwise(widths):
            down += [nn.Conv2d(fewer, more, 4, stride=2, padding=1), nn.ReLU()]
        up: list[nn.Module] = []
        for more, fewer in pairwise(widths[::-1]):
            up += [nn.ConvTranspose2d(more, fewer, 4, stride=2, padding=1), nn.ReLU()]
        if config.bottleneck is not None:
            cells = self.grid[0] * self.grid[1] * self.grid[2]
            down += [nn.Flatten(), nn.Linear(cells, config.bottleneck), nn.Unflatten(1, (config.bottleneck, 1, 1))]
            up = [nn.Flatten(), nn.Linear(config.bottleneck, cells), nn.Unflatten(1, self.grid), nn.ReLU(), *up]
        self.encoder = nn.Sequential(*down)
        self.decoder = nn.Sequential(*up[:-1], nn.Tanh())

    def encode(self, images: Tensor) -> Tensor:  # (B, C, H, W)
        return self.encoder(images)  # type: ignore[no-any-return]  # (B, D, H / 2^blocks, W / 2^blocks)

    def decode(self, code: Tensor) -> Tensor:  # (B, D, h, w)
        return self.decoder(code)  # type: ignore[no-any-return]  # (B, C, H, W)


def check_strides(shape: ImageShape, halvings: int) -> None:
    """Raise ConfigError, naming the nearest sizes that do, unless both sides can be halved that many times."""
    step = 2**halvings
    if shape.height % step == 0 == shape.width % step:
        return
    smaller = [max(side // step, 1) * step for side in (shape.height, shape.width)]
    larger = [-(-side // step) * step for side in (shape.height, shape.width)]
    nearest = " or ".join(dict.fromkeys(f"{height} x {width}" for height, width in (smaller, larger)))
    raise ConfigError(
        f"images of {shape.height} x {shape.width} cannot be halved {halvings} times; the nearest sizes that can: {nearest} (--size)"
    )
