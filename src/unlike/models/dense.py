"""fcn: a fully-connected autoencoder (A2)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from torch import Tensor, nn

from unlike.errors import ConfigError
from unlike.models.base import Autoencoder, ImageShape


@dataclass(frozen=True, slots=True)
class DenseConfig:
    """Widths of a DenseAutoencoder."""

    widths: tuple[int, ...] = (128, 64, 12, 3)  # of each linear layer down to the code; the decoder is the mirror

    def __post_init__(self) -> None:
        if not self.widths or min(self.widths) < 1:
            raise ConfigError(f"model.widths: expected one width or more, each 1 or more, came {list(self.widths)}")


class DenseAutoencoder(Autoencoder):
    """Flatten the image, squeeze it through ever narrower linear layers, and unfold it again."""

    Config = DenseConfig

    def __init__(self, config: DenseConfig, shape: ImageShape) -> None:
        super().__init__(config, shape)
        widths = (shape.channels * shape.height * shape.width, *config.widths)
        self.encoder = nn.Sequential(*_linears(widths))
        self.decoder = nn.Sequential(*_linears(widths[::-1]), nn.Tanh())

    def encode(self, images: Tensor) -> Tensor:  # (B, C, H, W)
        return self.encoder(images.flatten(1))[..., None, None]  # type: ignore[no-any-return]  # (B, D, 1, 1)

    def decode(self, code: Tensor) -> Tensor:  # (B, D, 1, 1)
        shape = self.shape
        return self.decoder(code.flatten(1)).view(-1, shape.channels, shape.height, shape.width)  # type: ignore[no-any-return]


def _linears(widths: Sequence[int]) -> list[nn.Module]:
    """Linear layers with a ReLU between each two; none after the last."""
    layers: list[nn.Module] = []
    for narrow, wide in pairwise(widths):
        layers += [nn.Linear(narrow, wide), nn.ReLU()]
    return layers[:-1]
