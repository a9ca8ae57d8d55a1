"""DICOM: medical images, by pydicom, which an extra installs."""

from __future__ import annotations

import io
import warnings
from typing import Any

import numpy as np

from unlike.data.pixels import as_pixels
from unlike.data.readers.addresses import ALL_PAGES
from unlike.data.readers.common import FIRST, Reading, check_pixels, pages_of_reading, reads_pages
from unlike.errors import ImageError
from unlike.records import Pixels

warnings.filterwarnings("ignore", module=r"pydicom\.")  # what it would print of a broken file, we say in an ImageError


@reads_pages
def decode_dicom(content: bytes, reading: Reading = FIRST) -> Pixels:
    """A frame: colours as RGB, grey with black low: values of a scale that the file declares (Hounsfield units) as floats."""
    data = _open(content)
    check_pixels(int(data.get("Rows", 0)) * int(data.get("Columns", 0)), reading.most_pixels)
    count = int(data.get("NumberOfFrames", 1) or 1)
    frames = [_frame(data, number - 1, count) for number in pages_of_reading(reading, count)]
    return np.concatenate(frames, axis=2) if reading.page == ALL_PAGES else frames[0]


def count_frames(content: bytes) -> int:
    """How many images a file holds; 1 of one that cannot be read."""
    try:
        return int(_open(content, pixels=False).get("NumberOfFrames", 1) or 1)
    except (ImageError, ValueError, TypeError):
        return 1


def _open(content: bytes, *, pixels: bool = True) -> Any:
    try:
        import pydicom
    except ImportError:
        raise ImageError("is a DICOM file, which needs pydicom: pip install 'unlike[formats]'") from None
    try:
        return pydicom.dcmread(io.BytesIO(content), stop_before_pixels=not pixels)
    except Exception as error:
        raise ImageError(f"is no DICOM file, or is damaged ({' '.join(str(error).split())})") from error


def _frame(data: Any, index: int, count: int) -> Pixels:
    from pydicom.pixels.processing import apply_modality_lut
    from pydicom.pixels.utils import pixel_array

    if "PixelData" not in data:
        raise ImageError("is a DICOM file without an image")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            stored = np.asarray(pixel_array(data, index=index if count > 1 else None))
            image = np.asarray(apply_modality_lut(stored, data)) if stored.ndim == 2 else stored
    except Exception as error:  # decoders of a dozen packages
        words = " ".join(str(error).split())
        raise ImageError(f"is a DICOM file whose image cannot be decoded ({words})") from error
    scaled = image.dtype.kind == "f" and not np.array_equal(image, stored)
    if not scaled and image.dtype.kind == "f":
        image = stored  # a scale that changes nothing
    if str(data.get("PhotometricInterpretation", "")) == "MONOCHROME1":  # white is low
        image = (
            -image if scaled or image.dtype.kind == "i" else (2 ** int(data.BitsStored) - 1 - image.astype(np.int64))
        )
        image = image if scaled or image.dtype.kind == "f" else image.astype(stored.dtype)
    return as_pixels(image.reshape(*image.shape[:2], -1))
