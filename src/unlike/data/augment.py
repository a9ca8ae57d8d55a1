"""Random changes to training images, a batch at a time: six kinds, each with its own probability and range."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, overload

import cv2
import numpy as np
import numpy.typing as npt

from unlike.config import check_range
from unlike.errors import ConfigError, DataError
from unlike.records import Bools, Floats, Pixels

CHANCES = ("horizontal_flip", "vertical_flip", "rotation", "crop", "jitter", "blur")
LIMITS = {  # within which each range may lie
    "rotation_degrees": (-180.0, 180.0),
    "crop_area": (0.01, 1.0),
    "jitter_brightness": (0.0, 10.0),
    "jitter_contrast": (0.0, 10.0),
    "jitter_saturation": (0.0, 10.0),
    "jitter_hue_degrees": (-180.0, 180.0),
    "blur_pixels": (0.0, 100.0),
}
MAX_CHANNELS = 128  # that OpenCV takes at once
GREY = np.broadcast_to([0.299, 0.587, 0.114], (3, 3))  # a colour's projection on the grey axis (ITU-R BT.601)
CHROMA = np.eye(3) - GREY  # what is left of the colour without its grey
QUARTER = CHROMA @ np.array([[0, -1, 1], [1, 0, -1], [-1, 1, 0]]) / np.sqrt(3)  # that, a quarter round the hues
Draws = dict[str, npt.NDArray[Any]]  # by name, (B,)


@dataclass(frozen=True, slots=True)
class AugmentConfig:
    """Which random changes images undergo in training: by default none.

    Six probabilities, and the range from which the strength of each change is drawn, uniformly, for every image.

    >>> AugmentConfig(horizontal_flip=0.5, blur=0.2, blur_pixels=(0.5, 2.0)).active
    True
    """

    horizontal_flip: float = 0.0  # probability
    vertical_flip: float = 0.0  # probability
    rotation: float = 0.0  # probability
    rotation_degrees: tuple[float, float] = (-10.0, 10.0)  # counterclockwise
    crop: float = 0.0  # probability
    crop_area: tuple[float, float] = (0.8, 1.0)  # share of the image that is kept, and enlarged to its full size
    crop_padding: int = 0  # pixels that a crop may reach beyond the border; with crop_area 1, 1: a shift
    jitter: float = 0.0  # probability
    jitter_brightness: tuple[float, float] = (0.8, 1.2)  # factor of the distance from black
    jitter_contrast: tuple[float, float] = (0.8, 1.2)  # factor of the distance from the image's mean
    jitter_saturation: tuple[float, float] = (0.8, 1.2)  # factor of the distance from grey; colour images only
    jitter_hue_degrees: tuple[float, float] = (0.0, 0.0)  # turn round the grey axis; colour images only
    blur: float = 0.0  # probability
    blur_pixels: tuple[float, float] = (0.1, 1.0)  # standard deviation of the Gaussian

    def __post_init__(self) -> None:
        for name in CHANCES:
            check_range(f"augment.{name}", getattr(self, name), 0.0, 1.0)
        for name, limits in LIMITS.items():
            low, high = getattr(self, name)
            for end in (low, high):
                check_range(f"augment.{name}", end, *limits)
            if low > high:
                raise ConfigError(f"augment.{name}: expected the lower end first, came {low:g}, {high:g}")
        check_range("augment.crop_padding", self.crop_padding, 0, 10_000)

    @property
    def active(self) -> bool:
        """Whether any image is ever changed."""
        return any(getattr(self, name) > 0 for name in CHANCES)


@overload
def augment(
    pixels: Pixels,
    config: AugmentConfig,
    random: np.random.Generator,
    masks: None = None,
    *,
    value_range: tuple[float, float] = (0.0, 1.0),
) -> Pixels: ...
@overload
def augment(
    pixels: Pixels,
    config: AugmentConfig,
    random: np.random.Generator,
    masks: Bools,
    *,
    value_range: tuple[float, float] = (0.0, 1.0),
) -> tuple[Pixels, Bools]: ...
def augment(
    pixels: Pixels,  # (B, H, W, C)
    config: AugmentConfig,
    random: np.random.Generator,
    masks: Bools | None = None,  # (B, H, W)
    *,
    value_range: tuple[float, float] = (0.0, 1.0),
) -> Pixels | tuple[Pixels, Bools]:
    """Change each image of a batch at random, and its mask with it, so that a model sees no image twice the same.

    Flip, rotation and crop make one affine map, so that an image is interpolated once, and not at all if it is only
    flipped; what lies beyond the border is mirrored. Then colours change, then the image is blurred. Integers stop at
    their type's ends and never wrap around: bright parts may saturate. Floats are not clipped; `value_range`, the
    values of black and white, is for them. Three channels are RGB, a fourth is alpha and keeps its values; other
    images change only in brightness and contrast, all channels alike.

    What happens to an image depends on the generator and the image's place alone. The input is never changed, and is
    itself returned if nothing is switched on.

    >>> images = np.arange(6, dtype=np.uint8).reshape(1, 2, 3, 1)
    >>> augment(images, AugmentConfig(horizontal_flip=1.0), np.random.default_rng(0))[0, :, :, 0]
    array([[2, 1, 0],
           [5, 4, 3]], dtype=uint8)
    """
    if masks is not None and masks.shape != pixels.shape[:3]:
        raise DataError(f"masks {masks.shape} do not fit images {pixels.shape[:3]}")
    if not config.active:
        return pixels if masks is None else (pixels, masks)
    draws = _draw(config, random, len(pixels))
    changed = np.array(pixels, order="C")
    groups = [changed[..., start : start + MAX_CHANNELS] for start in range(0, pixels.shape[3], MAX_CHANNELS)]
    for group in groups:
        _move(group, draws, config.crop_padding, cv2.INTER_LINEAR)
    _jitter(changed, draws, value_range[0] if pixels.dtype.kind == "f" else 0.0)
    for group in groups:
        _blur(group, draws)
    if masks is None:
        return changed
    moved = masks.astype(np.uint8)[..., None]
    _move(moved, draws, config.crop_padding, cv2.INTER_NEAREST)
    return changed, moved[..., 0] > 0


def _draw(config: AugmentConfig, random: np.random.Generator, count: int) -> Draws:
    """What happens to each image, and how strongly: drawn for all changes alike, on or off, so that none moves another."""
    names = (*CHANCES, *LIMITS, "crop_x", "crop_y")
    draws: Draws = dict(zip(names, random.random((count, len(names))).T, strict=True))
    for name in CHANCES:
        draws[name] = draws[name] < getattr(config, name)
    for name in LIMITS:
        low, high = getattr(config, name)
        draws[name] = low + (high - low) * draws[name]
    return draws


def _move(batch: Pixels, draws: Draws, padding: int, interpolation: int) -> None:
    """Flip, rotate and crop, in place."""
    height, width = batch.shape[1:3]
    horizontal, vertical = draws["horizontal_flip"], draws["vertical_flip"]
    warped = draws["rotation"] | draws["crop"]
    maps = _affine_maps(draws, padding, (height, width))
    flags = interpolation | cv2.WARP_INVERSE_MAP
    for row in np.flatnonzero(warped):
        moved = cv2.warpAffine(batch[row], maps[row], (width, height), flags=flags, borderMode=cv2.BORDER_REFLECT)
        batch[row] = moved.reshape(batch.shape[1:])
    axes = np.where(horizontal, np.where(vertical, -1, 1), 0).tolist()  # as OpenCV names them
    for row in np.flatnonzero(~warped & (horizontal | vertical)):
        batch[row] = cv2.flip(batch[row], axes[row]).reshape(batch.shape[1:])


def _affine_maps(draws: Draws, padding: int, size: tuple[int, int]) -> Floats:
    """From a pixel's new place (x, y, 1) to where it was, (B, 2, 3): out of the crop, turned back, flipped back."""
    sides = np.array(size[::-1], float)  # width, height
    centre = (sides - 1) / 2
    angle = np.deg2rad(np.where(draws["rotation"], draws["rotation_degrees"], 0.0))
    scale = np.sqrt(np.where(draws["crop"], draws["crop_area"], 1.0))[:, None]  # (B, 1)
    place = np.stack([draws["crop_x"], draws["crop_y"]], axis=1) * 2 - 1  # (B, 2) from -1 to 1
    shift = place * ((1 - scale) * sides / 2 + padding) * draws["crop"][:, None]
    shift = np.where(scale == 1, np.rint(shift), shift)  # a mere shift by whole pixels keeps them as they are
    mirror = 1 - 2 * np.stack([draws["horizontal_flip"], draws["vertical_flip"]], axis=1)
    turn = np.stack([np.cos(angle), -np.sin(angle), np.sin(angle), np.cos(angle)], axis=1).reshape(-1, 2, 2)
    turn = mirror[..., None] * turn
    offset = centre[:, None] + turn @ (shift - scale * centre)[..., None]
    return np.concatenate([scale[..., None] * turn, offset], axis=2)


