"""What a monitor is given: images that a detector scores as they come, or rows of scores that it gave before."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from unlike.data.source import Images
from unlike.detector.detector import Detector
from unlike.errors import DataError, UnlikeError
from unlike.records import Unreadable
from unlike.runtime.streams import known_images

ROWS = (".csv", ".tsv", ".jsonl")
NEEDED = ("id", "score")  # columns of rows
DIGITS = 9  # of scores in rows: equal scores are equal images


@dataclass(frozen=True, slots=True)
class Scored:
    """An image of a stream, scored."""

    id: str
    score: float
    category: str = ""
    identity: str = ""  # equal for identical images


@dataclass(frozen=True, slots=True)
class Arrived:
    """Some images of a stream, in order."""

    images: tuple[Scored, ...]
    unreadable: tuple[Unreadable, ...] = ()
    known: tuple[str, ...] = ()  # ids of images that the detector was fitted on


def score_arriving(detector: Detector, images: Images, batch_size: int | None = None) -> Iterator[Arrived]:
    """The images of a source with their scores, as they are scored."""
    for batch in detector.stream(images, batch_size):
        rows = zip(batch.samples, batch.image.tolist(), batch.digests.tolist(), strict=True)
        found = tuple(Scored(sample.id, score, sample.category, str(digest)) for sample, score, digest in rows)
        yield Arrived(found, batch.unreadable, tuple(known_images(detector.fitted_.digests, batch)))


def score_lines(detector: Detector, lines: Iterable[str]) -> Iterator[Arrived]:
    """The same for paths that come one a line, each scored when it comes; what is no image is named, and the next one comes."""
    for line in lines:
        path = line.rstrip("\r\n")
        if not path.strip():
            continue
        try:
            for arrived in score_arriving(detector, [path]):
                yield replace(arrived, images=_named(arrived.images, path))
        except (UnlikeError, OSError) as error:
            yield Arrived((), (Unreadable(path, str(error)),))


def is_rows(path: Path) -> bool:
    """Whether a file holds rows of scores, as `unlike score -o` writes them; a manifest of images has no scores."""
    if path.suffix.lower() not in ROWS or not path.is_file():
        return False
    return path.suffix.lower() == ".jsonl" or "score" in _head(path)


def read_rows(path: Path) -> Iterator[Arrived]:
    """The images of a file of rows, CSV or JSON a line; a row that cannot be understood is named, and the next one comes.

    A DataError says that it has no such columns.
    """
    if path.suffix.lower() != ".jsonl" and not set(NEEDED) <= set(_head(path)):
        raise DataError(f"{path}: expected columns {' and '.join(NEEDED)}, came {', '.join(_head(path))}")
    for number, row in _rows_of(path):
        try:
            yield Arrived((_scored(row),))
        except (KeyError, TypeError, ValueError):
            yield Arrived((), (Unreadable(f"{path.name}, row {number}", "has no id with a finite score"),))


def _named(images: tuple[Scored, ...], path: str) -> tuple[Scored, ...]:
    """Of one image the path as it came, which says more than the name of the file."""
    return (replace(images[0], id=path),) if len(images) == 1 else images


def _head(path: Path) -> list[str]:
    with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
        return next(csv.reader(file, delimiter=_delimiter(path)), [])


def _delimiter(path: Path) -> str:
    return "\t" if path.suffix.lower() == ".tsv" else ","


def _rows_of(path: Path) -> Iterator[tuple[int, Any]]:
    with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
        if path.suffix.lower() != ".jsonl":
            for number, row in enumerate(csv.DictReader(file, delimiter=_delimiter(path)), 1):
                yield number, {**row, "id": (row["id"] or "").removeprefix("'")}  # as `text_cell` wrote it
            return
        for number, line in enumerate(file, 1):
            if line.strip():
                try:
                    yield number, json.loads(line)
                except ValueError:
                    yield number, None


def _scored(row: Mapping[str, Any]) -> Scored:
    score = float(row["score"])
    if not (row["id"] and abs(score) < float("inf")):
        raise ValueError("no id, or no number")
    return Scored(str(row["id"]), score, str(row.get("category") or ""), f"{score:.{DIGITS}g}")
