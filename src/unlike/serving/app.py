"""The service as one ASGI application: what it is made of, what runs while it runs, and how errors are answered."""

from __future__ import annotations

import asyncio
import errno
import logging
import math
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from typing import Any

from fastapi import FastAPI, HTTPException, Request
from fastapi.responses import JSONResponse, Response
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session
from starlette.exceptions import HTTPException as StarletteHTTPException

from unlike._version import __version__
from unlike.errors import OutputError, ServiceError, UnlikeError
from unlike.serving.catalogue import Catalogue
from unlike.serving.connections import SinkChoice
from unlike.serving.database.engine import Database, default_url, open_database
from unlike.serving.inference import Inference
from unlike.serving.jobs.runner import Jobs
from unlike.serving.meters import Metered, Meters
from unlike.serving.pictures import ImageStore
from unlike.serving.recording import Recorder, is_away
from unlike.serving.scoring import Part, Scoring
from unlike.serving.security.gate import Security
from unlike.serving.security.headers import HEADERS, Guard
from unlike.serving.settings import ServeSettings
from unlike.serving.sinks.outbox import Dispatcher, enqueue
from unlike.serving.sources.feeding import Feeder

ROUTERS = (  # each module has a `router`
    "unlike.serving.api.scoring",
    "unlike.serving.api.images",
    "unlike.serving.api.detectors",
    "unlike.serving.api.jobs",
    "unlike.serving.api.users",
    "unlike.serving.api.outbox",
    "unlike.serving.api.health",
    "unlike.serving.web.routes",
)
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
log = logging.getLogger("unlike.serving")


@dataclass(slots=True)
class Services:
    """What endpoints work with, as `request.app.state.services`."""

    settings: ServeSettings
    database: Database
    catalogue: Catalogue
    inference: Inference
    recorder: Recorder
    scoring: Scoring
    security: Security
    meters: Meters
    store: ImageStore | None  # of images; None where none are kept
    dispatcher: Dispatcher  # of messages to other programs
    jobs: Jobs

    def start(self) -> None:
        """Begin to work."""
        for note in self.catalogue.take_in():
            log.info(note)
        self.inference.start()
        self.recorder.start()
        self.dispatcher.start()
        for note in self.jobs.start():
            log.info(note)

    def stop(self) -> None:
        """Finish what is under way, and let go of everything."""
        self.jobs.stop()
        self.scoring.stop()
        self.inference.stop()
        self.recorder.stop()
        self.dispatcher.stop()
        self.database.close()


def create_app(settings: ServeSettings) -> FastAPI:
    """The service of a folder of detectors. Opens its database, and takes in what lies in the folder when it starts."""
    services = make_services(settings)
    services.security.check_start()
    app = FastAPI(
        title="unlike", version=__version__, lifespan=_lifespan, description=__doc__, docs_url=None, redoc_url=None
    )
    app.state.services = services
    for name in ROUTERS:
        app.include_router(import_module(name).router)
    app.add_exception_handler(UnlikeError, _answer_refusal)
    app.add_exception_handler(SQLAlchemyError, _answer_database)
    app.add_exception_handler(OSError, _answer_disk)
    app.add_exception_handler(StarletteHTTPException, _answer_http)
    app.add_exception_handler(Exception, _answer_fault)
    app.add_middleware(Metered, meters=services.meters)
    app.add_middleware(
        Guard, loopback=settings.loopback, request_bytes=settings.limits.request_bytes, hosts=settings.hosts
    )
    return app


def make_services(settings: ServeSettings) -> Services:
    """All that endpoints work with, at rest."""
    database = open_database(settings.db or default_url(settings.folder))
    catalogue, meters = Catalogue(settings.folder, database), Meters()
    inference = Inference(settings.batch, settings.workers, most=4 * settings.batch * settings.workers + 64)
    sinks = settings.connections.sinks
    dispatcher = Dispatcher(database, sinks)
    recorder = Recorder(database, [partial(_tell_sinks, sinks)] if sinks else [])
    store = None if settings.images is None else ImageStore(settings.images)
    scoring = Scoring(settings, database, catalogue, inference, recorder, meters, store)
    meters.watch("unlike_requests_taken_on", "Requests to score that are under way", lambda: scoring.requests)
    meters.watch("unlike_images_waiting", "Images that wait to be scored", lambda: inference.waiting)
    meters.watch("unlike_batches", "Micro-batches that were scored", lambda: inference.batches)
    security = Security(database, loopback=settings.loopback)
    jobs = Jobs(database, catalogue, settings.db or default_url(settings.folder), settings.images)
    return Services(
        settings, database, catalogue, inference, recorder, scoring, security, meters, store, dispatcher, jobs
    )


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    services: Services = app.state.services
    services.start()
    loop, connections = asyncio.get_running_loop(), services.settings.connections
    feeder = Feeder(partial(_score_from_thread, services, loop), connections.sources, services.settings.folder)
    feeder.start()
    try:
        yield
    finally:
        await asyncio.to_thread(feeder.stop)  # whose threads wait for this loop
        services.stop()


def _tell_sinks(sinks: Sequence[SinkChoice], session: Session, rows: list[dict[str, Any]]) -> None:
    """Put new rows into the outbox, in their transaction."""
    enqueue(session, sinks, rows)


def _score_from_thread(
    services: Services, loop: asyncio.AbstractEventLoop, name: str, parts: Iterator[Part]
) -> list[dict[str, Any]]:
    """Score images of a source of the service's own, as a request is: admitted, and written down before it returns."""

    async def ask() -> list[dict[str, Any]]:
        async with services.scoring.admitted():
            return await services.scoring.score(name, parts, alone=False)

    return asyncio.run_coroutine_threadsafe(ask(), loop).result()


def refuse(status: int, detail: str, wait_seconds: float | None = None) -> JSONResponse:
    """An answer that says in a sentence why not."""
    headers = {} if wait_seconds is None else {"Retry-After": str(max(1, math.ceil(wait_seconds)))}
    return JSONResponse({"detail": detail}, status, headers)


def _answer_refusal(request: Request, error: Any) -> Response:
    services: Services = request.app.state.services
    text = str(error).replace(f"{services.settings.folder}/", "")
    if isinstance(error, OutputError):
        log.warning("%s", error)
        return refuse(503, "the disk is full or cannot be written; send it again later", 5.0)
    if not isinstance(error, ServiceError):
        return refuse(422, text)
    wait = error.wait_seconds if error.wait_seconds is not None or not error.passing else 1.0
    return refuse(error.status or 422, text, wait)


def _answer_database(request: Request, error: Any) -> Response:
    if is_away(error):
        log.warning("the database cannot be used: %s", getattr(error, "orig", error))
        return refuse(503, "the database cannot be reached or is full; send it again later", 2.0)
    return _answer_fault(request, error)


def _answer_disk(request: Request, error: Any) -> Response:
    if getattr(error, "errno", None) in FULL:
        log.warning("the disk cannot be written: %s", error)
        return refuse(503, "the disk is full; send it again later", 5.0)
    return _answer_fault(request, error)


def _answer_http(request: Request, error: Any) -> Response:  # noqa: ARG001
    found: HTTPException = error
    return JSONResponse({"detail": found.detail}, found.status_code, found.headers)


def _answer_fault(request: Request, error: Any) -> Response:
    """A fault of ours: it stands in the log, and says nothing of itself to who asked."""
    log.error("%s %s failed", request.method, request.url.path, exc_info=error)
    answer = refuse(500, "the service made a mistake, which stands in its log; the request was not carried out")
    answer.headers.update(HEADERS)  # it is answered from outside of the guard
    return answer
