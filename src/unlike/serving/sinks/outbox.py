"""Messages that wait to be sent: written together with the results they tell of, so that none is lost and none invented.

A message is sent at least once: a kill between its receipt and the note of it sends it again, under the same number.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import delete, func, select, update
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from unlike.errors import ServiceError
from unlike.serving.connections import SinkChoice, open_sink
from unlike.serving.database.engine import Database
from unlike.serving.database.tables import Outbox, now
from unlike.serving.sinks.base import Delivery, Fate, Message, Sink

WAITING, SENT, DEAD = "waiting", "sent", "dead"
BATCH = 20  # messages at a time: so many may come twice after a kill
POLL_SECONDS = 0.25  # between two looks for messages
LEASE = timedelta(seconds=60)  # that a message is one server's to send; after a kill another, or the next, takes it
TRIES = 30  # with the waits below, about a day
FIRST_WAIT, LONGEST_WAIT = 5.0, 3600.0  # seconds before a message is tried again
AWAY_WAIT, LONGEST_AWAY = 1.0, 60.0  # seconds before a sink is, where nobody is there
KEPT = timedelta(days=7)  # that what was sent stays to be looked at
TIDY_SECONDS = 3600.0
log = logging.getLogger("unlike.serving")


def enqueue(session: Session, sinks: Iterable[SinkChoice], items: Sequence[Mapping[str, Any]]) -> int:
    """Put rows of images into the outbox, one message for each sink that wants it; in the caller's transaction."""
    messages = [Outbox(sink=sink.name, payload=dict(item)) for sink in sinks for item in items if sink.wants(item)]
    session.add_all(messages)
    return len(messages)


def count(session: Session) -> dict[tuple[str, str], int]:
    """How many messages there are, by sink and state."""
    rows = session.execute(select(Outbox.sink, Outbox.state, func.count()).group_by(Outbox.sink, Outbox.state))
    return {(sink, state): number for sink, state, number in rows}


def retry(session: Session, message_id: int | None = None) -> int:
    """Have dead letters sent again, all unless one is named; how many. A ServiceError (404) where there is none of that number."""
    chosen = update(Outbox).where(Outbox.state == DEAD).values(state=WAITING, tries=0, next_at=now())
    if message_id is not None:
        chosen = chosen.where(Outbox.id == message_id)
    number = int(session.execute(chosen).rowcount)  # type: ignore[attr-defined]
    if message_id is not None and not number:
        raise ServiceError("there is no dead letter of that number", status=404)
    return number


def drop(session: Session, message_id: int) -> None:
    """Give a dead letter up; a ServiceError (404) where there is none of that number."""
    gone = session.execute(delete(Outbox).where(Outbox.id == message_id, Outbox.state == DEAD))
    if not gone.rowcount:  # type: ignore[attr-defined]
        raise ServiceError("there is no dead letter of that number", status=404)


def claim(session: Session, sink: str, limit: int = BATCH) -> list[tuple[Message, int]]:
    """Messages that are due, in order, and how often each was tried; nobody else takes them for a while."""
    due = (
        select(Outbox)
        .where(Outbox.sink == sink, Outbox.state == WAITING, Outbox.next_at <= now())
        .order_by(Outbox.id)
        .limit(limit)
        .with_for_update(skip_locked=True)
    )
    found = list(session.scalars(due))
    if found:
        held = update(Outbox).where(Outbox.id.in_([one.id for one in found])).values(next_at=now() + LEASE)
        session.execute(held)
    return [(Message(one.id, one.payload), one.tries) for one in found]


def settle(
    session: Session, claimed: Sequence[tuple[Message, int]], deliveries: Sequence[Delivery], wait: float
) -> None:
    """Note what became of messages; `wait` seconds is how long a sink is left alone where nobody was there."""
    for (message, tries), delivery in zip(claimed, deliveries, strict=True):
        row = update(Outbox).where(Outbox.id == message.id, Outbox.state == WAITING)
        session.execute(row.values(**_after(delivery, tries, wait)))


