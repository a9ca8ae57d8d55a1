"""Which normal images one of the history is most like: asked of the detector in torch, for an export keeps none."""

from __future__ import annotations

import threading
from functools import lru_cache
from pathlib import Path
from typing import Any

from unlike.errors import ServiceError, UnlikeError
from unlike.records import Pixels
from unlike.serving.catalogue import Known

LOCK = threading.Lock()  # one at a time: it is for eyes


def find_nearest(known: Known, image: Path) -> list[dict[str, Any]]:
    """The ids and pictures of the normal images that one is most like, the most alike first."""
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
        {"id": name, "picture": None if picture is None else data_uri(picture)}
        for name, picture in zip(found[0].nearest, pictures, strict=True)
    ]


@lru_cache(maxsize=2)
def _load(path: Path, fingerprint: str) -> Any:  # noqa: ARG001 (what lies at the path may be replaced)
    from unlike.detector.detector import Detector

    return Detector.load(path)
