"""The images of a folder, labelled where its layout says so, with sentences that say what was understood."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from unlike.data.layouts.doubts import find_doubt
from unlike.data.layouts.masks import pair_masks
from unlike.data.layouts.names import read_name
from unlike.data.layouts.notes import tell_layout
from unlike.data.layouts.rules import RULES
from unlike.data.layouts.tree import File, Tree
from unlike.data.layouts.walk import Walk, walk
from unlike.data.layouts.wording import listed, plural
from unlike.data.readers import READERS
from unlike.errors import DataError
from unlike.records import Sample


@dataclass(frozen=True, slots=True)
class Layout:
    """Images with what is known of each, in the order of their ids, and what to tell of them."""

    samples: list[Sample]
    notes: tuple[str, ...] = ()
    doubt: str = (
        ""  # why nothing may be learned from images without a label here; empty where nothing speaks against it
    )


def read_folder(folder: Path, wanted: Callable[[str], bool] | None = None) -> Layout:
    """The images of a folder; with `wanted`, the ones whose ids are, all of them normal because the user says so."""
    found = walk(folder)
    if not found.files:
        raise DataError(_no_image(found))
    layout = arrange(folder, found.files) if wanted is None else choose(folder, found.files, wanted)
    return replace(layout, notes=(*layout.notes, *found.notes()))


def arrange(root: Path, files: Sequence[Path]) -> Layout:
    """What the first rule that suits makes of image files below a root."""
    tree = Tree(root, files)
    pairs, unfit = pair_masks(tree)
    found = next(found for rule in RULES if (found := rule(tree, pairs)) is not None)
    masks = {image.id: mask for image, mask in pairs.items()}
    samples = [
        replace(sample, mask=masks.get(sample.id)) if sample.anomalous and sample.mask is None else sample
        for sample in found.samples
    ]
    samples.sort(key=lambda sample: sample.id)
    return Layout(samples, tuple(tell_layout(found, samples, unfit)), find_doubt(tree, found))


def choose(root: Path, files: Sequence[Path], wanted: Callable[[str], bool]) -> Layout:
    """The files that the user calls good, whatever the names of their folders say."""
    tree = Tree(root, files)
    chosen = [image for image in tree.images if wanted(image.id)]
    samples = [Sample(image.id, image.path, anomalous=False, kind="good") for image in chosen]
    if not samples:
        raise DataError(f"{root}: none of {plural(len(tree.images), 'image')} is chosen as good; {_such_as(tree)}")
    odd = [image for image in chosen if tree.place(image).anomalous]
    notes = [f"{plural(len(samples), 'image')} of {len(tree.images):,} called good; the others left aside."]
    if odd:
        names = [image.id for image in odd]
        notes.append(f"Of these, {plural(len(odd), 'image')} in folders with names of defects: {listed(names)}.")
    return Layout(sorted(samples, key=lambda sample: sample.id), tuple(notes))


def read_class_folders(folder: Path) -> Layout:
    """The images of a folder with a subfolder for each class, or with such a folder each for `train` and `test`.

    What lies in the folder of no class is left aside, and named.
    """
    found = walk(folder)
    files = [File.below(path, folder) for path in found.files]
    splits = {file.folders[0]: read_name(file.folders[0]).split for file in files if len(file.folders) > 1}
    if not any(splits.values()):
        splits = {}
    samples, aside = [], []
    for file in files:
        split = splits.get(file.folders[0], "") if file.folders else ""
        within = file.folders[1:] if split else file.folders
        if within and bool(split) == bool(splits):
            samples.append(Sample(file.id, file.path, kind=within[0], split=split))
        else:
            aside.append(file.id)
    if not samples:
        raise DataError(f"{folder}: expected a subfolder of images for each class, came none")
    left = f"Left aside, as in the folder of no class: {plural(len(aside), 'image')} ({listed(aside)})."
    return Layout(sorted(samples, key=lambda sample: sample.id), ((left,) if aside else ()) + tuple(found.notes()))


def _no_image(found: Walk) -> str:
    others = sum(len(files) for _, _, files in os.walk(found.root))
    known = ", ".join(f".{extension}" for extension in READERS)
    told = "".join(f" {note}" for note in found.notes())
    return f"{found.root}: no image in it ({others:,} other files); expected {known}{'.' if told else ''}{told}"


def _such_as(tree: Tree) -> str:
    names = listed([image.id for image in tree.images], 3)
    return f"a pattern is matched with paths such as {names}; * stays within a folder, ** does not"
