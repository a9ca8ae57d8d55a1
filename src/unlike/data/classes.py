"""Images of several classes: from what a user names to an Index whose samples say which class they are of."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from unlike.data import layouts
from unlike.data.arrays import RowSamples, check_images, read_array_file
from unlike.data.index import Images, Index
from unlike.data.split import Labels
from unlike.errors import DataError
from unlike.records import Sample

FEWEST = 2  # images of a class: one to learn from, one to validate


def find_classes(images: Images | Index, labels: Any = None) -> Index:
    """Find the labelled images a user names; the `kind` of each sample is its class, empty where nobody said.

    `images` is a folder with a subfolder for each class (or with `train` and `test` that have them), a `.csv` manifest
    whose label column is the class, or an array with `labels`: numbers or words, as an array, a `.npy` or a `.csv`.

    >>> index = find_classes(np.zeros((3, 8, 8), np.uint8), labels=["cat", "dog", "cat"])
    >>> [(sample.id, sample.kind) for sample in index.samples]
    [('0', 'cat'), ('1', 'dog'), ('2', 'cat')]
    """
    if isinstance(images, Index):
        return images
    if isinstance(images, str | os.PathLike):
        return _find_path(Path(images), labels)
    if hasattr(images, "__array__"):
        return _array_index("the array", np.asanyarray(images), labels)
    raise DataError(f"expected a folder with a subfolder for each class, or an array, came {type(images).__name__}")


def _find_path(path: Path, labels: Any) -> Index:
    if path.suffix.lower() in (".npy", ".npz") and path.is_file():
        array, own_labels = read_array_file(path)
        return _array_index(str(path), array, own_labels if labels is None else labels)
    if labels is not None:
        raise DataError(f"{path}: labels apart from the images go with an array (.npy or .npz) only")
    if path.is_dir():
        return Index(str(path), layouts.read_class_folders(path))
    if path.is_file() and path.suffix.lower() == ".csv":
        return Index(str(path), layouts.read_manifest(path, classes=True))
    raise DataError(
        f"{path}: expected a folder with a subfolder for each class, a .csv manifest, or an array with --labels"
    )


def _array_index(source: str, array: npt.NDArray[Any], labels: Any) -> Index:
    images = check_images(array, source)
    if labels is None:
        raise DataError(f"{source}: an array needs labels, one a row (--labels)")
    kinds = layouts.read_class_labels(labels, len(images), source)
    return Index(source, RowSamples(range(len(images)), kinds=kinds), images)


def choose_part(index: Index, part: Literal["train", "test"]) -> Index:
    """The labelled images of that split where there is one, and where there is none, all that are not of the other."""
    split = any(sample.split == part for sample in index.samples)
    other = {"train": "test", "test": "train"}[part]
    found = index.where(lambda s: s.kind != "" and (s.split == part if split else s.split != other))
    if not len(found):
        raise DataError(f"{index.source}: no image of {len(index):,} is labelled and in the {part} split")
    return found


def sort_classes(names: Iterable[str]) -> tuple[str, ...]:
    """The different names in their order: that of numbers where all are whole numbers, else the alphabet's.

    >>> sort_classes(["10", "2", "2"]), sort_classes(["dog", "cat", "2"])
    (('2', '10'), ('2', 'cat', 'dog'))
    """
    different = set(names)
    numbers = all(name.removeprefix("-").isdecimal() for name in different)
    return tuple(sorted(different, key=(lambda name: (int(name), name)) if numbers else None))


def number_classes(samples: Sequence[Sample], classes: Sequence[str]) -> Labels:
    """The class of each sample as its place among `classes`, (N,); a DataError names one that is not there.

    >>> number_classes([Sample("a.png", kind="dog"), Sample("b.png", kind="cat")], ("cat", "dog"))
    array([1, 0])
    """
    places = {name: place for place, name in enumerate(classes)}
    for sample in samples:
        if sample.kind not in places:
            raise DataError(f"{sample.id}: is of class {sample.kind!r}; the known classes are {', '.join(classes)}")
    return np.array([places[sample.kind] for sample in samples], np.intp)


def check_classes(source: str, classes: Sequence[str], codes: Labels) -> None:
    """Raise DataError unless there are two classes or more, each with images enough to learn from and to validate."""
    counts = dict(zip(classes, np.bincount(codes, minlength=len(classes)).tolist(), strict=True))
    if len(counts) < 2:
        raise DataError(f"{source}: classes to tell apart are needed, two or more; came one, {classes[0]!r}")
    few = [f"{name} has {count}" for name, count in counts.items() if count < FEWEST]
    if few:
        raise DataError(f"{source}: every class needs {FEWEST} different images or more; {', '.join(few[:5])}")
