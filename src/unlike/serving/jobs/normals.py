"""Normal images that were uploaded for a detector: a folder each, beside it, which stay to fit again."""

from __future__ import annotations

import contextlib
import secrets
import shutil
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

from unlike.artifacts import output_errors
from unlike.data.files import FileSource
from unlike.data.pages import Pages
from unlike.data.readers import is_image
from unlike.data.source import Source, open_source, training
from unlike.errors import DataError, ServiceError
from unlike.records import Sample
from unlike.serving.pictures import SUFFIXES
from unlike.serving.uploads import Limits, check_image, is_zip, read_zip

NORMALS = ".normals"  # after the name of a detector
NAMED = 20  # files that are left out, by name


@dataclass(frozen=True, slots=True)
class Kept:
    """What was kept of an upload."""

    id: str
    images: int
    left_out: tuple[str, ...]  # sentences, one for each file that is no image that can be taken

    def describe(self) -> dict[str, Any]:
        """As JSON holds it."""
        more = len(self.left_out) - NAMED
        told = [*self.left_out[:NAMED], *([f"and {more:,} more"] if more > 0 else [])]
        return {"upload": self.id, "images": self.images, "left_out": told}


def folder_of(folder: Path, detector: str) -> Path:
    """Where the normal images of a detector lie; images that are put there by hand count, too."""
    return folder / f"{detector}{NORMALS}"


def keep(folder: Path, detector: str, files: Iterable[tuple[str, IO[bytes]]], limits: Limits) -> Kept:
    """Write the images of an upload, those in a zip too, whole or not at all; a ServiceError says why there are none.

    A file that is no image is left out and named; an archive that is not to be trusted refuses the whole upload.
    """
    name = datetime.now(UTC).strftime("%Y%m%d-%H%M%S-") + secrets.token_hex(3)
    target = folder_of(folder, detector) / name
    fresh = target.with_name(f".{name}.unfinished")
    left_out: list[str] = []
    count = 0
    with output_errors(target):
        fresh.mkdir(parents=True)
        try:
            for at, content in _images_of(files, limits, left_out):
                path = _free(fresh, at)
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content)
                count += 1
            if not count:
                raise ServiceError(
                    "no image of the upload can be taken"
                    + (f": {left_out[0]}" if left_out else "; send images as `file`, or one zip of them"),
                    status=422,
                )
            fresh.rename(target)
        finally:
            shutil.rmtree(fresh, ignore_errors=True)
            with contextlib.suppress(OSError):
                target.parent.rmdir()  # where nothing else is in it
    return Kept(name, count, tuple(left_out))


def list_uploads(folder: Path, detector: str) -> list[dict[str, Any]]:
    """What lies there: uploads by name, and how many images each has."""
    base = folder_of(folder, detector)
    return [{"upload": one.name, "images": _count(one)} for one in _uploads(base)]


def remove(folder: Path, detector: str, upload: str) -> None:
    """Delete an upload; a ServiceError (404) where there is none of that name."""
    found = next((one for one in _uploads(folder_of(folder, detector)) if one.name == upload), None)
    if found is None:
        raise ServiceError(f"{detector} has no upload {upload[:60]!r}; see its list of normal images", status=404)
    shutil.rmtree(found)
    with contextlib.suppress(OSError):
        found.parent.rmdir()


def open_normals(
    folder: Path, detector: str, uploads: Sequence[str] | None, reviewed: Sequence[Sample], pages: Pages
) -> Source:
    """All normal images to fit on: of the uploads, or of some of them, and those that people said are normal."""
    base = folder_of(folder, detector)
    there = {one.name: one for one in _uploads(base)}
    chosen = list(there) if uploads is None else list(uploads)
    if missing := [name for name in chosen if name not in there]:
        raise DataError(f"{detector} has no upload {missing[0][:60]!r}; those here: {', '.join(there) or 'none'}")
    loose = uploads is None and base.is_dir() and any(is_image(one) for one in base.iterdir())
    places = [base] if loose else [there[name] for name in chosen]
    if not places and not reviewed:
        raise DataError(
            f"there are no normal images of {detector} here: upload some by POST /detectors/{detector}/normals, put them into "
            f"{base.name} in the folder of detectors, or review images"
        )
    if not places:
        return FileSource("reviewed images", list(reviewed))
    found = training(open_source([str(place) for place in places] if len(places) > 1 else places[0], pages=pages))
    if not reviewed:
        return found
    notes = (*found.notes, f"{len(reviewed):,} images that were reviewed as normal are added.")
    samples = [replace(sample, split="") for sample in found.samples]
    return FileSource(f"{base.name} and reviewed images", [*samples, *reviewed], notes)


def _images_of(
    files: Iterable[tuple[str, IO[bytes]]], limits: Limits, left_out: list[str]
) -> Iterator[tuple[str, bytes]]:
    """Names and contents of images; `left_out` gets a sentence for each file that is none."""
    total = count = 0
    for name, file in files:
        file.seek(0)
        if is_zip(file.read(4)):
            file.seek(0)
            parts = read_zip(file, limits)
        else:
            file.seek(0)
            parts = iter([(name, file.read(limits.file_bytes + 1))])
        for at, content in parts:
            count += 1
            total += len(content)
            if count > limits.files or total > limits.unpacked_bytes:
                raise ServiceError(
                    f"the upload has more than {limits.files:,} files, or {limits.unpacked_bytes:,} bytes; send it in parts",
                    status=413,
                )
            try:
                checked = check_image(at, content, limits)
            except ServiceError as error:
                left_out.append(str(error))
                continue
            # what is an image by its content is one by its name, too
            yield checked.name if is_image(checked.name) else f"{checked.name}.{suffix_of(checked.kind)}", content


def suffix_of(kind: str) -> str:
    """The usual ending of a kind of images.

    >>> suffix_of("JPEG"), suffix_of("WebP")
    ('jpg', 'webp')
    """
    return SUFFIXES.get(kind, kind.lower())


def _free(folder: Path, at: str) -> Path:
    """A path that is not taken, for two files may come under one name."""
    path = folder / at
    number = 1
    while path.exists():
        number += 1
        path = (folder / at).with_name(f"{Path(at).stem} ({number}){Path(at).suffix}")
    return path


def _uploads(base: Path) -> list[Path]:
    if not base.is_dir():
        return []
    return sorted(one for one in base.iterdir() if one.is_dir() and not one.name.startswith("."))


def _count(folder: Path) -> int:
    return sum(is_image(one) for one in folder.rglob("*"))
