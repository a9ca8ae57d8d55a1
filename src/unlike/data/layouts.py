"""How people lay out images and labels: plain folders, MVTec AD, manifests, label files."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from unlike.data.images import EXTENSIONS, is_image
from unlike.errors import DataError
from unlike.records import Bools, Sample

NORMAL_FOLDERS = ("good", "normal", "ok")
NORMAL_WORDS = frozenset({"0", "false", "good", "normal", "ok"})
ANOMALOUS_WORDS = frozenset({"1", "true", "anomalous", "anomaly", "bad", "defective"})
LABEL_COLUMNS = ("anomaly", "anomalous", "label", "y", "target", "class")
MANIFEST_COLUMNS = ("path", "label", "split", "category", "mask")


def read_folder(folder: Path) -> list[Sample]:
    """The images of a folder, labelled where its layout says so: MVTec AD, a root of several, or `good` beside defects."""
    categories = sorted(child for child in folder.iterdir() if child.is_dir() and _has_splits(child))
    if _has_splits(folder):
        samples = _read_category(folder, folder)
    elif categories:
        samples = [replace(s, category=child.name) for child in categories for s in _read_category(child, folder)]
    elif _has_good(folder):
        masks = folder.parent / "ground_truth" if folder.name == "test" else folder / "ground_truth"
        samples = list(_read_kinds(folder, folder, "", masks))
    else:
        samples = [Sample(_relative(file, folder), file) for file in _walk(folder)]
    if not samples:
        others = sum(len(files) for _, _, files in os.walk(folder))
        raise DataError(f"{folder}: no image in it ({others:,} other files); expected {', '.join(sorted(EXTENSIONS))}")
    return sorted(samples, key=lambda sample: sample.id)


def read_manifest(path: Path) -> list[Sample]:
    """The images of a CSV file with the columns path and, as far as known, label, split, category, mask.

    Paths are relative to the manifest's folder and must stay inside. A label is 0 or `good` for normal, 1 or
    `anomalous` for anomalous, or the name of a kind of defect; empty where it is not known.
    """
    rows = _read_rows(path)
    columns = list(rows[0]) if rows else []
    if "path" not in columns:
        raise DataError(
            f"{path}: expected a column named path (and label, split, category, mask), came {', '.join(columns) or 'an empty file'}"
        )
    samples = [_manifest_sample(path, line, row) for line, row in enumerate(rows, 2)]
    seen: dict[str, int] = {}
    for line, sample in enumerate(samples, 2):
        if sample.id in seen:
            raise DataError(
                f"{path}: line {line} names {sample.id} again, after line {seen[sample.id]}; keep one of them"
            )
        seen[sample.id] = line
    return sorted(samples, key=lambda sample: sample.id)


def read_labels(labels: Any, count: int, source: str) -> Bools:
    """One label a row of an array, True for anomalous, from a `.csv` (by its id column), a `.npy` or any sequence."""
    if isinstance(labels, str | os.PathLike):
        path = Path(labels)
        if not path.is_file():
            raise DataError(f"{path}: no such file of labels")
        if path.suffix.lower() == ".csv":
            values, source = _read_label_column(path), f"{path} for {source}"
        else:
            values, source = _load_labels(path), f"{path} for {source}"
    else:
        values = np.asarray(labels)
    if values.shape != (count,):
        raise DataError(f"{source}: {count:,} images need as many labels, came {' x '.join(map(str, values.shape))}")
    if values.dtype.kind in "UO":
        return np.array([_read_label(str(value), source)[0] is True for value in values])
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        raise DataError(f"{source}: a label is not a number; expected 0 for normal, 1 for anomalous")
    return np.asarray(values != 0)


def _load_labels(path: Path) -> Any:
    try:
        return np.load(path, allow_pickle=False)
    except (ValueError, EOFError, OSError) as error:
        raise DataError(f"{path}: cannot be read as labels ({error}); expected a .npy of numbers, or a .csv") from None


def _read_label_column(path: Path) -> Any:
    rows = _read_rows(path)
    columns = list(rows[0]) if rows else []
    label = next((name for name in columns if name.lower() in LABEL_COLUMNS), columns[-1] if columns else None)
    if label is None:
        raise DataError(f"{path}: expected a column {' or '.join(LABEL_COLUMNS)}, came an empty file")
    ids = next((name for name in columns if name.lower() == "id" and name != label), None)
    if ids is not None:
        try:
            rows = sorted(rows, key=lambda row: int(row[ids]))
        except ValueError:
            raise DataError(f"{path}: expected row numbers in the column {ids}") from None
        if [int(row[ids]) for row in rows] != list(range(int(rows[0][ids]), int(rows[0][ids]) + len(rows))):
            raise DataError(f"{path}: the column {ids} must number the rows without a gap or a repeat")
    return np.array([_read_label(row[label] or "", f"{path}")[0] is True for row in rows])


def _read_rows(path: Path) -> list[dict[str, str]]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = list(csv.DictReader(file, restkey="", restval=""))
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: cannot be read as CSV in UTF-8 ({error})") from None
    return rows


def _manifest_sample(manifest: Path, line: int, row: dict[str, str]) -> Sample:
    place = f"{manifest}: line {line}"
    path = _inside(manifest, row["path"], place)
    anomalous, kind = _read_label(row.get("label", "") or "", place)
    mask = row.get("mask", "")
    return Sample(
        id=_relative(path, manifest.parent.absolute()),
        path=path,
        anomalous=anomalous,
        kind=kind,
        split=row.get("split", "") or "",
        category=row.get("category", "") or "",
        mask=_inside(manifest, mask, place) if mask else None,
    )


def _inside(manifest: Path, name: str, place: str) -> Path:
    root = manifest.parent.absolute()
    path = Path(os.path.normpath(root / name.strip()))
    if not name.strip():
        raise DataError(f"{place}: the path is empty")
    if not path.is_relative_to(root):
        raise DataError(f"{place}: {name} lies outside {root}; put the manifest above its images")
    return path


def _read_label(word: str, place: str) -> tuple[bool | None, str]:
    """Whether a label says anomalous, and the kind it names."""
    word = word.strip()
    if not word:
        return None, ""
    if word.lower() in NORMAL_WORDS or _number(word) == 0:
        return False, "good"
    number = _number(word)
    if word.lower() in ANOMALOUS_WORDS or number == 1:
        return True, "anomalous"
    if number is not None:
        raise DataError(
            f"{place}: label {word!r}; expected 0 for normal, 1 for anomalous, or the name of a kind of defect"
        )
    return True, word


def _number(word: str) -> float | None:
    try:
        return float(word)
    except ValueError:
        return None


def _has_splits(folder: Path) -> bool:
    test = folder / "test"
    return _has_good(folder / "train") or (test.is_dir() and any(child.is_dir() for child in test.iterdir()))


def _has_good(folder: Path) -> bool:
    return any((folder / name).is_dir() for name in NORMAL_FOLDERS)


def _read_category(folder: Path, root: Path) -> Iterator[Sample]:
    """One category in MVTec AD layout: train/good, test/<kind>, ground_truth/<kind>/<name>_mask.png."""
    for split in ("train", "test"):
        if (folder / split).is_dir():
            yield from _read_kinds(folder / split, root, split, folder / "ground_truth")


def _read_kinds(folder: Path, root: Path, split: str, masks: Path) -> Iterator[Sample]:
    for child in sorted(folder.iterdir()):
        if not child.is_dir() or child == masks:
            continue
        anomalous = child.name not in NORMAL_FOLDERS
        kind = child.name if anomalous else "good"
        for file in _walk(child):
            mask = _find_mask(masks / child.name / file.relative_to(child)) if anomalous else None
            yield Sample(_relative(file, root), file, anomalous=anomalous, kind=kind, split=split, mask=mask)


def _find_mask(beside: Path) -> Path | None:
    """The mask of an image: the same place under ground_truth, as <name>_mask or <name>, usually a PNG."""
    names = (
        f"{beside.stem}{ending}{suffix}"
        for ending in ("_mask", "")
        for suffix in (".png", beside.suffix, ".bmp", ".tif")
    )
    return next((beside.with_name(name) for name in names if beside.with_name(name).is_file()), None)


def _walk(folder: Path) -> Iterable[Path]:
    """Image files at any depth, through links to folders too, each folder once."""
    seen: set[str] = set()
    for parent, children, files in os.walk(folder, followlinks=True):
        real = os.path.realpath(parent)
        children[:] = [] if real in seen else sorted(child for child in children if not child.startswith("."))
        if real not in seen:
            yield from (Path(parent, name) for name in sorted(files) if is_image(name))
        seen.add(real)


def _relative(path: Path, root: Path) -> str:
    return path.relative_to(root).as_posix()
