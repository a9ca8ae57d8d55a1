"""Keeping: frozen networks in the user's cache folder, so that a later run neither builds nor compiles them."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from unlike.backbones.lazy_network import Unbuilt
from unlike.cache import Cache

Read = TypeVar("Read")
OUTLINE, WEIGHTS = "outline.json", "weights.safetensors"


@dataclass(frozen=True, slots=True)
class KeptNetwork:
    """What the cache keeps of one network: its outline, its pretrained weights, and what it was compiled to."""

    cache: Cache
    structure: str  # a digest of all that makes it but weights: code, versions, choices, the size of its images

    def outline(self) -> dict[str, Any] | None:
        """What was told when it was built: "facts", names, types and shapes of its "weights", which are "parameters"."""
        return self._read(self._name("outline"), OUTLINE, lambda file: json.loads(file.read_text(encoding="utf-8")))

    def pretrained(self, source: str) -> dict[str, Tensor] | None:
        """The weights that it had from the source of that name."""
        return self._read(self._name("weights", source), WEIGHTS, load_file)

    def keep(self, module: nn.Module, facts: Mapping[str, Any], source: str | None) -> None:
        """Keep the outline of the network that was built, with some facts; and its weights, if they are from a source."""
        state = {name: value.contiguous() for name, value in module.state_dict().items()}
        outline = {
            "facts": facts,
            "weights": {name: (str(value.dtype).removeprefix("torch."), value.shape) for name, value in state.items()},
            "parameters": [name for name, _ in module.named_parameters()],
        }
        self.write(self._name("outline"), lambda folder: (folder / OUTLINE).write_text(json.dumps(outline)))
        if source is not None:
            self.write(self._name("weights", source), lambda folder: save_file(state, folder / WEIGHTS))

    def write(self, name: str, fill: Callable[[Path], object]) -> None:
        """Keep what `fill` writes into a folder, unless there is such an entry or it cannot be written: that stops nothing."""
        with contextlib.suppress(Exception):  # each library has errors of its own for a full disk
            if not (self.cache.folder / name).exists():
                with self.cache.sealing(name) as folder:
                    fill(folder)

    def _read(self, name: str, file: str, read: Callable[[Path], Read]) -> Read | None:
        """What is in a file of an entry; None where there is none, or another process drops it this moment."""
        with contextlib.suppress(Exception):
            folder = self.cache.unseal(name, [file])
            return None if folder is None else read(folder / file)
        return None

    def network_name(self, module: nn.Module, size: torch.Size) -> str:
        """The entry of what it was compiled to with the weights it has, for images of the size (C, H, W)."""
        sums = hashlib.sha256()
        for name, value in sorted(module.state_dict().items()):
            sums.update(f"{name} {value.dtype} {tuple(value.shape)}\n".encode())
            sums.update(value.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data)
        return self._name("network", *map(str, size), sums.hexdigest())

    def _name(self, kind: str, *facts: str) -> str:
        return f"{kind}-{hashlib.sha256(repr((self.structure, *facts)).encode()).hexdigest()[:32]}"


def unbuilt_of(
    outline: Mapping[str, Any], weights: Mapping[str, Tensor] | None, make: Callable[[], nn.Module]
) -> Unbuilt:
    """The network of an outline, unbuilt, with these weights or, for None, with room for those that will be loaded."""
    known = outline["weights"].items()
    if weights is None:
        ordered = {name: torch.zeros(shape, dtype=getattr(torch, kind)) for name, (kind, shape) in known}
    else:
        ordered = {name: weights[name] for name, _ in known}
    return Unbuilt(ordered, outline["parameters"], make)


@dataclass(frozen=True, slots=True)
class Keeping:
    """Where frozen networks are kept that are made now, and whether weights are about to be loaded into them."""

    cache: Cache
    weights_follow: bool


_NOW: ContextVar[Keeping | None] = ContextVar("keeping", default=None)


@contextlib.contextmanager
def keeping(cache: Cache | None, *, weights_follow: bool = False) -> Iterator[None]:
    """Keep, in that cache, the frozen networks of models that are made inside, and take them from there.

    `weights_follow` promises that all their weights will be loaded right after.
    """
    token = _NOW.set(None if cache is None else Keeping(cache, weights_follow))
    try:
        yield
    finally:
        _NOW.reset(token)


def keeping_now() -> Keeping | None:
    """What `keeping` says here; None outside of it."""
    return _NOW.get()
