"""Layers that several families are built of."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor, nn
from torch.nn import functional

from unlike.errors import ConfigError
from unlike.records import ImageShape


class BatchNorm(nn.BatchNorm2d):
    """Batch norm of vectors (B, D) and grids (B, D, h, w) that goes on where torch's stops: at one value a channel.

    The last batch of an epoch may hold a single image, and a vector of it has neither mean nor variance; it is then
    normalised as in use, by the running ones, which it leaves as they are.
    """

    def forward(self, values: Tensor) -> Tensor:  # (B, D) or (B, D, h, w)
        if self.training and values.numel() == values.shape[1]:
            mean, variance = self.running_mean, self.running_var
            return functional.batch_norm(values, mean, variance, self.weight, self.bias, eps=self.eps)
        return super().forward(values)  # of the same shape

    def _check_input_dim(self, values: Tensor) -> None:
        """Vectors are as welcome as grids."""


def linears(widths: Sequence[int], *, norm: bool = False) -> list[nn.Module]:
    """Linear layers with a ReLU between each two, after a batch norm if wanted; nothing after the last."""
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(widths):
        layers += [nn.Linear(inputs, outputs), *([BatchNorm(outputs)] if norm else []), nn.ReLU()]
    return layers[: -2 if norm else -1]


def halving_convolutions(widths: Sequence[int], kernel: int = 4, *, norm: bool = False) -> list[nn.Module]:
    """Convolutions that each halve the image, and a ReLU after each, after a batch norm if wanted."""
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(widths):
        convolution = nn.Conv2d(inputs, outputs, kernel, stride=2, padding=(kernel - 1) // 2)
        layers += [convolution, *([BatchNorm(outputs)] if norm else []), nn.ReLU()]
    return layers


def doubling_convolutions(widths: Sequence[int], *, norm: bool = False) -> list[nn.Module]:
    """Transposed convolutions that each double the image, with a ReLU between each two; nothing after the last."""
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(widths):
        layers += [double(inputs, outputs), *([BatchNorm(outputs)] if norm else []), nn.ReLU()]
    return layers[: -2 if norm else -1]


def double(inputs: int, outputs: int) -> nn.ConvTranspose2d:
    """A transposed convolution that doubles the image and covers every pixel equally often."""
    return nn.ConvTranspose2d(inputs, outputs, 4, stride=2, padding=1)  # (B, C, h, w) -> (B, D, 2 h, 2 w)


def convolve(inputs: int, outputs: int, kernel: int = 3, stride: int = 1) -> list[nn.Module]:
    """A convolution, a batch norm and a ReLU; the image keeps its size, but for the stride."""
    convolution = nn.Conv2d(inputs, outputs, kernel, stride=stride, padding=kernel // 2, bias=False)
    return [convolution, BatchNorm(outputs), nn.ReLU(inplace=True)]


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
