"""fcn: a fully-connected autoencoder."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from unlike.config import check_widths
from unlike.models.base import Autoencoder
from unlike.models.blocks import linears
from unlike.records import ImageShape


@dataclass(frozen=True, slots=True)
class DenseConfig:
    """Widths of a DenseAutoencoder."""

    widths: tuple[int, ...] = (128, 64, 12, 3)  # of each linear layer down to the code; the decoder is the mirror

    def __post_init__(self) -> None:
        check_widths("widths", self.widths)


class DenseAutoencoder(Autoencoder):
    """Flatten the image, squeeze it through ever narrower linear layers, and unfold it again."""

    Config = DenseConfig

    def __init__(self, config: DenseConfig, shape: ImageShape) -> None:
        super().__init__(config, shape)
        widths = (shape.channels * shape.height * shape.width, *config.widths)
        self.encoder = nn.Sequential(*linears(widths))
        self.decoder = nn.Sequential(*linears(widths[::-1]), nn.Tanh())

    def encode(self, images: Tensor) -> Tensor:  # (B, C, H, W)
        return self.encoder(images.flatten(1))[..., None, None]  # type: ignore[no-any-return]  # (B, D, 1, 1)

    def decode(self, code: Tensor) -> Tensor:  # (B, D, 1, 1)
        shape = self.shape
        return self.decoder(code.flatten(1)).view(-1, shape.channels, shape.height, shape.width)  # type: ignore[no-any-return]
