"""The image files of a folder as a tree of named folders, and what those names say of each image."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from unlike.data.layouts.names import OTHER, STRICTEST, Word, read_name, read_siblings, strip_ending
from unlike.data.layouts.walk import walk
from unlike.data.readers import decode
from unlike.errors import ImageError

Parts = tuple[str, ...]
PHOTOS = (".jpg", ".jpeg", ".bmp")  # beside which a PNG of the same name may be a mask


@dataclass(frozen=True, slots=True)
class File:
    """An image file, or a mask, by where it lies below the folder that was named."""

    id: str  # its path below that, with forward slashes
    path: Path
    folders: Parts
    stem: str

    @classmethod
    def below(cls, path: Path, root: Path) -> File:
        parts = path.parts[len(root.parts) :]
        return cls("/".join(parts), path, parts[:-1], path.stem)


@dataclass(frozen=True, slots=True)
class Place:
    """What the names of its folders say of an image."""

    split: str = ""
    anomalous: bool | None = None
    kind: str = ""
    category: Parts = ()
    outside: bool = False  # it belongs to no part of a layout, as other things beside train and test


class Tree:
    """Images and masks below a root, told apart by their names."""

    def __init__(self, root: Path, files: Iterable[Path]) -> None:
        self.root = root
        self.images, self.masks = tell_masks([File.below(path, root) for path in files])
        self.masks += masks_beside(root)
        self.words = _read_words(self.images)
        self.with_normal = {parent for parent, words in self.words.items() if _any(words, anomalous=False)}
        self.with_splits = {parent for parent, words in self.words.items() if any(w.split for w in words.values())}
        self._places: dict[Parts, Place] = {}

    def word(self, parent: Parts, name: str) -> Word:
        """What the name of a folder says beside the others there."""
        return self.words.get(parent, {}).get(name, OTHER)

    def place(self, image: File) -> Place:
        """What the folders of an image say of it."""
        if image.folders not in self._places:
            self._places[image.folders] = self._read_place(image.folders)
        return self._places[image.folders]

    @cached_property
    def structured(self) -> bool:
        """Whether names of folders say normal, anomalous, train or test anywhere."""
        return any(w.split or w.anomalous is not None for words in self.words.values() for w in words.values())

    @cached_property
    def has_normal(self) -> bool:
        """Whether the name of a folder says that its images are normal."""
        return bool(self.with_normal)

    def _read_place(self, folders: Parts) -> Place:
        split, judged, kind, category = "", None, "", []
        by_name = conflict = outside = inside = False
        for depth, name in enumerate(folders):
            parent, word = folders[:depth], self.word(folders[:depth], name)
            inside = inside or parent in self.with_splits or parent in self.with_normal
            if word.split:
                split = min(split, word.split, key=STRICTEST.index)
            if word.anomalous is not None:
                conflict = conflict or (by_name and word.anomalous != judged)
                if judged is None:
                    judged, kind, by_name = word.anomalous, name if word.anomalous else "good", True
            elif word.split or word.empty or word.unknown or judged is not None:
                conflict = conflict or word.unknown
            elif folders[: depth + 1] in self.with_normal | self.with_splits:
                category.append(name)  # a product, with folders for its normal images
            elif parent in self.with_normal or (split == "test" and depth):
                judged, kind = True, name
            elif parent in self.with_splits:
                outside = True
            elif not split:
                category.append(name)
        if conflict:
            judged, kind = None, ""
        inside = inside or folders in self.with_splits | self.with_normal or not (self.with_normal or self.with_splits)
        lost = not inside and judged is None and not split
        loose = folders in self.with_splits and folders not in self.with_normal and judged is None and not split
        return Place(split, judged, kind, tuple(category), outside or lost or loose)


def tell_masks(files: Sequence[File]) -> tuple[list[File], list[File]]:
    """Images, and masks: in a folder called so, or beside an image whose name they have with an ending such as _mask."""
    in_folder = [any(read_name(name).masks for name in file.folders) for file in files]
    if all(in_folder):
        in_folder = [False] * len(files)
    stems = {(file.folders, file.stem.lower()) for file, mask in zip(files, in_folder, strict=True) if not mask}
    images, masks = list[File](), list[File]()
    for file, mask in zip(files, in_folder, strict=True):
        owner = strip_ending(file.stem).lower()
        beside = owner != file.stem.lower() and (file.folders, owner) in stems
        (masks if mask or beside else images).append(file)
    twins = _twin_masks(images)
    return [image for image in images if image not in twins], [*masks, *twins]


def _twin_masks(images: Sequence[File]) -> dict[File, None]:
    """The PNG files among pairs such as a.jpg and a.png, where every image has one and all are masks by their pixels."""
    pngs = {(file.folders, file.stem): file for file in images if file.path.suffix.lower() == ".png"}
    photos = {(file.folders, file.stem): file for file in images if file.path.suffix.lower() in PHOTOS}
    if not pngs or pngs.keys() != photos.keys() or len(pngs) + len(photos) < len(images):
        return {}
    most = 1
    for key, mask in pngs.items():
        values = _count_values(mask, photos[key])
        most = max(most, values)
        if not 1 <= values <= 2:
            return {}
    return dict.fromkeys(pngs.values()) if most == 2 else {}


def _count_values(mask: File, image: File) -> int:
    """How many values a file has, where it is as large as an image; else 0."""
    try:
        pixels = decode(mask.path)
        return len(np.unique(pixels)) if pixels.shape[:2] == decode(image.path).shape[:2] else 0
    except ImageError:
        return 0


def masks_beside(root: Path) -> list[File]:
    """Masks that lie beside a root which is one part of a layout: the test folder, or the one of images."""
    word = read_name(root.absolute().name)
    if not (word.split or word.empty):
        return []
    try:
        siblings = sorted(child for child in root.absolute().parent.iterdir() if child.is_dir())
    except OSError:
        return []
    found = [child for child in siblings if read_name(child.name).masks and child != root.absolute()]
    return [
        File(str(path), path, (folder.name, *path.parts[len(folder.parts) : -1]), path.stem)
        for folder in found
        for path in walk(folder).files
    ]


def _read_words(images: Sequence[File]) -> dict[Parts, dict[str, Word]]:
    """What the name of each folder says, by the folder in which it lies."""
    names: dict[Parts, set[str]] = defaultdict(set)
    for folders in {image.folders for image in images}:
        for depth, name in enumerate(folders):
            names[folders[:depth]].add(name)
    return {parent: read_siblings(sorted(found)) for parent, found in names.items()}


def _any(words: Mapping[str, Word], *, anomalous: bool) -> bool:
    return any(word.anomalous is anomalous for word in words.values())
