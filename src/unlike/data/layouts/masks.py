"""Which mask belongs to which image: by the names of both."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from unlike.data.layouts.names import read_name, strip_ending, strip_number
from unlike.data.layouts.tree import File, Parts, Tree
from unlike.data.readers import decode_mask, name_masks
from unlike.errors import ImageError

Key = tuple[Parts, str]  # the folders that tell images apart, and the name without its ending, in lower case


def pair_masks(tree: Tree) -> tuple[dict[File, Path], list[File]]:
    """The mask of each image that has one, and the masks that fit no image. A folder of several masks is one."""
    index, folders = _index_masks(tree.masks), _index_folders(tree.masks)
    pairs, used = dict[File, Path](), set[File]()
    for image in tree.images:
        key, split = _key(image, image.stem), tree.place(image).split
        if chosen := _choose(index.get(key, []), image, split):
            parts = _parts_of(chosen, index[key])
            pairs[image] = chosen.path if len(parts) == 1 else name_masks(chosen.path, strip_number(chosen.stem))
            used.update(parts)
        elif several := [mask for mask in folders.get(key, []) if _split(mask) in ("", split)]:
            pairs[image] = several[0].path.parent
            used.update(several)
    left = [mask for mask in tree.masks if mask not in used]
    more = dict(_pair_by_stem(tree, left, pairs))
    return pairs | {image: mask.path for image, mask in more.items()}, [m for m in left if m not in more.values()]


def marks_defect(mask: Path) -> bool | None:
    """Whether any pixel of a mask is marked; None where it cannot be read."""
    try:
        return bool(decode_mask(mask).any())
    except ImageError:
        return None


def _index_masks(masks: list[File]) -> dict[Key, list[File]]:
    index: dict[Key, list[File]] = defaultdict(list)
    for mask in masks:
        for stem in {mask.stem, strip_ending(mask.stem)}:
            index[_key(mask, stem)].append(mask)
    return index


def _index_folders(masks: list[File]) -> dict[Key, list[File]]:
    """Masks by the folder they lie in, for images that have a folder of them each."""
    index: dict[Key, list[File]] = defaultdict(list)
    for mask in masks:
        folders, _ = _key(mask, "")
        if folders and not read_name(mask.folders[-1]).masks:
            index[folders[:-1], folders[-1]].append(mask)
    return index


def _choose(candidates: list[File], image: File, split: str) -> File | None:
    """The best of several masks with the name of an image: of its split, with its capitals, an ending, and as a PNG."""
    fitting = [mask for mask in candidates if _split(mask) in ("", split)]
    return min(fitting, key=lambda mask: _rank(mask, image), default=None)


def _parts_of(mask: File, candidates: list[File]) -> list[File]:
    """A mask, or all that are numbered as it is, such as x_mask_1 and x_mask_2."""
    name = strip_number(mask.stem)
    if not name:
        return [mask]
    return [
        other
        for other in candidates
        if (other.folders, other.path.suffix, strip_number(other.stem)) == (mask.folders, mask.path.suffix, name)
    ]


def _rank(mask: File, image: File) -> tuple[bool, bool, bool, str]:
    return (
        not mask.stem.startswith(image.stem),
        mask.stem == image.stem,
        mask.path.suffix.lower() != ".png",
        mask.path.name,
    )


def _pair_by_stem(tree: Tree, masks: list[File], paired: dict[File, Path]) -> Iterator[tuple[File, File]]:
    """Masks that lie in one folder for all kinds: each fits the one image of its name that is not called normal."""
    by_stem: dict[str, list[File]] = defaultdict(list)
    for image in tree.images:
        if image not in paired and tree.place(image).anomalous is not False:
            by_stem[image.stem.lower()].append(image)
    for mask in masks:
        folders, stem = _key(mask, strip_ending(mask.stem))
        fitting = [
            image
            for image in by_stem.get(stem, [])
            + (by_stem.get(mask.stem.lower(), []) if stem != mask.stem.lower() else [])
            if set(folders) <= set(_key(image, "")[0]) and _split(mask) in ("", tree.place(image).split)
        ]
        if len(fitting) == 1:
            yield fitting[0], mask


def _key(file: File, stem: str) -> Key:
    """Where a file lies without the folders that images and masks do not share, such as test, images and ground_truth."""
    words = [(name, read_name(name)) for name in file.folders]
    shared = (name for name, w in words if not (w.masks or w.empty or (w.split and w.anomalous is None)))
    return tuple(name.lower() for name in shared), stem.lower()


def _split(file: File) -> str:
    return next((split for split in (read_name(name).split for name in file.folders) if split), "")
