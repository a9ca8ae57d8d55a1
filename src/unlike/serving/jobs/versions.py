"""What becomes of versions: promoted, rolled back, discarded; each is one transaction and stands in the audit."""

from __future__ import annotations

from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from unlike.errors import ServiceError
from unlike.serving.catalogue import Catalogue
from unlike.serving.database.tables import Audit, Detector, Version
from unlike.serving.security.audit import record

PROMOTED, ROLLED_BACK, DISCARDED = "promote", "roll back", "discard"


def promote(session: Session, catalogue: Catalogue, name: str, number: int, who: str, note: str = "") -> dict[str, Any]:
    """Have a version score from now on."""
    before = _current(session, name)
    version = catalogue.promote(session, name, number)
    record(session, who, PROMOTED, detector=name, version=number, before=before, note=note)
    return describe(version, name, before)


def roll_back(session: Session, catalogue: Catalogue, name: str, who: str, note: str = "") -> dict[str, Any]:
    """Have the version score again that did before the one that scores now; a ServiceError (409) where there is none."""
    before = _current(session, name)
    number = _previous(session, name, before)
    version = catalogue.promote(session, name, number)
    record(session, who, ROLLED_BACK, detector=name, version=number, before=before, note=note)
    return describe(version, name, before)


def discard(session: Session, name: str, number: int, who: str, note: str = "") -> dict[str, Any]:
    """Never have a version score again; its folder and its results stay. A ServiceError (409) where it scores now."""
    detector = find_detector(session, name)
    version = session.scalar(select(Version).where(Version.detector_id == detector.id, Version.number == number))
    if version is None:
        raise ServiceError(f"{name} has no version {number}; see GET /detectors/{name}", status=404)
    if version.id == detector.current_version_id:
        raise ServiceError(f"version {number} of {name} scores now; promote another one first", status=409)
    version.state = "discarded"
    record(session, who, DISCARDED, detector=name, version=number, note=note)
    return describe(version, name, _current(session, name))


def find_detector(session: Session, name: str) -> Detector:
    """A detector; a ServiceError (404) where there is none of that name."""
    found = session.scalar(select(Detector).where(Detector.name == name))
    if found is None:
        raise ServiceError(f"there is no detector {name[:100]!r}; see GET /detectors", status=404)
    return found


def check_number(session: Session, name: str, number: int) -> None:
    """Raise ServiceError (404) unless the detector has that version, and it was not discarded."""
    detector = find_detector(session, name)
    found = session.scalar(select(Version.state).where(Version.detector_id == detector.id, Version.number == number))
    if found in (None, "discarded"):
        raise ServiceError(f"{name} has no version {number} that could be used; see GET /detectors/{name}", status=404)


def describe(version: Version, name: str, before: int | None) -> dict[str, Any]:
    """A version after a change, as JSON holds it."""
    return {"detector": name, "version": version.number, "state": version.state, "before": before}


def _current(session: Session, name: str) -> int | None:
    detector = find_detector(session, name)
    return session.scalar(select(Version.number).where(Version.id == detector.current_version_id))


def _previous(session: Session, name: str, current: int | None) -> int:
    """Which version scored before the current one did, by the audit; where that says nothing, the newest that is retired."""
    usable = select(Version.number).join(Detector, Version.detector_id == Detector.id)
    usable = usable.where(Detector.name == name, Version.state == "retired").order_by(Version.number.desc())
    retired = list(session.scalars(usable))
    changes = select(Audit).where(Audit.action == PROMOTED).order_by(Audit.id.desc())
    for row in session.scalars(changes):
        if row.detail.get("detector") == name and row.detail.get("version") == current:
            if row.detail.get("before") in retired:
                return int(row.detail["before"])
            break
    if not retired:
        raise ServiceError(f"{name} has no earlier version to go back to; see GET /detectors/{name}", status=409)
    return retired[0]
