"""How people lay out images and labels: plain folders, MVTec AD, manifests, label files."""

from __future__ import annotations

import csv
import difflib
import os
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt

from unlike.data.readers import READERS, is_image
from unlike.errors import DataError
from unlike.records import Bools, Sample

NORMAL_FOLDERS = ("good", "normal", "ok")
NORMAL_WORDS = frozenset({"0", "false", "good", "normal", "ok"})
ANOMALOUS_WORDS = frozenset({"1", "true", "anomalous", "anomaly", "bad", "defective"})
MANIFEST_COLUMNS = ("path", "label", "split", "category", "mask")
LABEL_COLUMNS = ("anomaly", "anomalous", "label", "y", "target", "class")


def read_folder(folder: Path) -> list[Sample]:
    """The images of a folder, labelled where its layout says so: MVTec AD, a root of several, or `good` beside defects."""
    children = _subfolders(folder)
    categories = [child for child in children if _has_splits(child)]
    if not (categories or _has_splits(folder) or _has_good(folder)):
        categories = [child for child in children if _has_good(child)]
    if categories and not _has_splits(folder):
        samples = [replace(s, category=child.name) for child in categories for s in _read_category(child, folder)]
    elif _has_splits(folder) or _has_good(folder):
        samples = list(_read_category(folder, folder))
    else:
        samples = [Sample(_relative(file, folder), file) for file in _walk(folder)]
    if not samples:
        others = sum(len(files) for _, _, files in os.walk(folder))
        known = ", ".join(f".{extension}" for extension in READERS)
        raise DataError(f"{folder}: no image in it ({others:,} other files); expected {known}")
    return sorted(samples, key=lambda sample: sample.id)


def read_class_folders(folder: Path) -> list[Sample]:
    """The images of a folder with a subfolder for each class, or with such a folder each for `train` and `test`."""
    splits = [name for name in ("train", "test") if any(_subfolders(folder / name))]
    roots = [(folder / name, name) for name in splits] or [(folder, "")]
    samples = [
        Sample(_relative(file, folder), file, kind=child.name, split=split)
        for root, split in roots
        for child in _subfolders(root)
        for file in _walk(child)
    ]
    if not samples:
        raise DataError(f"{folder}: expected a subfolder of images for each class, came none")
    return sorted(samples, key=lambda sample: sample.id)


def read_manifest(path: Path, *, classes: bool = False) -> list[Sample]:
    """The images of a CSV file with the columns path and, as far as known, label, split, category, mask.

    Paths are relative to the manifest's folder and must stay inside. A label is 0 or `good` for normal, 1 or
    `anomalous` for anomalous, or the name of a kind of defect; empty where it is not known. With `classes` it is the
    name of a class, whatever it is.
    """
    columns, rows = _read_rows(path)
    if "path" not in columns:
        raise DataError(
            f"{path}: expected a column named path (and label, split, category, mask), came {', '.join(columns) or 'an empty file'}"
        )
    for name in columns:
        meant = difflib.get_close_matches(name, MANIFEST_COLUMNS, n=1, cutoff=0.75)
        if meant and name not in MANIFEST_COLUMNS and meant[0] not in columns:
            raise DataError(f"{path}: unknown column {name!r}; did you mean {meant[0]!r}?")
    if not rows:
        raise DataError(f"{path}: names no image; expected one a line below the column names")
    samples = [_manifest_sample(path, line, row, classes=classes) for line, row in rows]
    seen: dict[str, int] = {}
    for (line, _), sample in zip(rows, samples, strict=True):
        if sample.id in seen:
            raise DataError(
                f"{path}: line {line} names {sample.id} again, after line {seen[sample.id]}; keep one of them"
            )
        seen[sample.id] = line
    return sorted(samples, key=lambda sample: sample.id)


def read_labels(labels: Any, count: int, source: str) -> Bools:
    """One label a row of an array, True for anomalous, from a `.csv` (by its id column), a `.npy` or any sequence."""
    values, source = _read_values(labels, count, source)
    if values.dtype.kind in "USO":
        return np.array([_read_known_label(word, f"{source}: row {row}") for row, word in enumerate(_words(values))])
    if not np.isin(values, (0, 1)).all():
        strange = values[~np.isin(values, (0, 1))][0]
        raise DataError(f"{source}: label {strange}; expected 0 for normal, 1 for anomalous")
    return np.asarray(values == 1)


def read_class_labels(labels: Any, count: int, source: str) -> npt.NDArray[np.str_]:
    """The name of the class of each row of an array, from what `read_labels` takes; a whole number names one too."""
    values, source = _read_values(labels, count, source)
    if values.dtype.kind == "f" and (values == np.round(values)).all():
        values = values.astype(np.int64)
    if values.dtype.kind not in "USObiu":
        raise DataError(f"{source}: expected whole numbers or words as the names of classes, came {values.dtype}")
    words = [word.strip() for word in _words(values)]
    if "" in words:
        raise DataError(f"{source}: row {words.index('')}: has no label; expected the name of its class")
    return np.array(words, str)


def _read_values(labels: Any, count: int, source: str) -> tuple[npt.NDArray[Any], str]:
    """The labels as they stand, (count,), and what to call them in messages."""
    if isinstance(labels, str | os.PathLike):
        path = Path(labels)
        if not path.is_file():
            raise DataError(f"{path}: no such file of labels")
        values = _read_label_column(path) if path.suffix.lower() == ".csv" else _load_labels(path)
        source = f"{path} for {source}"
    else:
        values = np.asarray(labels)
    if values.shape != (count,):
        came = " x ".join(map(str, values.shape)) or "a single value"
        raise DataError(f"{source}: {count:,} images need as many labels, came {came}")
    return values, source


