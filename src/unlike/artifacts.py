"""Folders and files on disk that are whole or absent: checksums, and written beside, then renamed; names that can be shown."""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
import shutil
import tempfile
import tomllib
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unlike._version import __version__
from unlike.errors import ArtifactError, ConfigError, OutputError

TRAINING_PROCESSES = "UNLIKE_TRAINING_PROCESSES"  # set where a training starts more processes, which inherit it
# what goes wrong where parts of a folder do not belong together
MISFITS: tuple[type[Exception], ...] = (
    AttributeError,
    KeyError,
    TypeError,
    ValueError,
    RuntimeError,
    zipfile.BadZipFile,
)
CHECKSUMS = "checksums.sha256"  # in the format of `sha256sum -c`


@dataclass(frozen=True, slots=True)
class Kind:
    """What a folder holds, so that messages can name it and one kind never replaces another."""

    name: str
    command: str  # that makes one

    @property
    def facts(self) -> str:
        """The file that says what was chosen."""
        return f"{self.name}.toml"

    def __str__(self) -> str:
        return f"{'an' if self.name[0] in 'aeiou' else 'a'} {self.name}"


DETECTOR = Kind("detector", "unlike fit IMAGES")
CLASSIFIER = Kind("classifier", "unlike finetune DETECTOR LABELLED")
EXPORT = Kind("export", "unlike export DETECTOR")
KINDS = (
    EXPORT,
    DETECTOR,
    CLASSIFIER,
)  # a folder is of the first whose facts it has: an export also says of which detector


Content = bytes | Callable[[Path], object]  # of a file, or what writes it to a path, where it is large


def write_folder(folder: Path, files: Mapping[str, Content], kind: Kind = DETECTOR) -> None:
    """Write `files` and their checksums as `folder`, replacing an older one of the same kind in one step.

    A kill at any moment leaves the old folder or the new one. An OutputError says why nothing could be written.
    """
    with output_errors(folder):
        target = folder.resolve()  # through a link, to where it points
        target.parent.mkdir(parents=True, exist_ok=True)
        fresh = _beside(target)
        fresh.mkdir()
        try:
            sums = "".join(f"{_write_durably(fresh / name, content)}  {name}\n" for name, content in files.items())
            _write_durably(fresh / CHECKSUMS, sums.encode())
            _replace_folder(fresh, target, kind)
        finally:
            shutil.rmtree(fresh, ignore_errors=True)


def read_folder(folder: Path, names: tuple[str, ...], kind: Kind = DETECTOR) -> dict[str, bytes]:
    """The files `names` of a folder that `write_folder` wrote; an ArtifactError where one is not what was written."""
    source = find_folder(folder, kind)
    with _reading(folder, kind):
        sums = _read_sums(source)
        contents = {name: (source / name).read_bytes() for name in names}
    for name, content in contents.items():
        _check_sum(folder, name, hashlib.sha256(content).hexdigest(), sums, kind)
    return contents


def check_files(folder: Path, names: tuple[str, ...], kind: Kind = DETECTOR) -> None:
    """Raise ArtifactError where a file of such a folder is not what was written; none is held in memory."""
    source = find_folder(folder, kind)
    with _reading(folder, kind):
        sums = _read_sums(source)
        found = {name: _sum_file(source / name) for name in names}
    for name, digest in found.items():
        _check_sum(folder, name, digest, sums, kind)


def find_folder(folder: Path, kind: Kind = DETECTOR) -> Path:
    """Where what is called `folder` lies, which is beside it where a kill came between two renames; an ArtifactError if nowhere."""
    source = folder if folder.exists() else _backup(folder.resolve())
    if not source.is_dir():
        raise ArtifactError(f"{folder}: no {kind.name} here; `{kind.command} -o {folder}` makes one")
    if (other := _other_kind(source, kind)) is not None:
        raise ArtifactError(f"{folder}: is {other}; expected {kind}, which `{kind.command}` makes")
    return source


@contextlib.contextmanager
def _reading(folder: Path, kind: Kind) -> Iterator[None]:
    """Say what is wrong with a folder of which a file cannot be read."""
    try:
        yield
    except FileNotFoundError as error:
        raise ArtifactError(
            f"{folder}: {Path(error.filename).name} is missing: this is no {kind.name}, or an incomplete copy of one"
        ) from None
    except UnicodeDecodeError:
        raise ArtifactError(f"{folder}: {CHECKSUMS} is not what was written; copy the {kind.name} again") from None
    except OSError as error:
        raise ArtifactError(f"{folder}: cannot be read ({error.strerror})") from None


def _read_sums(source: Path) -> dict[str, str]:
    """The SHA-256 that each file was written with, by its name."""
    lines = (source / CHECKSUMS).read_text(encoding="utf-8").splitlines()
    return {name: digest for digest, _, name in (line.partition("  ") for line in lines)}


def _check_sum(folder: Path, name: str, digest: str, sums: Mapping[str, str], kind: Kind) -> None:
    if digest != sums.get(name):
        raise ArtifactError(
            f"{folder}: {name} is not what was written (its checksum differs): it was altered or cut short; copy the {kind.name} again"
        )


