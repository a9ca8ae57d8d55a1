"""Pixels from one number type to another."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from unlike.errors import ImageError
from unlike.records import Pixels

SMALL_SIDE = 160  # pixels, the longer side of a small picture
NATIVE = frozenset(map(np.dtype, (np.uint8, np.uint16, np.float32)))  # types that images have


def promote(image: Pixels, kind: np.dtype[np.generic]) -> Pixels:
    """Widen uint8 to uint16 so that both span their full scale: 255 becomes 65535."""
    if image.dtype == np.uint8 and kind == np.uint16:
        return image.astype(np.uint16) * np.uint16(257)
    return image


def as_pixels(image: npt.NDArray[Any]) -> Pixels:
    """Values of any type as one that images have: those that are no uint8 or uint16 as float32, yes and no as white and black.

    >>> as_pixels(np.array([[True, False]])).tolist(), as_pixels(np.array([-3], np.int16)).dtype
    ([[255, 0]], dtype('float32'))
    """
    if image.dtype in NATIVE and image.flags.c_contiguous:
        return image
    kind = image.dtype.newbyteorder("=")
    if kind in (np.uint8, np.uint16):
        return np.ascontiguousarray(image, kind)
    if kind == np.bool_:
        return np.asarray(image * np.uint8(255), np.uint8)
    if kind.kind not in "iuf":
        raise ImageError(f"holds {kind} values; expected whole numbers or floats")
    return as_float32(image)


def as_float32(image: npt.NDArray[Any]) -> Pixels:
    """Values too large for it become infinite, which `conform` refuses by name."""
    with np.errstate(over="ignore"):
        return np.asarray(np.ascontiguousarray(image, np.float32))


def to_uint8(image: Pixels, low: float, high: float) -> Pixels:
    """For the eye only: values from low to high as 0 to 255."""
    scaled = (image.astype(np.float32) - low) * (255.0 / max(high - low, 1e-12))
    return np.asarray(np.clip(np.rint(scaled), 0, 255), np.uint8)


def make_small(image: Pixels, low: float, high: float) -> Pixels:
    """For the eye only: (H, W, C) of values from low to high, small, in grey or colour; of other channels their mean.

    >>> make_small(np.full((320, 640, 5), 0.5, np.float32), 0.0, 1.0).shape
    (80, 160, 1)
    """
    shown = image if image.shape[2] in (1, 3) else image.mean(axis=2, keepdims=True, dtype=np.float32)
    shown = to_uint8(shown, low, high)
    factor = SMALL_SIDE / max(shown.shape[:2])
    if factor < 1:
        size = (max(1, round(shown.shape[1] * factor)), max(1, round(shown.shape[0] * factor)))
        shown = np.asarray(cv2.resize(shown, size, interpolation=cv2.INTER_AREA), np.uint8)
    return shown.reshape(*shown.shape[:2], -1)