def _words(values: npt.NDArray[Any]) -> list[str]:
    return ["" if value is None else str(value) for value in values.astype(str if values.dtype.kind == "S" else object)]


def _load_labels(path: Path) -> npt.NDArray[Any]:
    try:
        values = np.load(path, allow_pickle=False)
    except (ValueError, EOFError, OSError, zipfile.BadZipFile) as error:
        raise DataError(f"{path}: cannot be read as labels ({error}); expected a .npy of numbers, or a .csv") from None
    if isinstance(values, np.ndarray):
        return values
    values.close()
    raise DataError(f"{path}: holds several arrays; expected a .npy of numbers, or a .csv")


def _read_label_column(path: Path) -> npt.NDArray[np.str_]:
    """The words of the label column, in the order of the id column where there is one."""
    columns, rows = _read_rows(path)
    label = next((name for name in columns if name in LABEL_COLUMNS), None)
    if label is None:
        came = ", ".join(columns) or "an empty file"
        raise DataError(f"{path}: expected a column {' or '.join(LABEL_COLUMNS)}, came {came}")
    words = [row[label] for _, row in rows]
    if "id" not in columns or label == "id":
        return np.array(words, str)
    try:
        ids = np.array([int(row["id"]) for _, row in rows], np.intp)
    except ValueError:
        raise DataError(f"{path}: expected row numbers in the column id") from None
    order = np.argsort(ids)
    if not (np.diff(ids[order]) == 1).all():
        raise DataError(f"{path}: the column id must number the rows without a gap or a repeat")
    return np.array(words, str)[order]


def _read_rows(path: Path) -> tuple[list[str], list[tuple[int, dict[str, str]]]]:
    """The names of the columns, in lower case, and each row with the number of its line."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file)
            columns = [name.strip().lower() for name in next(reader, [])]
            lines = [(reader.line_num, [*cells, *[""] * len(columns)]) for cells in reader if any(cells)]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: cannot be read as CSV in UTF-8 ({error})") from None
    return columns, [(line, dict(zip(columns, cells, strict=False))) for line, cells in lines]


def _manifest_sample(manifest: Path, line: int, row: dict[str, str], *, classes: bool) -> Sample:
    place = f"{manifest}: line {line}"
    path = _inside(manifest, row["path"], place)
    label = row.get("label", "").strip()
    anomalous, kind = (None, label) if classes else _read_label(label, place)
    mask = row.get("mask", "").strip()
    return Sample(
        id=_relative(path, manifest.parent.absolute()),
        path=path,
        anomalous=anomalous,
        kind=kind,
        split=_read_split(row.get("split", ""), place),
        category=row.get("category", "").strip(),
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


def _read_known_label(word: str, place: str) -> bool:
    anomalous, _ = _read_label(word, place)
    if anomalous is None:
        raise DataError(f"{place}: has no label; expected 0 for normal, 1 for anomalous, or a word")
    return anomalous


def _read_split(word: str, place: str) -> str:
    """A split must be one that is known: images of an unknown one might be trained on."""
    split = word.strip().lower()
    if split not in ("", "train", "test"):
        raise DataError(f"{place}: split {word.strip()!r}; expected train, test, or nothing")
    return split


def _number(word: str) -> float | None:
    try:
        return float(word)
    except ValueError:
        return None


def _has_splits(folder: Path) -> bool:
    train, test = folder / "train", folder / "test"
    return _has_good(train) or bool(_subfolders(test)) or (train.is_dir() and test.is_dir())


def _subfolders(folder: Path) -> list[Path]:
    try:
        children = sorted(folder.iterdir()) if folder.is_dir() else []
    except OSError as error:
        _refuse(error)
    return [child for child in children if child.is_dir() and not child.name.startswith(".")]


def _has_good(folder: Path) -> bool:
    return any(_is_normal(child) for child in _subfolders(folder))


def _is_normal(folder: Path) -> bool:
    return folder.name.lower() in NORMAL_FOLDERS


def _read_category(folder: Path, root: Path) -> Iterator[Sample]:
    """One category: train/good, test/<kind>, ground_truth/<kind>/<name>_mask.png as in MVTec AD, or the kinds at once."""
    if not _has_splits(folder):
        beside = folder.parent if folder.name == "test" else folder
        yield from _read_kinds(folder, root, "", beside / "ground_truth")
        return
    for split in ("train", "test"):
        if (folder / split).is_dir():
            yield from _read_kinds(folder / split, root, split, folder / "ground_truth")


def _read_kinds(folder: Path, root: Path, split: str, masks: Path) -> Iterator[Sample]:
    """One kind a subfolder; images that lie loose beside them have no label."""
    for child in sorted(folder.iterdir()):
        if child.is_file() and is_image(child):
            yield Sample(_relative(child, root), child, split=split)
        if not child.is_dir() or child == masks or child.name.startswith("."):
            continue
        anomalous = not _is_normal(child)
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


def _walk(folder: Path) -> Iterator[Path]:
    """Image files at any depth, through links to folders too, each folder once."""
    seen: set[str] = set()
    for parent, children, files in os.walk(folder, followlinks=True, onerror=_refuse):
        real = os.path.realpath(parent)
        children[:] = [] if real in seen else sorted(child for child in children if not child.startswith("."))
        if real not in seen:
            yield from (Path(parent, name) for name in sorted(files) if is_image(name))
        seen.add(real)


def _refuse(error: OSError) -> NoReturn:
    raise DataError(f"{error.filename}: cannot be opened ({error.strerror}), and its images would be missed")


def _relative(path: Path, root: Path) -> str:
    return path.relative_to(root).as_posix()
