"""Whether the service lives, whether it can work, and its figures."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from fastapi.responses import Response
from prometheus_client import CONTENT_TYPE_LATEST
from sqlalchemy import text

from unlike._version import __version__
from unlike.serving.api.answers import refusals
from unlike.serving.security.roles import Actor, require

router = APIRouter(tags=["health"])


@router.get("/health")
async def health() -> dict[str, Any]:
    """The process answers."""
    return {"status": "alive", "version": __version__}


@router.get("/ready", responses=refusals(503))
def ready(request: Request) -> dict[str, Any]:
    """The database can be written to, and there is room for requests; 503 otherwise."""
    services = request.app.state.services
    with services.database.sessions.begin() as session:
        session.execute(text("SELECT 1"))
    services.scoring.check_room()
    return {"status": "ready"}


@router.get(
    "/metrics",
    responses={200: {"content": {"text/plain": {}}}, **refusals()},
    response_class=Response,
)
def metrics(request: Request, actor: Annotated[Actor, Depends(require("viewer"))]) -> Response:  # noqa: ARG001
    """Figures of this process since it started, for Prometheus."""
    return Response(request.app.state.services.meters.tell(), media_type=CONTENT_TYPE_LATEST)
