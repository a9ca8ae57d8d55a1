"""From pixels on disk to what a model takes, a whole batch at once."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from unlike.records import Pixels


def to_tensor(pixels: Pixels, value_range: tuple[float, float], device: torch.device | str = "cpu") -> Tensor:
    """Scale pixels (B, H, W, C) so that black is -1 and white is 1: float32 (B, C, H, W), channels last in memory.

    Integers are scaled by their type's range; `value_range`, the values of black and white, is for floats. Nothing is
    clipped. The batch moves to the device in its own small type and is converted there.

    >>> to_tensor(np.array([0, 255], np.uint8).reshape(1, 1, 2, 1), (0.0, 1.0)).flatten().tolist()
    [-1.0, 1.0]
    """
    low, high = value_range if pixels.dtype.kind == "f" else (0.0, float(np.iinfo(pixels.dtype).max))
    batch = torch.from_numpy(pixels if pixels.flags.writeable else pixels.copy())
    if batch.dtype == torch.uint16:  # few operations know the type
        batch = batch.to(torch.int32)
    half_span = max(high - low, 1e-12) / 2
    if torch.device(device).type == "cuda":  # from pinned memory a copy goes on while the next batch is made ready
        batch = batch.pin_memory()
    scaled = (
        batch.to(device, non_blocking=True).permute(0, 3, 1, 2).to(torch.float32, copy=True)
    )  # never the caller's own memory
    return (scaled.sub_(low) if low else scaled).div_(half_span).sub_(1)


def to_pixels(images: Tensor, value_range: tuple[float, float], kind: np.dtype[np.generic]) -> Pixels:
    """The way back, for pictures: (B, C, H, W) in -1 to 1 -> (B, H, W, C) of the type `kind`."""
    low, high = value_range if kind.kind == "f" else (0.0, float(np.iinfo(kind).max))  # type: ignore[type-var]
    values = (images.permute(0, 2, 3, 1).cpu().numpy() + 1) * ((high - low) / 2) + low
    return np.asarray(values if kind.kind == "f" else np.clip(np.rint(values), low, high), kind)
