"""Maps as files, in each image's own pixels: values for programs, a picture for people."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path, PurePosixPath

import cv2
import numpy as np

from unlike.artifacts import output_errors, write_file
from unlike.calibration.overlay import overlay_range
from unlike.data.input_spec import restore_map
from unlike.data.source import Source, read_original
from unlike.records import Pixels, ScoredBatch
from unlike.report.gallery import displayable, overlay, shades
from unlike.runtime.streams import Judging

MOST_BYTES = 180  # of a name: file systems take 255, and endings and what marks an unfinished file come to it


def write_maps(folder: Path, judging: Judging, source: Source, batch: ScoredBatch) -> None:
    """For each image `<id>.map.tiff`, its float32 map, and `<id>.overlay.png`, the map over the image.

    Of a name that is too long for a file the end gives way to a digest. The colours of all overlays have one scale, that of `overlay_range`.
    """
    start, limit = overlay_range(judging.decision.peaks, judging.decision.region_threshold)
    for sample, map_, shape in zip(batch.samples, batch.maps, batch.shapes, strict=True):
        values = restore_map(map_, shape, judging.spec)
        path = folder / safe_name(sample.id)
        _write_image(path.with_name(f"{path.name}.map.tiff"), ".tiff", values.astype(np.float32))
        image = read_original(source, sample, judging.spec.most_pixels)
        picture = overlay(displayable(image, *shades([image])[:2]), values, limit, start)
        _write_image(path.with_name(f"{path.name}.overlay.png"), ".png", picture[..., ::-1])


def safe_name(sample_id: str) -> PurePosixPath:
    """An id as a path that stays inside a folder, whatever it says, and that file systems take, endings and all.

    >>> str(safe_name("../../etc/x.png")), str(safe_name("/abs/a.png"))
    ('etc/x.png', 'abs/a.png')
    >>> len(safe_name("n" * 250 + ".png").name)
    180
    """
    parts = [part for part in PurePosixPath(sample_id).parts if part not in ("/", "..", ".")]
    return PurePosixPath(*map(_short, parts))


def _short(name: str) -> str:
    """A name of no more than MOST_BYTES: the end of a longer one gives way to a digest that tells it from others."""
    content = os.fsencode(name)
    if len(content) <= MOST_BYTES:
        return name
    told = hashlib.blake2b(content, digest_size=8).hexdigest()
    return f"{content[: MOST_BYTES - len(told) - 1].decode(errors='ignore')}-{told}"


def _write_image(path: Path, suffix: str, image: Pixels) -> None:
    with output_errors(path):
        encoded = cv2.imencode(suffix, np.ascontiguousarray(image))[1]
    write_file(path, encoded.tobytes(), durable=False)
