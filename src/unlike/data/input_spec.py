"""The input spec: the one form in which images reach a model, how an image is brought to it, and a map back to the image."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

import cv2
import numpy as np

from unlike.config import from_mapping
from unlike.data.readers import MAX_PIXELS
from unlike.errors import ImageError
from unlike.records import Bools, Floats, Pixels

Aspect = Literal["stretch", "pad"]
Missing = float | Literal["nan"] | None  # the value that stands for none; NaN by its name, which is equal to itself
DEPTHS = (8, 10, 12, 14, 16)  # bits of the values in uint16
BEYOND = 0.01  # share of an image's values above its range that are cut off there; of more the image is refused


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
    bits: int = 16  # of the values in uint16, where they do not use all: white is 4095 for 12
    missing: Missing = None  # stands for no value: filled from around it, and no part of a map
    most_pixels: int = MAX_PIXELS  # of one image

    @property
    def size(self) -> tuple[int, int]:
        return self.height, self.width

    def describe(self) -> dict[str, Any]:
        """In values that TOML holds."""
        spec = asdict(self)
        black, white = spec.pop("value_range")
        if self.missing is None:
            del spec["missing"]  # TOML has no word for it
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
    """Bring an image (H, W, C) to the spec's values, channels and size, without aliasing; an ImageError says why it does not suit."""
    floating = image.dtype.kind == "f"
    if spec.missing is not None:
        image = _fill(image, spec.missing)
    if floating and not np.isfinite(image).all():
        empty = np.isnan(image).any() and spec.missing is None
        way_out = "; where they stand for no value, fit with --set data.missing=nan" if empty else ""
        raise ImageError(f"holds values that are not finite (NaN or infinity){way_out}")
    if floating != spec.floating:
        kinds = ("integer", "float") if floating else ("float", "integer")
        raise ImageError(
            f"holds {kinds[1]} values where the detector takes {kinds[0]} ones; convert the image, or fit on such images"
        )
    if image.dtype == np.uint16 and spec.bits < 16:
        image = _spread(image, spec.bits)
    return _resize(_match_channels(image, spec), spec)


def find_missing(image: Pixels, spec: InputSpec) -> Bools | None:
    """Where in the spec's (H, W) pixels an image (H, W, C) has no value of its own; None where it has one everywhere."""
    if spec.missing is None or not (holes := _holes(image, spec.missing)).any():
        return None
    resized = _resize(holes[..., None].astype(np.float32), spec)
    return np.asarray(resized[..., 0] > 0)


def is_clipped(image: Pixels, spec: InputSpec) -> bool:
    """Whether an image has values beyond the bits of the spec, which are cut off at white.

    >>> is_clipped(np.array([[[1023]]], np.uint16), InputSpec(1, 1, 1, bits=10))
    False
    """
    return image.dtype == np.uint16 and spec.bits < 16 and int(image.max()) >= 2**spec.bits


def fits(pixels: Pixels, spec: InputSpec) -> bool:
    """Whether a block of images (B, H, W, C) is in the spec as it is."""
    if pixels.shape[1:] != (spec.height, spec.width, spec.channels) or (pixels.dtype.kind == "f") != spec.floating:
        return False
    if spec.missing is not None or (pixels.dtype == np.uint16 and spec.bits < 16):
        return False
    return not spec.floating or bool(np.isfinite(pixels).all())


def depth_of(highest: int) -> int:
    """The bits that values in uint16 use, by the highest of them.

    >>> depth_of(1023), depth_of(1024), depth_of(40000), depth_of(0)
    (10, 12, 16, 16)
    """
    return next((bits for bits in DEPTHS if highest < 2**bits), 16) if highest else 16


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
        if not _can_become(channels, spec.channels):
            raise ImageError(
                f"has {channels} channel{'s' * (channels > 1)} where the detector takes {spec.channels}, and cannot be turned into "
                "them; take it away, or fit on such images alone"
            )
        way_out = f"fit with --set data.channels={spec.channels} to convert such images"
        raise ImageError(
            f"has {channels} channel{'s' * (channels > 1)} where the detector takes {spec.channels}; {way_out}"
        )
    if not _can_become(channels, spec.channels):
        raise ImageError(f"has {channels} channel{'s' * (channels > 1)}, which cannot be turned into {spec.channels}")
    if channels == 4:
        image = _on_white(image)
    if image.shape[2] == 1 and spec.channels >= 3:
        image = np.repeat(image, 3, axis=2)
    if spec.channels == 1 and image.shape[2] == 3:
        return np.asarray(cv2.cvtColor(np.ascontiguousarray(image), cv2.COLOR_RGB2GRAY))[..., None]
    if spec.channels == 4:
        opaque = np.full(
            (*image.shape[:2], 1), np.iinfo(image.dtype).max if image.dtype.kind == "u" else 1, image.dtype
        )
        return np.concatenate([image, opaque], axis=2)
    return image


def _can_become(channels: int, wanted: int) -> bool:
    """Whether an image of so many channels can be turned into one of others: grey, colour and alpha into each other."""
    return channels == wanted or {channels, wanted} <= {1, 3, 4}


def _on_white(image: Pixels) -> Pixels:
    """RGBA (H, W, 4) as its colours on a white ground, which is how viewers show it; of floats, whose scale is not known, the colours."""
    colours = image[..., :3]
    if image.dtype.kind == "f":
        return colours
    white = int(np.iinfo(image.dtype).max)
    alpha = image[..., 3:].astype(np.uint64)
    mixed = (colours * alpha + white * (white - alpha) + white // 2) // white
    return mixed.astype(image.dtype)


def _spread(image: Pixels, bits: int) -> Pixels:
    """Values of so many bits over all of uint16: white is white whatever its camera."""
    top = 2**bits - 1
    beyond = float((image > top).mean())
    if beyond > BEYOND:
        high = int(image.max())
        raise ImageError(
            f"holds values up to {high:,} where those of the detector's images end at {top:,} ({bits} bits); fit with --set "
            f"data.bits={depth_of(high)}"
        )
    whole = np.minimum(image, top).astype(np.uint32) * 65535 + top // 2
    return np.asarray(whole // top, np.uint16)


def _holes(image: Pixels, missing: float | str) -> Bools:
    """(H, W) where an image has no value: NaN or the missing number, in any channel of floats, in all of whole numbers."""
    if image.dtype.kind == "f":
        found = np.isnan(image)
        if missing != "nan":
            found |= image == np.float32(missing)
        return np.asarray(found.any(axis=2))
    if missing == "nan":
        return np.zeros(image.shape[:2], np.bool_)
    return np.asarray((image == missing).all(axis=2))


def _fill(image: Pixels, missing: float | str) -> Pixels:
    """The image with the nearest value wherever it has none."""
    holes = _holes(image, missing)
    if not holes.any():
        return image
    if holes.all():
        raise ImageError(f"holds nothing but missing values ({missing})")
    from scipy import ndimage

    rows, columns = ndimage.distance_transform_edt(holes, return_distances=False, return_indices=True)
    return np.asarray(image[rows, columns])


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
