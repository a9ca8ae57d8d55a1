"""One image: decode it whole, bring it to a detector's spec, and carry a map back to its original pixels."""

from __future__ import annotations

import io
import os
import struct
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

from unlike.errors import ImageError
from unlike.records import Bools, Floats, Pixels

EXTENSIONS = frozenset(
    {".bmp", ".gif", ".jp2", ".jpeg", ".jpg", ".pbm", ".pgm", ".png", ".pnm", ".ppm", ".tif", ".tiff", ".webp"}
)
MAX_PIXELS = 178_956_970  # of one image: half a GB as RGB, the bound at which Pillow too refuses
ORIENTATION = 0x0112  # EXIF tag
Aspect = Literal["stretch", "pad"]
TURNS: dict[int, Callable[[Pixels], Pixels]] = {  # by EXIF orientation
    2: np.fliplr,
    3: lambda image: np.rot90(image, 2),
    4: np.flipud,
    5: lambda image: np.swapaxes(image, 0, 1),
    6: lambda image: np.rot90(image, -1),
    7: lambda image: np.rot90(np.swapaxes(image, 0, 1), 2),
    8: np.rot90,
}
PILLOW_REFUSES = (ArithmeticError, LookupError, OSError, SyntaxError, TypeError, ValueError, Warning, struct.error)

cv2.utils.logging.setLogLevel(
    cv2.utils.logging.LOG_LEVEL_SILENT
)  # what it would print of a broken file, we say in an ImageError
warnings.filterwarnings("ignore", module=r"PIL\.")  # and what Pillow would


@dataclass(frozen=True, slots=True)
class InputSpec:
    """The one form in which images reach a model; part of what a detector records."""

    height: int
    width: int
    channels: int
    floating: bool = False  # values are floats, not full-scale integers
    aspect: Aspect = "stretch"  # or "pad": keep the proportions, fill up with the border's colours
    convert: bool = False  # turn grey to colour, colour to grey, drop alpha; otherwise such an image is an error
    value_range: tuple[float, float] = (0.0, 1.0)  # of floats, the values of black and white

    @property
    def size(self) -> tuple[int, int]:
        return self.height, self.width


def decode(path: Path) -> Pixels:
    """Read an image file as it was meant to be seen: (H, W, C), uint8, uint16 or float32, colours in RGB order.

    EXIF and TIFF rotation are applied, palettes resolved, and an alpha channel is kept unless it is opaque
    everywhere. Of several pages or specs the first is read. An ImageError says why a file cannot be read.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ImageError(f"cannot be opened ({error.strerror})") from None
    return decode_bytes(content)


def decode_bytes(content: bytes) -> Pixels:
    """`decode` for the content of a file."""
    if not content:
        raise ImageError("is empty (0 bytes)")
    header = _read_header(content)
    image = _decode_alpha_tiff(header) if header is not None and _is_alpha_tiff(header) else _decode_any(content)
    if image.shape[2] == 4 and image.dtype.kind == "u" and (image[..., 3] == np.iinfo(image.dtype).max).all():
        image = image[..., :3]
    return np.ascontiguousarray(image)


def decode_mask(path: Path) -> Bools:
    """A defect mask, (H, W): every pixel that is not zero is defective."""
    try:
        return np.asarray(decode(path)[..., :3].max(axis=-1) > 0)
    except ImageError as error:
        raise ImageError(f"mask {path.name} {error}") from None


def to_spec(image: Pixels, spec: InputSpec) -> Pixels:
    """Bring (H, W, C) to the spec's channels and size, without aliasing; an ImageError says why it does not suit."""
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
    framed = _resize_planes(np.ascontiguousarray(map_)[..., None], *spec.size)
    top, left, height, width = _placement(shape, spec)
    inside = np.ascontiguousarray(framed[top : top + height, left : left + width])
    return _resize_planes(inside, *shape)[..., 0]


def find_inside(shape: tuple[int, int], spec: InputSpec) -> Bools:
    """Which pixels (H, W) of the spec show an image of that shape: all but the bars that fill the spec up.

    >>> find_inside((10, 40), InputSpec(4, 4, 3, aspect="pad"))[:, 0]
    array([False,  True, False, False])
    """
    top, left, height, width = _placement(shape, spec)
    inside = np.zeros(spec.size, bool)
    inside[top : top + height, left : left + width] = True
    return inside


