"""resnet: a ResNet-18 encodes, a small decoder paints."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from unlike.config import check_count, check_widths
from unlike.models.base import Autoencoder
from unlike.models.blocks import BatchNorm, doubling_convolutions, linears
from unlike.records import ImageShape

FEATURES = 512  # that a ResNet-18 finds, averaged over the image
CELL = 16  # pixels of the image across, for each cell of the grid that the decoder starts from: 4 x 4 for 64 x 64


@dataclass(frozen=True, slots=True)
class ResNetConfig:
    """Sizes of a ResNetAutoencoder, but for its trunk, which is a ResNet-18."""

    hidden: tuple[int, ...] = (1024, 768)  # of each linear layer between the trunk and the code
    code: int = 256  # length of the code
    decoder_hidden: tuple[int, ...] = (768,)  # of each linear layer between the code and the grid
    decoder_widths: tuple[int, ...] = (64, 32, 8)  # of the grid, then of each transposed convolution but the last

    def __post_init__(self) -> None:
        check_widths("hidden", self.hidden)
        check_count("code", self.code)
        check_widths("decoder_hidden", self.decoder_hidden)
        check_widths("decoder_widths", self.decoder_widths)


class ResNetAutoencoder(Autoencoder):
    """Let a network that is known to see well make the code, with random weights at first, and paint it back.

    Any size of image will do: the transposed convolutions double the grid once each, and what is left to the size of
    the image is interpolated, as in the report.
    """

    Config = ResNetConfig

    def __init__(self, config: ResNetConfig, shape: ImageShape) -> None:
        import timm

        super().__init__(config, shape)
        self.trunk = timm.create_model(
            "resnet18", pretrained=False, num_classes=0, in_chans=shape.channels, norm_layer=BatchNorm
        )
        grid = (config.decoder_widths[0], -(-shape.height // CELL), -(-shape.width // CELL))
        cells = grid[0] * grid[1] * grid[2]
        self.narrow = nn.Sequential(*linears((FEATURES, *config.hidden, config.code), norm=True))
        self.decoder = nn.Sequential(
            *linears((config.code, *config.decoder_hidden, cells), norm=True),
            BatchNorm(cells),
            nn.ReLU(),
            nn.Unflatten(1, grid),
            *doubling_convolutions((*config.decoder_widths, shape.channels), norm=True),
            nn.Upsample((shape.height, shape.width), mode="bilinear"),
            nn.Tanh(),
        )

    def encode(self, images: Tensor) -> Tensor:  # (B, C, H, W)
        return self.narrow(self.trunk(images))[..., None, None]  # type: ignore[no-any-return]  # (B, D, 1, 1)

    def decode(self, code: Tensor) -> Tensor:  # (B, D, 1, 1)
        return self.decoder(code.flatten(1))  # type: ignore[no-any-return]  # (B, C, H, W)
