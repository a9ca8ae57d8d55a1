"""Who did what, in a table that is only ever added to."""

from __future__ import annotations

from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from unlike.serving.database.tables import Audit


def record(session: Session, who: str, action: str, **detail: Any) -> None:
    """Write down, in the same transaction as what it tells of, that somebody did something; never a secret.

    >>> from unlike.serving.database.engine import open_database
    >>> database = open_database("sqlite://")
    >>> with database.sessions.begin() as session:
    ...     record(session, "ann", "promote", detector="cells", version=2)
    >>> with database.readers() as session:
    ...     [(row["who"], row["action"], row["detail"]["version"]) for row in read_audit(session)]
    [('ann', 'promote', 2)]
    >>> database.close()
    """
    session.add(Audit(who=who, action=action, detail=detail))


def read_audit(
    session: Session, *, before: int | None = None, limit: int = 100, who: str | None = None, action: str | None = None
) -> list[dict[str, Any]]:
    """The newest rows first, those before a row of that id."""
    query = select(Audit).order_by(Audit.id.desc()).limit(limit)
    if before is not None:
        query = query.where(Audit.id < before)
    if who is not None:
        query = query.where(Audit.who == who)
    if action is not None:
        query = query.where(Audit.action == action)
    return [
        {"id": row.id, "at": row.at.isoformat(), "who": row.who, "action": row.action, "detail": row.detail}
        for row in session.scalars(query)
    ]
