"""Which normal images one of the history is most like: asked of the detector in torch, for an export keeps none."""

from __future__ import annotations

import threading
from functools import lru_cache
from pathlib import Path
from typing import Any

from unlike.data.readers import decode
from unlike.errors import ImageError, ServiceError, UnlikeError
from unlike.records import Pixels
from unlike.serving.catalogue import Known
from unlike.serving.jobs.normals import folder_of
from unlike.serving.pictures import shown

LOCK = threading.Lock()  # one at a time: it is for eyes
SIDE = 144  # pixels of the longer side of a picture
REVIEWED = "reviewed"  # before the ids of images that were learned from because people said they are normal


def find_nearest(known: Known, image: Path, folder: Path) -> list[dict[str, Any]]:
    """The ids and pictures of the normal images that one is most like, the most alike first.

    A picture that the detector did not keep is that of the upload or of the review that it was learned from, if it is there.
    """
    from unlike.data.source import open_source
    from unlike.detector.explain import explain
    from unlike.report.gallery import data_uri

    with LOCK:
        try:
            source = open_source(str(image))
            found = explain(_load(known.path, known.fingerprint), source, source.samples)
        except UnlikeError as error:
            raise ServiceError(f"the nearest normal images are not known: {error}", status=422) from None
    if not found:
        return []
    pictures: list[Pixels | None] = list(found[0].nearest_pictures) or [None] * len(found[0].nearest)
    return [
        {"id": name, "picture": _find_picture(folder, known.name, name) if picture is None else data_uri(picture)}
        for name, picture in zip(found[0].nearest, pictures, strict=True)
    ]


def _find_picture(folder: Path, detector: str, name: str) -> str | None:
    """The address of a picture of an image that was learned from; None where it is not here."""
    from unlike.report.gallery import data_uri

    kind, _, image_id = name.partition("/")
    if kind == REVIEWED and image_id.isalnum():
        return f"/images/{image_id}/image?side={SIDE}"
    base = folder_of(folder, detector).resolve()
    for place in (base, *(base.iterdir() if base.is_dir() else ())):
        path = (place / name).resolve()
        if path.is_file() and path.is_relative_to(base):
            try:
                return data_uri(shown(decode(path), SIDE))
            except (ImageError, OSError):
                return None
    return None


@lru_cache(maxsize=2)
def _load(path: Path, fingerprint: str) -> Any:  # noqa: ARG001 (what lies at the path may be replaced)
    from unlike.detector.detector import Detector

    return Detector.load(path)
