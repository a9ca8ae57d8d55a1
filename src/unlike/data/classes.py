"""Images of several classes: from what a user names to a Source whose samples say which class they are of."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from unlike.data.arrays import open_rows
from unlike.data.files import FileSource
from unlike.data.layouts.folders import Layout, read_class_folders
from unlike.data.layouts.labels import read_class_labels
from unlike.data.layouts.manifests import read_manifest
from unlike.data.layouts.wording import plural
from unlike.data.samples import RowSamples
from unlike.data.source import Images, Layered, Source
from unlike.data.split import Labels
from unlike.errors import DataError
from unlike.records import Sample

FEWEST = 2  # images of a class: one to learn from, one to validate


def find_classes(images: Images, labels: Any = None) -> Source:
    """Find the labelled images a user names; the `kind` of each sample is its class, empty where nobody said.

    `images` is a folder with a subfolder for each class (or with `train` and `test` that have them), a `.csv` manifest
    whose label column is the class, or an array with `labels`: numbers or words, as an array, a `.npy` or a `.csv`. A Source
    is taken as it is.

    >>> source = find_classes(np.zeros((3, 8, 8), np.uint8), labels=["cat", "dog", "cat"])
    >>> [(sample.id, sample.kind) for sample in source.samples]
    [('0', 'cat'), ('1', 'dog'), ('2', 'cat')]
    """
    if isinstance(images, Source):
        return images
    rows = open_rows(images, labels, _sorted_rows)
    if rows is not None:
        return rows
    if not isinstance(images, str | os.PathLike):
        raise DataError(f"expected a folder with a subfolder for each class, or an array, came {type(images).__name__}")
    path = Path(images)
    if labels is not None:
        raise DataError(f"{path}: labels apart from the images go with an array (.npy or .npz) only")
    layout = _list_files(path)
    return FileSource(str(path), layout.samples, layout.notes)


def _list_files(path: Path) -> Layout:
    if path.is_dir():
        return read_class_folders(path)
    if path.is_file() and path.suffix.lower() == ".csv":
        return Layout(read_manifest(path, classes=True))
    raise DataError(
        f"{path}: expected a folder with a subfolder for each class, a .csv manifest, or an array with --labels"
    )


def _sorted_rows(labels: Any, count: int, name: str) -> RowSamples:
    if labels is None:
        raise DataError(f"{name}: an array needs labels, one a row (--labels)")
    return RowSamples(range(count), kinds=read_class_labels(labels, count, name))


def choose_part(source: Source, part: Literal["train", "test"]) -> Source:
    """The labelled images of that split where there is one, and where there is none, all that are not of the other.

    A source that tells such things says how many are left aside.
    """
    split = any(sample.split == part for sample in source.samples)
    other = {"train": "test", "test": "train"}[part]
    found = source.where(lambda s: s.kind != "" and (s.split == part if split else s.split != other))
    if not len(found):
        raise DataError(f"{source.name}: no image of {len(source):,} is labelled and in the {part} split")
    left = len(source) - len(found)
    if not left or not isinstance(found, Layered):
        return found
    purpose = {"train": "To learn from", "test": "To test with"}[part]
    return found.with_note(
        f"{purpose}: {plural(len(found), 'image')}; {left:,} of another split or without a label left aside."
    )


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
