"""Every image file of a folder, without what computers put there and what this program wrote."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn

from unlike.artifacts import CHECKSUMS, KINDS
from unlike.data.layouts.names import read_name
from unlike.data.layouts.wording import listed, plural
from unlike.data.readers import is_image
from unlike.errors import DataError

SYSTEM = frozenset(("@eadir", "__macosx", "#recycle", "$recycle.bin", "system volume information", "lost+found"))
REPORT = ("metrics.json", "report.html")  # what `evaluate` leaves behind
MAP, OVERLAY = ".map.tiff", ".overlay.png"  # what `score --maps` writes of each image


@dataclass(slots=True)
class Walk:
    """The image files of a folder in a stable order, and what was left aside on the way."""

    root: Path
    files: list[Path] = field(default_factory=list)
    system: list[str] = field(default_factory=list)  # folders
    outputs: list[str] = field(default_factory=list)  # folders of ours
    links: list[str] = field(default_factory=list)  # to folders whose images are there already
    maps: int = 0

    def notes(self) -> list[str]:
        """Sentences for what was left aside."""
        told = []
        if self.system:
            told.append(f"Left aside what the system keeps: {listed(self.system)}.")
        if self.outputs:
            told.append(f"Left aside what was written by this program: {listed(self.outputs)}.")
        if self.maps:
            told.append(f"Left aside {plural(self.maps, 'picture')} of maps that `score --maps` wrote.")
        if self.links:
            told.append(f"Left aside links to folders whose images are there already: {listed(self.links)}.")
        return told


def walk(root: Path) -> Walk:
    """Find image files at any depth, through links to folders too, each folder once."""
    found, seen = Walk(root), set[str]()
    real_root = os.path.realpath(root)
    for parent, children, files in os.walk(root, followlinks=True, onerror=_refuse):
        real = os.path.realpath(parent)
        if real in seen:
            found.links.append(relative(Path(parent), root))
            children[:] = []
            continue
        seen.add(real)
        children[:] = [child for child in sorted(children) if _is_entered(Path(parent, child), real_root, found)]
        found.files += _images(Path(parent), files, found)
    return found


def sift(root: Path, paths: Sequence[Path]) -> Walk:
    """Files that a pattern found below a root, without what a walk leaves aside."""
    found, names = Walk(root), {str(path) for path in paths}
    for path in paths:
        parents = path.relative_to(root).parts[:-1]
        if any(is_system(name) for name in parents):
            found.system.append(relative(path, root))
        elif _is_map(str(path), names):
            found.maps += 1
        else:
            found.files.append(path)
    return found


def relative(path: Path, root: Path) -> str:
    """A path below a root with forward slashes."""
    return path.relative_to(root).as_posix()


def is_system(name: str) -> bool:
    """Whether a folder is one that computers make.

    >>> is_system("@eaDir"), is_system("good")
    (True, False)
    """
    return name.lower() in SYSTEM


def is_output(folder: Path) -> bool:
    """Whether this program wrote a folder: a detector, a classifier, or a report with nothing of the user's in it."""
    if (folder / CHECKSUMS).is_file() and any((folder / kind.facts).is_file() for kind in KINDS):
        return True
    if not all((folder / name).is_file() for name in REPORT):
        return False
    words = [read_name(child.name) for child in folder.iterdir() if child.is_dir()]
    return not any(word.split or word.anomalous is not None for word in words)


def _is_entered(folder: Path, real_root: str, found: Walk) -> bool:
    name = relative(folder, found.root)
    if folder.name.startswith("."):
        return False
    if is_system(folder.name):
        found.system.append(name)
        return False
    if folder.is_symlink() and _is_walked_anyway(folder, real_root):
        found.links.append(name)
        return False
    if is_output(folder):
        found.outputs.append(name)
        return False
    return True


def _is_walked_anyway(link: Path, real_root: str) -> bool:
    """Whether a link leads to a folder below the root that is entered without it, or to the root."""
    real = os.path.realpath(link)
    if real != real_root and not real.startswith(real_root.rstrip(os.sep) + os.sep):
        return False
    parts = Path(os.path.relpath(real, real_root)).parts
    return not any(is_system(part) or (part.startswith(".") and part != ".") for part in parts)


def _images(parent: Path, names: Sequence[str], found: Walk) -> Iterator[Path]:
    whole = set(names)
    for name in sorted(names):
        if not is_image(name):
            continue
        if _is_map(name, whole):
            found.maps += 1
        else:
            yield parent / name


def _is_map(name: str, beside: set[str]) -> bool:
    for ending, other in ((MAP, OVERLAY), (OVERLAY, MAP)):
        if name.endswith(ending) and name.removesuffix(ending) + other in beside:
            return True
    return False


def _refuse(error: OSError) -> NoReturn:
    raise DataError(f"{error.filename}: cannot be opened ({error.strerror}), and its images would be missed")
