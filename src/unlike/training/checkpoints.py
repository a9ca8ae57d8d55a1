"""A training in the middle, on disk: one safetensors file, so that going on from it runs no code."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from unlike.artifacts import write_file
from unlike.errors import ArtifactError, ConfigError

State = dict[str, Any]  # nested dicts and lists of tensors and plain values
COST_SHARE = 0.02  # of the time of training that saving may take


@dataclass(slots=True)
class Checkpoint:
    """Where a training leaves its state after an epoch, and what it must be for to be taken up again.

    Saving is skipped while it would take more than 2 % of the time.
    """

    path: Path
    fingerprint: str  # of settings, images and versions: another training's state is refused
    wait_seconds: float = 1.0  # until it is worth saving; after that, what the last save cost decides
    _saved_at: float = field(default_factory=time.monotonic, init=False)

    def save(self, state: State) -> None:
        """Write the state whole, unless it was written a moment ago."""
        started = time.monotonic()
        if started - self._saved_at < self.wait_seconds:
            return
        tensors: dict[str, Tensor] = {}
        skeleton = _lift_tensors(state, tensors)
        metadata = {"fingerprint": self.fingerprint, "skeleton": json.dumps(skeleton)}
        write_file(self.path, save(tensors, metadata), durable=False)
        self._saved_at = time.monotonic()
        self.wait_seconds = (self._saved_at - started) / COST_SHARE

    def load(self) -> State | None:
        """The state that was saved, or None where there is none."""
        if not self.path.is_file():
            return None
        try:
            with safe_open(self.path, framework="pt") as file:
                metadata = file.metadata()
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            skeleton = json.loads(metadata["skeleton"])
        except (SafetensorError, OSError, KeyError, TypeError, ValueError):
            raise ArtifactError(f"{self.path}: is damaged; fit again without --resume") from None
        if metadata["fingerprint"] != self.fingerprint:
            raise ConfigError(
                f"{self.path}: belongs to a fit with other settings, images or versions; repeat the same command with --resume, "
                "or fit anew without it"
            )
        return dict(_put_tensors(skeleton, tensors))

    def remove(self) -> None:
        """Forget the state: the training is done."""
        self.path.unlink(missing_ok=True)


def _lift_tensors(value: Any, tensors: dict[str, Tensor]) -> Any:
    """The same nesting with a numbered mark in each tensor's place, which JSON can hold."""
    if isinstance(value, Tensor):
        name = str(len(tensors))
        tensors[name] = value.detach().cpu().contiguous().clone()
        return {"tensor": name}
    if isinstance(value, dict):
        return {"items": [[key, _lift_tensors(item, tensors)] for key, item in value.items()]}
    if isinstance(value, list | tuple):
        return [_lift_tensors(item, tensors) for item in value]
    return value


def _put_tensors(value: Any, tensors: dict[str, Tensor]) -> Any:
    if isinstance(value, dict):
        if "tensor" in value:
            return tensors[value["tensor"]]
        return {key: _put_tensors(item, tensors) for key, item in value["items"]}
    if isinstance(value, list):
        return [_put_tensors(item, tensors) for item in value]
    return value


def copy_weights(model: torch.nn.Module) -> dict[str, Tensor]:
    """The weights as they are now, unchanged by further training."""
    return {name: value.detach().clone() for name, value in model.state_dict().items()}
