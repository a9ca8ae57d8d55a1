"""A study in PostgreSQL: four workers of two commands, as two machines would start them; one is killed, and no run is lost or doubled."""

from __future__ import annotations

import os
import signal
import time
from collections import Counter

import pytest
from postgres import BINARIES, running_postgres
from trivial import Forked, hire_forks, plan_of, trivial

from unlike.errors import OutputError
from unlike.study import run as running_module
from unlike.study.run import Running, open_ledger, read_results, run_study

__all__ = ["trivial"]
pytest.importorskip("psycopg", reason="needs psycopg: pip install 'psycopg[binary]'")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not BINARIES, reason="needs PostgreSQL: apt install postgresql"),
    pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork.*:DeprecationWarning"),
]


@pytest.fixture
def database():
    with running_postgres() as url:
        yield url


@pytest.mark.usefixtures("trivial")
def test_four_workers_of_two_machines_lose_and_double_nothing(database, tmp_path, monkeypatch, request):
    plan = plan_of(seeds=8, settings={"experiment": {"seconds": 0.2}})
    monkeypatch.setattr(running_module, "_hire", hire_forks(plan, database))
    machines = [
        Forked(lambda name=name: run_study(plan, tmp_path / name, Running(workers=2, storage=database)))
        for name in ("one", "two")
    ]
    for machine in machines:
        request.addfinalizer(machine.kill)
    ledger = open_ledger(plan, database)
    killed = kill_one(ledger)
    assert [machine.wait() for machine in machines] == [0, 0]
    entries = ledger.read()
    assert [result.error for result in read_results(plan, entries)] == [""] * plan.runs
    finished = Counter(trial.user_attrs["run"] for trial in ledger._all() if trial.state.name == "COMPLETE")
    assert finished == dict.fromkeys(range(plan.runs), 1)
    assert ledger.interruptions(killed.run, killed.worker) == 1  # it was given up, and somebody else has run it
    assert entries[killed.run].worker != killed.worker
    families = {entry.worker.rsplit("-", 2)[0] for entry in entries.values()}
    assert len(families) == 2  # both machines had a share


def kill_one(ledger):
    """SIGKILL to a worker that is at something, once every worker of both machines has had something; what it was at."""
    for _ in range(2_000):
        entries = ledger.read()
        busy = [entry for entry in entries.values() if entry.state == "running"]
        if len({entry.worker for entry in entries.values()}) >= 4 and busy:
            os.kill(int(busy[-1].worker.split("-")[-2]), signal.SIGKILL)
            return busy[-1]
        time.sleep(0.02)
    raise AssertionError("four workers never were at work")


@pytest.mark.usefixtures("trivial")
def test_a_database_that_is_gone_is_named_without_its_password(database):
    plan, gone = plan_of(), database.replace("me@", "me:secret@").replace("/unlike", "/nothing")
    with pytest.raises(
        OutputError, match=r"me:\*\*\*@127.0.0.1:\d+/nothing: this database cannot be reached or written"
    ):
        open_ledger(plan, gone)
