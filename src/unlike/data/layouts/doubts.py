"""Why it is not certain that the images a fit would take are normal: names that look like labels, and no rule for them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path, PurePosixPath

from unlike.artifacts import printable
from unlike.data.layouts.manifests import read_columns
from unlike.data.layouts.names import OTHER, looks_like_label, read_name, says_defect
from unlike.data.layouts.rules import Found
from unlike.data.layouts.tree import Parts, Tree
from unlike.data.layouts.wording import listed, plural
from unlike.errors import DataError
from unlike.records import Sample

LABELS = frozenset(("label", "anomaly", "anomalous", "class", "target", "y", "defect", "is_anomaly"))
OWN_COLUMNS = frozenset(("score", "p_value", "probability"))  # of a table that `score` or `evaluate` wrote


def find_doubt(tree: Tree, found: Found) -> str:
    """What looks like labels among the images that a fit would take, and how to say what is meant; empty where nothing does."""
    pool = learnable(found.samples)
    if not pool or any(sample.anomalous is False for sample in pool):
        return ""
    seen = next((seen for doubt in DOUBTS if (seen := doubt(tree, found, pool))), "")
    if not seen:
        return ""
    return f"{tree.root}: {seen}, {_way_out(pool)}"


def doubt_list(path: Path, samples: Sequence[Sample]) -> str:
    """The same for a manifest without any label, by the names in its paths."""
    pool = learnable(samples)
    odd = [sample.id for sample in pool if _looks_anomalous(PurePosixPath(sample.id))]
    if not odd or any(sample.anomalous is not None for sample in samples):
        return ""
    return f"{path}: has no labels, but {plural(len(odd), 'path')} ({listed(odd, 3)}) may say some, {_way_out(pool)}"


def learnable(samples: Sequence[Sample]) -> list[Sample]:
    """What a fit may take: of the train split where there is one, never of a test split, nothing anomalous."""
    train = any(sample.split == "train" for sample in samples)
    return [s for s in samples if not s.anomalous and (s.split == "train" if train else s.split != "test")]


def beside_anomalous(tree: Tree, found: Found, pool: list[Sample]) -> str:  # noqa: ARG001
    """Images without a label beside others that are anomalous."""
    splits = {sample.split for sample in pool}
    odd = [sample for sample in found.samples if sample.anomalous and sample.split in splits]
    if not odd:
        return ""
    return f"{plural(len(odd), 'image')} ({listed([s.id for s in odd], 2)}) look anomalous, and {plural(len(pool), 'other')} have no label"


def kinds_of_train(tree: Tree, found: Found, pool: list[Sample]) -> str:  # noqa: ARG001
    """Folders in that of the train split, none of which is called normal."""
    names = [name for parent, words in tree.words.items() if _in_train(parent) for name in words if _says_nothing(name)]
    return (
        f"the training folder has the subfolders {listed(sorted(names))}, none of them called normal" if names else ""
    )


def suspicious_folders(tree: Tree, found: Found, pool: list[Sample]) -> str:  # noqa: ARG001
    """Folders with names that may be those of labels."""
    names = {name for sample in pool for name in PurePosixPath(sample.id).parts[:-1] if looks_like_label(name)}
    return f"names of folders look like labels ({listed(sorted(names))})" if names else ""


def suspicious_files(tree: Tree, found: Found, pool: list[Sample]) -> str:  # noqa: ARG001
    """Files with a word for anomalous in their names."""
    names = [sample.path.name for sample in pool if sample.path is not None and says_defect(sample.path.stem)]
    return f"names of {plural(len(names), 'file')} look like labels ({listed(names, 3)})" if names else ""


def twins(tree: Tree, found: Found, pool: list[Sample]) -> str:  # noqa: ARG001
    """Files that differ by their extension alone: one may be the mask of the other."""
    suffixes: dict[PurePosixPath, set[str]] = defaultdict(set)
    for sample in pool:
        path = PurePosixPath(sample.id)
        suffixes[path.with_suffix("")].add(path.suffix.lower())
    pairs = [path.name for path, endings in suffixes.items() if len(endings) > 1]
    return (
        f"{plural(len(pairs), 'name')} are there twice with different endings ({listed(pairs, 3)}), as image and mask are"
        if pairs
        else ""
    )


def labels_beside(tree: Tree, found: Found, pool: list[Sample]) -> str:  # noqa: ARG001
    """A table with a column of labels in the folder."""
    for path in sorted(tree.root.glob("*.csv")):
        try:
            columns = set(read_columns(path))
        except DataError:
            continue
        if columns & LABELS and not columns & OWN_COLUMNS:
            return f"{path.name} has a column {listed(sorted(columns & LABELS))}, which the folder alone does not use"
    return ""


DOUBTS: tuple[Callable[[Tree, Found, list[Sample]], str], ...] = (
    beside_anomalous,
    kinds_of_train,
    suspicious_folders,
    suspicious_files,
    twins,
    labels_beside,
)


def _in_train(parent: Parts) -> bool:
    return any(read_name(name).split == "train" for name in parent)


def _says_nothing(name: str) -> bool:
    return read_name(name) == OTHER


def _example(pool: list[Sample]) -> str:
    """A pattern for some of these images, of a folder that does not look like one of defects."""
    folders = [PurePosixPath(sample.id).parent for sample in pool]
    fit = [folder for folder in folders if not any(looks_like_label(name) for name in folder.parts)]
    if not fit:
        return "FOLDER/*"
    return "good_*" if fit[0] == PurePosixPath() else f"{printable(str(fit[0]))}/*"


def _looks_anomalous(path: PurePosixPath) -> bool:
    folders = [name for name in path.parts[:-1] if looks_like_label(name) and read_name(name).anomalous is not False]
    return bool(folders) or says_defect(path.stem)


def _way_out(pool: list[Sample]) -> str:
    return (
        "and no rule says for certain which images are normal. Say it with --good GLOB (good=... in Python), such as "
        f"--good '{_example(pool)}', or with a manifest: a .csv with the columns path and label"
    )
