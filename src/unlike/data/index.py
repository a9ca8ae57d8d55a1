"""From what a user names (folder, file, glob, array, manifest) to an Index of Samples, sorted and stable."""

from __future__ import annotations

import glob as globbing
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from unlike.data import layouts
from unlike.data.arrays import ImageArray, RowSamples, check_images, read_array_file
from unlike.data.images import decode, is_image
from unlike.errors import DataError
from unlike.records import Pixels, Sample

Images = str | os.PathLike[str] | npt.NDArray[Any] | Sequence[str | os.PathLike[str]]


@dataclass(frozen=True, slots=True, eq=False)
class Index:
    """Which images there are, in a stable order, without having read one."""

    source: str  # what the user named, for messages
    samples: Sequence[Sample]
    array: ImageArray | None = None  # where the samples are rows of one

    def __len__(self) -> int:
        return len(self.samples)

    def take(self, positions: npt.NDArray[np.intp]) -> Index:
        """The samples at these positions, in this order."""
        if isinstance(self.samples, RowSamples):
            return replace(self, samples=self.samples.take(positions))
        return replace(self, samples=[self.samples[position] for position in positions])

    def where(self, wanted: Callable[[Sample], bool]) -> Index:
        """The samples that are wanted, in the same order."""
        positions = [position for position, sample in enumerate(self.samples) if wanted(sample)]
        return self.take(np.array(positions, np.intp))

    def training(self) -> Index:
        """The normal images to fit on: of the train split where there is one, never of a test split.

        None that is labelled anomalous, and where some are labelled normal, none without a label.
        """
        if isinstance(self.samples, RowSamples) and self.samples.anomalous is None:
            return self
        split = any(sample.split == "train" for sample in self.samples)
        candidates = self.where(
            lambda s: s.anomalous is not True and (s.split == "train" if split else s.split != "test")
        )
        found = candidates.where(lambda sample: sample.anomalous is False)
        found = found if len(found) else candidates
        if not len(found):
            raise DataError(
                f"{self.source}: no image of {len(self):,} is normal and outside a test split; fit needs normal images"
            )
        return found

    def labelled(self) -> Index:
        """The images to evaluate on: of the test split where there is one, and with a label."""
        split = any(sample.split == "test" for sample in self.samples)
        found = self.where(lambda sample: sample.anomalous is not None and (sample.split == "test" or not split))
        if not len(found):
            raise DataError(
                f"{self.source}: no image of {len(self):,} has a label; expected a folder with subfolders "
                "`good` and one for each kind of defect, a manifest with a label column, or an array with --labels"
            )
        return found


def find_images(images: Images | Index, labels: Any = None) -> Index:
    """Find the images a user names.

    `images` is a folder (any depth; MVTec AD layout is recognised), one image, a glob, a `.npy` or `.npz`, a `.csv`
    manifest, an array (N, H, W) or (N, H, W, C), or a list of paths. `labels`, for arrays only, is a `.csv`, a `.npy` or
    an array with one value a row: zero is normal.

    >>> index = find_images(np.zeros((3, 8, 8), np.uint8), labels=[0, 0, 1])
    >>> [(sample.id, sample.anomalous) for sample in index.samples]
    [('0', False), ('1', False), ('2', True)]
    """
    if isinstance(images, Index):
        return images
    if isinstance(images, str | os.PathLike):
        return _find_path(Path(images), labels)
    if hasattr(images, "__array__"):
        return _array_index("the array", np.asanyarray(images), labels)
    if not isinstance(images, Iterable):
        raise DataError(f"expected a path, a list of paths or an array, came {type(images).__name__}")
    indexes = [find_images(item, labels) for item in images]
    return indexes[0] if len(indexes) == 1 else _join(indexes)


def _find_path(path: Path, labels: Any) -> Index:
    if path.suffix.lower() in (".npy", ".npz") and path.is_file():
        array, own_labels = read_array_file(path)
        return _array_index(str(path), array, own_labels if labels is None else labels)
    index = Index(str(path), _find_files(path))
    if labels is not None:
        raise DataError(
            f"{path}: labels apart from the images go with an array (.npy or .npz) only; label files by folder or by a manifest"
        )
    return index


def _find_files(path: Path) -> list[Sample]:
    if path.is_dir():
        return layouts.read_folder(path)
    if path.is_file():
        return layouts.read_manifest(path) if path.suffix.lower() == ".csv" else [Sample(path.name, path)]
    if globbing.has_magic(str(path)):
        return _read_glob(path)
    parent = next(parent for parent in path.absolute().parents if parent.exists())
    raise DataError(f"{path}: no such file or folder; {parent} is as far as the path exists")


def _read_glob(pattern: Path) -> list[Sample]:
    base = Path(*pattern.parts[: next(i for i, part in enumerate(pattern.parts) if globbing.has_magic(part))])
    found = sorted(
        Path(name)
        for name in globbing.glob(str(pattern), recursive=True)  # noqa: PTH207 - Path.glob takes no absolute pattern
        if is_image(name)
    )
    if not found:
        raise DataError(f"{pattern}: no image matches; quote the pattern, and use ** for folders at any depth")
    return [Sample(file.relative_to(base).as_posix(), file) for file in found]


def _array_index(source: str, array: npt.NDArray[Any], labels: Any) -> Index:
    images = check_images(array, source)
    anomalous = None if labels is None else layouts.read_labels(labels, len(images), source)
    return Index(source, RowSamples(range(len(images)), anomalous), images)


def _join(indexes: list[Index]) -> Index:
    """Several sources of files as one, in the order given; an id is the whole path where ids would clash."""
    if not indexes:
        raise DataError("expected at least one path, came an empty list")
    if any(index.array is not None for index in indexes):
        raise DataError("several sources must be files or folders; give one array at a time")
    more = f" and {len(indexes) - 3:,} more" if len(indexes) > 3 else ""
    source = ", ".join(index.source for index in indexes[:3]) + more
    samples = [sample for index in indexes for sample in index.samples]
    if len({sample.id for sample in samples}) < len(samples):
        samples = [replace(sample, id=sample.path.as_posix()) for sample in samples if sample.path is not None]
    if len({sample.id for sample in samples}) < len(samples):
        raise DataError(f"{source}: the same image is named twice; name each once")
    return Index(source, samples)


def read_original(index: Index, sample: Sample) -> Pixels:
    """One image as it is, (H, W, C), before any detector's spec."""
    if index.array is not None and sample.row is not None:
        rows: Pixels = index.array.take(np.array([sample.row]))
        return np.asarray(rows[0])
    if sample.path is None:
        raise DataError(f"{sample.id}: has neither a file nor a row in {index.source}")
    return decode(sample.path)
