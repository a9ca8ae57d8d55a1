"""Unbuilt: the weights of a module under their names, without its layers; to load, to save and to move them takes no more."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping

import torch
from torch import Tensor, nn

from unlike.data.randomness import isolated_randomness


class Unbuilt(nn.Module):
    """A module that is not built, but could be: its weights, and how to make it.

    >>> linear = nn.Linear(3, 2)
    >>> unbuilt = Unbuilt(linear.state_dict(), ["weight", "bias"], lambda: nn.Linear(3, 2))
    >>> list(unbuilt.state_dict())
    ['weight', 'bias']
    >>> torch.equal(build(unbuilt)(torch.ones(1, 3)), linear(torch.ones(1, 3)))
    True
    """

    def __init__(
        self, weights: Mapping[str, Tensor], parameters: Collection[str], make: Callable[[], nn.Module]
    ) -> None:
        super().__init__()
        self.make = make
        for name, values in weights.items():
            *path, last = name.split(".")
            holder: nn.Module = self
            for step in path:
                if step not in holder._modules:  # noqa: SLF001
                    holder.add_module(step, nn.Module())
                holder = holder.get_submodule(step)
            if name in parameters:
                holder.register_parameter(last, nn.Parameter(values, requires_grad=False))
            else:
                holder.register_buffer(last, values)


def build(module: nn.Module) -> nn.Module:
    """The module, with the very weights that are held for it, where it is not built yet; any other as it is."""
    if not isinstance(module, Unbuilt):
        return module
    weights = module.state_dict()
    device = next(iter(weights.values())).device
    kind = next((value.dtype for value in weights.values() if value.is_floating_point()), None)
    with torch.inference_mode(mode=False), isolated_randomness(0):
        built = module.make().to(device, kind)  # what is not saved, too
        built.load_state_dict(weights, assign=True)
    return built.requires_grad_(requires_grad=False).eval()
