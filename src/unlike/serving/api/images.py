"""The history: what was scored, pictures of it, and what people said of it."""

from __future__ import annotations

import hashlib
from datetime import datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import Response
from pydantic import BaseModel, Field

from unlike.data.input_spec import restore_map
from unlike.errors import ServiceError
from unlike.serving import history, nearest, pictures
from unlike.serving.api.answers import ImageId, ImageRow, PageOfImages, refusals
from unlike.serving.security import audit
from unlike.serving.security.roles import Actor, require

router = APIRouter(tags=["images"])
Viewer = Annotated[Actor, Depends(require("viewer"))]
Reviewer = Annotated[Actor, Depends(require("reviewer"))]
Side = Annotated[int, Query(ge=16, le=pictures.LONGEST_SIDE, description="Pixels of the longer side")]
KEPT = {"Cache-Control": "private, max-age=86400"}  # of pictures, which stay as they are


class NewReview(BaseModel):
    """What a person says of a verdict."""

    verdict: Literal["right", "false_alarm", "missed"]
    kind: str = Field(default="", max_length=100, description="Of the defect")
    note: str = Field(default="", max_length=2000)


@router.get("/images", response_model=PageOfImages, responses=refusals(404, 422))
def list_images(
    request: Request,
    actor: Viewer,  # noqa: ARG001
    detector: Annotated[str | None, Query(max_length=100)] = None,
    verdict: Literal["anomalous", "normal"] | None = None,
    since: Annotated[datetime | None, Query(alias="from")] = None,
    until: Annotated[datetime | None, Query(alias="to")] = None,
    reviewed: bool | None = None,
    limit: Annotated[int, Query(ge=1, le=history.MOST_ROWS)] = 50,
    cursor: Annotated[str | None, Query(max_length=200)] = None,
) -> dict[str, Any]:
    """The history, the newest first. `next` is the cursor of the page after this one."""
    wanted = history.Wanted(detector, verdict, reviewed, since, until)
    with request.app.state.services.database.readers() as session:
        page = history.list_images(session, wanted, limit, cursor)
    return {"items": page.rows, "next": page.next}


@router.get("/images/{image_id}", response_model=ImageRow, responses=refusals(404))
def read_image(image_id: ImageId, request: Request, actor: Viewer) -> dict[str, Any]:  # noqa: ARG001
    """One image of the history."""
    with request.app.state.services.database.readers() as session:
        history.read_image(session, image_id)
        return history.find_rows(session, [image_id])[image_id]


@router.post("/images/{image_id}/review", response_model=ImageRow, responses=refusals(404, 422))
def review(image_id: ImageId, said: NewReview, request: Request, actor: Reviewer) -> dict[str, Any]:
    """Say whether the detector was right: `right`, `false_alarm`, or `missed`. The latest of an image counts."""
    kind, note = said.kind.replace("\0", ""), said.note.replace("\0", "")
    with request.app.state.services.database.sessions.begin() as session:
        image = history.read_image(session, image_id)
        history.add_review(session, image, said.verdict, kind, note, actor.name)
        audit.record(session, actor.name, "review", image=image_id, verdict=said.verdict, kind=kind)
    with request.app.state.services.database.readers() as session:
        return history.find_rows(session, [image_id])[image_id]


@router.get(
    "/images/{image_id}/image", responses={200: {"content": {"image/jpeg": {}, "image/png": {}}}, **refusals(404)}
)
def draw_image(image_id: ImageId, request: Request, actor: Viewer, side: Side = pictures.LONGEST_SIDE) -> Response:  # noqa: ARG001
    """A picture of the image, for the eye."""
    services = request.app.state.services
    image = pictures.read_kept(services.store, image_id, services.settings.limits.pixels)
    return _picture(pictures.draw_image(image, side))


@router.get(
    "/images/{image_id}/overlay",
    responses={200: {"content": {"image/jpeg": {}, "image/png": {}}}, **refusals(404, 503)},
)
def draw_overlay(image_id: ImageId, request: Request, actor: Viewer, side: Side = pictures.LONGEST_SIDE) -> Response:  # noqa: ARG001
    """The image with its map over it, on the scale that all images of the detector share."""
    services = request.app.state.services
    image = pictures.read_kept(services.store, image_id, services.settings.limits.pixels)
    runner = services.scoring.runner_of(image_id)
    small = services.store.map(image_id)
    if small is None:
        small = services.scoring.see_again(image_id, image)
    whole = restore_map(small, image.shape[:2], runner.spec)
    return _picture(pictures.draw_overlay(image, whole, runner.judging, side))


@router.get("/images/{image_id}/map", responses={200: {"content": {"image/tiff": {}}}, **refusals(404, 503)})
def compute_map(image_id: ImageId, request: Request, actor: Viewer) -> Response:  # noqa: ARG001
    """The map in the image's own pixels, float32, computed again: a TIFF for programs."""
    services = request.app.state.services
    image = pictures.read_kept(services.store, image_id, services.settings.limits.pixels)
    runner = services.scoring.runner_of(image_id)
    whole = restore_map(services.scoring.see_again(image_id, image), image.shape[:2], runner.spec)
    return Response(pictures.write_tiff(whole), media_type="image/tiff", headers=KEPT)


@router.get("/images/{image_id}/nearest", responses=refusals(404, 503))
def find_nearest(image_id: ImageId, request: Request, actor: Viewer) -> dict[str, Any]:  # noqa: ARG001
    """The normal images that it is most like, with small pictures of them as data URIs; none where the detector kept none."""
    services = request.app.state.services
    path = None if services.store is None else services.store.find(image_id)
    if path is None:
        raise ServiceError("the image was not kept; start the service with --images DIR to keep what comes", status=404)
    known = services.catalogue.find(services.scoring.version_of(image_id))
    return {"items": nearest.find_nearest(known, path, services.settings.folder)}


def _picture(content: bytes) -> Response:
    tag = hashlib.blake2b(content, digest_size=8).hexdigest()
    return Response(content, media_type=pictures.media_type(content), headers={**KEPT, "ETag": f'"{tag}"'})
