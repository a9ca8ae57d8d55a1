"""Images that are kept, and pictures of them: as they came, small maps beside them, and overlays painted when they are asked for."""

from __future__ import annotations

import io
from pathlib import Path

import cv2
import numpy as np

from unlike.artifacts import write_file
from unlike.calibration.overlay import overlay_range
from unlike.data.readers import decode
from unlike.errors import ImageError, ServiceError
from unlike.records import Floats, Pixels
from unlike.runtime.streams import Judging

SUFFIXES = {"JPEG": "jpg", "TIFF": "tif", "JPEG 2000": "jp2", "DICOM": "dcm", "HEIC": "heic"}  # others: their kind
MAP_SIDE = 128  # pixels of the longer side of a kept map
LONGEST_SIDE = 1600  # of a picture
SMALLEST_SIDE = 16
FAITHFUL = 90  # quality of a JPEG


class ImageStore:
    """A folder of images by their ids. A file is whole or absent; one that is not there any more is no reason to fail.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     store = ImageStore(Path(folder))
    ...     store.keep("7f00", b"...", "PNG", np.zeros((512, 256), np.float32))
    ...     store.find("7f00").name, store.map("7f00").shape
    ('7f00.png', (128, 64))
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def keep(self, image_id: str, content: bytes, kind: str, map_: Floats | None) -> None:
        """Write an image as it came, and its map if it has one, made small; an OSError where there is no room."""
        path = self._place("images", image_id)
        write_file(path.with_name(f"{image_id}.{SUFFIXES.get(kind, kind.lower())}"), content, durable=False)
        if map_ is not None:
            packed = io.BytesIO()
            np.savez_compressed(packed, map=shrink(np.asarray(map_, np.float32), MAP_SIDE).astype(np.float16))
            path = self._place("maps", image_id)
            write_file(path.with_name(f"{image_id}.npz"), packed.getvalue(), durable=False)

    def find(self, image_id: str) -> Path | None:
        """Where an image lies; None where it is not kept."""
        path = self._place("images", image_id)
        return next(iter(sorted(path.parent.glob(f"{image_id}.*"))), None) if image_id.isalnum() else None

    def map(self, image_id: str) -> Floats | None:
        """A small map (h, w); None where it is not kept."""
        path = self._place("maps", image_id).with_name(f"{image_id}.npz")
        try:
            with np.load(path, allow_pickle=False) as kept:
                return np.asarray(kept["map"], np.float32)
        except (OSError, ValueError, KeyError):
            return None

    def _place(self, what: str, image_id: str) -> Path:
        return self.folder / what / image_id[:2] / image_id


def read_kept(store: ImageStore | None, image_id: str, most_pixels: int) -> Pixels:
    """An image that was kept, (H, W, C); a ServiceError (404) where it was not, or is gone."""
    path = None if store is None else store.find(image_id)
    if path is None:
        raise ServiceError("the image was not kept; start the service with --images DIR to keep what comes", status=404)
    try:
        return decode(path, most_pixels)
    except (ImageError, OSError):
        raise ServiceError("the image was kept, but cannot be read any more", status=404) from None


def draw_image(image: Pixels, side: int = LONGEST_SIDE) -> bytes:
    """A picture of an image (H, W, C) for the eye, as a JPEG no longer than `side`; small ones stay exact, as PNG."""
    return encode(shown(image, side))


def draw_overlay(image: Pixels, map_: Floats, judging: Judging, side: int = LONGEST_SIDE) -> bytes:
    """The map (h, w) over the image (H, W, C), on the scale that all images of the detector share."""
    from unlike.report.gallery import overlay

    start, limit = overlay_range(judging.decision.peaks, judging.decision.region_threshold)
    picture = shown(image, side)
    size = (picture.shape[1], picture.shape[0])
    values: Floats = cv2.resize(np.asarray(map_, np.float32), size, interpolation=cv2.INTER_LINEAR).astype(np.float32)
    return encode(overlay(picture, values, limit, start))


def write_tiff(map_: Floats) -> bytes:
    """A map (H, W) as a TIFF of float32."""
    return cv2.imencode(".tiff", np.ascontiguousarray(map_, np.float32))[1].tobytes()


def encode(picture: Pixels) -> bytes:
    """A picture (H, W, 3) of 8 bits as PNG where it is small, else as JPEG."""
    suffix, options = (".png", []) if max(picture.shape[:2]) <= 96 else (".jpg", [cv2.IMWRITE_JPEG_QUALITY, FAITHFUL])
    return cv2.imencode(suffix, np.ascontiguousarray(picture[..., ::-1]), options)[1].tobytes()


def media_type(picture: bytes) -> str:
    """What `encode` made, for a Content-Type."""
    return "image/png" if picture.startswith(b"\x89PNG") else "image/jpeg"


def shrink(image: Pixels | Floats, side: int) -> Pixels:
    """An image no longer than `side`, in its own proportions; a smaller one stays."""
    height, width = image.shape[:2]
    scale = side / max(height, width)
    if scale >= 1:
        return np.asarray(image)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA))


def shown(image: Pixels, side: int) -> Pixels:
    """An image (H, W, C) in 8 bits for the eye, no longer than `side`."""
    from unlike.report.gallery import displayable, shades

    picture = displayable(image, *shades([image])[:2])
    return shrink(picture, min(max(side, SMALLEST_SIDE), LONGEST_SIDE))
