"""How many parameters a layer has, by hand, and which layers a model has."""

from __future__ import annotations

from torch import nn


def conv(inputs: int, outputs: int, kernel: int) -> int:
    """Of a convolution with biases, transposed or not."""
    return inputs * outputs * kernel**2 + outputs


def linear(inputs: int, outputs: int) -> int:
    return inputs * outputs + outputs


def norm(*widths: int) -> int:
    """Of batch norms: a scale and a shift a channel."""
    return 2 * sum(widths)


def parameters(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def layers(module: nn.Module, kind: type) -> list:
    return [layer for layer in module.modules() if isinstance(layer, kind)]


def shapes(module: nn.Module, kind: type) -> list:
    """Inputs, outputs, kernel, stride and padding of each convolution."""
    return [(c.in_channels, c.out_channels, c.kernel_size[0], c.stride[0], c.padding[0]) for c in layers(module, kind)]


def kinds(sequence: nn.Module) -> list[str]:
    """The names of the layers of a sequence, in their order."""
    return [type(layer).__name__ for layer in sequence]
