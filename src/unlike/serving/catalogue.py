"""Which detectors there are, in which versions, which one is current, and how to run it.

FOLDER/cells.unlike/            what `unlike fit` wrote is taken in as version 1
FOLDER/cells/v0002/             versions that the service made
FOLDER/cells/v0002.export/      what `unlike export` wrote of one: it is run, and no torch is loaded
"""

from __future__ import annotations

import hashlib
import re
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from unlike.artifacts import CHECKSUMS, DETECTOR, EXPORT, kind_of
from unlike.data.batches import Batch
from unlike.data.input_spec import InputSpec
from unlike.data.pages import Pages
from unlike.errors import ConfigError, ServiceError, UnlikeError
from unlike.records import ScoredBatch
from unlike.runtime.streams import Judging
from unlike.serving.database.engine import Database
from unlike.serving.database.tables import Detector, Version, now

NAME = re.compile(r"[\w][\w .-]{0,99}")  # of a detector: part of addresses and of file names
NUMBERED = re.compile(r"v(\d{4,})")
SUFFIX, VERSIONS, EXPORTED = ".unlike", ".versions", ".export"
RESERVED = "images"  # the folder in which images are kept where no other is named
MOST_LOADED = 8  # versions that stay in memory


@dataclass(frozen=True, slots=True)
class Known:
    """A version of a detector: which one, and where it lies."""

    detector_id: int
    version_id: int
    name: str
    number: int
    path: Path
    fingerprint: str


@dataclass(frozen=True, slots=True)
class Runner:
    """What makes scores of images: an exported graph, or a detector in torch."""

    judging: Judging  # how images are brought to a form, and where normal ends
    pages: Pages
    see: Callable[[Batch], ScoredBatch]
    runtime: str  # "onnx", "openvino" or "torch"
    images_at_once: int | None = None  # of large images, which are seen as tiles; None leaves it to the service

    @property
    def spec(self) -> InputSpec:
        """The form that images are brought to."""
        return self.judging.spec


