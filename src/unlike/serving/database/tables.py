"""The tables: detectors and their versions, images and what was said of them, who may do what, and what was done."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import JSON, BigInteger, DateTime, ForeignKey, Index, Integer, MetaData, Text, UniqueConstraint
from sqlalchemy.engine import Dialect
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from sqlalchemy.types import TypeDecorator

NAMES = {  # of constraints, so that a later migration can name them
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "fk": "fk_%(table_name)s_%(column_0_name)s",
    "pk": "pk_%(table_name)s",
}
BIG = BigInteger().with_variant(Integer, "sqlite")  # SQLite counts up in INTEGER only


def now() -> datetime:
    """The time, in UTC."""
    return datetime.now(UTC)


class UtcTime(TypeDecorator[datetime]):
    """A time in UTC: kept without its zone, which SQLite does not know, and with it on the way in and out."""

    impl = DateTime
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002
        return None if value is None else value.astimezone(UTC).replace(tzinfo=None)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002
        return None if value is None else value.replace(tzinfo=UTC)


class Base(DeclarativeBase):
    """What all tables have in common."""

    metadata = MetaData(naming_convention=NAMES)
    type_annotation_map = {str: Text, datetime: UtcTime, dict[str, Any]: JSON, list[dict[str, Any]]: JSON}  # noqa: RUF012


class Detector(Base):
    """A product that is inspected, under the name by which programs ask."""

    __tablename__ = "detectors"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)
    current_version_id: Mapped[int | None]  # of versions; no foreign key, for each would need the other first


class Version(Base):
    """What one fit, or one calibration, made: a folder that is never changed."""

    __tablename__ = "versions"
    __table_args__ = (UniqueConstraint("detector_id", "number"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    detector_id: Mapped[int] = mapped_column(ForeignKey("detectors.id"))
    number: Mapped[int]
    path: Mapped[str]  # relative to the folder of detectors
    fingerprint: Mapped[str]  # of its checksums: what is on disk is what was taken in
    state: Mapped[str]  # candidate, current, retired, discarded
    made_by: Mapped[str] = mapped_column(default="")
    made_at: Mapped[datetime] = mapped_column(default=now)
    note: Mapped[str] = mapped_column(default="")
    figures: Mapped[dict[str, Any]] = mapped_column(default=dict)


class Image(Base):
    """An image that was scored, and what was said of it. Its id follows from detector, version, client id and content."""

    __tablename__ = "images"
    __table_args__ = (
        UniqueConstraint("detector_id", "version_id", "client_id", "digest"),
        # the history is read newest first, by any of these filters: each is one range of one of these
        Index("ix_images_listed", "anomalous", "reviewed", "received_at", "id"),
        Index("ix_images_listed_of_detector", "detector_id", "anomalous", "reviewed", "received_at", "id"),
    )

    id: Mapped[str] = mapped_column(primary_key=True)
    detector_id: Mapped[int] = mapped_column(ForeignKey("detectors.id"))
    version_id: Mapped[int] = mapped_column(ForeignKey("versions.id"))
    client_id: Mapped[str] = mapped_column(default="")
    digest: Mapped[str]  # SHA-256 of the content as it came
    name: Mapped[str] = mapped_column(default="")
    received_at: Mapped[datetime] = mapped_column(default=now)
    score: Mapped[float | None]  # none where there is an error
    threshold: Mapped[float | None]
    p_value: Mapped[float | None]
    anomalous: Mapped[bool | None]
    regions: Mapped[list[dict[str, Any]]] = mapped_column(default=list)
    error: Mapped[str | None]
    kept: Mapped[bool] = mapped_column(default=False)  # its content lies in the folder of images
    reviewed: Mapped[bool] = mapped_column(default=False)  # there is a review of it


class Review(Base):
    """What a person said of a verdict; the latest of an image counts, none is ever changed."""

    __tablename__ = "reviews"
    __table_args__ = (Index("ix_reviews_image", "image_id", "id"),)

    id: Mapped[int] = mapped_column(BIG, primary_key=True)
    image_id: Mapped[str] = mapped_column(ForeignKey("images.id"))
    verdict: Mapped[str]  # right, false_alarm, missed
    kind: Mapped[str] = mapped_column(default="")  # of the defect
    note: Mapped[str] = mapped_column(default="")
    by: Mapped[str]
    at: Mapped[datetime] = mapped_column(default=now)


class Job(Base):
    """Work that takes minutes: a fit, a calibration, a comparison."""

    __tablename__ = "jobs"

    id: Mapped[int] = mapped_column(primary_key=True)
    kind: Mapped[str]
    detector_id: Mapped[int | None] = mapped_column(ForeignKey("detectors.id"))
    arguments: Mapped[dict[str, Any]] = mapped_column(default=dict)
    state: Mapped[str] = mapped_column(default="queued")  # queued, running, done, failed, interrupted
    progress: Mapped[float] = mapped_column(default=0.0)  # 0 to 1
    message: Mapped[str] = mapped_column(default="")
    result: Mapped[dict[str, Any]] = mapped_column(default=dict)
    by: Mapped[str] = mapped_column(default="")
    created_at: Mapped[datetime] = mapped_column(default=now)
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]


class User(Base):
    """A person who may log in."""

    __tablename__ = "users"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)
    role: Mapped[str]  # viewer, reviewer, admin
    password_hash: Mapped[str]
    disabled: Mapped[bool] = mapped_column(default=False)


class Token(Base):
    """What a program shows instead of a password; only its digest is kept."""

    __tablename__ = "tokens"

    id: Mapped[int] = mapped_column(primary_key=True)
    user_id: Mapped[int] = mapped_column(ForeignKey("users.id"))
    digest: Mapped[str] = mapped_column(unique=True)
    name: Mapped[str] = mapped_column(default="")
    created: Mapped[datetime] = mapped_column(default=now)
    last_used: Mapped[datetime | None]
    revoked: Mapped[bool] = mapped_column(default=False)


class LoginSession(Base):
    """A browser that is logged in; only the digest of its cookie is kept."""

    __tablename__ = "sessions"

    digest: Mapped[str] = mapped_column(primary_key=True)
    user_id: Mapped[int] = mapped_column(ForeignKey("users.id"))
    csrf: Mapped[str]
    expires: Mapped[datetime]


class Audit(Base):
    """Who did what: rows are added, and triggers refuse to change or delete any."""

    __tablename__ = "audit"

    id: Mapped[int] = mapped_column(BIG, primary_key=True)
    at: Mapped[datetime] = mapped_column(default=now)
    who: Mapped[str]
    action: Mapped[str]
    detail: Mapped[dict[str, Any]] = mapped_column(default=dict)


class Outbox(Base):
    """What is to be sent to others, written together with the results it tells of."""

    __tablename__ = "outbox"
    __table_args__ = (Index("ix_outbox_due", "state", "next_at"),)

    id: Mapped[int] = mapped_column(BIG, primary_key=True)
    sink: Mapped[str]
    payload: Mapped[dict[str, Any]]
    tries: Mapped[int] = mapped_column(default=0)
    next_at: Mapped[datetime] = mapped_column(default=now)
    state: Mapped[str] = mapped_column(default="waiting")  # waiting, sent, dead
    last_error: Mapped[str] = mapped_column(default="")
