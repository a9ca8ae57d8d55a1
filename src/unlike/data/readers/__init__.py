"""Readers of image files: by its extension, a file's content as pixels, whole and as it was meant to be seen."""

from __future__ import annotations

import glob as globbing
import os
from pathlib import Path

import numpy as np

from unlike.data.pixels import NATIVE
from unlike.data.readers.addresses import extension_of, read_address
from unlike.data.readers.common import HEAD, MAX_PIXELS, Reader, Reading, decode_bytes, peek_at, size_at, takes_reading
from unlike.errors import ImageError
from unlike.records import Bools, Pixels
from unlike.registry import Registry

__all__ = [
    "MAX_PIXELS",
    "READERS",
    "Reader",
    "Reading",
    "decode",
    "decode_bytes",
    "decode_mask",
    "is_image",
    "name_masks",
    "peek",
    "peek_size",
]

COMMON = (
    *("avif", "bmp", "gif", "jfif", "jp2", "jpe", "jpeg", "jpg", "pbm", "pgm", "png", "pnm", "ppm", "tif", "tiff"),
    *("webp", "heic", "heif", "jxl"),
)
NUMBERS = "[0-9]*"
LOSSY = ("jfif", "jpe", "jpeg", "jpg", "webp")  # of masks: a webp may be lossless, and then loses nothing by it
READERS: Registry[Reader] = Registry(  # by extension, without its dot
    "image reader",
    "unlike.readers",
    {
        **dict.fromkeys(COMMON, "unlike.data.readers.common:decode_bytes"),
        **dict.fromkeys(("dcm", "dicom"), "unlike.data.readers.dicom:decode_dicom"),
        **dict.fromkeys(("npy", "npz"), "unlike.data.readers.numbers:decode_numbers"),
    },
)


def decode(path: Path, most_pixels: int = MAX_PIXELS) -> Pixels:
    """Read an image file as it was meant to be seen: (H, W, C), uint8, uint16 or float32, colours in RGB order.

    The reader is that of the file's extension; a file of any other is taken for one of the common kinds. `x.tif#3` is the
    third page of a file, `x.tif#all` all its pages as channels, `x.zip/a/b.png` a file in an archive. An ImageError says why
    a file cannot be read, as where it claims more than `most_pixels`.
    """
    address, content = read_address(path)
    if not content:
        raise ImageError("is empty (0 bytes)")
    extension = address.extension
    reader = READERS.get(extension, decode_bytes)
    if takes_reading(reader):
        image = reader(content, Reading(address.page, most_pixels))
    elif address.page == 1:
        image = reader(content)
    else:
        raise ImageError(f"has no pages that could be told apart: the reader of {extension!r} files knows one")
    return _check_read(image, extension)


def peek(path: Path) -> tuple[int, str] | None:
    """The channels and the number type of an image by its first bytes; None where only decoding tells.

    PNG and JPEG say it there, but for what may be transparent.
    """
    try:
        with path.open("rb") as file:
            return peek_at(file.read(HEAD))
    except OSError:  # which reading it will say, or it lies in an archive
        return None


def peek_size(path: Path) -> tuple[int, int] | None:
    """The height and width of an image by its first bytes, before it is turned upright; None where only decoding tells."""
    try:
        with path.open("rb") as file:
            return size_at(file.read(HEAD))
    except OSError:
        return None


def decode_mask(path: Path) -> Bools:
    """A defect mask, (H, W), as `mark_defects` reads its values; of a folder of several masks, or of files that
    `name_masks` names, all of them together.
    """
    if path.is_dir():
        return _join_masks(path, [decode_mask(file) for file in sorted(path.iterdir()) if is_image(file)])
    if NUMBERS in path.name and not path.exists():
        return _join_masks(path, [decode_mask(file) for file in sorted(path.parent.glob(path.name))])
    try:
        return mark_defects(decode(path), lossy=extension_of(path) in LOSSY)
    except ImageError as error:
        raise ImageError(f"mask {path.name} {error}") from None


def name_masks(mask: Path, shared: str) -> Path:
    """The path that stands for all masks with a number after a `shared` name, beside one of them.

    >>> name_masks(Path("x_mask_1.png"), "x_mask_").name
    'x_mask_[0-9]*.png'
    """
    return mask.with_name(f"{globbing.escape(shared)}{NUMBERS}{mask.suffix}")


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
    return extension_of(path) in READERS and not path.name.startswith(".")


def _check_read(image: Pixels, extension: str) -> Pixels:
    """What a reader gave, or an ImageError where it is no image: readers come from other packages too."""
    if image.ndim != 3 or 0 in image.shape or image.dtype not in NATIVE:
        came = " x ".join(map(str, image.shape)) or "a single value"
        raise ImageError(
            f"was read as {came} of {image.dtype}; expected H x W x C of uint8, uint16 or float32 from the reader of "
            f"{extension!r} files"
        )
    return image
