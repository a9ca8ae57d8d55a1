"""Labels apart from the images: one a row of an array."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from unlike.data.layouts.manifests import read_label, read_rows
from unlike.errors import DataError
from unlike.records import Bools

LABEL_COLUMNS = ("anomaly", "anomalous", "label", "y", "target", "class")


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
    columns, rows = read_rows(path)
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


def _read_known_label(word: str, place: str) -> bool:
    anomalous, _ = read_label(word, place)
    if anomalous is None:
        raise DataError(f"{place}: has no label; expected 0 for normal, 1 for anomalous, or a word")
    return anomalous
