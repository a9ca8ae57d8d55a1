"""The images of a folder, labelled where its layout says so, with sentences that say what was understood."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from unlike.data.layouts.doubts import find_doubt
from unlike.data.layouts.masks import pair_masks
from unlike.data.layouts.names import read_name
from unlike.data.layouts.rules import RULES, Found
from unlike.data.layouts.tree import File, Tree
from unlike.data.layouts.walk import Walk, relative, walk
from unlike.data.layouts.wording import listed, plural
from unlike.data.readers import READERS, is_image
from unlike.errors import DataError
from unlike.records import Sample


UNSAID = ", of which no name says anything: a fit takes all for normal"


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
    masks = {relative(image.path, root): mask for image, mask in pairs.items()}
    samples = [
        replace(sample, mask=masks.get(sample.id)) if sample.anomalous and sample.mask is None else sample
        for sample in found.samples
    ]
    samples.sort(key=lambda sample: sample.id)
    return Layout(samples, tuple(_notes(tree, found, samples, unfit)), find_doubt(tree, found))


def choose(root: Path, files: Sequence[Path], wanted: Callable[[str], bool]) -> Layout:
    """The files that the user calls good, whatever the names of their folders say."""
    tree = Tree(root, files)
    chosen = [image for image in tree.images if wanted(relative(image.path, root))]
    samples = [Sample(relative(image.path, root), image.path, anomalous=False, kind="good") for image in chosen]
    if not samples:
        raise DataError(
            f"{root}: none of {plural(len(tree.images), 'image')} is chosen as good; {_such_as(tree, root)}"
        )
    odd = [image for image in chosen if tree.place(image).anomalous]
    notes = [f"{plural(len(samples), 'image')} of {len(tree.images):,} called good; the others left aside."]
    if odd:
        names = [relative(image.path, root) for image in odd]
        notes.append(f"Of these, {plural(len(odd), 'image')} in folders with names of defects: {listed(names)}.")
    return Layout(sorted(samples, key=lambda sample: sample.id), tuple(notes))


def read_class_folders(folder: Path) -> list[Sample]:
    """The images of a folder with a subfolder for each class, or with such a folder each for `train` and `test`."""
    files = [File.below(path, folder) for path in walk(folder).files]
    splits = {file.folders[0]: read_name(file.folders[0]).split for file in files if len(file.folders) > 1}
    if not any(splits.values()):
        splits = {}
    samples = []
    for file in files:
        split = splits.get(file.folders[0], "") if file.folders else ""
        within = file.folders[1:] if split else file.folders
        if within and bool(split) == bool(splits):
            samples.append(Sample(relative(file.path, folder), file.path, kind=within[0], split=split))
    if not samples:
        raise DataError(f"{folder}: expected a subfolder of images for each class, came none")
    return sorted(samples, key=lambda sample: sample.id)


def _notes(tree: Tree, found: Found, samples: list[Sample], unfit: list[File]) -> list[str]:
    notes = [f"{found.title}: {_contents(samples)}{UNSAID if found.unsaid else ''}."]
    if found.outside:
        notes.append(f"Left aside, as no part of it: {plural(len(found.outside), 'image')} ({listed(found.outside)}).")
    if unfit:
        names = [_shown(mask.path, tree.root) for mask in unfit]
        notes.append(f"{plural(len(unfit), 'mask')} left aside, which fit no image: {listed(names)}.")
    bare = [sample.id for sample in samples if sample.anomalous and sample.mask is None]
    if bare and len(bare) < sum(bool(sample.anomalous) for sample in samples):
        notes.append(f"{plural(len(bare), 'anomalous image')} without a mask, where others have one: {listed(bare)}.")
    unlabelled = [s.id for s in samples if s.anomalous is None]
    if (
        unlabelled
        and len(unlabelled) < len(samples)
        and not all(s.split == "train" for s in samples if s.id in set(unlabelled))
    ):
        notes.append(f"{plural(len(unlabelled), 'image')} without a label: {listed(unlabelled)}.")
    return notes


def _contents(samples: list[Sample]) -> str:
    """How many images of each split and label, how many masks and categories."""
    counts = Counter((sample.split, sample.anomalous) for sample in samples)
    kinds = sorted({sample.kind for sample in samples if sample.anomalous})
    parts = [_share(split, counts, samples) for split in ("train", "validation", "test", "") if _total(split, counts)]
    masks = sum(sample.mask is not None for sample in samples)
    categories = sorted({sample.category for sample in samples} - {""})
    told = "; ".join(parts)
    told += f"; kinds of defects: {listed(kinds, 12)}" if kinds else ""
    told += f"; {plural(masks, 'mask')}" if masks else ""
    return told + (f"; categories: {listed(categories, 12)}" if categories else "")


def _share(split: str, counts: Counter[tuple[str, bool | None]], samples: list[Sample]) -> str:
    words = {False: "normal", True: "anomalous", None: "without a label"}
    judged = [f"{counts[split, said]:,} {word}" for said, word in words.items() if counts[split, said]]
    whole = plural(_total(split, counts), "image") + (f" of {split}" if split else "")
    if len(judged) == 1 and not any(said is not None for _, said in counts):
        return whole
    return f"{whole} ({', '.join(judged)})" if samples else whole


def _total(split: str, counts: Counter[tuple[str, bool | None]]) -> int:
    return sum(count for (name, _), count in counts.items() if name == split)


def _no_image(found: Walk) -> str:
    others = sum(len(files) for _, _, files in os.walk(found.root))
    known = ", ".join(f".{extension}" for extension in READERS)
    told = "".join(f" {note}" for note in found.notes())
    return f"{found.root}: no image in it ({others:,} other files); expected {known}{'.' if told else ''}{told}"


def _such_as(tree: Tree, root: Path) -> str:
    names = listed([relative(image.path, root) for image in tree.images], 3)
    return f"a pattern is matched with paths such as {names}; * stays within a folder, ** does not"


def _shown(path: Path, root: Path) -> str:
    return relative(path, root) if path.is_relative_to(root) else str(path)
