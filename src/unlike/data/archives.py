"""Zip archives of images, read where they lie: nothing of them is unpacked."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path, PurePosixPath

from unlike.data.layouts.folders import Layout
from unlike.data.readers.addresses import ARCHIVES, ZIP_REFUSES, open_archive
from unlike.errors import DataError
from unlike.records import Sample

LISTS = {".csv", ".txt", ".json"}  # small files that a layout may have to read
MOST_LIST_BYTES = 20_000_000


def is_archive(path: Path) -> bool:
    """By its name alone.

    >>> is_archive(Path("a/images.ZIP")), is_archive(Path("a/b.npz"))
    (True, False)
    """
    return path.suffix.lower() in ARCHIVES


def read_archive(path: Path, read_folder: Callable[[Path], Layout]) -> Layout:
    """The images in an archive, as `read_folder` finds them in a folder of the same names.

    It is shown a folder of empty files, so that every layout of a folder is one of an archive. Ids are paths within. The archive's
    one folder at the top, if it has but one, is no part of the layout.
    """
    names = _list_names(path)
    top = _find_top(names)
    with tempfile.TemporaryDirectory(prefix="unlike-") as made:
        root = Path(made).resolve()
        for name in names:
            _stand_in(path, name, root / name)
        try:
            layout = read_folder(root / top)
        except DataError as error:
            raise DataError(str(error).replace(str(root), str(path))) from None
    told = [text.replace(str(root), str(path)) for text in (*layout.notes, layout.doubt)]
    return Layout([_move(sample, root, path, top) for sample in layout.samples], tuple(told[:-1]), told[-1])


def _move(sample: Sample, root: Path, archive: Path, top: str) -> Sample:
    def within(file: Path) -> Path:
        return archive / file.relative_to(root)

    assert sample.path is not None
    mask = within(sample.mask) if isinstance(sample.mask, Path) else sample.mask
    name = f"{top}/{sample.id}" if top else sample.id
    return replace(sample, id=name, path=within(sample.path), mask=mask)


def _list_names(path: Path) -> list[str]:
    try:
        entries = open_archive(path).infolist()
    except OSError as error:
        raise DataError(f"{path}: cannot be opened ({error.strerror})") from None
    except ZIP_REFUSES as error:
        raise DataError(f"{path}: is no zip archive, or is damaged ({error})") from None
    locked = next((entry.filename for entry in entries if entry.flag_bits & 1), None)
    if locked:
        raise DataError(f"{path}: {locked} is encrypted; expected an archive without a password")
    names = [entry.filename for entry in entries if not entry.is_dir()]
    strange = next((name for name in names if ".." in PurePosixPath(name).parts or name.startswith("/")), None)
    if strange is not None:
        raise DataError(f"{path}: {strange} lies outside of the archive; pack it again")
    return names


def _find_top(names: list[str]) -> str:
    """The one folder that everything is in; of system files beside it nothing is said."""
    tops = {PurePosixPath(name).parts[0] for name in names if not name.startswith(("__MACOSX/", "."))}
    inside = all(len(PurePosixPath(name).parts) > 1 for name in names if not name.startswith(("__MACOSX/", ".")))
    return tops.pop() if len(tops) == 1 and inside else ""


def _stand_in(archive: Path, name: str, file: Path) -> None:
    """An empty file of that name, or, of a small list that a layout may read, the file itself."""
    file.parent.mkdir(parents=True, exist_ok=True)
    opened = open_archive(archive)
    small = file.suffix.lower() in LISTS and opened.getinfo(name).file_size <= MOST_LIST_BYTES
    file.write_bytes(opened.read(name) if small else b"")
