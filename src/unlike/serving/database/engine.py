"""Opening the database: what is written is on the disk before it counts, and its tables are those of this version."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from alembic.config import Config
from alembic.runtime.environment import EnvironmentContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, create_engine, event, make_url, text
from sqlalchemy.exc import ArgumentError, NoSuchModuleError, SQLAlchemyError
from sqlalchemy.orm import Session, sessionmaker

from unlike.errors import ConfigError, ServiceError

FILE = "history.sqlite"  # in the folder of detectors, where no other database is named
BUSY_SECONDS = 10.0  # that one waits for another who writes
STEPS = Path(__file__).parent / "migrations"
LOCK = 7_346_501  # of PostgreSQL's advisory locks: one server migrates at a time


@dataclass(frozen=True, slots=True)
class Database:
    """The history as an engine, with sessions on it.

    `sessions` may write: `with database.sessions.begin() as session: ...` commits at its end. `readers` only read, and wait for
    nobody.
    """

    engine: Engine
    sessions: sessionmaker[Session]
    readers: sessionmaker[Session]

    def close(self) -> None:
        """Let go of all connections."""
        self.engine.dispose()


def open_database(url: str) -> Database:
    """Open the database at a URL of SQLAlchemy, and bring its tables to this version.

    >>> database = open_database("sqlite://")
    >>> with database.readers() as session:
    ...     session.execute(text("SELECT count(*) FROM images")).scalar()
    0
    >>> database.close()
    """
    engine = make_engine(url)
    try:
        migrate(engine)
    except ServiceError:
        engine.dispose()
        raise
    except SQLAlchemyError as error:
        engine.dispose()
        reason = " ".join(str(getattr(error, "orig", None) or error).split())[:300]
        raise ServiceError(
            f"{engine.url.render_as_string()}: the database cannot be used ({reason}); see that it runs and may be written to",
            passing=True,
        ) from None
    writing = engine.execution_options(writes=True)
    return Database(engine, sessionmaker(writing, expire_on_commit=False), sessionmaker(engine, expire_on_commit=False))


def default_url(folder: Path) -> str:
    """SQLite, in the folder of detectors."""
    return f"sqlite:///{folder.absolute() / FILE}"


def make_engine(url: str) -> Engine:
    """An engine whose commits are durable; a ConfigError says what is wrong with the URL."""
    try:
        parsed = make_url(url)
        if parsed.get_backend_name() not in ("sqlite", "postgresql"):
            raise ConfigError(_expected(url))
        if parsed.drivername == "postgresql":
            parsed = parsed.set(drivername="postgresql+psycopg")
        if parsed.get_backend_name() == "sqlite":
            return _make_sqlite(parsed)
        waits: Mapping[str, Any] = {"connect_timeout": int(BUSY_SECONDS)}
        return create_engine(
            parsed, pool_pre_ping=True, pool_size=10, max_overflow=10, pool_timeout=BUSY_SECONDS, connect_args=waits
        )
    except (ArgumentError, NoSuchModuleError):
        raise ConfigError(_expected(url)) from None


def _make_sqlite(url: Any) -> Engine:
    kept = url.database not in (None, "", ":memory:")
    options: dict[str, Any] = {"pool_size": 10, "max_overflow": 30, "pool_timeout": BUSY_SECONDS} if kept else {}
    if not kept:
        from sqlalchemy.pool import StaticPool

        options["poolclass"] = StaticPool
    waits = {"timeout": BUSY_SECONDS, "check_same_thread": False}
    engine = create_engine(url, connect_args=waits, **options)
    event.listen(engine, "connect", _set_up_sqlite)
    event.listen(engine, "begin", _begin_sqlite)
    return engine


def _set_up_sqlite(connection: sqlite3.Connection, _: object) -> None:
    connection.isolation_level = None  # this module begins transactions, not the driver
    for setting in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
        connection.execute(f"PRAGMA {setting}")


def _begin_sqlite(connection: Connection) -> None:
    """A writer takes its turn when it begins: one that has read first and finds that another wrote would be refused."""
    writes = connection.get_execution_options().get("writes")
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def migrate(engine: Engine) -> None:
    """Bring the tables to this version, in one transaction; a ServiceError where a newer version made them."""
    steps = ScriptDirectory(str(STEPS))
    known = {step.revision for step in steps.walk_revisions()}

    def upgrade(revision: Any, _: object) -> Any:
        found = {revision} if isinstance(revision, str) else set(revision)
        if found - known:
            raise ServiceError(
                f"{engine.url.render_as_string()}: its tables are of a newer version of unlike; pip install --upgrade unlike"
            )
        return steps._upgrade_revs("head", revision)  # noqa: SLF001 (as `alembic upgrade` does)

    with engine.execution_options(writes=True).begin() as connection:
        if engine.dialect.name == "postgresql":
            connection.execute(text(f"SELECT pg_advisory_xact_lock({LOCK})"))
        with EnvironmentContext(Config(), steps, fn=upgrade) as environment:
            environment.configure(connection=connection)
            environment.run_migrations()


def back_up(engine: Engine, target: Path) -> None:
    """Write the database to a file while others use it; a ConfigError for PostgreSQL, which has a tool of its own."""
    if engine.dialect.name != "sqlite":
        raise ConfigError("--backup writes SQLite databases; of PostgreSQL take `pg_dump`")
    from unlike.artifacts import output_errors

    fresh = target.with_name(f".{target.name}.unfinished")
    with output_errors(target):
        fresh.unlink(missing_ok=True)
        with engine.connect() as connection, sqlite3.connect(fresh) as copy:
            driver: Any = connection.connection.driver_connection
            driver.backup(copy)
        copy.close()
        fresh.replace(target)


def _expected(url: str) -> str:
    shown = url.partition("://")[0] + "://..." if "://" in url else url
    return f"--db {shown}: expected sqlite:///FILE or postgresql+psycopg://USER:PASSWORD@HOST/DATABASE"
