"""`POST /detectors/{name}/score`: how unusual are these images?"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import IO, Annotated, Any

from fastapi import APIRouter, Depends, Query, Request
from starlette.datastructures import FormData, UploadFile

from unlike.errors import ServiceError
from unlike.serving.api.answers import Items, Name, refusals
from unlike.serving.scoring import Part
from unlike.serving.security.roles import Actor, require
from unlike.serving.uploads import Limits, is_zip, read_zip

router = APIRouter(tags=["images"])
SPOOLED = 1_000_000  # bytes of a body that are kept in memory; what is more goes to the disk
DRAINED = 16_000_000  # bytes of a body that are read though nobody wants them, so that who sends it hears why
CLIENT_ID = "The same content under the same id of yours is counted once"
LONGEST_ID = 200
BODY = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["file"],
                    "properties": {
                        "file": {
                            "type": "array",
                            "items": {"type": "string", "format": "binary"},
                            "description": "An image, several, or a zip of images",
                        },
                        "client_id": {
                            "type": "array",
                            "items": {"type": "string", "maxLength": LONGEST_ID},
                            "description": f"{CLIENT_ID}; one for all, or one for each file",
                        },
                    },
                }
            },
            "application/octet-stream": {"schema": {"type": "string", "format": "binary"}},
        },
    }
}


@dataclass(frozen=True, slots=True, eq=False)
class Upload:
    """A file of a request, on the disk where it is large."""

    name: str
    client_id: str
    file: IO[bytes]
    size: int

    @property
    def is_zip(self) -> bool:
        """Whether it is an archive of images."""
        self.file.seek(0)
        return is_zip(self.file.read(4))


@router.post(
    "/detectors/{name}/score",
    response_model=Items,
    openapi_extra=BODY,
    responses=refusals(400, 404, 408, 413, 415, 422, 503),
)
async def score(
    name: Name,
    request: Request,
    actor: Annotated[Actor, Depends(require("reviewer"))],  # noqa: ARG001
    client_id: Annotated[str, Query(max_length=LONGEST_ID, description=CLIENT_ID)] = "",
    file_name: Annotated[str, Query(alias="name", max_length=400, description="Of a raw body")] = "image",
) -> dict[str, Any]:
    """Score one image, several, or a zip of images: as form fields `file`, or as the body itself.

    Results are in the history before they are answered. Of several images, one that cannot be used has an `error`; one that comes
    alone is refused with 4xx. 503 with Retry-After: busy; the same request may be sent again, and counts once.
    """
    services = request.app.state.services
    limits: Limits = services.settings.limits
    try:
        async with services.scoring.admitted():
            if request.headers.get("content-type", "").startswith("multipart/form-data"):
                async with _soon(services.settings.body_seconds):
                    form = await request.form(max_files=limits.files, max_fields=limits.files)
                try:
                    return await _score(services, name, _uploads(form, client_id), limits)
                finally:
                    await form.close()
            with tempfile.SpooledTemporaryFile(SPOOLED) as body:
                async with _soon(services.settings.body_seconds):
                    size = await _save(request, body)
                return await _score(services, name, [Upload(file_name, client_id, body, size)], limits)
    except ServiceError as error:
        if error.status == 503:
            await _drain(request)
        raise


@asynccontextmanager
async def _soon(seconds: float) -> AsyncIterator[None]:
    """Who sends too slowly holds a place that others wait for: a ServiceError (408) after that long."""
    try:
        async with asyncio.timeout(seconds):
            yield
    except TimeoutError:
        raise ServiceError(
            f"the request did not arrive within {seconds:g} seconds; send it in parts", status=408
        ) from None


async def _score(services: Any, name: str, uploads: list[Upload], limits: Limits) -> dict[str, Any]:
    alone = len(uploads) == 1 and not await services.scoring.run(lambda: uploads[0].is_zip)
    return {"items": await services.scoring.score(name, parts_of(uploads, limits), alone=alone)}


def parts_of(uploads: list[Upload], limits: Limits) -> Iterator[Part]:
    """The images of a request, each read when it is asked for."""
    for upload in uploads:
        if upload.is_zip:
            upload.file.seek(0)
            for name, content in read_zip(upload.file, limits):
                yield Part(name, upload.client_id, content)
            continue
        upload.file.seek(0)  # one that is too long is read as far as it takes to be refused
        yield Part(upload.name, upload.client_id, upload.file.read(limits.file_bytes + 1))


def _uploads(form: FormData, client_id: str) -> list[Upload]:
    """The files of a form, each with its client id."""
    files = [one for one in form.getlist("file") if isinstance(one, UploadFile)]
    ids = [one for one in form.getlist("client_id") if isinstance(one, str)] or [client_id]
    if not files:
        raise ServiceError("expected a form with a field `file`, once for each image; came none", status=422)
    if len(ids) not in (1, len(files)):
        raise ServiceError(
            f"client_id: expected one, or one for each of {len(files)} files, came {len(ids)}", status=422
        )
    if any(len(one) > LONGEST_ID for one in ids):
        raise ServiceError(f"client_id: expected up to {LONGEST_ID} characters", status=422)
    each = ids * len(files) if len(ids) == 1 else ids
    return [
        Upload(file.filename or "image", one.replace("\0", ""), file.file, file.size or 0)
        for file, one in zip(files, each, strict=True)
    ]


async def _save(request: Request, file: Any) -> int:
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
        file.write(chunk)
    return size


async def _drain(request: Request) -> None:
    """Read what is still coming, if it is not much: who is sending it reads no answer before the end."""
    if int(request.headers.get("content-length", DRAINED + 1)) > DRAINED or request.headers.get("expect"):
        return
    try:
        async for _ in request.stream():
            pass
    except RuntimeError:  # it was read already
        return