def _jitter(batch: Pixels, draws: Draws, black: float) -> None:
    """Change brightness, saturation, hue and contrast, in place, as one affine map of the values."""
    channels = batch.shape[3]
    colours, across = (3, channels) if channels in (3, 4) else (1, 1)  # one value at a time if there are no colours
    brightness, contrast = draws["jitter_brightness"], draws["jitter_contrast"]
    maps = np.zeros((len(batch), across, across + 1))
    maps[:, range(across), range(across)] = 1.0
    mixes = _colour_mixes(draws) if colours == 3 else np.ones((len(batch), 1, 1))
    maps[:, :colours, :colours] = (contrast * brightness)[:, None, None] * mixes
    constants = ((1 - brightness) * black).tolist()
    of_mean = (brightness * (1 - contrast)).tolist()
    for row in np.flatnonzero(draws["jitter"]):
        image = batch[row].reshape(len(batch[row]), -1, across)
        mean = sum(cv2.mean(image)[:colours]) / colours
        maps[row, :colours, -1] = constants[row] + of_mean[row] * mean
        batch[row] = cv2.transform(image, maps[row]).reshape(batch.shape[1:])


def _colour_mixes(draws: Draws) -> Floats:
    """How new colours are made of the old, (B, 3, 3): chroma is scaled and turned, grey stays."""
    hue = np.deg2rad(draws["jitter_hue_degrees"])[:, None, None]
    saturation = draws["jitter_saturation"][:, None, None]
    return np.asarray(GREY + saturation * (np.cos(hue) * CHROMA + np.sin(hue) * QUARTER))


def _blur(batch: Pixels, draws: Draws) -> None:
    """Blur in place; the Gaussian is cut at three standard deviations."""
    for row in np.flatnonzero(draws["blur"]):
        sigma = float(draws["blur_pixels"][row])
        kernel = cv2.getGaussianKernel(round(6 * sigma + 1) | 1, sigma)
        # more exact on uint8 than cv2.GaussianBlur, whose weights are rounded, and several times faster
        batch[row] = cv2.sepFilter2D(batch[row], -1, kernel, kernel).reshape(batch.shape[1:])