@dataclass(slots=True)
class _Loaded:
    """A version in memory, or under way to it."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    runner: Runner | None = None


class Catalogue:
    """The detectors of a folder, and what the database knows of them."""

    def __init__(self, folder: Path, database: Database) -> None:
        self.folder = folder
        self._database = database
        self._current: dict[str, Known] = {}
        self._loaded: OrderedDict[int, _Loaded] = OrderedDict()
        self._lock = threading.Lock()

    def take_in(self) -> list[str]:
        """Have the database know what lies in the folder; returns in sentences what is new and what cannot be taken."""
        notes: list[str] = []
        with self.changing() as session:
            for name, number, path in _find_versions(self.folder, notes):
                notes += _take_version(session, name, number, str(path.relative_to(self.folder)), fingerprint_of(path))
        return notes

    @contextmanager
    def changing(self) -> Iterator[Session]:
        """A session that changes detectors or versions; what was remembered of them is forgotten when it is committed."""
        with self._database.sessions.begin() as session:
            yield session
        with self._lock:
            self._current.clear()

    def current(self, name: str) -> Known:
        """The version that scores for a detector; a ServiceError (404) where there is none of that name."""
        found = self._current.get(name)
        if found is None:
            with self._database.readers() as session:
                rows = session.execute(
                    select(Detector, Version).join(Version, Version.id == Detector.current_version_id)
                ).all()
                known = {detector.name: self._known(detector, version) for detector, version in rows}
            with self._lock:
                self._current = known
            found = known.get(name)
        if found is None:
            raise ServiceError(_unknown(name, list(self._current)), status=404)
        return found

    def find(self, version_id: int) -> Known:
        """Any version; a ServiceError (404) where it is gone."""
        with self._database.readers() as session:
            row = session.execute(
                select(Detector, Version)
                .join(Version, Version.detector_id == Detector.id)
                .where(Version.id == version_id)
            ).first()
        if row is None:
            raise ServiceError("there is no such version of a detector", status=404)
        return self._known(row[0], row[1])

    def runner(self, known: Known) -> Runner:
        """What runs a version, loaded when it is first asked for; a ServiceError (503) says why it cannot be."""
        with self._lock:
            loaded = self._loaded.setdefault(known.version_id, _Loaded())
            self._loaded.move_to_end(known.version_id)
            while len(self._loaded) > MOST_LOADED:
                self._loaded.popitem(last=False)
        with loaded.lock:
            if loaded.runner is None:
                loaded.runner = self._load(known)
            return loaded.runner

    def new_folder(self, session: Session, name: str) -> tuple[int, Path]:
        """The number of the next version of a detector, and where it is to be written."""
        check_detector_name(name)
        highest = session.scalar(
            select(func.max(Version.number))
            .join(Detector, Version.detector_id == Detector.id)
            .where(Detector.name == name)
        )
        base = self.folder / name
        if kind_of(base) is DETECTOR:
            base = base.with_name(name + VERSIONS)
        number = (highest or 0) + 1
        while (base / f"v{number:04d}").exists():  # of a job that was killed before it said so
            number += 1
        return number, base / f"v{number:04d}"

    def add_version(
        self,
        session: Session,
        name: str,
        number: int,
        path: Path,
        *,
        made_by: str = "",
        note: str = "",
        figures: dict[str, Any] | None = None,
    ) -> Version:
        """Tell the database of a version that lies at a path: a candidate; the first of a detector is current at once."""
        detector = _find_or_add(session, name)
        first = detector.current_version_id is None
        version = Version(
            detector_id=detector.id,
            number=number,
            path=str(path.relative_to(self.folder)),
            fingerprint=fingerprint_of(path),
            state="current" if first else "candidate",
            made_by=made_by,
            made_at=now(),
            note=note,
            figures=figures or {},
        )
        session.add(version)
        session.flush()
        if first:
            detector.current_version_id = version.id
        return version

    def promote(self, session: Session, name: str, number: int) -> Version:
        """Have a version score from now on; the one before it is retired. A ServiceError where it cannot."""
        detector = session.scalar(select(Detector).where(Detector.name == name))
        if detector is None:
            raise ServiceError(_unknown(name, session.scalars(select(Detector.name)).all()), status=404)
        version = session.scalar(select(Version).where(Version.detector_id == detector.id, Version.number == number))
        if version is None or version.state == "discarded":
            raise ServiceError(f"{name} has no version {number} that could be promoted", status=404)
        for other in session.scalars(
            select(Version).where(Version.detector_id == detector.id, Version.state == "current")
        ):
            other.state = "retired"
        version.state = "current"
        detector.current_version_id = version.id
        return version

    def _known(self, detector: Detector, version: Version) -> Known:
        path = self.folder / version.path
        return Known(detector.id, version.id, detector.name, version.number, path, version.fingerprint)

    def _load(self, known: Known) -> Runner:
        try:
            if fingerprint_of(known.path) != known.fingerprint:
                raise ConfigError(
                    "its folder is not what was taken in; start the service again to take in what is there now"
                )
            return load_runner(known.path)
        except UnlikeError as error:
            reason = str(error).replace(f"{self.folder}/", "")
            raise ServiceError(f"{known.name}, version {known.number}, cannot be used: {reason}", status=409) from None


def load_runner(path: Path) -> Runner:
    """Load what lies at a path: its export where there is one, or else the detector."""
    exported = path.with_name(path.name + EXPORTED)
    return _load_export(exported) if kind_of(exported) is EXPORT else _load_detector(path)


def _load_export(path: Path) -> Runner:
    from unlike.runtime.exported import fit_depth, load
    from unlike.runtime.streams import score_batches

    exported = load(path)

    def see(batch: Batch) -> ScoredBatch:
        return next(score_batches([fit_depth(batch, exported.manifest.depth)], exported.see))

    return Runner(exported, exported.pages, see, exported.manifest.to, exported.manifest.batch_size)


def _load_detector(path: Path) -> Runner:
    from unlike.detector.building import place
    from unlike.detector.detector import Detector as Learned
    from unlike.detector.pipeline import score_pixels
    from unlike.runtime.streams import score_batches

    detector = Learned.load(path)
    fitted, lock = detector.fitted_, threading.Lock()
    place(fitted.pipeline, detector.device)

    def see(batch: Batch) -> ScoredBatch:
        with lock:  # a compiled network is one thread's at a time
            return next(
                score_batches(
                    [batch],
                    lambda pixels, missing: score_pixels(fitted.pipeline, pixels, fitted.spec.value_range, missing),
                )
            )

    return Runner(fitted, detector.pages, see, "torch", fitted.batch_size)


def fingerprint_of(path: Path) -> str:
    """A digest of the checksums of a folder: equal for equal detectors. Empty where there are none."""
    try:
        return hashlib.sha256((path / CHECKSUMS).read_bytes()).hexdigest()
    except OSError:
        return ""


def check_detector_name(name: str) -> str:
    """A name that can be part of an address and of a path; a ServiceError (422) otherwise.

    >>> check_detector_name("cells 3")
    'cells 3'
    """
    if name == RESERVED or not NAME.fullmatch(name) or name.endswith((SUFFIX, VERSIONS, EXPORTED, ".", " ")):
        raise ServiceError(
            f"{name[:100]!r} cannot be the name of a detector; expected up to 100 letters, digits, spaces, '.', '-' and '_', a letter or "
            "digit first",
            status=422,
        )
    return name


def _find_versions(folder: Path, notes: list[str]) -> Iterator[tuple[str, int, Path]]:
    """Name, number and path of each detector in the folder."""
    for child in sorted(folder.iterdir()):
        name = child.name.removesuffix(SUFFIX).removesuffix(VERSIONS)
        if not child.is_dir() or child.name.startswith(".") or kind_of(child) is EXPORT:
            continue
        inner = [one for one in sorted(child.iterdir()) if NUMBERED.fullmatch(one.name) and kind_of(one) is DETECTOR]
        if not NAME.fullmatch(name) and (inner or kind_of(child) is DETECTOR):
            notes.append(f"{child.name} is left aside: a detector's name is letters, digits, spaces, '.', '-' and '_'.")
            continue
        if kind_of(child) is DETECTOR:
            yield name, 1, child
        for one in inner:
            yield name, int(one.name[1:]), one


def _take_version(session: Session, name: str, number: int, path: str, fingerprint: str) -> list[str]:
    """Add a version that the database does not know; what replaced another at its path is a version of its own."""
    detector = _find_or_add(session, name)
    versions = session.scalars(select(Version).where(Version.detector_id == detector.id).order_by(Version.number)).all()
    if any(one.path == path and one.fingerprint == fingerprint for one in versions):
        return []
    replaced = [one for one in versions if one.path == path]
    if number in {one.number for one in versions}:
        number = versions[-1].number + 1
    takes_over = detector.current_version_id is None or detector.current_version_id in {one.id for one in replaced}
    state = "current" if takes_over else "candidate"
    version = Version(detector_id=detector.id, number=number, path=path, fingerprint=fingerprint, state=state)
    version.note, version.figures, version.made_at = "found in the folder", {}, now()
    session.add(version)
    for one in replaced:
        one.state, one.note = "discarded", "its folder holds another detector now"
    session.flush()
    if takes_over:
        detector.current_version_id = version.id
    return [f"{name}: version {number} is taken in from {path}, {state}."]


def _find_or_add(session: Session, name: str) -> Detector:
    found = session.scalar(select(Detector).where(Detector.name == name))
    if found is None:
        found = Detector(name=name)
        session.add(found)
        session.flush()
    return found


def _unknown(name: str, known: Any) -> str:
    there = ", ".join(sorted(known)[:20]) or "none yet"
    return f"there is no detector {name!r}; those here: {there}"
