"""Lazy networks: the weights of a module under their names, without its layers; to load, save and move them takes no more."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping

import torch
from torch import Tensor, nn

from unlike.data.randomness import isolated_randomness
from unlike.errors import ConfigError


class LazyNetwork(nn.Module):
    """A module whose layers are not made yet: its weights, and how to make it.

    >>> linear = nn.Linear(3, 2)
    >>> lazy = LazyNetwork(linear.state_dict(), ["weight", "bias"], lambda: nn.Linear(3, 2))
    >>> list(lazy.state_dict())
    ['weight', 'bias']
    >>> torch.equal(materialise(lazy)(torch.ones(1, 3)), linear(torch.ones(1, 3)))
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

    def forward(self, images: Tensor) -> Tensor:  # noqa: ARG002
        raise ConfigError(
            "a lazy network has weights, but no layers to run or to record: expected its layers; call "
            "unlike.backbones.lazy_network.materialise(model) before the model is traced, compiled or exported"
        )

    def with_layers(self) -> nn.Module:
        """The module itself, frozen, in the mode of use, with the very weights that are held for it."""
        weights = self.state_dict()
        device = next(iter(weights.values())).device
        kind = next((value.dtype for value in weights.values() if value.is_floating_point()), None)
        with torch.inference_mode(mode=False), isolated_randomness(0):
            made = self.make().to(device, kind)  # what is not saved, too
            made.load_state_dict(weights, assign=True)
        return made.requires_grad_(requires_grad=False).eval()


def materialise(module: nn.Module) -> nn.Module:
    """The module, in which every lazy network has been replaced by one with layers; they have the same results.

    For whoever wants more of a model than its results: to look at its layers, to change them, to record or export them.

    >>> lazy = LazyNetwork(nn.Linear(3, 2).state_dict(), ["weight", "bias"], lambda: nn.Linear(3, 2))
    >>> materialise(nn.Sequential(lazy, nn.ReLU()))[0]
    Linear(in_features=3, out_features=2, bias=True)
    """
    if isinstance(module, LazyNetwork):
        return module.with_layers()
    for part in list(module.modules()):
        for name, child in part.named_children():
            if isinstance(child, LazyNetwork):
                part.add_module(name, child.with_layers())
    return module