def _after(delivery: Delivery, tries: int, wait: float) -> dict[str, Any]:
    error = delivery.error[:500]
    if delivery.fate is Fate.SENT:
        return {"state": SENT, "tries": tries + 1, "next_at": now(), "last_error": ""}
    if delivery.fate is Fate.AWAY:
        return {"next_at": now() + timedelta(seconds=wait), "last_error": error}
    if delivery.fate is Fate.REFUSED or tries + 1 >= TRIES:
        return {"state": DEAD, "tries": tries + 1, "next_at": now(), "last_error": error}
    return {"tries": tries + 1, "next_at": _next_try(tries), "last_error": error}


def _next_try(tries: int) -> datetime:
    """Later each time, and not all at once."""
    seconds = min(FIRST_WAIT * 2**tries, LONGEST_WAIT) * random.uniform(0.8, 1.2)  # noqa: S311 (no secret)
    return now() + timedelta(seconds=seconds)


class Dispatcher:
    """Sends what waits in the outbox, one thread a sink: a slow one holds up no other."""

    def __init__(self, database: Database, sinks: Sequence[SinkChoice]) -> None:
        self._couriers = [_Courier(database, choice.name, open_sink(choice)) for choice in sinks]

    def start(self) -> None:
        """Begin to send."""
        for one in self._couriers:
            one.start()

    def stop(self) -> None:
        """Finish what is under way; the rest waits for the next start."""
        for one in self._couriers:
            one.stopping.set()
        for one in self._couriers:
            if one.ident is not None:
                one.join(timeout=30)
            one.sink.close()


class _Courier(threading.Thread):
    """Takes messages of one sink to it."""

    def __init__(self, database: Database, name: str, sink: Sink) -> None:
        super().__init__(name=f"sink {name}", daemon=True)
        self.sink, self.stopping = sink, threading.Event()
        self._database, self._sink_name = database, name
        self._wait, self._told = AWAY_WAIT, False
        self._tidied = 0.0

    def run(self) -> None:
        while not self.stopping.is_set():
            try:
                busy = self.carry()
            except SQLAlchemyError as error:
                self._tell(f"the database is away ({type(error).__name__})")
                busy = False
                self.stopping.wait(AWAY_WAIT)
            if not busy:
                self.stopping.wait(POLL_SECONDS)

    def carry(self) -> bool:
        """Send some messages; whether there were any."""
        if not self._any_due():
            return False
        with self._database.sessions.begin() as session:
            claimed = claim(session, self._sink_name)
        if not claimed:
            return False
        deliveries = self._send([message for message, _ in claimed])
        away = next((one.error for one in deliveries if one.fate is Fate.AWAY), None)
        with self._database.sessions.begin() as session:
            settle(session, claimed, deliveries, self._wait)
        if away is None:
            self._wait, self._told = AWAY_WAIT, False
        else:
            self._tell(away)
            self.stopping.wait(self._wait)
            self._wait = min(2 * self._wait, LONGEST_AWAY)
        return True

    def _send(self, messages: Sequence[Message]) -> Sequence[Delivery]:
        try:
            return self.sink.send(messages)
        except Exception as error:  # a sink of another package can fail in any way: its messages wait
            log.exception("sink %s", self._sink_name)
            return [Delivery(Fate.AGAIN, f"{type(error).__name__}: {error}")] * len(messages)

    def _any_due(self) -> bool:
        with self._database.readers() as session:
            due = select(Outbox.id).where(
                Outbox.sink == self._sink_name, Outbox.state == WAITING, Outbox.next_at <= now()
            )
            found = session.scalar(due.limit(1)) is not None
        self._tidy()
        return found

    def _tidy(self) -> None:
        """Forget what was sent long ago."""
        if self._tidied and time.monotonic() - self._tidied < TIDY_SECONDS:
            return
        self._tidied = time.monotonic()
        with self._database.sessions.begin() as session:
            old = delete(Outbox).where(Outbox.sink == self._sink_name, Outbox.state == SENT)
            session.execute(old.where(Outbox.next_at < now() - KEPT))

    def _tell(self, what: str) -> None:
        if not self._told:
            log.warning("sink %s: %s; messages wait in the outbox", self._sink_name, what)
            self._told = True
