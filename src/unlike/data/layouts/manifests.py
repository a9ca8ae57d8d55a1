"""Manifests: tables that name images, and say what is known of each."""

from __future__ import annotations

import csv
import difflib
import importlib
import io
import os
from pathlib import Path
from typing import Any

from unlike.config import need_package
from unlike.data.layouts.names import SPLIT_OF, read_name
from unlike.data.readers.remote import fetch, url_of
from unlike.errors import DataError
from unlike.records import Sample

NORMAL_WORDS = frozenset(("0", "false", "none"))  # beside those that read_name knows
ANOMALOUS_WORDS = frozenset(("1", "true", "anomalous", "anomaly", "bad", "defective"))  # which name no kind of defect
MANIFEST_COLUMNS = ("path", "label", "split", "category", "group", "mask")
OTHER_NAMES = {  # of columns, in tables that people share
    "image": "path",
    "image_path": "path",
    "filename": "path",
    "object": "category",
    "mask_path": "mask",
}
DELIMITERS = (",", ";", "\t")
PARQUET = ".parquet"

Row = tuple[int, dict[str, str]]  # the number of its line, and its cells by column


def read_manifest(path: Path, *, classes: bool = False) -> list[Sample]:
    """The images of a CSV or Parquet file with the columns path and, as far as known, label, split, category, group, mask.

    A path may be an address such as s3://bucket/key. Others are relative to the manifest's folder, or else to the one above, and must stay inside. A label is 0 or `good` for
    normal, 1 or `anomalous` for anomalous, or the name of a kind of defect; empty where it is not known. With `classes` it is
    the name of a class, whatever it is.
    """
    columns, rows = read_rows(path)
    _check_columns(path, columns)
    if not rows:
        raise DataError(f"{path}: names no image; expected one a line below the column names")
    root = _root_of(path, rows)
    samples = [_manifest_sample(path, root, row, classes=classes) for row in rows]
    _check_distinct(path, rows, samples)
    return sorted(samples, key=lambda sample: sample.id)


def read_rows(path: Path) -> tuple[list[str], list[Row]]:
    """The names of the columns, in lower case, and each row with the number of its line; between `,`, `;` or tabs."""
    if path.suffix.lower() == PARQUET:
        return _read_parquet(path)
    try:
        with _open_text(path) as file:
            delimiter = _delimiter_of(file.readline())
            file.seek(0)
            reader = csv.reader(file, delimiter=delimiter)
            columns = [name.strip().lower() for name in next(reader, [])]
            lines = [(reader.line_num, [*cells, *[""] * len(columns)]) for cells in reader if any(cells)]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: cannot be read as CSV in UTF-8 ({error})") from None
    columns = _known_columns(path, columns)
    return columns, [(line, dict(zip(columns, cells, strict=False))) for line, cells in lines]


def read_columns(path: Path) -> list[str]:
    """The names of the columns alone, as `read_rows` gives them."""
    try:
        with _open_text(path) as file:
            line = file.readline()
            names = next(csv.reader([line], delimiter=_delimiter_of(line)), [])
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: cannot be read as CSV in UTF-8 ({error})") from None
    return _known_columns(path, [name.strip().lower() for name in names])


def _open_text(path: Path) -> io.TextIOBase:
    if url := url_of(path):
        return io.StringIO(fetch(url).decode("utf-8-sig"), newline="")
    return path.open(newline="", encoding="utf-8-sig")


def _read_parquet(path: Path) -> tuple[list[str], list[Row]]:
    """The same of a Parquet file, whose lines are counted as if the names of the columns were the first."""
    need_package("pyarrow", "scale", f"{path.name}: Parquet files take pyarrow")
    parquet: Any = importlib.import_module("pyarrow.parquet")
    try:
        content = fetch(url) if (url := url_of(path)) else path.read_bytes()
        table = parquet.read_table(io.BytesIO(content))
    except (OSError, ValueError) as error:  # pyarrow's own are of these kinds
        raise DataError(f"{path}: cannot be read as Parquet ({' '.join(str(error).split())})") from None
    columns = _known_columns(path, [str(name).strip().lower() for name in table.column_names])
    cells = [["" if cell is None else str(cell) for cell in column.to_pylist()] for column in table.columns]
    rows = zip(*cells, strict=True)
    return columns, [(line, dict(zip(columns, row, strict=True))) for line, row in enumerate(rows, 2)]


