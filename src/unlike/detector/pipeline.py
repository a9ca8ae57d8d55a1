"""From pixels to maps and scores: the arithmetic that fitting, scoring and pictures share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from itertools import chain

import numpy as np
import torch
from torch import Tensor

from unlike.data.tensors import to_pixels, to_tensor
from unlike.data.tiles import Tiling
from unlike.errors import ConfigError
from unlike.models import Autoencoder, Model
from unlike.records import Floats, Pixels
from unlike.scoring.base import Scorer
from unlike.scoring.maps import MapConfig, reduce_maps, smooth
from unlike.scoring.reconstruction import ResidualConfig, ResidualScorer

BLOCK = 64  # images through the model at once


@torch.inference_mode()
def score_pixels(
    pixels: Pixels,
    value_range: tuple[float, float],
    model: Model,
    scorer: Scorer,
    config: MapConfig,
    tiling: Tiling | None = None,
) -> tuple[Floats, Floats]:
    """Pixels (B, H, W, C) -> maps (B, h, w) and scores (B,), each image by itself, on the model's device.

    With a tiling the scorer sees tiles, and smoothing and reduction the maps that they make together.
    """
    maps, scores = [], []
    for found in _see(pixels, value_range, partial(scorer.maps, model), device_of(model), tiling):
        block = smooth(found, config)
        maps.append(block.cpu().numpy())
        scores.append(reduce_maps(block, config).cpu().numpy().astype(np.float64))
    return np.concatenate(maps), np.concatenate(scores)


@torch.inference_mode()
def rebuild_pixels(
    pixels: Pixels, value_range: tuple[float, float], model: Model, tiling: Tiling | None = None
) -> Pixels | None:
    """Pixels (B, H, W, C) as the model rebuilds them, or None where it rebuilds something else than images."""
    if not isinstance(model, Autoencoder) or not model.output_spec.images:
        return None
    blocks = _see(pixels, value_range, model.rebuild, device_of(model), tiling)
    return np.concatenate([to_pixels(block, value_range, pixels.dtype) for block in blocks])


def residual_maps(pixels: Pixels, value_range: tuple[float, float], model: Model) -> Floats:
    """Pixels (B, H, W, C) -> how far each place is from what the model rebuilds of it (B, h, w)."""
    return score_pixels(pixels, value_range, model, ResidualScorer(ResidualConfig()), MapConfig())[0]


@torch.inference_mode()
def encode_pixels(pixels: Pixels, value_range: tuple[float, float], model: Model) -> Floats:
    """Pixels (B, H, W, C) -> codes (B, D, h, w)."""
    device = device_of(model)
    parts = [pixels[start : start + BLOCK] for start in range(0, len(pixels), BLOCK)]
    return np.concatenate([model.encode(to_tensor(part, value_range, device)).cpu().numpy() for part in parts])


@torch.inference_mode()
def decode_codes(grids: Floats, value_range: tuple[float, float], model: Model, kind: np.dtype[np.generic]) -> Pixels:
    """Codes (N, D, h, w) -> the images (N, H, W, C) of the type `kind` that a model makes of them."""
    if not isinstance(model, Autoencoder) or not (model.output_spec.images and model.decodes):
        raise ConfigError(
            f"{type(model).__name__} has no decoder from codes to images; take a detector whose model has one, such as conv or vae"
        )
    codes = torch.from_numpy(np.ascontiguousarray(grids, np.float32))
    device = device_of(model)
    images = [model.decode(codes[start : start + BLOCK].to(device)) for start in range(0, len(codes), BLOCK)]
    return to_pixels(torch.cat(images), value_range, kind)


def _see(
    pixels: Pixels,
    value_range: tuple[float, float],
    look: Callable[[Tensor], Tensor],
    device: torch.device,
    tiling: Tiling | None,
) -> Iterator[Tensor]:
    """What `look` finds in some images at a time, (b, C, H, W) -> (b, ...); with a tiling in their tiles, stitched."""
    at_once = BLOCK if tiling is None else max(1, BLOCK // len(tiling))
    for start in range(0, len(pixels), at_once):
        part = pixels[start : start + at_once]
        if tiling is None:
            yield look(to_tensor(part, value_range, device))
            continue
        tiles = tiling.cut(part)
        found = [look(to_tensor(tiles[at : at + BLOCK], value_range, device)) for at in range(0, len(tiles), BLOCK)]
        yield tiling.stitch(torch.cat(found))


def device_of(model: Model) -> torch.device:
    """Where the model's weights are; one without any works where images are."""
    return next((tensor.device for tensor in chain(model.parameters(), model.buffers())), torch.device("cpu"))
