"""What pages show of the history, read from the database."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlencode

from sqlalchemy import select
from sqlalchemy.orm import Session

from unlike.errors import ServiceError
from unlike.serving import history
from unlike.serving.database.tables import Detector, Image, Review
from unlike.serving.history import Wanted

MOST_KINDS = 40  # of defects that are offered
LATE_SECONDS = 15  # by which an image may be in the history later than one that came after it


@dataclass(frozen=True, slots=True)
class Filters:
    """What of the history is looked at, as the address of a page has it."""

    detector: str = ""
    verdict: str = ""
    reviewed: str = ""
    day_from: str = ""  # in UTC
    day_to: str = ""  # included

    def wanted(self) -> Wanted:
        """As the history understands it; a ServiceError (422) where it does not."""
        if self.verdict not in ("", *history.VERDICTS) or self.reviewed not in ("", "true", "false"):
            raise ServiceError("this filter is not understood; begin at the list of all images", status=422)
        until = _day(self.day_to)
        return Wanted(
            self.detector or None,
            self.verdict or None,
            None if not self.reviewed else self.reviewed == "true",
            _day(self.day_from),
            None if until is None else until + timedelta(days=1),
        )

    def query(self, **more: str) -> str:
        """As part of an address."""
        named = {"detector": self.detector, "verdict": self.verdict, "reviewed": self.reviewed}
        named |= {"from": self.day_from, "to": self.day_to, **more}
        return urlencode({name: value for name, value in named.items() if value})


def next_unreviewed(session: Session, filters: Filters, after: Image | None = None) -> str | None:
    """The id of the next image to review: the newest that is older than another, or else the newest; None where all are done."""
    wanted = Filters(filters.detector, filters.verdict, "false", filters.day_from, filters.day_to).wanted()
    cursors = [None] if after is None else [history.write_cursor(after.received_at, after.id), None]
    for cursor in cursors:
        rows = history.list_images(session, wanted, 2, cursor).rows
        found = [row["id"] for row in rows if after is None or row["id"] != after.id]
        if found:
            return str(found[0])
    return None


def newer_than(session: Session, filters: Filters, latest: str, limit: int) -> list[dict[str, Any]]:
    """Images that came after a time, and a little before, for the list that shows what comes; the newest first."""
    wanted = filters.wanted()
    try:
        since = datetime.fromisoformat(latest) - timedelta(seconds=LATE_SECONDS)
    except ValueError:
        raise ServiceError("after: expected a time in ISO 8601, came something else", status=422) from None
    since = since if since.tzinfo else since.replace(tzinfo=UTC)
    since = since if wanted.since is None else max(since, wanted.since)
    recent = Wanted(wanted.detector, wanted.verdict, wanted.reviewed, since, wanted.until)
    return history.list_images(session, recent, limit).rows


def reviews_of(session: Session, image_id: str) -> list[dict[str, Any]]:
    """All that was said of an image, the newest first."""
    rows = session.scalars(select(Review).where(Review.image_id == image_id).order_by(Review.id.desc()))
    return [history.review_row(row) for row in rows]


def kinds_of(session: Session, detector: str) -> list[str]:
    """Kinds of defects that people have named of a detector's images."""
    query = (
        select(Review.kind).join(Image, Image.id == Review.image_id).join(Detector, Detector.id == Image.detector_id)
    )
    query = query.where(Detector.name == detector, Review.kind != "").distinct().limit(MOST_KINDS)
    return sorted(session.scalars(query))


def _day(text: str) -> datetime | None:
    if not text:
        return None
    try:
        return datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=UTC)
    except ValueError:
        raise ServiceError("a day is expected as 2026-01-31", status=422) from None
