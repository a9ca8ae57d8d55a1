"""Schemes for the weights that a model starts from; pretrained weights are never touched."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from unlike.errors import unknown

LEAK = 0.01  # slope of LeakyReLU below zero, for which Kaiming-normal is made to measure


def initialise(model: nn.Module, scheme: str) -> None:
    """Give every layer that is not pretrained new weights, drawn from torch's random numbers as they stand.

    A module whose attribute `pretrained` is true is left as it is, and so is all that is inside it.

    >>> from torch import nn
    >>> layer = nn.Linear(2, 2)
    >>> initialise(layer, "kaiming-xavier")
    >>> layer.bias.tolist()
    [0.0, 0.0]
    """
    if scheme not in INITIALISATIONS:
        raise unknown("initialisation", scheme, INITIALISATIONS)
    prepare = INITIALISATIONS[scheme]
    for layer in _fresh_layers(model):
        prepare(layer)


def _fresh_layers(module: nn.Module) -> Iterator[nn.Module]:
    if getattr(module, "pretrained", False):
        return
    yield module
    for child in module.children():
        yield from _fresh_layers(child)


def _leave(layer: nn.Module) -> None:
    """Keep what torch, or the family itself, has drawn."""


def _kaiming_xavier(layer: nn.Module) -> None:
    """Kaiming-normal for convolutions, Xavier-normal for linear layers, 1 for batch norms; biases 0."""
    if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
        nn.init.kaiming_normal_(layer.weight, a=LEAK, nonlinearity="leaky_relu")
    elif isinstance(layer, nn.Linear):
        nn.init.xavier_normal_(layer.weight)
    elif isinstance(layer, _BatchNorm) and layer.affine:
        nn.init.ones_(layer.weight)
    else:
        return
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)


INITIALISATIONS: dict[str, Callable[[nn.Module], None]] = {
    "default": _leave,
    "kaiming-xavier": _kaiming_xavier,
}
