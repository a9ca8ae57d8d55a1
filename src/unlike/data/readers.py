"""Readers of image files: by its extension, a file's content as pixels, whole and as it was meant to be seen."""

from __future__ import annotations

import io
import os
import struct
import warnings
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageOps

from unlike.data.pixels import as_float32
from unlike.errors import ImageError
from unlike.records import Bools, Pixels
from unlike.registry import Registry

COMMON = ("bmp", "gif", "jp2", "jpeg", "jpg", "pbm", "pgm", "png", "pnm", "ppm", "tif", "tiff", "webp")
LOSSY = ("jpeg", "jpg", "webp")  # of masks: a webp may be lossless, and then loses nothing by it
MAX_PIXELS = 178_956_970  # of one image: half a GB as RGB, the bound at which Pillow too refuses
ORIENTATION = 0x0112  # EXIF tag
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

Reader = Callable[
    [bytes], Pixels
]  # a file's content -> (H, W, C) of uint8, uint16 or float32; an ImageError says why not
READERS: Registry[Reader] = Registry(  # by extension, without its dot
    "image reader", "unlike.readers", dict.fromkeys(COMMON, "unlike.data.readers:decode_bytes")
)


def decode(path: Path) -> Pixels:
    """Read an image file as it was meant to be seen: (H, W, C), uint8, uint16 or float32, colours in RGB order.

    The reader is that of the file's extension; a file of any other is taken for one of the common kinds. An ImageError says
    why a file cannot be read.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ImageError(f"cannot be opened ({error.strerror})") from None
    if not content:
        raise ImageError("is empty (0 bytes)")
    extension = _extension(path)
    return _check_read(READERS.get(extension, decode_bytes)(content), extension)


def decode_bytes(content: bytes) -> Pixels:
    """The reader of the common kinds of files, told by their content.

    EXIF and TIFF rotation are applied, palettes resolved, and an alpha channel is kept unless it is opaque everywhere. Of
    several pages or frames the first is read.
    """
    header = _read_header(content)
    image = _decode_alpha_tiff(header) if header is not None and _is_alpha_tiff(header) else _decode_any(content)
    if image.shape[2] == 4 and image.dtype.kind == "u" and (image[..., 3] == np.iinfo(image.dtype).max).all():
        image = image[..., :3]
    return np.ascontiguousarray(image)


def decode_mask(path: Path) -> Bools:
    """A defect mask, (H, W), as `mark_defects` reads its values; of a folder of several masks, all of them together."""
    if path.is_dir():
        return _join_masks(path, [decode_mask(file) for file in sorted(path.iterdir()) if is_image(file)])
    try:
        return mark_defects(decode(path), lossy=_extension(path) in LOSSY)
    except ImageError as error:
        raise ImageError(f"mask {path.name} {error}") from None


def mark_defects(mask: Pixels, *, lossy: bool = False) -> Bools:
    """Which pixels of a mask (H, W, C) are defective, (H, W): those that are not black, whatever their value.

    Where no pixel is black, the background is the colour that most have; where an alpha channel is 0, nothing is defective.
    Of a `lossy` file values up to half the largest are noise.

    >>> mark_defects(np.array([[[9, 0, 9], [0, 255, 0], [9, 0, 9]]], np.uint8))
    array([[False,  True, False]])
    """
    colours = mask[..., :3]
    if mask.shape[2] == 4:
        colours = np.where(mask[..., 3:] > 0, colours, 0)
    peaks = colours.max(axis=-1)
    if (peaks == 0).any():
        return np.asarray(peaks > (peaks.max() / 2 if lossy else 0))
    known, places, counts = np.unique(
        colours.reshape(-1, colours.shape[2]), axis=0, return_inverse=True, return_counts=True
    )
    if len(known) == 1:
        return np.ones(peaks.shape, bool)
    return np.asarray(places.reshape(peaks.shape) != np.argmax(counts))


def _join_masks(folder: Path, masks: list[Bools]) -> Bools:
    """A pixel is defective where any of the masks of one image says so."""
    if len({mask.shape for mask in masks}) != 1:
        sizes = ", ".join(sorted({f"{mask.shape[1]} x {mask.shape[0]}" for mask in masks})) or "none"
        raise ImageError(f"masks {folder.name} are to be of one size, came {sizes}")
    return np.asarray(np.any(masks, axis=0))


def is_image(path: str | os.PathLike[str]) -> bool:
    """By its name alone; a hidden file is none.

    >>> is_image("a/b.PNG"), is_image("a/.b.png"), is_image("a/notes.txt")
    (True, False, False)
    """
    path = Path(path)
    return _extension(path) in READERS and not path.name.startswith(".")


def _extension(path: Path) -> str:
    return path.suffix.lower().removeprefix(".")


def _check_read(image: Pixels, extension: str) -> Pixels:
    """What a reader gave, or an ImageError where it is no image: readers come from other packages too."""
    if image.ndim != 3 or 0 in image.shape or image.dtype not in (np.uint8, np.uint16, np.float32):
        came = " x ".join(map(str, image.shape)) or "a single value"
        raise ImageError(
            f"was read as {came} of {image.dtype}; expected H x W x C of uint8, uint16 or float32 from the reader of "
            f"{extension!r} files"
        )
    return image


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