def read_label(word: str, place: str) -> tuple[bool | None, str]:
    """Whether a label says anomalous, and the kind it names; `place` is where it stands, for messages.

    >>> read_label("ok", "line 2"), read_label("scratch", "line 3"), read_label("", "line 4")
    ((False, 'good'), (True, 'scratch'), (None, ''))
    """
    word = word.strip()
    if not word:
        return None, ""
    number = _number(word)
    if word.lower() in NORMAL_WORDS or number == 0:
        return False, "good"
    if word.lower() in ANOMALOUS_WORDS or number == 1:
        return True, "anomalous"
    if number is not None:
        raise DataError(
            f"{place}: label {word!r}; expected 0 for normal, 1 for anomalous, or the name of a kind of defect"
        )
    said = read_name(word)
    if said.unknown:
        return None, ""
    return (False, "good") if said.anomalous is False else (True, word)


def _delimiter_of(header: str) -> str:
    """What stands between the names of columns: the one of three that is there most often.

    >>> _delimiter_of("path;label"), _delimiter_of("path")
    (';', ',')
    """
    return max(DELIMITERS, key=header.count)


def _known_columns(path: Path, columns: list[str]) -> list[str]:
    """Columns under the names that this program uses, where those are not there already; none of them may be there twice."""
    known = [name if OTHER_NAMES.get(name, name) in columns else OTHER_NAMES.get(name, name) for name in columns]
    twice = next((name for name in known if name in MANIFEST_COLUMNS and known.count(name) > 1), None)
    if twice is not None:
        came = ", ".join(name for name, found in zip(columns, known, strict=True) if found == twice)
        raise DataError(f"{path}: several columns are the {twice} of an image: {came}; keep one of them")
    return known


def _check_columns(path: Path, columns: list[str]) -> None:
    if "path" not in columns:
        raise DataError(
            f"{path}: expected a column named path (and label, split, category, group, mask), came {', '.join(columns) or 'an empty file'}"
        )
    for name in columns:
        meant = difflib.get_close_matches(name, MANIFEST_COLUMNS, n=1, cutoff=0.75)
        if meant and name not in MANIFEST_COLUMNS and meant[0] not in columns:
            raise DataError(f"{path}: unknown column {name!r}; did you mean {meant[0]!r}?")


def _check_distinct(path: Path, rows: list[Row], samples: list[Sample]) -> None:
    seen: dict[str, int] = {}
    for (line, _), sample in zip(rows, samples, strict=True):
        if sample.id in seen:
            raise DataError(
                f"{path}: line {line} names {sample.id} again, after line {seen[sample.id]}; keep one of them"
            )
        seen[sample.id] = line


def _root_of(manifest: Path, rows: list[Row]) -> Path:
    """The folder that paths are relative to: the manifest's, or the one above where the first image is there alone."""
    if url_of(manifest):
        return manifest.parent
    own = manifest.parent.absolute()
    first = next((name for _, row in rows if (name := row["path"].strip())), "")
    missing = not first or url_of(first) or _exists(own, first) or _climbs(first)
    return own if missing or not _exists(own.parent, first) else own.parent


def _climbs(name: str) -> bool:
    return ".." in name.replace("\\", "/").split("/")


def _exists(root: Path, name: str) -> bool:
    return (root / name).exists() or (root / name.replace("\\", "/")).exists()


def _manifest_sample(manifest: Path, root: Path, row: Row, *, classes: bool) -> Sample:
    line, cells = row
    place = f"{manifest}: line {line}"
    path = _inside(root, cells["path"], place)
    label = cells.get("label", "").strip()
    anomalous, kind = (None, label) if classes else read_label(label, place)
    mask = cells.get("mask", "").strip()
    return Sample(
        id=path.relative_to(root).as_posix() if path.is_relative_to(root) else url_of(path),
        path=path,
        anomalous=anomalous,
        kind=kind,
        split=_read_split(cells.get("split", ""), place),
        category=cells.get("category", "").strip(),
        group=cells.get("group", "").strip(),
        mask=_inside(root, mask, place) if mask else None,
    )


def _inside(root: Path, name: str, place: str) -> Path:
    """A path that a manifest names; what Windows puts between folders is read too."""
    name = name.strip()
    if not name:
        raise DataError(f"{place}: the path is empty")
    if url_of(name):
        return Path(name)
    slashed = name if "\\" not in name or (root / name).exists() else name.replace("\\", "/")
    path = Path(os.path.normpath(root / slashed))
    if not path.is_relative_to(root):
        raise DataError(f"{place}: {name} lies outside {root}; put the manifest above its images")
    return path


def _read_split(word: str, place: str) -> str:
    """A split must be one that is known: images of an unknown one might be trained on."""
    split = word.strip().lower()
    if split and (split not in SPLIT_OF or split == "validate"):
        raise DataError(f"{place}: split {word.strip()!r}; expected train, validation, test, or nothing")
    return SPLIT_OF.get(split, "")


def _number(word: str) -> float | None:
    try:
        return float(word)
    except ValueError:
        return None
