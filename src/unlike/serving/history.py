"""What was scored, read and written: a repeat finds the first result, and a page of a million rows is read in milliseconds."""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import product
from typing import Any

import numpy as np
from sqlalchemy import Select, case, func, select, tuple_, union_all, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from unlike.errors import ServiceError
from unlike.records import Floats
from unlike.serving.database.tables import Detector, Image, Review, Version, now

MOST_ROWS = 500  # of a page
VERDICTS = {"anomalous": True, "normal": False}
REVIEWS = ("right", "false_alarm", "missed")
INSERTS: dict[str, Any] = {"sqlite": sqlite.insert, "postgresql": postgresql.insert}


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which images of the history are asked for."""

    detector: str | None = None
    verdict: str | None = None  # "anomalous" or "normal"
    reviewed: bool | None = None
    since: datetime | None = None
    until: datetime | None = None  # itself excluded


@dataclass(frozen=True, slots=True)
class Page:
    """Some rows of the history, the newest first."""

    rows: list[dict[str, Any]]
    next: str | None  # the cursor of the page after it


@dataclass(frozen=True, slots=True)
class Series:
    """Scores of one version in the order in which they came: what drift is looked for in."""

    at: list[datetime]
    scores: Floats  # (N,)
    p_values: Floats  # (N,)


def image_id(detector: str, version_id: int, client_id: str, digest: str) -> str:
    """The id of an image, which follows from what was sent to whom: sent again, it is the same.

    >>> image_id("cells", 1, "camera 2", "ab" * 32)
    '2d15781ba8cc12de948112356d88edc9'
    """
    whole = json.dumps([detector, version_id, client_id, digest]).encode()
    return hashlib.blake2b(whole, digest_size=16).hexdigest()


def record(session: Session, rows: Sequence[dict[str, Any]]) -> set[str]:
    """Write results (values of columns of `images`); returns the ids of those that were not there before."""
    if not rows:
        return set()
    unlike_before = list({row["id"]: row for row in rows}.values())
    statement = INSERTS[session.get_bind().dialect.name](Image).values(unlike_before)
    return set(session.scalars(statement.on_conflict_do_nothing().returning(Image.id)))


def find_rows(session: Session, ids: Sequence[str]) -> dict[str, dict[str, Any]]:
    """The rows of images by their ids; those that are not there are left out."""
    if not ids:
        return {}
    return {row["id"]: row for row in _rows_of(session, list(ids))}


def read_image(session: Session, wanted: str) -> Image:
    """One image; a ServiceError (404) where there is none."""
    found = session.get(Image, wanted)
    if found is None:
        raise ServiceError("there is no image of that id", status=404)
    return found


def list_images(session: Session, wanted: Wanted, limit: int = 50, cursor: str | None = None) -> Page:
    """A page of the history, the newest first. The cursor is that of the page before it."""
    limit = min(max(limit, 1), MOST_ROWS)
    detector_id = _detector_id(session, wanted.detector)
    verdicts = [VERDICTS[wanted.verdict]] if wanted.verdict else [True, False, None]
    reviewed = [wanted.reviewed] if wanted.reviewed is not None else [True, False]
    after = None if cursor is None else read_cursor(cursor)
    # one short range of an index for each kind of row, and the newest of them all
    parts = [
        select(_range(wanted, detector_id, verdict, seen, after).limit(limit + 1).subquery())
        for verdict, seen in product(verdicts, reviewed)
    ]
    found = union_all(*parts).subquery()
    newest = select(found.c.id, found.c.received_at).order_by(found.c.received_at.desc(), found.c.id.desc())
    keys = session.execute(newest.limit(limit + 1)).all()
    rows = {row["id"]: row for row in _rows_of(session, [key.id for key in keys[:limit]])}
    following = write_cursor(keys[limit - 1].received_at, keys[limit - 1].id) if len(keys) > limit else None
    return Page([rows[key.id] for key in keys[:limit]], following)


def add_review(session: Session, image: Image, verdict: str, kind: str, note: str, by: str) -> Review:
    """Add what a person says of a verdict; a ServiceError (422) where it contradicts the verdict."""
    if verdict not in REVIEWS:
        raise ServiceError(f"expected a verdict of {', '.join(REVIEWS)}, came {verdict[:40]!r}", status=422)
    if image.anomalous is None:
        raise ServiceError("this image could not be scored, so there is no verdict to review", status=422)
    if verdict == "false_alarm" and not image.anomalous:
        raise ServiceError("the image was called normal, so it is no false alarm; expected right or missed", status=422)
    if verdict == "missed" and image.anomalous:
        raise ServiceError(
            "the image was called anomalous, so it was not missed; expected right or false_alarm", status=422
        )
    found = Review(image_id=image.id, verdict=verdict, kind=kind, note=note, by=by, at=now())
    session.add(found)
    session.execute(update(Image).where(Image.id == image.id).values(reviewed=True))
    session.flush()
    return found


def count_images(session: Session, detector: str | None = None, since: datetime | None = None) -> dict[str, int]:
    """How many images there are: all, anomalous, normal, failed, reviewed."""
    counted = select(
        func.count().label("images"),
        func.coalesce(func.sum(case((Image.anomalous.is_(True), 1), else_=0)), 0).label("anomalous"),
        func.coalesce(func.sum(case((Image.anomalous.is_(False), 1), else_=0)), 0).label("normal"),
        func.coalesce(func.sum(case((Image.reviewed.is_(True), 1), else_=0)), 0).label("reviewed"),
    )
    detector_id = _detector_id(session, detector)
    if detector_id is not None:
        counted = counted.where(Image.detector_id == detector_id)
    if since is not None:
        counted = counted.where(Image.received_at >= since)
    row = session.execute(counted).one()
    whole = {name: int(value) for name, value in row._mapping.items()}  # noqa: SLF001 (the documented way)
    return {**whole, "failed": whole["images"] - whole["anomalous"] - whole["normal"]}


def read_series(session: Session, version_id: int, latest: int = 5000) -> Series:
    """The latest scores of a version, in the order in which they came."""
    detector_id = session.scalar(select(Version.detector_id).where(Version.id == version_id))
    parts = [
        select(
            select(Image.received_at, Image.id, Image.score, Image.p_value)
            .where(Image.detector_id == detector_id, _is(Image.anomalous, odd), _is(Image.reviewed, seen))
            .where(Image.version_id == version_id)
            .order_by(Image.received_at.desc(), Image.id.desc())
            .limit(latest)
            .subquery()
        )
        for odd, seen in product((True, False), (True, False))
    ]
    found = union_all(*parts).subquery()
    order = (found.c.received_at.desc(), found.c.id.desc())
    rows = session.execute(select(found).order_by(*order).limit(latest)).all()[::-1]
    return Series(
        [row.received_at for row in rows],
        np.array([row.score for row in rows], np.float64),
        np.array([row.p_value for row in rows], np.float64),
    )


def reviewed_images(session: Session, detector: str) -> Iterator[tuple[Image, Review]]:
    """Every image of a detector that was reviewed, with the review that counts, in the order in which they came."""
    latest = select(func.max(Review.id)).group_by(Review.image_id)
    rows = session.execute(
        select(Image, Review)
        .join(Review, Review.image_id == Image.id)
        .join(Detector, Detector.id == Image.detector_id)
        .where(Detector.name == detector, Review.id.in_(latest))
        .order_by(Image.received_at, Image.id)
    )
    yield from ((image, review) for image, review in rows)


def write_cursor(received_at: datetime, last_id: str) -> str:
    """Where a page ends, as a word that says nothing to others.

    >>> read_cursor(write_cursor(datetime(2026, 1, 2, tzinfo=UTC), "7f"))[1]
    '7f'
    """
    return base64.urlsafe_b64encode(f"{received_at.isoformat()} {last_id}".encode()).decode()


def read_cursor(cursor: str) -> tuple[datetime, str]:
    """What `write_cursor` wrote; a ServiceError (422) where it is something else."""
    try:
        at, _, last = base64.urlsafe_b64decode(cursor.encode()).decode().partition(" ")
        when = datetime.fromisoformat(at)
        if not (last.isascii() and last.isalnum()):
            raise ValueError
    except (ValueError, binascii.Error):
        raise ServiceError(
            "cursor: expected the `next` of the page before it, came something else", status=422
        ) from None
    return when if when.tzinfo else when.replace(tzinfo=UTC), last


def _range(
    wanted: Wanted, detector_id: int | None, verdict: bool | None, reviewed: bool, after: tuple[datetime, str] | None
) -> Select[str, datetime]:
    """The images of one kind, as one range of an index gives them."""
    chosen = select(Image.id, Image.received_at).where(_is(Image.anomalous, verdict), _is(Image.reviewed, reviewed))
    if detector_id is not None:
        chosen = chosen.where(Image.detector_id == detector_id)
    if wanted.since is not None:
        chosen = chosen.where(Image.received_at >= wanted.since)
    if wanted.until is not None:
        chosen = chosen.where(Image.received_at < wanted.until)
    if after is not None:
        chosen = chosen.where(_older(*after))
    return chosen.order_by(Image.received_at.desc(), Image.id.desc())


def _is(column: Any, value: bool | None) -> Any:
    """As both databases find it by an index."""
    return column.is_(None) if value is None else column == value


def _older(at: datetime, last: str) -> Any:
    return tuple_(Image.received_at, Image.id) < tuple_(at, last)


def _detector_id(session: Session, name: str | None) -> int | None:
    if name is None:
        return None
    found = session.scalar(select(Detector.id).where(Detector.name == name))
    if found is None:
        raise ServiceError(f"there is no detector {name[:100]!r}", status=404)
    return found


def _rows_of(session: Session, ids: list[str]) -> list[dict[str, Any]]:
    latest = select(func.max(Review.id)).where(Review.image_id.in_(ids)).group_by(Review.image_id)
    reviews = {one.image_id: one for one in session.scalars(select(Review).where(Review.id.in_(latest)))} if ids else {}
    found = session.execute(
        select(Image, Detector.name, Version.number)
        .join(Detector, Detector.id == Image.detector_id)
        .join(Version, Version.id == Image.version_id)
        .where(Image.id.in_(ids))
    )
    return [image_row(image, name, number, reviews.get(image.id)) for image, name, number in found]


def image_row(image: Image, detector: str, version: int, review: Review | None = None) -> dict[str, Any]:
    """An image as REST shows it: the names of `unlike.calibration.rows`, and what only a service knows."""
    pictured = image.kept and image.error is None
    return {
        "id": image.id,
        "name": image.name,
        "score": image.score,
        "threshold": image.threshold,
        "p_value": image.p_value,
        "anomalous": image.anomalous,
        "regions": image.regions,
        "detector": detector,
        "version": version,
        "client_id": image.client_id,
        "received_at": image.received_at.isoformat(),
        "error": image.error,
        "image": f"/images/{image.id}/image" if image.kept else None,
        "map": f"/images/{image.id}/map" if pictured else None,
        "overlay": f"/images/{image.id}/overlay" if pictured else None,
        "review": None if review is None else review_row(review),
    }


def review_row(review: Review) -> dict[str, Any]:
    """A review as REST shows it."""
    return {
        "verdict": review.verdict,
        "kind": review.kind,
        "note": review.note,
        "by": review.by,
        "at": review.at.isoformat(),
    }
