"""multi-encoder: several encoders look at an image, their codes are added, and one decoder paints the sum."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from math import prod

import torch
from torch import Tensor, nn

from unlike.config import check_widths
from unlike.errors import ConfigError, unknown
from unlike.models.base import Autoencoder
from unlike.models.blocks import (
    BatchNorm,
    check_strides,
    double,
    doubling_convolutions,
    halving_convolutions,
    linears,
)
from unlike.records import ImageShape

KINDS = ("fcn", "conv")
Grid = tuple[int, int, int]  # channels, height, width


@dataclass(frozen=True, slots=True)
class MultiEncoderConfig:
    """Which encoders a MultiEncoder adds up, which decoder it has, and their sizes."""

    encoders: tuple[str, ...] = ("conv", "conv", "conv")  # each fcn or conv, with weights of its own
    decoder: str = "conv"  # or fcn; it has the widths of the first encoder of its kind, backwards
    dense_widths: tuple[int, ...] = (128, 64, 12, 3)  # of every fcn
    conv_widths: tuple[tuple[int, ...], ...] = ((12, 24, 48),)  # of each conv encoder in turn, or one list for all
    kernels: tuple[int, ...] = (4,)  # pixels across, of each conv encoder in turn, or one for all
    batch_norm: bool = False  # after every convolution and at the ends of every conv, as in the exact variant
    bounded: bool = True  # end in Tanh, in the range of images; the exact variant ends in its last batch norm

    def __post_init__(self) -> None:
        if not self.encoders:
            raise ConfigError("model.encoders: expected one encoder or more, came none")
        for name, kinds in (("encoders", self.encoders), ("decoder", (self.decoder,))):
            for kind in kinds:
                if kind not in KINDS:
                    raise unknown(f"model.{name}", kind, KINDS)
        check_widths("dense_widths", self.dense_widths)
        check_widths("kernels", self.kernels)
        for widths in self.conv_widths:
            check_widths("conv_widths", widths)
        count = self.encoders.count("conv")
        for name, values in (("conv_widths", self.conv_widths), ("kernels", self.kernels)):
            if len(values) not in (1, max(count, 1)):
                raise ConfigError(
                    f"model.{name}: expected 1 for all conv encoders, or 1 for each of the {count}, came {len(values)}"
                )
        if self.decoder == "conv" and len({(len(widths), widths[-1]) for widths in self.conv_widths}) > 1:
            raise ConfigError(
                f"model.conv_widths: codes that are added need as many blocks and the same last width, came {list(map(list, self.conv_widths))}"
            )

    def convolutions(self) -> list[tuple[tuple[int, ...], int]]:
        """Widths and kernel of each conv encoder."""
        count = self.encoders.count("conv")
        widths = self.conv_widths * (count if len(self.conv_widths) == 1 else 1)
        kernels = self.kernels * (count if len(self.kernels) == 1 else 1)
        return list(zip(widths, kernels, strict=True))


class MultiEncoder(Autoencoder):
    """Let several encoders each make a code, and paint the sum: what one overlooks another may see.

    The code is a vector where the decoder is an fcn and a grid where it is a conv. An encoder whose own code has the
    other form ends in a linear layer to the form of the decoder.
    """

    Config = MultiEncoderConfig

    def __init__(self, config: MultiEncoderConfig, shape: ImageShape) -> None:
        super().__init__(config, shape)
        image: Grid = (shape.channels, shape.height, shape.width)
        if "conv" in (*config.encoders, config.decoder):
            check_strides(shape, max(map(len, config.conv_widths)))
        code = _code_grid(image, config.conv_widths[0])
        if config.decoder == "fcn":
            code = (config.dense_widths[-1], 1, 1)
        convolutions = iter(config.convolutions())
        encoders = [
            _dense_encoder(image, config.dense_widths, code)
            if kind == "fcn"
            else _conv_encoder(image, *next(convolutions), code, norm=config.batch_norm)
            for kind in config.encoders
        ]
        self.encoders = nn.ModuleList(encoders)
        self.norm = BatchNorm(code[0])
        up = (
            _dense_decoder(config.dense_widths, image)
            if config.decoder == "fcn"
            else _conv_decoder(config.conv_widths[0], image, norm=config.batch_norm)
        )
        self.decoder = nn.Sequential(*up, *([nn.Tanh()] if config.bounded else []))

    def encode(self, images: Tensor) -> Tensor:  # (B, C, H, W)
        codes = torch.stack([encoder(images) for encoder in self.encoders])
        return self.norm(codes.sum(dim=0))  # type: ignore[no-any-return]  # (B, D, h, w)

    def decode(self, code: Tensor) -> Tensor:  # (B, D, h, w)
        return self.decoder(code)  # type: ignore[no-any-return]  # (B, C, H, W)


def _code_grid(image: Grid, widths: tuple[int, ...]) -> Grid:
    """The form of the code that a conv of these widths makes."""
    return widths[-1], image[1] >> len(widths), image[2] >> len(widths)


def _dense_encoder(image: Grid, widths: tuple[int, ...], code: Grid) -> nn.Module:
    """To a code that has the form of a vector of the last width, or, by one more linear layer, another form."""
    own = (widths[-1], 1, 1)
    last = () if own == code else (prod(code),)
    return nn.Sequential(nn.Flatten(), *linears((prod(image), *widths, *last)), nn.Unflatten(1, code))


def _conv_encoder(image: Grid, widths: tuple[int, ...], kernel: int, code: Grid, *, norm: bool) -> nn.Module:
    """To a code that has the form of the last convolution's output, or, by a linear layer, another form."""
    layers = halving_convolutions((image[0], *widths), kernel, norm=norm)
    if norm:
        layers.append(BatchNorm(widths[-1]))
    own = _code_grid(image, widths)
    if own != code:
        layers += [nn.Flatten(), nn.Linear(prod(own), prod(code)), nn.Unflatten(1, code)]
    return nn.Sequential(*layers)


def _dense_decoder(widths: tuple[int, ...], image: Grid) -> list[nn.Module]:
    return [nn.Flatten(), *linears((*widths[::-1], prod(image))), nn.Unflatten(1, image)]


def _conv_decoder(widths: tuple[int, ...], image: Grid, *, norm: bool) -> list[nn.Module]:
    """With `norm`, as the exact variant has it: no ReLU after the first block, but one after the last."""
    widths = (*widths[::-1], image[0])
    if not norm:
        return doubling_convolutions(widths)
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(widths):
        layers += [double(inputs, outputs), BatchNorm(outputs), *([nn.ReLU()] if layers else [])]
    return [*layers, BatchNorm(image[0])]
