"""Statistics of batch norms that suit the weights: those of use, not running means over a training's past steps."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm


def learning_norms(model: nn.Module) -> list[_BatchNorm]:
    """The batch norms that learn their statistics while the model trains, put to train by this; not those of a frozen part."""
    model.train()
    norms = [layer for layer in model.modules() if isinstance(layer, _BatchNorm)]
    return [layer for layer in norms if layer.training and layer.track_running_stats]


@contextlib.contextmanager
def estimated_statistics(model: nn.Module) -> Iterator[bool]:
    """While this lasts, batch norms forget their statistics and learn those of the batches that go through the model.

    All else is as in use: no dropout, no noise. Dropout before a batch norm makes its inputs vary more in training than in
    use (variance shift; Li et al. 2019), and running means lag behind weights that change fast: judged by either, a model
    that learns well may look dead. False where no layer has statistics to learn, and nothing need go through.

    >>> import torch
    >>> model = nn.Sequential(nn.Dropout(0.5), nn.BatchNorm1d(1))
    >>> with estimated_statistics(model) as wanted, torch.no_grad():
    ...     _ = model(torch.tensor([[1.0], [3.0]]))
    >>> wanted, model[1].running_mean, model[1].running_var
    (True, tensor([2.]), tensor([2.]))
    """
    norms = learning_norms(model)
    model.eval()
    momenta = [layer.momentum for layer in norms]
    for layer in norms:
        layer.train()
        layer.reset_running_stats()
        layer.momentum = None  # the mean over all batches, each counting alike
    try:
        yield bool(norms)
    finally:
        for layer, momentum in zip(norms, momenta, strict=True):
            layer.momentum = momentum
            layer.eval()
