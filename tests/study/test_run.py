"""Studies that run, fail, are killed, and go on."""

from __future__ import annotations

import csv
import io
import os
import random
import sys
import time
from collections import Counter

import pytest
from trivial import Forked, hire_forks, plan_of, trivial

from unlike.errors import ConfigError, OutputError
from unlike.study import Running, run_study
from unlike.study import __main__ as worker_module
from unlike.study import run as running_module
from unlike.study.ledger import Ledger
from unlike.study.run import open_ledger, read_folder_plan
from unlike.study.tables import COSTS, results_csv

__all__ = ["trivial"]  # the fixture
fork_is_meant = pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork.*:DeprecationWarning")


def rows(plan, results):
    """results.csv without what differs from run to run."""
    found = csv.DictReader(io.StringIO(results_csv(plan, results)))
    return [{name: value for name, value in row.items() if name not in COSTS} for row in found]


def starts(path):
    return Counter(path.read_text().splitlines()) if path.exists() else Counter()


@pytest.mark.usefixtures("trivial")
def test_every_run_is_run_once_and_found_again(tmp_path):
    log = tmp_path / "log"
    plan = plan_of(
        settings={"experiment": {"log": str(log)}}, data=[{"collection": "textures"}, {"collection": "digits"}]
    )
    news = []
    results = run_study(plan, tmp_path / "s", notify=lambda *item: news.append(item))
    assert len(results) == 12
    assert [(result.configuration.label, result.data, result.seed) for result in results[:3]] == [
        ("1", "textures", 0),
        ("1", "textures", 1),
        ("1", "digits", 0),
    ]
    assert [done for _, done, _ in news] == list(range(1, 13))
    assert [result.seed for result, _, _ in news] == [0] * 6 + [1] * 6  # a whole grid with one seed first
    assert results[0].metrics["score"] == pytest.approx(0.9)
    assert results[0].histories[""][0]["validation"] == 1.1
    assert results[0].points == [[0, 0, 0], [1, 1, 1]]
    assert [bool(result.pictures) for result in results] == [True, False] * 6  # of the first seed
    assert results[0].versions["unlike"]
    assert results[0].peak_megabytes > 10
    again = run_study(plan, tmp_path / "s")
    assert rows(plan, again) == rows(plan, results)
    assert set(starts(log).values()) == {1}
    assert read_folder_plan(tmp_path / "s") == plan
    assert list((tmp_path / "s/workers").iterdir()) == []


@pytest.mark.usefixtures("trivial")
def test_a_failure_is_written_down_and_the_others_go_on(tmp_path):
    cells = [{"name": "good"}, {"name": "bad", "experiment": {"fails": True}}]
    plan = plan_of(cell=cells, vary={}, seeds=1)
    results = run_study(plan, tmp_path)
    assert [result.error for result in results] == ["", "RuntimeError: the level is too high"]
    run_study(plan, tmp_path)  # a failure is a result
    assert len(Ledger(f"sqlite:///{tmp_path}/study.sqlite", plan.name).read()) == 2
    news = []
    run_study(plan, tmp_path, Running(retry=True), lambda *item: news.append(item))
    assert [result.configuration.label for result, _, _ in news] == ["bad"]


@pytest.mark.usefixtures("trivial")
def test_data_that_vanished_is_looked_for_again_only_when_asked(tmp_path):
    images = tmp_path / "images.npy"
    plan = plan_of(
        tmp_path, vary={"model": ["fcn"]}, seeds=1, experiment="fit-and-evaluate", data={"root": "images.npy"}
    )
    (result,) = run_study(plan, tmp_path / "s")
    assert "images.npy: no such file or folder" in result.error  # data that has vanished
    images.write_bytes(b"")
    (result,) = run_study(plan, tmp_path / "s")
    assert "no such file" in result.error
    (result,) = run_study(plan, tmp_path / "s", Running(retry=True))
    assert "is empty (0 bytes)" in result.error


@pytest.mark.usefixtures("trivial")
def test_a_first_figure_that_is_missing_is_a_failure(tmp_path):
    (result, _) = run_study(plan_of(seeds=1, vary={"experiment": {"level": [1, 2]}}, metrics=["lost"]), tmp_path)
    assert result.error == "lost could not be measured on these images; choose other metrics in the plan"


@pytest.mark.usefixtures("trivial")
def test_a_budget_of_cpu_seconds_ends_a_study(tmp_path, monkeypatch):
    class Dear:
        def read(self):
            return {"cpu_seconds": 0.1, "peak_megabytes": 1.0}

    monkeypatch.setattr(running_module, "Meter", Dear)
    plan = plan_of(budget={"cpu_seconds": 0.15})
    results = run_study(plan, tmp_path)
    assert [result.configuration.label for result in results] == ["1", "2"]
    assert [result.cpu_seconds for result in results] == [0.1, 0.1]
    assert len(run_study(plan, tmp_path)) == 2


