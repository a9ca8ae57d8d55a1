"""Messages to other programs: what waits, what was sent, and the dead letters, to be sent again or given up."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Query, Request
from fastapi import Path as InPath
from sqlalchemy import select

from unlike.serving.database.tables import Outbox
from unlike.serving.security import audit
from unlike.serving.security.roles import Actor, require
from unlike.serving.sinks import outbox

router = APIRouter(tags=["outbox"])
NOBODY: dict[int | str, dict[str, Any]] = {401: {"description": "Not logged in"}, 403: {"description": "May not"}}
MOST_ID = 2**63 - 1
Viewer = Annotated[Actor, Depends(require("viewer"))]
Admin = Annotated[Actor, Depends(require("admin"))]


@router.get("/outbox", responses=NOBODY)
def list_messages(
    request: Request,
    actor: Viewer,  # noqa: ARG001
    state: Literal["waiting", "sent", "dead"] | None = None,
    sink: Annotated[str | None, Query(max_length=100)] = None,
    before: Annotated[int | None, Query(ge=1, le=MOST_ID, description="Messages older than the one of this id")] = None,
    limit: Annotated[int, Query(ge=1, le=1_000)] = 100,
) -> dict[str, Any]:
    """Messages to sinks, the newest first, and how many there are by sink and state. Those that are `dead` were given up."""
    query = select(Outbox).order_by(Outbox.id.desc()).limit(limit)
    for column, value in ((Outbox.state, state), (Outbox.sink, sink)):
        query = query if value is None else query.where(column == value)
    if before is not None:
        query = query.where(Outbox.id < before)
    with request.app.state.services.database.readers() as session:
        rows = [_describe(one) for one in session.scalars(query)]
        counts: dict[str, dict[str, int]] = {}
        for (name, kept), number in outbox.count(session).items():
            counts.setdefault(name, {})[kept] = number
    return {"items": rows, "next": rows[-1]["id"] if len(rows) == limit else None, "counts": counts}


@router.post("/outbox/retry", responses=NOBODY)
def retry_all(request: Request, actor: Admin) -> dict[str, int]:
    """Send all dead letters again."""
    return _retry(request, actor, None)


@router.post("/outbox/{message_id}/retry", responses={**NOBODY, 404: {"description": "No such dead letter"}})
def retry_one(message_id: Annotated[int, InPath(ge=1, le=MOST_ID)], request: Request, actor: Admin) -> dict[str, int]:
    """Send a dead letter again."""
    return _retry(request, actor, message_id)


@router.delete("/outbox/{message_id}", responses={**NOBODY, 404: {"description": "No such dead letter"}})
def drop(message_id: Annotated[int, InPath(ge=1, le=MOST_ID)], request: Request, actor: Admin) -> dict[str, int]:
    """Give a dead letter up."""
    with request.app.state.services.database.sessions.begin() as session:
        outbox.drop(session, message_id)
        audit.record(session, actor.name, "drop message", message=message_id)
    return {"id": message_id}


def _retry(request: Request, actor: Actor, message_id: int | None) -> dict[str, int]:
    with request.app.state.services.database.sessions.begin() as session:
        number = outbox.retry(session, message_id)
        audit.record(session, actor.name, "retry messages", message=message_id, count=number)
    return {"retried": number}


def _describe(message: Outbox) -> dict[str, Any]:
    names = ("id", "sink", "state", "tries", "last_error", "payload")
    return {**{name: getattr(message, name) for name in names}, "next_at": message.next_at.isoformat()}
