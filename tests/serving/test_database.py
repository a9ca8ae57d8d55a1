"""The history in both databases: its tables, what is refused, repeats, races, pages."""

from __future__ import annotations

import sqlite3
import threading
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from services import postgresql, url
from sqlalchemy import func, select, text
from sqlalchemy.exc import DBAPIError

from unlike.errors import ConfigError, ServiceError
from unlike.serving import history
from unlike.serving.database.engine import back_up, make_engine, migrate, open_database
from unlike.serving.database.tables import Audit, Base, Detector, Image, Version

START = datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest.fixture
def database(url):
    database = open_database(url)
    with database.sessions.begin() as session:
        for number in (1, 2):
            session.add(Detector(id=number, name=f"part {number}", current_version_id=number))
            session.flush()
            facts = {"number": 1, "path": "", "fingerprint": "", "state": "current"}
            session.add(Version(id=number, detector_id=number, **facts))
    yield database
    database.close()


def row(number: int, **changed) -> dict:
    """Values of an image of the history."""
    values = {
        "id": f"{number:032x}",
        "detector_id": number % 2 + 1,
        "version_id": number % 2 + 1,
        "client_id": "",
        "digest": f"{number:064x}",
        "name": f"{number}.png",
        "received_at": START + timedelta(seconds=number // 3),  # some at the same moment
        "score": 1.5,
        "threshold": 1.0,
        "p_value": 0.1,
        "anomalous": True,
        "regions": [{"x": 1, "y": 2}],
        "error": None,
        "kept": False,
        "reviewed": False,
    }
    return values | changed


def test_migrations_make_the_tables_that_the_code_has(url):
    database = open_database(url)
    migrate(database.engine)  # again: nothing is left to do
    with database.engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        found = compare_metadata(context, Base.metadata)
        kinds = {name for name, *_ in (one for one in found if isinstance(one, tuple))}
    database.close()
    assert not kinds, found


def test_tables_of_a_newer_version_are_refused(url):
    database = open_database(url)
    with database.engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    database.close()
    with pytest.raises(
        ServiceError, match=r"its tables are of a newer version of unlike; pip install --upgrade unlike"
    ):
        open_database(url)


def test_sqlite_waits_for_the_disk(tmp_path):
    database = open_database(f"sqlite:///{tmp_path / 'h.sqlite'}")
    with database.engine.connect() as connection:
        found = [connection.exec_driver_sql(f"PRAGMA {name}").scalar() for name in ("journal_mode", "synchronous")]
    database.close()
    assert found == ["wal", 2]  # 2 is FULL


@pytest.mark.parametrize("change", ["UPDATE audit SET who = 'nobody'", "DELETE FROM audit"])
def test_the_audit_is_only_added_to(database, change):
    with database.sessions.begin() as session:
        session.add(Audit(who="ann", action="login", detail={"from": "here"}))
    with pytest.raises(DBAPIError, match="the audit is only added to"), database.sessions.begin() as session:
        session.execute(text(change))
    with database.readers() as session:
        assert session.scalars(select(Audit.who)).all() == ["ann"]


def test_a_repeat_finds_the_first_result(database):
    with database.sessions.begin() as session:
        assert history.record(session, [row(1), row(2)]) == {row(1)["id"], row(2)["id"]}
    with database.sessions.begin() as session:
        assert history.record(session, [row(1, score=9.0), row(3)]) == {row(3)["id"]}
    with database.readers() as session:
        assert history.find_rows(session, [row(1)["id"]])[row(1)["id"]]["score"] == 1.5
        assert session.scalar(select(func.count()).select_from(Image)) == 3


def test_a_race_is_counted_once(database):
    new, start = [], threading.Barrier(8)

    def write():
        start.wait()
        with database.sessions.begin() as session:
            new.append(history.record(session, [row(7)]))

    threads = [threading.Thread(target=write) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(len(one) for one in new) == [0] * 7 + [1]


def test_a_transaction_that_fails_leaves_no_half(database):
    def write_two():
        with database.sessions.begin() as session:
            history.record(session, [row(1)])
            history.record(session, [row(2, name=None)])

    with pytest.raises(DBAPIError):
        write_two()
    with database.readers() as session:
        assert session.scalar(select(func.count()).select_from(Image)) == 0


def fill(database, count=60):
    random = np.random.default_rng(0)
    verdicts = random.choice([True, False, None], count)
    rows = [
        row(
            number,
            anomalous=verdict,
            error=None if verdict is not None else "broken",
            reviewed=bool(random.random() < 0.3),
        )
        for number, verdict in enumerate(verdicts.tolist())
    ]
    with database.sessions.begin() as session:
        history.record(session, rows)
    return sorted(rows, key=lambda one: (one["received_at"], one["id"]), reverse=True)


@pytest.mark.parametrize(
    ("wanted", "keep"),
    [
        (history.Wanted(), lambda one: True),
        (history.Wanted("part 1"), lambda one: one["detector_id"] == 1),
        (history.Wanted(verdict="anomalous"), lambda one: one["anomalous"] is True),
        (history.Wanted("part 2", "normal", reviewed=False), lambda one: one["detector_id"] == 2 and one["anomalous"] is False and not one["reviewed"]),
        (history.Wanted(reviewed=True), lambda one: one["reviewed"]),
        (history.Wanted(since=START + timedelta(seconds=5), until=START + timedelta(seconds=12)), lambda one: 5 <= (one["received_at"] - START).seconds < 12),
    ],
)  # fmt: skip
def test_pages_hold_each_image_once_and_the_newest_first(database, wanted, keep):
    expected = [one["id"] for one in fill(database) if keep(one)]
    with database.readers() as session:
        found, page = [], history.list_images(session, wanted, limit=7)
        while True:
            found += [one["id"] for one in page.rows]
            if page.next is None:
                break
            page = history.list_images(session, wanted, limit=7, cursor=page.next)
    assert found == expected


def test_a_page_is_read_by_an_index_and_no_sort(tmp_path):
    database = open_database(f"sqlite:///{tmp_path / 'h.sqlite'}")
    wanted = history._range(history.Wanted(), 1, None, True, (START, "7f")).limit(5)
    with database.engine.connect() as connection:
        sql = str(wanted.compile(database.engine, compile_kwargs={"literal_binds": True}))
        plan = " ".join(str(line) for line in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {sql}"))
    database.close()
    assert "ix_images_listed_of_detector" in plan
    assert "TEMP B-TREE" not in plan


def test_a_cursor_of_somebody_else_is_refused(database):
    with database.readers() as session:
        for cursor in ("x", "%%%", "aGVsbG8=", history.write_cursor(START, "' OR 1=1")):
            with pytest.raises(ServiceError, match="cursor: expected the `next` of the page before it"):
                history.list_images(session, history.Wanted(), cursor=cursor)


def test_the_latest_review_counts_and_none_is_changed(database):
    fill(database, 0)
    with database.sessions.begin() as session:
        history.record(session, [row(1)])
    for verdict, by in (("right", "ann"), ("false_alarm", "bob")):
        with database.sessions.begin() as session:
            history.add_review(session, history.read_image(session, row(1)["id"]), verdict, "", "", by)
    with database.readers() as session:
        found = history.find_rows(session, [row(1)["id"]])[row(1)["id"]]["review"]
        pairs = [(image.id, review.verdict) for image, review in history.reviewed_images(session, "part 2")]
        assert history.count_images(session, "part 2")["reviewed"] == 1
    assert (found["verdict"], found["by"]) == ("false_alarm", "bob")
    assert pairs == [(row(1)["id"], "false_alarm")]


@pytest.mark.parametrize(
    ("anomalous", "verdict", "message"),
    [
        (True, "missed", "was called anomalous, so it was not missed; expected right or false_alarm"),
        (False, "false_alarm", "was called normal, so it is no false alarm; expected right or missed"),
        (None, "right", "could not be scored, so there is no verdict to review"),
        (True, "wrong", "expected a verdict of right, false_alarm, missed, came 'wrong'"),
    ],
)
def test_reviews_that_contradict_a_verdict_are_refused(database, anomalous, verdict, message):
    with database.sessions.begin() as session:
        history.record(session, [row(1, anomalous=anomalous)])
        with pytest.raises(ServiceError, match=message):
            history.add_review(session, history.read_image(session, row(1)["id"]), verdict, "", "", "ann")


def test_scores_come_in_the_order_of_the_images(database):
    rows = fill(database)
    with database.readers() as session:
        series = history.read_series(session, 1, latest=9)
    expected = [one["received_at"] for one in rows if one["detector_id"] == 1 and one["anomalous"] is not None][:9]
    assert series.at == expected[::-1]
    assert series.scores.tolist() == [1.5] * 9


def test_what_is_no_database_is_refused(tmp_path):
    for wrong in ("mysql://root:secret@there/x", "history.sqlite", "oracle+nothing://x"):
        with pytest.raises(ConfigError, match=r"expected sqlite:///FILE or postgresql\+psycopg://") as told:
            make_engine(wrong)
        assert "secret" not in str(told.value)
    with pytest.raises(ServiceError, match=r"the database cannot be used .*; see that it runs and may be written to"):
        open_database(f"sqlite:///{tmp_path / 'no such folder' / 'h.sqlite'}")
    with pytest.raises(ServiceError, match="see that it runs"):
        open_database("postgresql://nobody:secret@127.0.0.1:1/none")


def test_a_backup_is_whole_while_others_write(tmp_path):
    database = open_database(f"sqlite:///{tmp_path / 'h.sqlite'}")
    with database.sessions.begin() as session:
        session.add(Audit(who="ann", action="login"))
        session.flush()
        back_up(database.engine, tmp_path / "before.sqlite")
    back_up(database.engine, tmp_path / "after.sqlite")
    database.close()
    counts = []
    for name in ("before", "after"):
        connection = sqlite3.connect(tmp_path / f"{name}.sqlite")
        counts.append(connection.execute("SELECT count(*) FROM audit").fetchone()[0])
        connection.close()
    assert counts == [0, 1]
    assert [path.name for path in tmp_path.glob(".*")] == []


def test_postgresql_has_a_backup_of_its_own(postgresql, tmp_path):
    with pytest.raises(ConfigError, match="--backup writes SQLite databases; of PostgreSQL take `pg_dump`"):
        back_up(make_engine(postgresql), tmp_path / "x")
