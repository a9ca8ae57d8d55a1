"""Images that are arrays in files of their own: one `.npy` or `.npz` an image. Never runs code from them."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import numpy.typing as npt

from unlike.data.numpy_files import DAMAGE, holds_objects
from unlike.data.pixels import as_pixels
from unlike.errors import ImageError
from unlike.records import Pixels

KEYS = ("image", "images", "x", "X", "data", "arr_0")


def decode_numbers(content: bytes) -> Pixels:
    """The one image, H x W or H x W x C, that a `.npy` or `.npz` holds.

    >>> file = io.BytesIO()
    >>> np.save(file, np.zeros((16, 12), np.uint16))
    >>> decode_numbers(file.getvalue()).shape
    (16, 12, 1)
    """
    try:
        found = np.load(io.BytesIO(content), allow_pickle=False)
        image = found if isinstance(found, np.ndarray) else _choose(found)
    except ImageError:
        raise
    except (KeyError, *DAMAGE) as error:
        if holds_objects(io.BytesIO(content)):
            raise ImageError(
                "holds Python objects (pickle), which can run code when they are loaded; save the image as uint8 or float"
            ) from None
        raise ImageError(f"is no array that numpy.save writes, or is damaged ({error})") from None
    if image.ndim == 2:
        image = image[..., None]
    came = " x ".join(map(str, image.shape)) or "a single value"
    if image.ndim != 3 or 0 in image.shape:
        many = "; give a file of many images by itself, not in a folder" if image.ndim == 4 else ""
        raise ImageError(f"holds {came} values; expected one image, H x W or H x W x C{many}")
    if image.shape[0] <= 4 < min(image.shape[1:]):
        raise ImageError(
            f"holds {came} values, which looks like channels first; save numpy.moveaxis(image, 0, -1) instead"
        )
    return as_pixels(image)


def _choose(archive: np.lib.npyio.NpzFile) -> npt.NDArray[Any]:
    names = archive.files
    name = names[0] if len(names) == 1 else next((key for key in KEYS if key in names), None)
    if name is None:
        raise ImageError(
            f"holds the arrays {', '.join(names) or 'none'}; expected one, or one named {' or '.join(KEYS)}"
        )
    return np.asarray(archive[name])
