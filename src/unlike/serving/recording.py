"""A thread that writes results: all that wait in one transaction, and whoever waits is told when that is on the disk."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from unlike.errors import ServiceError
from unlike.serving import history
from unlike.serving.database.engine import Database
from unlike.serving.database.tables import Image

MOST_AT_ONCE = 100  # results of a transaction
Tell = Callable[[Session, list[dict[str, Any]]], None]  # what is to happen with new rows, in their transaction


@dataclass(frozen=True, slots=True)
class Result:
    """A row of `images` to be written, with the names of its detector and version."""

    values: dict[str, Any]
    detector: str
    version: int


@dataclass(frozen=True, slots=True, eq=False)
class _Waiting:
    result: Result
    written: Future[dict[str, Any]]


class Recorder:
    """Writes results to the history; the row of a repeat is the first one's.

    `tell` is called with rows that are new, in the transaction that writes them: what it writes is there if they are.
    """

    def __init__(self, database: Database, tell: Sequence[Tell] = ()) -> None:
        self._database = database
        self.tell = list(tell)
        self._queue: deque[_Waiting] = deque()
        self._changed = threading.Condition()
        self._stopping = False
        self._thread = threading.Thread(target=self._work, name="recorder", daemon=True)

    def start(self) -> None:
        """Begin to work."""
        self._thread.start()

    def stop(self) -> None:
        """Write what waits, and end."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        self._thread.join(timeout=30)

    def submit(self, result: Result) -> Future[dict[str, Any]]:
        """Have a result written; its row is there when it is committed."""
        waiting = _Waiting(result, Future())
        with self._changed:
            if self._stopping:
                raise ServiceError("the service is stopping", status=503, passing=True)
            self._queue.append(waiting)
            self._changed.notify()
        return waiting.written

    def _work(self) -> None:
        while parts := self._take():
            try:
                rows = self._write([part.result for part in parts])
            except SQLAlchemyError as error:
                self._write_each(parts, error)
            except BaseException as error:  # noqa: BLE001 (whoever waits is told, and the thread goes on)
                _refuse(parts, error)
            else:
                for part in parts:
                    with suppress(Exception):  # nobody waits for it any more
                        part.written.set_result(rows[part.result.values["id"]])

    def _write_each(self, parts: list[_Waiting], error: SQLAlchemyError) -> None:
        """After a failure: one by one, where it may be the fault of one of them; all are refused where the database is away."""
        if len(parts) == 1 or is_away(error):
            _refuse(parts, error)
            return
        for part in parts:
            try:
                part.written.set_result(self._write([part.result])[part.result.values["id"]])
            except BaseException as own:  # noqa: BLE001
                _refuse([part], own)

    def _take(self) -> list[_Waiting]:
        with self._changed:
            while not self._queue and not self._stopping:
                self._changed.wait()
            return [self._queue.popleft() for _ in range(min(len(self._queue), MOST_AT_ONCE))]

    def _write(self, results: list[Result]) -> dict[str, dict[str, Any]]:
        """Write results in one transaction; the rows by their ids, once it is committed."""
        with self._database.sessions.begin() as session:
            new = history.record(session, [result.values for result in results])
            rows = {
                result.values["id"]: history.image_row(Image(**result.values), result.detector, result.version)
                for result in results
                if result.values["id"] in new
            }
            for tell in self.tell if rows else ():
                tell(session, list(rows.values()))
            repeated = [result.values["id"] for result in results if result.values["id"] not in new]
            return rows | history.find_rows(session, repeated)


def is_away(error: SQLAlchemyError) -> bool:
    """Whether a database cannot be reached or written to at all, so that trying again later may help."""
    from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
    from sqlalchemy.exc import TimeoutError as PoolTimeout

    lost = isinstance(error, DBAPIError) and error.connection_invalidated
    return lost or isinstance(error, InterfaceError | OperationalError | PoolTimeout)


def _refuse(parts: list[_Waiting], error: BaseException) -> None:
    for part in parts:
        with suppress(Exception):
            part.written.set_exception(error)