@pytest.mark.usefixtures("trivial")
def test_a_folder_of_another_study_is_refused(tmp_path):
    run_study(plan_of(seeds=1), tmp_path)
    with pytest.raises(
        OutputError, match="holds another study, 'Trivial', whose plan differs from this one in seeds; choose"
    ):
        run_study(plan_of(seeds=2), tmp_path)
    (tmp_path / "study.toml").write_text("nonsense")
    with pytest.raises(OutputError, match=r"study.toml: is not what a study wrote"):
        run_study(plan_of(seeds=1), tmp_path)


@pytest.mark.usefixtures("trivial")
def test_a_database_of_ones_own(tmp_path):
    url = f"sqlite:///{tmp_path}/elsewhere.sqlite"
    plan = plan_of(seeds=1)
    results = run_study(plan, tmp_path / "one", Running(storage=url))
    with pytest.raises(
        ConfigError, match=r"one: the results of this study are in sqlite:.*elsewhere.sqlite; give it with"
    ):
        run_study(plan, tmp_path / "one")
    log = []
    others = run_study(plan, tmp_path / "two", Running(storage=url), lambda *item: log.append(item))
    assert rows(plan, others) == rows(plan, results)
    assert log == []  # another folder, the same study
    run_study(plan, tmp_path / "three")
    with pytest.raises(ConfigError, match="three: the results of this study are in the folder itself"):
        run_study(plan, tmp_path / "three", Running(storage=url))


def test_workers_are_one_or_more():
    with pytest.raises(ConfigError, match="workers: expected 1 to 1000, came 0"):
        Running(workers=0)


