"""Detectors from uploads, jobs and their progress, and what becomes of versions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Query, Request
from fastapi import Path as InPath
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from sqlalchemy import select
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import FormData, UploadFile

from unlike.errors import ConfigError, ServiceError
from unlike.serving.catalogue import check_detector_name
from unlike.serving.database.tables import Detector
from unlike.serving.jobs import normals, store, versions
from unlike.serving.jobs.fitting import FitChoices
from unlike.serving.security import audit
from unlike.serving.security.roles import Actor, require

router = APIRouter(tags=["jobs and versions"])
MOST_ID = 2**31 - 1
Id = Annotated[int, InPath(ge=1, le=MOST_ID)]
Name = Annotated[str, InPath(max_length=100, description="Of a detector")]
Number = Annotated[int, Field(ge=1, le=MOST_ID, description="Of a version")]
Note = Annotated[str, Field(max_length=2_000)]
Share = Annotated[float, Field(gt=0, lt=1)]
Side = Annotated[int, Field(ge=8, le=8_192)]
Viewer = Annotated[Actor, Depends(require("viewer"))]
Reviewer = Annotated[Actor, Depends(require("reviewer"))]
Admin = Annotated[Actor, Depends(require("admin"))]
SAID: dict[int | str, dict[str, Any]] = {
    status: {"description": why}
    for status, why in {
        401: "Not logged in",
        403: "May not",
        404: "No such detector, version or job",
        409: "Not in this state",
        413: "Too much",
        415: "No images",
        422: "Cannot be used",
        503: "Busy",
    }.items()
}
CHOICES = ("preset", "size", "epochs", "false_alarms", "contamination", "group_by", "seed")
FILES: dict[str, Any] = {  # of a multipart form, read by hand so that its size has bounds
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "properties": {
                        "file": {"type": "array", "items": {"type": "string", "format": "binary"}},
                        "name": {"type": "string", "description": "Of the detector"},
                        "note": {"type": "string"},
                        "fit": {"type": "boolean", "default": True, "description": "False: only look at them"},
                        "inspect": {"type": "boolean", "default": True, "description": "Look at them before a fit"},
                        **{name: {"type": "string", "description": "As `choices` of a fit"} for name in CHOICES},
                    },
                    "required": ["file"],
                }
            }
        },
    }
}


class Strict(BaseModel):
    """A body in which nothing may stand that is not known."""

    model_config = ConfigDict(extra="forbid")


class Choices(Strict):
    """What may be chosen of a fit; what is left out is as `unlike fit` has it."""

    preset: Annotated[str, Field(max_length=100)] | None = None
    size: Side | tuple[Side, Side] | Literal["auto", "native"] | None = None
    epochs: Annotated[int, Field(ge=1, le=100_000)] | None = None
    false_alarms: Share | Literal["auto"] | None = None
    contamination: Annotated[float, Field(ge=0, lt=0.5)] | Literal["none", "auto"] | None = None
    group_by: Annotated[str, Field(max_length=500)] | None = None
    seed: Annotated[int, Field(ge=0, le=MOST_ID)] = 0


class FitRequest(Strict):
    """Fit a new version of a detector."""

    uploads: Annotated[list[Annotated[str, Field(max_length=100)]], Field(max_length=1_000)] | None = Field(
        default=None, description="Which uploads of normal images; all if left out"
    )
    reviewed: bool = Field(default=True, description="Images that were reviewed as normal join")
    inspect: bool = Field(default=True, description="Look at the images first")
    export: bool = Field(default=True, description="Make an export, by which scoring needs no torch")
    choices: Choices = Choices()
    note: Note = ""


class CalibrateRequest(Strict):
    """Draw the threshold of a version anew."""

    version: Number | None = Field(default=None, description="The current one if left out")
    false_alarms: Share | Literal["auto"] | None = None
    threshold: Annotated[str, Field(max_length=100)] | None = Field(default=None, description="The rule")
    drop: Annotated[int, Field(ge=0, le=1_000)] = 0
    without: Annotated[list[Annotated[str, Field(max_length=500)]], Field(max_length=1_000)] = []
    reviewed: bool = Field(default=False, description="By images reviewed as normal that the detector does not know")
    export: bool = Field(default=True, description="Make an export, by which scoring needs no torch")
    promote: bool = Field(default=False, description="Have it score at once; takes an admin")
    note: Note = ""


class CompareRequest(Strict):
    """Hold versions against each other on reviewed images."""

    versions: Annotated[list[Number], Field(min_length=1, max_length=8)]


class VersionRequest(Strict):
    """Promote or discard a version."""

    version: Number
    note: Note = ""


class RollbackRequest(Strict):
    """Go back to the version before."""

    note: Note = ""


@router.post("/detectors", status_code=202, responses=SAID, openapi_extra=FILES)
async def add_detector(request: Request, actor: Admin) -> dict[str, Any]:
    """A first detector from normal images: files of a folder, or one zip. They are looked at first, then fitted on."""
    async with request.form(max_files=_limits(request).files, max_fields=50) as form:
        return await run_in_threadpool(_add_detector, request, form, actor)


@router.post("/detectors/{name}/normals", status_code=201, responses=SAID, openapi_extra=FILES)
async def add_normals(name: Name, request: Request, actor: Reviewer) -> dict[str, Any]:
    """More normal images of a detector, to fit again on."""
    async with request.form(max_files=_limits(request).files, max_fields=50) as form:
        return await run_in_threadpool(_keep, request, check_detector_name(name), form, actor)


@router.get("/detectors/{name}/normals", responses=SAID)
def list_normals(name: Name, request: Request, actor: Viewer) -> dict[str, Any]:  # noqa: ARG001
    """Normal images that are kept, by upload."""
    check_detector_name(name)
    return {"items": normals.list_uploads(request.app.state.services.settings.folder, name)}


@router.delete("/detectors/{name}/normals/{upload}", responses=SAID)
def remove_normals(
    name: Name, upload: Annotated[str, InPath(max_length=100)], request: Request, actor: Admin
) -> dict[str, Any]:
    """Delete an upload: no later fit will know it."""
    services = request.app.state.services
    normals.remove(services.settings.folder, check_detector_name(name), upload)
    with services.database.sessions.begin() as session:
        audit.record(session, actor.name, "remove normal images", detector=name, upload=upload)
    return {"detector": name, "upload": upload}


@router.post("/detectors/{name}/fit", status_code=202, responses=SAID)
def fit(name: Name, request: Request, actor: Reviewer, wanted: FitRequest | None = None) -> dict[str, Any]:
    """Fit a new version: a candidate, compared with the current one on reviewed images."""
    wanted = wanted or FitRequest()
    _check_choices(wanted.choices.model_dump())
    there = {one["upload"] for one in normals.list_uploads(request.app.state.services.settings.folder, name)}
    if missing := [one for one in wanted.uploads or () if one not in there]:
        raise ServiceError(f"{name} has no upload {missing[0][:60]!r}; see GET /detectors/{name}/normals", status=422)
    return _start(request, "fit", name, wanted.model_dump(), actor, first=bool(there) and actor.may("admin"))


@router.post("/detectors/{name}/calibrate", status_code=202, responses=SAID)
def calibrate(name: Name, request: Request, actor: Reviewer, wanted: CalibrateRequest) -> dict[str, Any]:
    """A new version with another threshold, without fitting again."""
    if wanted.promote and not actor.may("admin"):
        raise ServiceError("only an admin has a new version score at once; leave `promote` out", status=403)
    return _start(request, "calibrate", name, wanted.model_dump(), actor, [wanted.version] if wanted.version else [])


@router.post("/detectors/{name}/compare", status_code=202, responses=SAID)
def compare(name: Name, request: Request, actor: Reviewer, wanted: CompareRequest) -> dict[str, Any]:
    """AUROC, what is found, and false alarms of versions on the same reviewed images, with intervals."""
    numbers = list(dict.fromkeys(wanted.versions))
    return _start(request, "compare", name, {"versions": numbers}, actor, numbers)


@router.post("/detectors/{name}/promote", responses=SAID)
def promote(name: Name, request: Request, actor: Admin, wanted: VersionRequest) -> dict[str, Any]:
    """Have a version score from now on."""
    catalogue = request.app.state.services.catalogue
    with catalogue.changing() as session:
        return versions.promote(session, catalogue, name, wanted.version, actor.name, wanted.note)


@router.post("/detectors/{name}/rollback", responses=SAID)
def roll_back(name: Name, request: Request, actor: Admin, wanted: RollbackRequest | None = None) -> dict[str, Any]:
    """Have the version score again that did before the one that scores now."""
    catalogue = request.app.state.services.catalogue
    with catalogue.changing() as session:
        return versions.roll_back(session, catalogue, name, actor.name, wanted.note if wanted else "")


@router.post("/detectors/{name}/discard", responses=SAID)
def discard(name: Name, request: Request, actor: Admin, wanted: VersionRequest) -> dict[str, Any]:
    """Never have a version score again."""
    with request.app.state.services.catalogue.changing() as session:
        return versions.discard(session, name, wanted.version, actor.name, wanted.note)


@router.get("/jobs", responses=SAID)
def list_jobs(
    request: Request,
    actor: Viewer,  # noqa: ARG001
    detector: Annotated[str | None, Query(max_length=100)] = None,
    state: Literal["queued", "running", "done", "failed", "interrupted"] | None = None,
    before: Annotated[int | None, Query(ge=1, le=MOST_ID, description="Jobs older than the one of this id")] = None,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
) -> dict[str, Any]:
    """Jobs, the newest first."""
    with request.app.state.services.database.readers() as session:
        rows = store.read_jobs(session, detector=detector, state=state, before=before, limit=limit)
    return {"items": rows, "next": rows[-1]["id"] if len(rows) == limit else None}


@router.get("/jobs/{job_id}", responses=SAID)
def read_job(job_id: Id, request: Request, actor: Viewer) -> dict[str, Any]:  # noqa: ARG001
    """A job: how far it is (`progress`, 0 to 1), and what it found."""
    with request.app.state.services.database.readers() as session:
        return store.read_job(session, job_id)


@router.post("/jobs/{job_id}/cancel", responses=SAID)
def cancel_job(job_id: Id, request: Request, actor: Reviewer) -> dict[str, Any]:
    """End a job that waits or runs: one's own, or any for an admin."""
    services = request.app.state.services
    with services.database.sessions.begin() as session:
        owner = store.find(session, job_id).by
        if owner != actor.name and not actor.may("admin"):
            raise ServiceError(f"job {job_id} is {owner}'s; ask an admin to cancel it", status=403)
        store.cancel(session, job_id, actor.name)
        audit.record(session, actor.name, "cancel job", job=job_id)
    services.jobs.wake()
    with services.database.readers() as session:
        return store.read_job(session, job_id)