def read_facts(folder: Path, kind: Kind, newest: int, oldest: int = 1) -> dict[str, Any]:
    """The TOML of a folder of that kind, in a format between those that are known."""
    content = read_folder(folder, (kind.facts,), kind)[kind.facts]
    try:
        facts = tomllib.loads(content.decode(errors="surrogateescape"))
        found = int(facts["format"])
    except (tomllib.TOMLDecodeError, KeyError, TypeError, ValueError) as error:
        raise ArtifactError(
            f"{folder}: {kind.facts} cannot be understood ({error}); make the {kind.name} again"
        ) from None
    if found > newest:
        made_with = facts.get("versions")
        made_by = made_with.get("unlike") if isinstance(made_with, dict) else "a newer version"
        raise ArtifactError(
            f"{folder}: is in format {found}, written by unlike {made_by}; this is {__version__}, "
            f"which reads up to format {newest}. Upgrade unlike."
        )
    if found < oldest:
        raise ArtifactError(
            f"{folder}: is in format {found}, of an older version of unlike; this is {__version__}, which reads format "
            f"{oldest} and newer. Fit again with the same settings: `{kind.command} --config {folder / kind.facts} -o {folder}`"
        )
    return facts


@contextlib.contextmanager
def misfits_refused(folder: Path, kind: Kind, *others: type[Exception]) -> Iterator[None]:
    """Turn what goes wrong when the parts of a folder do not belong together into an ArtifactError; errors of `others` too."""
    try:
        yield
    except ConfigError as error:
        raise ArtifactError(
            f"{folder}: {kind.facts} does not suit this version of unlike ({__version__}): {error}"
        ) from None
    except (*MISFITS, *others) as error:
        reason = " ".join(str(error).split())  # torch names each tensor in a line of its own
        raise ArtifactError(f"{folder}: its parts do not fit together ({reason}); make the {kind.name} again") from None


def write_file(path: Path, content: bytes, *, durable: bool = True) -> None:
    """Write one file whole: beside, then renamed; `durable=False` skips waiting for the disk."""
    with output_errors(path):
        target = path.resolve()
        target.parent.mkdir(parents=True, exist_ok=True)
        fresh = _beside(target)
        try:
            if durable:
                _write_durably(fresh, content)
            else:
                fresh.write_bytes(content)
            fresh.replace(target)
        finally:
            fresh.unlink(missing_ok=True)


@contextlib.contextmanager
def output_errors(path: Path) -> Iterator[None]:
    """Turn what the operating system refuses (full, read-only, no permission) into an OutputError that names `path`."""
    try:
        yield
    except OutputError:
        raise
    except OSError as error:
        raise OutputError(
            f"{path}: cannot be written ({error.strerror or error}); choose another place, or make room"
        ) from error


def check_writable(path: Path) -> None:
    """Raise OutputError at once, before hours of work, if nothing can be written beside `path`."""
    with output_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path.parent):
            pass


def check_replaceable(folder: Path, kind: Kind = DETECTOR) -> None:
    """Raise OutputError, before hours of work, unless `folder` is free, empty, or a folder of that kind."""
    check_writable(folder)
    if folder.exists():
        _refuse_foreign(folder, kind)


def _refuse_foreign(folder: Path, kind: Kind) -> None:
    """Never replace what we have not made."""
    foreign = not (folder / CHECKSUMS).is_file() or _other_kind(folder, kind) is not None
    if not folder.is_dir() or (foreign and any(folder.iterdir())):
        raise OutputError(f"{folder}: is there already and is no {kind.name}; choose another name with -o")


def _write_durably(path: Path, content: Content) -> str:
    """The SHA-256 of what was written."""
    if callable(content):
        content(path)
    with path.open("r+b" if callable(content) else "wb") as file:
        if not callable(content):
            file.write(content)
        file.flush()
        os.fsync(file.fileno())
    return _sum_file(path)


def _sum_file(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _beside(path: Path) -> Path:
    return path.with_name(f".{path.name}.new-{secrets.token_hex(4)}")


def _backup(folder: Path) -> Path:
    return folder.with_name(f".{folder.name}.old")


def kind_of(folder: Path) -> Kind | None:
    """What a folder holds, by the facts in it; also where a kill came between two renames, and it lies beside."""
    source = folder if folder.exists() else _backup(folder.resolve())
    return next((kind for kind in KINDS if (source / kind.facts).is_file()), None)


def _other_kind(folder: Path, kind: Kind) -> Kind | None:
    found = kind_of(folder)
    return None if found is kind else found


def _replace_folder(fresh: Path, folder: Path, kind: Kind) -> None:
    if folder.exists():
        _refuse_foreign(folder, kind)
        shutil.rmtree(_backup(folder), ignore_errors=True)
        folder.rename(_backup(folder))
    fresh.rename(folder)
    shutil.rmtree(_backup(folder), ignore_errors=True)


def is_first_process() -> bool:
    """Whether this process, of those that train together, is the one that writes and prints.

    Others start processes with a RANK too, Ray for one: it counts only where torchrun, or a training of ours with
    `training.processes`, started this one.
    """
    if not ("TORCHELASTIC_RUN_ID" in os.environ or TRAINING_PROCESSES in os.environ):
        return True
    return int(os.environ.get("RANK", os.environ.get("LOCAL_RANK", "0"))) == 0


def printable(text: str) -> str:
    r"""Text without what no font shows: control characters, broken letters, marks that turn the direction of writing.

    >>> printable("a\x00b\u202egnp.exe") == "a\ufffdb\ufffdgnp.exe"
    True
    """
    return "".join(letter if letter.isprintable() else "\ufffd" for letter in text)