@pytest.mark.usefixtures("trivial")
def test_ctrl_c_leaves_the_run_for_the_next_one(tmp_path, monkeypatch):
    plan = plan_of(seeds=1)

    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(running_module, "run_one", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run_study(plan, tmp_path)
    monkeypatch.undo()
    assert Ledger(f"sqlite:///{tmp_path}/study.sqlite", plan.name).read() == {}


@fork_is_meant
@pytest.mark.usefixtures("trivial")
def test_killed_five_times_it_ends_with_the_same_results(tmp_path):
    chance = random.Random(7)
    cells = [{"name": "good"}, {"name": "bad", "experiment": {"fails": True, "other": "bad"}}]
    parts = {"cell": cells, "vary": {"experiment": {"level": [1, 2, 3]}}}
    log = tmp_path / "log"
    settings = {"experiment": {"seconds": 0.05, "log": str(log)}}
    plan = plan_of(**parts, settings=settings)
    calm = run_study(plan, tmp_path / "calm")
    log.unlink()
    configurations = list(plan.configurations)
    finished: set[int] = set()
    before: Counter[str] = Counter()
    for _ in range(5):
        member = Forked(lambda: run_study(plan, tmp_path / "killed"))
        wanted = sum(before.values()) + chance.randint(0, 4)
        while sum(starts(log).values()) < wanted and member.poll() is None:
            time.sleep(0.01)
        time.sleep(chance.uniform(0, 0.2))
        member.kill()
        assert member.returncode in (-9, 0)
        now = starts(log)
        for run in finished:  # what was finished was not run again
            configuration, seed = configurations[plan.position(run).configuration], plan.position(run).seed
            line = f"{configuration.varied['experiment.level']} {configuration.choices.get('experiment.other', '')} textures {seed}"
            assert now[line] == before[line] > 0
        before = now
        if (tmp_path / "killed/study.sqlite").exists():
            entries = open_ledger(plan, f"sqlite:///{tmp_path}/killed/study.sqlite").read()
            assert finished <= {run for run, entry in entries.items() if entry.state != "running"}
            finished = {run for run, entry in entries.items() if entry.state != "running"}
    assert len(finished) > 0
    results = run_study(plan, tmp_path / "killed")
    assert rows(plan, results) == rows(plan, calm)
    assert len(results) == 12
    assert sum(starts(log).values()) <= 12 + 5


@fork_is_meant
@pytest.mark.usefixtures("trivial")
def test_several_at_once_run_nothing_twice(tmp_path):
    log = tmp_path / "log"
    plan = plan_of(seeds=4, settings={"experiment": {"seconds": 0.02, "log": str(log)}})
    crew = [Forked(lambda: run_study(plan, tmp_path / "s")) for _ in range(3)]
    assert [member.wait() for member in crew] == [0, 0, 0]
    assert starts(log) == Counter(dict.fromkeys(starts(log), 1))
    assert len(starts(log)) == 12
    assert len(run_study(plan, tmp_path / "s")) == 12


@fork_is_meant
@pytest.mark.usefixtures("trivial")
def test_a_run_that_kills_its_workers_is_written_down_in_the_end(tmp_path, monkeypatch):
    cells = [{"name": "good"}, {"name": "bad", "experiment": {"kills": True}}]
    plan = plan_of(cell=cells, vary={}, seeds=2)
    monkeypatch.setattr(running_module, "_hire", hire_forks(plan, f"sqlite:///{tmp_path}/study.sqlite"))
    news = []
    results = run_study(plan, tmp_path, Running(workers=2), lambda *item: news.append(item))
    assert len(news) == 4
    assert [result.error[:48] for result in results] == [
        "", "", *["the process that ran it was killed 3 times, by s"] * 2
    ]  # fmt: skip


@fork_is_meant
@pytest.mark.usefixtures("trivial")
def test_workers_that_cannot_work(tmp_path, monkeypatch):
    def fail():
        raise SystemExit

    def die():
        os.kill(os.getpid(), 9)

    monkeypatch.setattr(running_module, "_hire", lambda *_: Forked(fail))
    with pytest.raises(OutputError, match="a worker of this study stopped with exit code 1; it said why above"):
        run_study(plan_of(), tmp_path, Running(workers=2))
    monkeypatch.setattr(running_module, "_hire", lambda *_: Forked(die))
    with pytest.raises(
        OutputError, match="3 workers of this study were killed while they ran nothing, the last one by signal 9"
    ):
        run_study(plan_of(), tmp_path, Running(workers=2))


@pytest.mark.usefixtures("trivial")
@pytest.mark.parametrize("sampler", ["random", "tpe"])
def test_drawn_settings_are_drawn_again_alike(tmp_path, sampler):
    vary = {"experiment": {"level": {"low": 0.5, "high": 3.5}, "other": ["a", "b"]}}
    plan = plan_of(sampler=sampler, budget={"trials": 11}, vary=vary, seeds=2)
    plan.check()
    results = run_study(plan, tmp_path / "one")
    assert len(results) == 22
    levels = [result.configuration.varied["experiment.level"] for result in results]
    assert len(set(levels)) == 11
    assert levels[::2] == levels[1::2]  # both seeds of a trial have the same settings
    assert all(0.5 <= level <= 3.5 for level in levels)
    assert rows(plan, run_study(plan, tmp_path / "two")) == rows(plan, results)


@pytest.mark.usefixtures("trivial")
def test_tpe_learns_where_the_best_is(tmp_path):
    vary = {"experiment": {"level": {"low": 0.0, "high": 6.0}}}
    plan = plan_of(sampler="tpe", budget={"trials": 24}, vary=vary, seeds=1)
    levels = [result.configuration.varied["experiment.level"] for result in run_study(plan, tmp_path)]
    best = 2.97  # of l - 0.1 l (l - 2)^2
    assert sum(abs(level - best) for level in levels[16:]) < sum(abs(level - best) for level in levels[:8])


@pytest.mark.usefixtures("trivial")
def test_a_small_space_is_not_drawn_from_twice(tmp_path):
    plan = plan_of(sampler="random", budget={"trials": 9}, vary={"experiment": {"level": [1, 2, 3]}}, seeds=1)
    results = run_study(plan, tmp_path)
    assert sorted(result.configuration.varied["experiment.level"] for result in results) == [1, 2, 3]


@pytest.fixture
def worker_started(tmp_path, monkeypatch):
    """A study with nothing run, and this process as one of its workers."""
    plan = plan_of(seeds=1)
    url = f"sqlite:///{tmp_path}/study.sqlite"
    running_module.open_folder(plan, tmp_path, url)
    monkeypatch.setenv("UNLIKE_STUDY_STORAGE", url)
    monkeypatch.setattr(sys, "argv", ["worker", str(tmp_path), "family", "cpu"])
    return open_ledger(plan, url)


@pytest.mark.usefixtures("trivial")
def test_a_worker_works_until_whoever_started_it_is_gone(worker_started, monkeypatch):
    heads = iter([7, 7, 1])
    monkeypatch.setattr(worker_module.os, "getppid", lambda: next(heads))
    assert worker_module.main() == 0
    assert len(worker_started.read()) == 1
    monkeypatch.undo()


@pytest.mark.usefixtures("trivial")
def test_a_worker_says_why_it_stops(worker_started, monkeypatch, capsys):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(running_module, "run_one", interrupted)
    assert worker_module.main() == 130
    assert worker_started.read() == {}
    monkeypatch.setenv("UNLIKE_STUDY_STORAGE", "sqlite:////nowhere/x.db")
    assert worker_module.main() == 2
    assert "nowhere/x.db: this database cannot be reached" in capsys.readouterr().err