def _add_detector(request: Request, form: FormData, actor: Actor) -> dict[str, Any]:
    services = request.app.state.services
    name = check_detector_name(_text(form, "name"))
    chosen = _read_choices(form)
    _check_choices(chosen)
    kind = "inspect" if _is_off(form, "fit") else "fit"
    kept = _keep(request, name, form, actor)
    note = _text(form, "note")[:2_000]
    arguments = {"detector": name, "uploads": [kept["upload"]], "reviewed": False, "choices": chosen, "note": note}
    arguments["inspect"] = kind == "inspect" or not _is_off(form, "inspect")
    with services.database.sessions.begin() as session:
        detector = session.scalar(select(Detector.id).where(Detector.name == name))
        job = store.put_in_line(session, kind, detector, arguments, actor.name)
        audit.record(session, actor.name, kind, detector=name, job=job.id, upload=kept["upload"])
        told = store.describe(job, name)
    services.jobs.wake()
    return {**told, "upload": kept}


def _keep(request: Request, name: str, form: FormData, actor: Actor) -> dict[str, Any]:
    services = request.app.state.services
    files = [one for one in form.getlist("file") if isinstance(one, UploadFile)]
    if not files:
        raise ServiceError("expected images, or one zip of them, as `file` of a multipart form; came none", status=422)
    named = ((one.filename or "", one.file) for one in files)
    kept = normals.keep(services.settings.folder, name, named, services.settings.limits)
    with services.database.sessions.begin() as session:
        audit.record(session, actor.name, "upload normal images", detector=name, upload=kept.id, images=kept.images)
    return kept.describe()


