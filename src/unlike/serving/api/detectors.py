"""Which detectors there are, and in which versions."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from sqlalchemy import select

from unlike.errors import ServiceError
from unlike.serving.api.answers import DetectorRow, Detectors, Name, refusals
from unlike.serving.database.tables import Detector, Version
from unlike.serving.security.roles import Actor, require

router = APIRouter(tags=["detectors"])
Viewer = Annotated[Actor, Depends(require("viewer"))]


@router.get("/detectors", response_model=Detectors, responses=refusals())
def list_detectors(request: Request, actor: Viewer) -> dict[str, Any]:  # noqa: ARG001
    """All detectors with their versions, by name."""
    return {"items": describe_detectors(request.app.state.services.database)}


@router.get("/detectors/{name}", response_model=DetectorRow, responses=refusals(404))
def read_detector(name: Name, request: Request, actor: Viewer) -> dict[str, Any]:  # noqa: ARG001
    """One detector with its versions."""
    found = [row for row in describe_detectors(request.app.state.services.database) if row["name"] == name]
    if not found:
        raise ServiceError(f"there is no detector {name!r}", status=404)
    return found[0]


def describe_detectors(database: Any) -> list[dict[str, Any]]:
    """Every detector with its versions, the newest first."""
    with database.readers() as session:
        detectors = session.scalars(select(Detector).order_by(Detector.name)).all()
        versions = session.scalars(select(Version).order_by(Version.number.desc())).all()
    return [describe(one, [version for version in versions if version.detector_id == one.id]) for one in detectors]


def describe(detector: Detector, versions: Iterable[Version]) -> dict[str, Any]:
    """A detector as REST shows it."""
    rows = list(versions)
    current = next((one.number for one in rows if one.id == detector.current_version_id), None)
    return {"name": detector.name, "version": current, "versions": [describe_version(one) for one in rows]}


def describe_version(version: Version) -> dict[str, Any]:
    """A version as REST shows it."""
    return {
        "number": version.number,
        "state": version.state,
        "made_by": version.made_by,
        "made_at": version.made_at.isoformat(),
        "note": version.note,
        "figures": version.figures,
    }
