"""Images of a service's own sources, taken by threads of it, as if they had been sent by REST."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from sqlalchemy.exc import SQLAlchemyError

from unlike.artifacts import printable
from unlike.calibration.rows import JUDGED
from unlike.errors import ImageError, ServiceError, UnlikeError
from unlike.serving.connections import SourceChoice
from unlike.serving.scoring import Part
from unlike.serving.sources import Arrival, open_arrivals
from unlike.serving.sources.base import client_id
from unlike.serving.sources.taking import LaterError, Outcome, take_all

# detector, images as they are read -> the rows of the images, in order; a ServiceError that is `passing` where it is busy
ScoreImages = Callable[[str, Iterator[Part]], Sequence[Mapping[str, Any]]]
AGAIN_SECONDS = 30.0  # before a source that failed is opened again
PASSING = (0, 404, 500, 503)  # of a refusal that says nothing of the images: such as a detector that is not there yet
log = logging.getLogger("unlike.serving")


class ServiceScorer:
    """Scores by the service that it is part of."""

    def __init__(self, score: ScoreImages, detector: str, origin: str) -> None:
        self._score, self._detector, self._origin = score, detector, origin

    def score(self, arrivals: Sequence[Arrival]) -> list[Outcome]:
        """One outcome each; a LaterError where the service is busy, or its database is away."""
        lost: dict[str, str] = {}
        try:
            rows = iter(self._score(self._detector, self._read(arrivals, lost)))
        except ServiceError as error:
            if error.passing or error.status in PASSING:
                raise LaterError(str(error), error.wait_seconds) from None
            raise
        except (SQLAlchemyError, OSError) as error:
            raise LaterError(f"the service cannot write down results ({type(error).__name__}).") from error
        return [Outcome(one, None, lost[one.key]) if one.key in lost else _outcome(one, next(rows)) for one in arrivals]

    def _read(self, arrivals: Sequence[Arrival], lost: dict[str, str]) -> Iterator[Part]:
        """The images one by one, as there is room for them; why some cannot be read is put into `lost`."""
        for one in arrivals:
            try:
                yield Part(printable(one.name), client_id(self._origin, one.key), one.content())
            except ImageError as error:
                lost[one.key] = str(error)


def _outcome(arrival: Arrival, row: Mapping[str, Any]) -> Outcome:
    if row["error"]:
        return Outcome(arrival, None, str(row["error"]))
    return Outcome(arrival, {name: row[name] for name in JUDGED})


class Feeder:
    """Takes the images of all sources of a service, a thread each."""

    def __init__(self, score: ScoreImages, sources: Sequence[SourceChoice], folder: Path) -> None:
        self._stopping = threading.Event()
        self._threads = [
            threading.Thread(
                target=self._feed, args=(score, choice, folder), name=f"source {choice.where}", daemon=True
            )
            for choice in sources
        ]

    def start(self) -> None:
        """Begin to take images."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Finish what is under way; what has not been taken is taken after the next start."""
        self._stopping.set()
        for thread in self._threads:
            if thread.ident is not None:
                thread.join(timeout=30)

    def _feed(self, score: ScoreImages, choice: SourceChoice, folder: Path) -> None:
        scorer = ServiceScorer(score, choice.detector, origin_of(choice))
        while not self._stopping.is_set():
            try:
                source = open_arrivals(choice.kind, choice.where, _with_state(choice, folder), log.warning)
                with contextlib.closing(source):
                    take_all(source, scorer, self._stopping, None, log.warning)
            except UnlikeError as error:
                log.warning("source %s: %s; tried again in %g s", choice.where, error, AGAIN_SECONDS)
            except Exception:  # a source of another package can fail in any way
                log.exception("source %s: failed; opened again in %g s", choice.where, AGAIN_SECONDS)
            else:  # a stop was asked for, or no more will come
                return
            self._stopping.wait(AGAIN_SECONDS)


def origin_of(choice: SourceChoice) -> str:
    """What images of a source are called by, so that they count once over restarts.

    >>> origin_of(SourceChoice("cells", "/data/line3"))
    'folder:d96e2cc9'
    """
    place = f"{choice.detector}\n{Path(choice.where).absolute()}" if choice.kind == "folder" else choice.where
    return f"{choice.kind}:{hashlib.sha256(place.encode(errors='surrogateescape')).hexdigest()[:8]}"


def _with_state(choice: SourceChoice, folder: Path) -> dict[str, Any]:
    """A watched folder may be read-only, or be watched for several detectors: what is done is remembered in the service's own."""
    if choice.kind != "folder" or "state" in choice.settings:
        return dict(choice.settings)
    state = folder / f".watch-{origin_of(choice).partition(':')[2]}.sqlite"
    return {**choice.settings, "state": str(state)}