def _start(
    request: Request,
    kind: str,
    name: str,
    arguments: dict[str, Any],
    actor: Actor,
    numbers: Sequence[int] = (),
    *,
    first: bool = False,
) -> dict[str, Any]:
    """Put a job in line; the `first` fit of a detector, whose normal images were only looked at so far, has none yet."""
    services = request.app.state.services
    with services.database.sessions.begin() as session:
        there = session.scalar(select(Detector).where(Detector.name == name)) if first else None
        if first and there is None:
            arguments = {"detector": check_detector_name(name), **arguments}
        detector = None if first and there is None else versions.find_detector(session, name)
        for number in numbers:
            versions.check_number(session, name, number)
        job = store.put_in_line(session, kind, None if detector is None else detector.id, arguments, actor.name)
        audit.record(session, actor.name, kind, detector=name, job=job.id)
        told = store.describe(job, name)
    services.jobs.wake()
    return told


def _check_choices(chosen: dict[str, Any]) -> None:
    """Raise ServiceError (422) at once where no fit could be made of these."""
    try:
        FitChoices.of(chosen).detector()
    except ConfigError as error:
        raise ServiceError(str(error), status=422) from None


def _text(form: FormData, name: str) -> str:
    found = form.get(name, "")
    return found if isinstance(found, str) else ""


def _is_off(form: FormData, name: str) -> bool:
    return _text(form, name).lower() in ("false", "0", "no", "off")


def _read_choices(form: FormData) -> dict[str, Any]:
    given = {name: text for name in CHOICES if (text := _text(form, name))}
    try:
        return Choices.model_validate(given).model_dump()
    except ValidationError as error:
        first = error.errors()[0]
        where = str(first["loc"][0]) if first["loc"] else "choices"
        raise ServiceError(f"{where}: {first['msg']}, came {given.get(where, '')[:40]!r}", status=422) from None


def _limits(request: Request) -> Any:
    return request.app.state.services.settings.limits
