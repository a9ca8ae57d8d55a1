"""The network cache: frozen networks in the user's cache folder, so that a later run neither makes nor compiles them."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from unlike.backbones.lazy_network import LazyNetwork
from unlike.cache import Cache

Read = TypeVar("Read")
OUTLINE, WEIGHTS = "outline.json", "weights.safetensors"
HOOKS = ("_forward_hooks", "_forward_pre_hooks")  # of a layer, which may change what it gives


@dataclass(frozen=True, slots=True)
class NetworkCache:
    """Where frozen networks are cached: an object that is handed to whatever makes one.

    Three things are cached of a network, each under a digest of all that it depends on. Its *outline* is the names, types
    and shapes of its weights, a digest of its layers, and some facts about it; its *weights* are cached where they come
    from a source that can be named; and, by its `CachedNetwork`, what it was *compiled* to.

    `weights_follow` promises that all weights will be loaded right after the network is made, as those of a saved
    detector are: an outline is then enough.
    """

    cache: Cache
    weights_follow: bool = False

    def find(self, recipe: str, source: str | None, make: Callable[[], nn.Module]) -> FoundNetwork | None:
        """The network of that recipe, whose layers are made by `make` when they are needed; None where it is not cached.

        `recipe` is a digest of all that makes a network but its weights; `source` tells its pretrained weights from all
        others, and is None of random ones.
        """
        weights = None if source is None else _read(self.cache, _name(recipe, "weights", source), WEIGHTS, load_file)
        if weights is None and not self.weights_follow:
            return None
        outline = _read(self.cache, _name(recipe, "outline"), OUTLINE, _read_json)
        if outline is None:
            return None
        network = LazyNetwork(_fill(outline, weights), outline["parameters"], make)
        return FoundNetwork(network, outline["facts"], CachedNetwork(self.cache, recipe, outline["layers"]))

    def keep(self, recipe: str, module: nn.Module, facts: Mapping[str, Any], source: str | None) -> CachedNetwork:
        """Write the outline of a network that was just made, with some facts, and its weights if they have a source."""
        cached = CachedNetwork(self.cache, recipe, layers_digest(module))
        state = {name: value.contiguous() for name, value in module.state_dict().items()}
        outline = {
            "facts": facts,
            "layers": cached.layers,
            "weights": {name: (str(value.dtype).removeprefix("torch."), value.shape) for name, value in state.items()},
            "parameters": [name for name, _ in module.named_parameters()],
        }
        cached.write(_name(recipe, "outline"), lambda folder: (folder / OUTLINE).write_text(json.dumps(outline)))
        if source is not None:
            cached.write(_name(recipe, "weights", source), lambda folder: save_file(state, folder / WEIGHTS))
        return cached


@dataclass(frozen=True, slots=True)
class CachedNetwork:
    """One network in the cache: where lies what it is compiled to, and of which layers that is true."""

    cache: Cache
    recipe: str  # a digest of all that makes it but weights: code, versions, choices, the size of its images
    layers: str  # a digest of its layers as they were made

    def describes(self, module: nn.Module) -> bool:
        """Whether recipe and weights still tell all of the module: not where somebody has changed its layers by hand."""
        return isinstance(module, LazyNetwork) or layers_digest(module) == self.layers

    def name(self, module: nn.Module, size: torch.Size) -> str:
        """The entry of what it is compiled to with the weights that it has, for images of the size (C, H, W)."""
        sums = hashlib.sha256()
        for name, value in sorted(module.state_dict().items()):
            sums.update(f"{name} {value.dtype} {tuple(value.shape)}\n".encode())
            sums.update(value.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data)
        return _name(self.recipe, "network", *map(str, size), sums.hexdigest())

    def write(self, name: str, fill: Callable[[Path], object]) -> None:
        """Keep what `fill` writes into a folder, unless there is such an entry or it cannot be written: that stops nothing."""
        with contextlib.suppress(Exception):  # each library has errors of its own for a full disk
            if not (self.cache.folder / name).exists():
                with self.cache.sealing(name) as folder:
                    fill(folder)


class FoundNetwork(NamedTuple):
    """A network that was in the cache."""

    network: LazyNetwork
    facts: Mapping[str, Any]  # that were told when it was made
    cached: CachedNetwork


def layers_digest(module: nn.Module) -> str:
    """A digest of the layers of a module, but not of their weights: what each is, its settings, and whether it is hooked.

    >>> one, other = nn.Sequential(nn.Conv2d(3, 8, 3)), nn.Sequential(nn.Conv2d(3, 8, 3))
    >>> layers_digest(one) == layers_digest(other)
    True
    >>> other[0].stride = (2, 2)
    >>> layers_digest(one) == layers_digest(other)
    False
    """
    sums = hashlib.sha256()
    for name, part in module.named_modules(remove_duplicate=False):
        hooks = [len(getattr(part, kind)) for kind in HOOKS]
        settings = [(key, _describe(value)) for key, value in sorted(vars(part).items()) if _is_setting(key)]
        sums.update(f"{name} {_describe(type(part))} {part.extra_repr()} {hooks} {settings}\n".encode())
    return sums.hexdigest()


def _is_setting(key: str) -> bool:
    """Whether an attribute of a layer may change its results; `pretrained` says where its weights are from."""
    return not key.startswith("_") and key != "pretrained"


def _describe(value: object) -> str:
    """A value in words that are the same in every process, in which an object is but an object of its type."""
    if value is None or isinstance(value, bool | int | float | str):
        return repr(value)
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_describe, value))}]"
    named: Any = value if hasattr(value, "__qualname__") else type(value)
    return f"{named.__module__}.{named.__qualname__}"


def _fill(outline: Mapping[str, Any], weights: Mapping[str, Tensor] | None) -> dict[str, Tensor]:
    """These weights in the order of an outline or, for None, room for those that will be loaded."""
    known: Iterable[tuple[str, tuple[str, list[int]]]] = outline["weights"].items()
    if weights is None:
        return {name: torch.zeros(shape, dtype=getattr(torch, kind)) for name, (kind, shape) in known}
    return {name: weights[name] for name, _ in known}


def _read(cache: Cache, name: str, file: str, read: Callable[[Path], Read]) -> Read | None:
    """What is in a file of an entry; None where there is none, or another process drops it this moment."""
    with contextlib.suppress(Exception):
        folder = cache.unseal(name, [file])
        return None if folder is None else read(folder / file)
    return None


def _read_json(file: Path) -> dict[str, Any]:
    outline: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return outline


def _name(recipe: str, kind: str, *facts: str) -> str:
    return f"{kind}-{hashlib.sha256(repr((recipe, *facts)).encode()).hexdigest()[:32]}"
