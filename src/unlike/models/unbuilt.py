"""Networks that are not built: what is kept of one says what a model must know of it, and its weights have their names.

To build and to compile a network takes most of a short run, and a fifth of its memory; a later run needs neither.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import torch
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor, nn

from unlike.data.randomness import isolated_randomness
from unlike.kept import Cache

OUTLINE, WEIGHTS = "outline.json", "weights.safetensors"


class Unbuilt(nn.Module):
    """The weights of a module under their names, and how to build it; to load, save and move them takes no more.

    >>> linear = nn.Linear(3, 2)
    >>> unbuilt = Unbuilt(linear.state_dict(), ["weight", "bias"], lambda: nn.Linear(3, 2))
    >>> list(unbuilt.state_dict())
    ['weight', 'bias']
    >>> torch.equal(build(unbuilt)(torch.ones(1, 3)), linear(torch.ones(1, 3)))
    True
    """

    def __init__(self, weights: Mapping[str, Tensor], parameters: list[str], make: Callable[[], nn.Module]) -> None:
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
    with torch.inference_mode(mode=False), isolated_randomness(0):
        built = module.make().to(next(iter(weights.values())).device)
        built.load_state_dict(weights, assign=True)
    return built.requires_grad_(requires_grad=False).eval()


@dataclass(frozen=True, slots=True)
class KeptNetwork:
    """What the cache keeps of one network: its outline, pretrained weights, and what it was compiled to."""

    cache: Cache
    structure: str  # of all that makes it: code, versions, choices, the size of its images

    def recall(self, source: str | None, make: Callable[[], nn.Module]) -> tuple[dict[str, Any], Unbuilt] | None:
        """What was told about the network when it was built, and the network, unbuilt; None where too little is kept.

        Its weights are those that it had from the `source` of that name, or, for None, are about to be loaded.
        """
        files = self.cache.unseal(self._name("outline"), [OUTLINE])
        if files is None:
            return None
        outline = json.loads(files[OUTLINE])
        if source is None:
            kinds = {name: getattr(torch, kind) for name, (kind, _) in outline["weights"].items()}
            weights = {name: torch.zeros(size, dtype=kinds[name]) for name, (_, size) in outline["weights"].items()}
        else:
            files = self.cache.unseal(self._name("weights", source), [WEIGHTS])
            if files is None:
                return None
            found = load_tensors(files[WEIGHTS])
            weights = {name: found[name] for name in outline["weights"]}  # in the module's order
        return outline["facts"], Unbuilt(weights, outline["parameters"], make)

    def keep(self, facts: Mapping[str, Any], module: nn.Module, source: str | None) -> None:
        """Keep for `recall` what is to be known of the network, and the weights, if they are from a source."""
        state = module.state_dict()
        outline = {
            "facts": facts,
            "weights": {name: (str(value.dtype).removeprefix("torch."), value.shape) for name, value in state.items()},
            "parameters": [name for name, _ in module.named_parameters()],
        }
        with contextlib.suppress(OSError):  # a full, small or read-only cache: slower, but no reason to stop
            with self.cache.sealing(self._name("outline")) as folder:
                (folder / OUTLINE).write_text(json.dumps(outline), encoding="utf-8")
            if source is not None:
                with self.cache.sealing(self._name("weights", source)) as folder:
                    (folder / WEIGHTS).write_bytes(
                        save_tensors({name: value.contiguous() for name, value in state.items()})
                    )

    def network(self, module: nn.Module, size: torch.Size) -> str:
        """The name of what it was compiled to with the weights it has, for images of the size (C, H, W)."""
        sums = hashlib.sha256()
        for name, value in sorted(module.state_dict().items()):
            sums.update(f"{name} {value.dtype} {tuple(value.shape)}\n".encode())
            sums.update(value.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data)
        return self._name("network", *map(str, size), sums.hexdigest())

    def _name(self, kind: str, *facts: str) -> str:
        return f"{kind}-{hashlib.sha256(repr((self.structure, *facts)).encode()).hexdigest()[:32]}"


@dataclass(frozen=True, slots=True)
class Keeper:
    """Where networks are kept that are made now, and whether weights are about to be loaded into them."""

    cache: Cache
    weights_follow: bool


_KEEPER: ContextVar[Keeper | None] = ContextVar("keeper", default=None)


@contextlib.contextmanager
def keeping(cache: Cache | None, *, weights_follow: bool = False) -> Iterator[None]:
    """Keep, in that cache, the frozen networks of models that are made inside, and take them from there.

    `weights_follow` promises that all their weights will be loaded right after.
    """
    token = _KEEPER.set(None if cache is None else Keeper(cache, weights_follow))
    try:
        yield
    finally:
        _KEEPER.reset(token)


def keeper() -> Keeper | None:
    """Where networks that are made now are kept; None where they are not."""
    return _KEEPER.get()