def promote(image: Pixels, kind: np.dtype[np.generic]) -> Pixels:
    """Widen uint8 to uint16 so that both span their full scale: 255 becomes 65535."""
    if image.dtype == np.uint8 and kind == np.uint16:
        return image.astype(np.uint16) * np.uint16(257)
    return image


def as_float32(image: npt.NDArray[Any]) -> Pixels:
    """Values too large for it become infinite, which `to_spec` refuses by name."""
    with np.errstate(over="ignore"):
        return np.asarray(np.ascontiguousarray(image, np.float32))


def to_uint8(image: Pixels, low: float, high: float) -> Pixels:
    """For the eye only: values from low to high as 0 to 255."""
    scaled = (image.astype(np.float32) - low) * (255.0 / max(high - low, 1e-12))
    return np.asarray(np.clip(np.rint(scaled), 0, 255), np.uint8)


def _read_header(content: bytes) -> Image.Image | None:
    """Refuse an image that claims to be enormous, or is a PNG without its end, before a byte of it is decoded."""
    if content.startswith(b"\x89PNG") and not 0 <= content.rfind(b"IEND") <= len(content) - 8:
        raise ImageError("is cut short")  # libpng would complain on the terminal
    try:
        header = Image.open(io.BytesIO(content))
    except Image.DecompressionBombError:
        pixels = MAX_PIXELS + 1
    except PILLOW_REFUSES:
        return None  # not a format that Pillow knows: OpenCV, which has a bound of its own, may
    else:
        pixels = header.width * header.height
    if pixels > MAX_PIXELS:
        raise ImageError(f"claims more than {MAX_PIXELS:,} pixels (a decompression bomb?); cut it into tiles")
    return header


def _is_alpha_tiff(header: Image.Image) -> bool:
    return header.format == "TIFF" and header.mode == "RGBA" and max(header.getexif().get(258, (0,))) == 8


def _decode_alpha_tiff(header: Image.Image) -> Pixels:
    """By Pillow: OpenCV multiplies the colours of such an image by its alpha, and they are lost."""
    try:
        return np.asarray(ImageOps.exif_transpose(header))
    except PILLOW_REFUSES as error:
        raise ImageError(f"cannot be decoded ({error})") from None


def _decode_any(content: bytes) -> Pixels:
    """(H, W, C), upright and in RGB order, with any alpha."""
    try:
        image, kinds, metadata = cv2.imdecodeWithMetadata(np.frombuffer(content, np.uint8), flags=cv2.IMREAD_UNCHANGED)
    except cv2.error as error:
        raise ImageError(f"cannot be decoded ({error.err})") from None
    if image is None or image.size == 0:
        raise ImageError("is no image that can be decoded, or is cut short")
    if image.dtype not in (np.uint8, np.uint16) and image.dtype.kind != "f":
        raise ImageError(f"holds {image.dtype} values; expected uint8, uint16 or float")
    image = _rgb(as_float32(image) if image.dtype.kind == "f" else image)
    for kind, chunk in zip(kinds, metadata, strict=True):
        if kind == cv2.IMAGE_METADATA_EXIF:
            image = TURNS.get(_orientation(np.asarray(chunk).tobytes()), np.asarray)(image)
    return image


def _rgb(image: Pixels) -> Pixels:
    if image.ndim == 2:
        return image[..., None]
    orders = {3: cv2.COLOR_BGR2RGB, 4: cv2.COLOR_BGRA2RGBA}
    return np.asarray(cv2.cvtColor(image, orders[image.shape[2]])) if image.shape[2] in orders else image


def _orientation(exif_bytes: bytes) -> int:
    """1, upright, where the metadata is damaged: viewers show such an image as it lies."""
    exif = Image.Exif()
    try:
        exif.load(exif_bytes)
        return int(exif.get(ORIENTATION, 1))
    except PILLOW_REFUSES:
        return 1


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
    """Top, left, height and width of an image of `shape` inside the spec."""
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


def is_image(path: str | os.PathLike[str]) -> bool:
    """By its name alone; a hidden file is none.

    >>> is_image("a/b.PNG"), is_image("a/.b.png"), is_image("a/notes.txt")
    (True, False, False)
    """
    path = Path(path)
    return path.suffix.lower() in EXTENSIONS and not path.name.startswith(".")
