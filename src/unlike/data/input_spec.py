"""The input spec: the one form in which images reach a model, how an image is brought to it, and a map back to the image."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

import cv2
import numpy as np

from unlike.config import from_mapping
from unlike.errors import ImageError
from unlike.records import Bools, Floats, Pixels

Aspect = Literal["stretch", "pad"]


@dataclass(frozen=True, slots=True)
class InputSpec:
    """The one form in which images reach a model; part of what a detector records.

    >>> spec = InputSpec(256, 256, 3)
    >>> spec.size, spec.value_range
    ((256, 256), (0.0, 1.0))
    """

    height: int
    width: int
    channels: int
    floating: bool = False  # values are floats, not full-scale integers
    aspect: Aspect = "stretch"  # or "pad": keep the proportions, fill up with the border's colours
    convert: bool = False  # turn grey to colour, colour to grey, drop alpha; otherwise such an image is an error
    value_range: tuple[float, float] = (0.0, 1.0)  # the values of black and white of floats; integers have their type's

    @property
    def size(self) -> tuple[int, int]:
        return self.height, self.width

    def describe(self) -> dict[str, Any]:
        """In values that TOML holds."""
        spec = asdict(self)
        black, white = spec.pop("value_range")
        return {"spec": spec, "black": black, "white": white}

    @classmethod
    def restore(cls, facts: Mapping[str, Any]) -> InputSpec:
        """From what `describe` gave.

        >>> spec = InputSpec(8, 8, 1, floating=True, value_range=(-1.0, 1.0))
        >>> InputSpec.restore(spec.describe()) == spec
        True
        """
        black_and_white = [float(facts["black"]), float(facts["white"])]
        return from_mapping(cls, {**facts["spec"], "value_range": black_and_white}, "fitted.spec")


def conform(image: Pixels, spec: InputSpec) -> Pixels:
    """Bring an image (H, W, C) to the spec's channels and size, without aliasing; an ImageError says why it does not suit."""
    floating = image.dtype.kind == "f"
    if floating and not np.isfinite(image).all():
        raise ImageError("holds values that are not finite (NaN or infinity)")
    if floating != spec.floating:
        kinds = ("integer", "float") if floating else ("float", "integer")
        raise ImageError(
            f"holds {kinds[1]} values where the detector takes {kinds[0]} ones; convert the image, or fit on such images"
        )
    return _resize(_match_channels(image, spec), spec)


def restore_map(map_: Floats, shape: tuple[int, int], spec: InputSpec) -> Floats:
    """Carry a map (h, w) back to the original image's (H, W) pixels, undoing the resize and the padding."""
    whole = _resize_planes(np.ascontiguousarray(map_)[..., None], *spec.size)
    top, left, height, width = _placement(shape, spec)
    inside = np.ascontiguousarray(whole[top : top + height, left : left + width])
    return _resize_planes(inside, *shape)[..., 0]


def find_inside(shape: tuple[int, int], spec: InputSpec) -> Bools:
    """Where in the spec's (H, W) pixels an image of that shape lies: everywhere but in the bars that fill it up.

    >>> find_inside((10, 40), InputSpec(4, 4, 3, aspect="pad"))[:, 0]
    array([False,  True, False, False])
    """
    top, left, height, width = _placement(shape, spec)
    inside = np.zeros(spec.size, bool)
    inside[top : top + height, left : left + width] = True
    return inside


def _match_channels(image: Pixels, spec: InputSpec) -> Pixels:
    channels = image.shape[2]
    if channels == spec.channels:
        return image
    if not spec.convert:
        way_out = f"fit with --set data.channels={spec.channels} to convert such images"
        raise ImageError(
            f"has {channels} channel{'s' * (channels > 1)} where the detector takes {spec.channels}; {way_out}"
        )
    if channels == 4 and spec.channels in (1, 3):
        image = image[..., :3]
    if image.shape[2] == 1 and spec.channels == 3:
        return np.repeat(image, 3, axis=2)
    if image.shape[2] == 3 and spec.channels == 1:
        return np.asarray(cv2.cvtColor(np.ascontiguousarray(image), cv2.COLOR_RGB2GRAY))[..., None]
    if image.shape[2] == spec.channels:
        return image
    raise ImageError(f"has {channels} channels, which cannot be turned into {spec.channels}")


def _placement(shape: tuple[int, int], spec: InputSpec) -> tuple[int, int, int, int]:
    """Top, left, height and width of an image of `shape` among the spec's pixels."""
    if spec.aspect == "stretch":
        return 0, 0, spec.height, spec.width
    factor = min(spec.height / shape[0], spec.width / shape[1])
    height = min(spec.height, max(1, round(shape[0] * factor)))
    width = min(spec.width, max(1, round(shape[1] * factor)))
    return (spec.height - height) // 2, (spec.width - width) // 2, height, width


def _resize(image: Pixels, spec: InputSpec) -> Pixels:
    top, left, height, width = _placement(image.shape[:2], spec)
    if image.shape[:2] != (height, width):
        groups = [
            np.ascontiguousarray(image[..., i : i + 4]) for i in range(0, image.shape[2], 4)
        ]  # OpenCV takes four at most
        image = np.concatenate([_resize_planes(group, height, width) for group in groups], axis=2)
    if (height, width) == spec.size:
        return image
    margins = ((top, spec.height - height - top), (left, spec.width - width - left), (0, 0))
    return np.pad(image, margins, mode="edge")


def _resize_planes(image: Pixels, height: int, width: int) -> Pixels:
    """Average over areas along an axis that shrinks, interpolate along one that grows."""
    shrunk = (min(width, image.shape[1]), min(height, image.shape[0]))
    if shrunk != (image.shape[1], image.shape[0]):
        image = cv2.resize(image, shrunk, interpolation=cv2.INTER_AREA)
    if shrunk != (width, height):
        image = cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR)
    return image.reshape(height, width, -1)
