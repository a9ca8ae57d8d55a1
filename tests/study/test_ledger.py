"""The book in which workers write, and what a database may refuse."""

from __future__ import annotations

import sys

import pytest
from optuna.exceptions import StorageInternalError
from sqlalchemy.exc import OperationalError

from unlike.errors import ConfigError, OutputError
from unlike.study import ledger as ledger_module
from unlike.study.ledger import Ledger, database_errors, need_optuna


@pytest.fixture
def book(tmp_path):
    return Ledger(f"sqlite:///{tmp_path}/book.sqlite", "a study")


def test_who_comes_second_gets_nothing(book):
    entry = book.claim(3, "anna", {}, {})
    assert (entry.run, entry.state, entry.worker, entry.beat) == (3, "running", "anna", 0)
    assert book.claim(3, "bert", {}, {}) is None
    assert book.read()[3].worker == "anna"
    assert book.finish(entry, {"metrics": {"a": 1}}, 1.0)
    assert book.claim(3, "bert", {}, {}) is None
    assert book.read()[3].state == "done"
    assert book.read()[3].outcome == {"metrics": {"a": 1}}


def test_what_is_given_up_is_free_again(book):
    entry = book.claim(3, "anna", {}, {})
    book.give_up(entry)
    assert book.read() == {}
    assert not book.finish(entry, {"metrics": {}}, 1.0)  # anna was taken for dead, but lives
    assert book.read() == {}
    second = book.claim(3, "bert", {}, {})
    assert second.trial > entry.trial
    book.give_up(entry)  # once more: no harm
    assert book.read()[3].worker == "bert"
    assert book.interruptions(3, "an") == 1
    assert book.interruptions(3, "be") == 0


def test_a_result_that_was_not_finished_is_none(book):
    """Killed between the two writes of a finish: the run is free again, whatever was noted of it."""
    entry = book.claim(3, "anna", {}, {})
    book._storage.set_trial_user_attr(book._trial_id(entry.trial), "outcome", {"metrics": {"a": 1}})
    book.give_up(entry)
    assert book.read() == {}


def test_failures_count_until_they_are_retried(book):
    book.finish(book.claim(1, "anna", {}, {}), {"error": "too high"}, None)
    assert book.read()[1].state == "failed"
    assert book.claim(1, "anna", {}, {}) is None
    book.retry()
    assert book.read() == {}
    book.finish(book.claim(1, "anna", {}, {}), {"error": "again"}, None)
    assert book.read()[1].outcome == {"error": "again"}


def test_a_worker_beats(book):
    entry = book.claim(1, "anna", {}, {})
    book.beat(entry, 5)
    assert book.read()[1].beat == 5


@pytest.mark.parametrize(
    ("url", "error", "message"),
    [
        ("sqlite:////nowhere/at/all.db", OutputError, r"nowhere/at/all.db: this database cannot be reached or written \(unable to open"),
        ("postgresql+pg8000://me:secret@host/x", ConfigError, r"postgresql\+pg8000://me:\*\*\*@host/x: the driver of this database is not installed \(pg8000\)"),
        ("folder/study.db", ConfigError, "'folder/study.db': is no database URL; expected for instance sqlite:///study.db"),
        ("nosuch://host/x", ConfigError, "nosuch://host/x: is no database URL"),
    ],
)  # fmt: skip
def test_a_database_that_cannot_be_reached_is_one_sentence(url, error, message):
    with pytest.raises(error, match=message):
        Ledger(url, "a study")


def test_a_database_that_goes_away(book):
    trouble = OperationalError("SELECT 1", {}, Exception("server closed\n the connection"))
    message = r"\(server closed the connection\); what is finished is kept in it"
    with pytest.raises(OutputError, match=message), database_errors(book.url):
        raise StorageInternalError from trouble


def test_two_that_make_the_tables_at_once(tmp_path, monkeypatch):
    import optuna

    monkeypatch.setattr(ledger_module, "PAUSE_SECONDS", 0.0)
    original, failures = optuna.storages.RDBStorage, []

    class Clumsy(original):
        def __init__(self, *arguments, **options):
            if len(failures) < many:
                failures.append(1)
                raise OperationalError("CREATE", {}, Exception("table studies already exists"))
            super().__init__(*arguments, **options)

    monkeypatch.setattr(optuna.storages, "RDBStorage", Clumsy)
    many = 2
    Ledger(f"sqlite:///{tmp_path}/book.sqlite", "a study")
    assert len(failures) == 2
    many = 99
    with pytest.raises(OutputError, match="table studies already exists"):
        Ledger(f"sqlite:///{tmp_path}/book.sqlite", "a study")


def test_without_optuna_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(ConfigError, match=r"pip install 'unlike\[study\]'"):
        need_optuna()
