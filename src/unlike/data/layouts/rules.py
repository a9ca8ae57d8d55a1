"""The layouts that are known, one rule each, in the order in which they are tried."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from unlike.data.layouts.manifests import read_manifest, read_rows
from unlike.data.layouts.masks import marks_defect
from unlike.data.layouts.names import read_name, strip_ending
from unlike.data.layouts.tree import File, Parts, Tree
from unlike.errors import DataError
from unlike.records import Sample

VISA_SPLIT = Path("split_csv", "1cls.csv")
VISA_FACTS = "image_anno.csv"


@dataclass(frozen=True, slots=True)
class Found:
    """What a rule says of the images: samples with what is known of each, and what belongs to none."""

    title: str
    samples: list[Sample]
    outside: list[str] = field(default_factory=list)  # ids
    unsaid: bool = False  # no name says anything of any image


Rule = Callable[[Tree, dict[File, Path]], Found | None]


def by_split_file(tree: Tree, pairs: dict[File, Path]) -> Found | None:  # noqa: ARG001
    """VisA with its split_csv/1cls.csv, in the folder that was named or the one above."""
    for root in (tree.root, tree.root.absolute().parent):
        path = root / VISA_SPLIT
        if not path.is_file():
            continue
        known = {sample.path: sample for sample in read_manifest(path)}
        named = {image: known.get(_below(image.path, root)) for image in tree.images}
        found = [replace(sample, id=image.id, path=image.path) for image, sample in named.items() if sample is not None]
        if found:
            outside = [image.id for image, sample in named.items() if sample is None]
            return Found(f"VisA layout with {VISA_SPLIT.as_posix()}", _with_visa_kinds(tree, found), outside)
    return None


def by_masks(tree: Tree, pairs: dict[File, Path]) -> Found | None:
    """Kolektor, DAGM and others without folders for normal images: a mask says by its pixels whether there is a defect."""
    if not pairs or tree.has_normal or any(tree.place(image).anomalous for image in tree.images):
        return None
    dagm = is_dagm(tree)
    marked = {image: marks_defect(mask) for image, mask in pairs.items()}
    samples, outside = [], []
    for image in tree.images:
        if tree.place(image).outside:
            outside.append(image.id)
            continue
        anomalous = marked.get(image, False if dagm else None)
        samples.append(_sample(tree, image, anomalous, "defect" if anomalous else "" if anomalous is None else "good"))
    return Found("DAGM layout" if dagm else _title_of_masks(tree), samples, outside)


def by_names(tree: Tree, pairs: dict[File, Path]) -> Found | None:  # noqa: ARG001
    """Folders whose names say train, test, normal or anomalous: MVTec AD and its kin, and whatever people call them."""
    if not tree.structured:
        return None
    samples, outside = [], []
    for image in tree.images:
        place = tree.place(image)
        if place.outside:
            outside.append(image.id)
        else:
            samples.append(_sample(tree, image, place.anomalous, place.kind))
    title = next((title for title, suits in TITLES if suits(tree)), "Folders by name")
    return Found(title, _with_visa_kinds(tree, samples), outside)


def plain(tree: Tree, pairs: dict[File, Path]) -> Found:  # noqa: ARG001
    """Images of which no name says anything."""
    return Found("Plain folder", [Sample(image.id, image.path) for image in tree.images], unsaid=True)


RULES: tuple[Rule, ...] = (by_split_file, by_masks, by_names, plain)


def is_dagm(tree: Tree) -> bool:
    """Whether masks lie in a folder called label inside that of a split, which only images with a defect have."""
    return bool(tree.masks) and all(
        len(mask.folders) >= 2
        and mask.folders[-1].lower() == "label"
        and read_name(mask.folders[-2]).split != ""
        and mask.stem.lower().endswith("_label")
        for mask in tree.masks
    )


def _title_of_masks(tree: Tree) -> str:
    beside = all(not any(read_name(name).masks for name in mask.folders) for mask in tree.masks)
    endings = all(strip_ending(mask.stem) != mask.stem for mask in tree.masks)
    return "Kolektor layout" if beside and endings else "Images with masks"


def _has_folder(*names: str) -> Callable[[Tree], bool]:
    """A test of whether all these names are among those of the folders."""

    def suits(tree: Tree) -> bool:
        there = {name.lower() for words in tree.words.values() for name in words}
        return set(names) <= there

    return suits


TITLES: tuple[tuple[str, Callable[[Tree], bool]], ...] = (
    ("MVTec LOCO layout", _has_folder("train", "logical_anomalies")),
    ("MVTec LOCO layout", _has_folder("train", "structural_anomalies")),
    ("MVTec AD 2 layout", _has_folder("test_public")),
    ("VisA layout", _has_folder("data", "images", "normal")),
    ("BTAD layout", _has_folder("train", "test", "ok", "ko")),
    ("MVTec AD layout", _has_folder("train", "test", "good")),
    ("MVTec AD layout", _has_folder("train", "good")),
    ("MVTec AD layout", _has_folder("test", "good")),
    ("Folders for train and test", lambda tree: bool(tree.with_splits)),
    ("Folders for normal and anomalous images", lambda tree: tree.has_normal),
)


def _sample(tree: Tree, image: File, anomalous: bool | None, kind: str) -> Sample:
    place = tree.place(image)
    return Sample(
        image.id,
        image.path,
        anomalous=anomalous,
        kind=kind,
        split=place.split,
        category="/".join(place.category),
    )


def _below(path: Path, root: Path) -> Path:
    """A path as a manifest above it names it."""
    return root.absolute() / path.absolute().relative_to(root.absolute())


def _with_visa_kinds(tree: Tree, samples: list[Sample]) -> list[Sample]:
    """The kind of each defect as the image_anno.csv of its category says, where there is one."""
    folders = {category_folder(image.folders) for image in tree.images}
    kinds = {key: kind for folder in sorted(folders) for key, kind in _visa_kinds(tree.root.joinpath(*folder)).items()}
    if not kinds:
        return samples
    return [
        replace(sample, kind=kinds.get(sample.path.absolute(), sample.kind))
        if sample.path is not None and sample.anomalous
        else sample
        for sample in samples
    ]


def category_folder(folders: Parts) -> Parts:
    """The folder above Data/Images/Normal, in which VisA says more of the images.

    >>> category_folder(("candle", "Data", "Images", "Normal")), category_folder(("bent",))
    (('candle',), ())
    """
    return folders[:-3] if len(folders) >= 3 else ()


def _visa_kinds(folder: Path) -> dict[Path, str]:
    path = folder / VISA_FACTS
    if not path.is_file():
        return {}
    try:
        _, rows = read_rows(path)
    except DataError:
        return {}
    labelled = {row.get("path", ""): row.get("label", "").strip() for _, row in rows}
    root = folder.absolute().parent
    return {root / path: label for path, label in labelled.items() if label and read_name(label).anomalous is not False}
