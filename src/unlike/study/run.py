"""Run a study: claim what is free, run it, write down what came of it, until nothing is left."""

from __future__ import annotations

import os
import subprocess
import sys
import time
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import tomli_w

from unlike.artifacts import check_writable, write_file
from unlike.config import check_range
from unlike.detector.storage import versions
from unlike.errors import ConfigError, OutputError, UnlikeError
from unlike.study.experiments import EXPERIMENTS, Choices, Task
from unlike.study.ledger import Entry, Ledger, hide_password, need_optuna
from unlike.study.meter import Meter
from unlike.study.plan import Configuration, Plan, make_plan
from unlike.study.sampling import Params, decode, distributions, draw_params, encode
from unlike.study.workers import Worker, beating, new_family

PLAN_FILE, BOOK_FILE = "study.toml", "study.sqlite"
POLL_SECONDS = 1.0  # between two looks whether others are done
MOST_DEATHS = 3  # of workers of one command over the same run, before it counts as failed
Notify = Callable[["Result", int, int], None]  # what came of a run; runs done, of how many


@dataclass(frozen=True, slots=True)
class Running:
    """How a study is run; none of it changes what it finds."""

    workers: int = 1  # on this machine
    storage: str | None = None  # database URL; None: a SQLite file in the folder
    device: str = "auto"
    retry: bool = False  # run again what failed

    def __post_init__(self) -> None:
        check_range("workers", self.workers, 1, 1_000)


@dataclass(frozen=True, slots=True, eq=False)
class Result:
    """What came of one run."""

    run: int
    configuration: Configuration
    data: str
    seed: int
    metrics: Mapping[str, float] = field(default_factory=dict)
    cpu_seconds: float = 0.0
    peak_megabytes: float = 0.0
    versions: Mapping[str, str] = field(default_factory=dict)
    error: str = ""
    histories: Mapping[str, Sequence[Mapping[str, float]]] = field(default_factory=dict)
    points: Sequence[Sequence[float]] = ()
    pictures: Mapping[str, str] = field(default_factory=dict)
    warnings: Sequence[str] = ()


def run_study(plan: Plan, folder: Path, running: Running | None = None, notify: Notify | None = None) -> list[Result]:
    """Run all of a plan that is not done yet, and give back everything that is known of it, in the plan's order.

    A study that was killed goes on where it was; other processes and machines may work on it at the same time. A run
    that fails is written down with its error, and the others go on.
    """
    running, notify = running or Running(), notify or _say_nothing
    need_optuna()
    url = running.storage or _file_url(folder)
    open_folder(plan, folder, url)
    ledger = open_ledger(plan, url)
    if running.retry:
        ledger.retry()
    if running.workers == 1:
        worker = Worker(folder)
        try:
            work(plan, ledger, worker, running.device, notify)
        finally:
            worker.close()
    else:
        _employ(plan, folder, ledger, running, notify)
    return read_results(plan, ledger.read())


def open_ledger(plan: Plan, url: str) -> Ledger:
    """The book of this plan in a database."""
    return Ledger(url, plan.name, minimise=plan.outline.minimise)


def open_folder(plan: Plan, folder: Path, url: str) -> None:
    """Keep the plan in its folder, or make sure that it is the one that is kept there."""
    check_writable(folder / PLAN_FILE)
    path = folder / PLAN_FILE
    book = "" if url == _file_url(folder) else hide_password(url)
    facts = {"fingerprint": plan.fingerprint, "database": book, "base": str(plan.base), "plan": dict(plan.source)}
    if not path.exists():
        write_file(path, tomli_w.dumps(facts).encode())
        return
    kept = _read_facts(path)
    if kept["fingerprint"] != plan.fingerprint:
        title = kept["plan"].get("title", "")
        raise OutputError(
            f"{folder}: holds another study{f', {title!r}' if title else ''}, whose plan differs from this one in "
            f"{', '.join(_differences(kept['plan'], plan.source))}; choose another folder with -o"
        )
    if kept["database"] != book:
        where = f"in {kept['database']}; give it with --storage" if kept["database"] else "in the folder itself"
        raise ConfigError(f"{folder}: the results of this study are {where}")


def read_folder_plan(folder: Path) -> Plan:
    """The plan that a study's folder keeps."""
    facts = _read_facts(folder / PLAN_FILE)
    return make_plan(facts["plan"], Path(facts["base"]), str(folder / PLAN_FILE))


def work(
    plan: Plan, ledger: Ledger, worker: Worker, device: str, notify: Notify, wanted: Callable[[], bool] | None = None
) -> None:
    """Take one run after the other until nothing is left, or nobody wants more; wait for what others have taken."""
    order = plan.order()
    configurations = [] if plan.sampled else list(plan.configurations)
    while wanted is None or wanted():
        entries = release_dead(ledger, worker)
        if _is_spent(plan, entries):
            return
        run = next((run for run in order if run not in entries), None)
        if run is None:
            if all(entry.state != "running" for entry in entries.values()):
                return
            time.sleep(POLL_SECONDS)
            continue
        params = _find_params(plan, configurations, run, ledger, entries)
        entry = ledger.claim(run, worker.name, params, distributions(plan))
        if entry is not None:
            _run_claimed(plan, ledger, entry, device)
            known = ledger.read()
            finished = [entry for entry in known.values() if entry.state != "running"]
            if run in known:
                notify(make_result(plan, known[run]), len(finished), plan.runs)


def release_dead(ledger: Ledger, worker: Worker) -> dict[int, Entry]:
    """The book, without the runs of workers that are no more; those of our own family its head looks after."""
    entries = ledger.read()
    gone = [
        entry
        for entry in entries.values()
        if entry.state == "running"
        and not entry.worker.startswith(worker.family)
        and worker.is_gone(entry.worker, entry.beat)
    ]
    for entry in gone:
        ledger.give_up(entry)
    return ledger.read() if gone else entries


def read_results(plan: Plan, entries: Mapping[int, Entry]) -> list[Result]:
    """What came of every run that is finished, in the plan's order."""
    return [make_result(plan, entry) for _, entry in sorted(entries.items()) if entry.state != "running"]


def make_result(plan: Plan, entry: Entry) -> Result:
    """What the book says of a run, with its settings."""
    position = plan.position(entry.run)
    configuration = plan.configuration(decode(entry.params, plan))
    data, seed = plan.data[position.data].name, plan.outline.seed_list[position.seed]
    return Result(entry.run, configuration, data, seed, **entry.outcome)


def run_one(plan: Plan, run: int, configuration: Configuration, device: str) -> dict[str, Any]:
    """Run an experiment once; whatever goes wrong in it is its result."""
    position = plan.position(run)
    experiment = EXPERIMENTS[plan.outline.experiment]
    meter = Meter()
    found: dict[str, Any] = {"metrics": {}}
    try:
        choices = Choices.arrange(configuration.choices)
        options = experiment.read_options(choices)
        seed = plan.outline.seed_list[position.seed]
        outcome = experiment.run(Task(plan.data[position.data], choices, options, seed, device))
        _need_first_metric(plan, outcome.metrics)
        found = {"metrics": dict(outcome.metrics), "histories": dict(outcome.histories)}
        found["warnings"] = list(outcome.warnings)
        found["points"] = [list(point) for point in outcome.points]
        found["pictures"] = dict(outcome.pictures) if position.seed == 0 else {}
    except Exception as error:  # noqa: BLE001 - a study outlives whatever happens to one of its runs
        found["error"] = _describe(error)
    return found | meter.read() | {"versions": versions()}


def _run_claimed(plan: Plan, ledger: Ledger, entry: Entry, device: str) -> None:
    configuration = plan.configuration(decode(entry.params, plan))
    try:
        with beating(lambda count: ledger.beat(entry, count)):
            outcome = run_one(plan, entry.run, configuration, device)
    except BaseException:  # Ctrl-C: another may take it at once
        ledger.give_up(entry)
        raise
    value = None if "error" in outcome else outcome["metrics"][plan.metrics[0]]
    ledger.finish(entry, outcome, value)


def _find_params(
    plan: Plan, configurations: Sequence[Configuration], run: int, ledger: Ledger, entries: Mapping[int, Entry]
) -> Params:
    """The settings of a run: known from the plan, drawn by whoever had the configuration first, or drawn now."""
    number = plan.position(run).configuration
    if configurations:
        return encode(configurations[number].varied, plan)
    drawn: dict[int, Params] = {}
    for other, params in sorted(ledger.first_params().items()):
        drawn.setdefault(plan.position(other).configuration, params)
    return drawn.get(number) or draw_params(plan, number, drawn, entries)


def _is_spent(plan: Plan, entries: Mapping[int, Entry]) -> bool:
    most = plan.budget.cpu_seconds
    if most is None:
        return False
    return sum(float(entry.outcome.get("cpu_seconds", 0)) for entry in entries.values()) >= most


def _employ(plan: Plan, folder: Path, ledger: Ledger, running: Running, notify: Notify) -> None:
    """Start workers, start new ones for those that are killed, and tell what they finish."""
    family = new_family()
    crew = [_hire(folder, family, running) for _ in range(min(running.workers, plan.runs))]
    idle_deaths = 0
    told = {run for run, entry in ledger.read().items() if entry.state != "running"}
    try:
        while crew:
            time.sleep(POLL_SECONDS / 4)
            for member in [member for member in crew if member.poll() is not None]:
                crew.remove(member)
                if member.returncode < 0:
                    idle_deaths += not _bury(ledger, member, family, blame=True)
                    if idle_deaths >= MOST_DEATHS:
                        raise OutputError(
                            f"{idle_deaths} workers of this study were killed while they ran nothing, the last one by signal "
                            f"{-member.returncode}; 9 is often the system's, when memory runs out: start fewer with --workers"
                        )
                    crew.append(_hire(folder, family, running))
                elif member.returncode:
                    raise OutputError(
                        f"a worker of this study stopped with exit code {member.returncode}; it said why above"
                    )
            entries = ledger.read()
            for run in sorted(run for run, entry in entries.items() if entry.state != "running" and run not in told):
                told.add(run)
                notify(make_result(plan, entries[run]), len(told), plan.runs)
    finally:
        for member in crew:
            member.terminate()
        for member in crew:
            member.wait()
            _bury(ledger, member, family, blame=False)


def _hire(folder: Path, family: str, running: Running) -> subprocess.Popen[bytes]:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    threads = str(max(1, cores // running.workers))
    url = running.storage or _file_url(folder)
    words = {"UNLIKE_STUDY_STORAGE": url, "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", threads)}
    command = [sys.executable, "-m", "unlike.study", str(folder), family, running.device]
    return subprocess.Popen(command, env={**os.environ, **words})  # noqa: S603 - ourselves


def _bury(ledger: Ledger, member: subprocess.Popen[bytes], family: str, *, blame: bool) -> bool:
    """Free the run of a worker that is gone; one over which several died is to blame, and is written down as failed.

    False where it had none.
    """
    had_one = False
    for entry in ledger.read().values():
        if entry.state != "running" or not entry.worker.startswith(f"{family}-{member.pid}-"):
            continue
        had_one = True
        if blame and ledger.interruptions(entry.run, family) >= MOST_DEATHS - 1:
            reason = f"the process that ran it was killed {MOST_DEATHS} times, by signal {-member.returncode}"
            outcome = {"metrics": {}, "error": f"{reason} (9 is often the system's, when memory runs out)"}
            ledger.finish(entry, outcome, None)
        else:
            ledger.give_up(entry)
    return had_one


def _need_first_metric(plan: Plan, metrics: Mapping[str, float]) -> None:
    first = plan.metrics[0]
    value = metrics.get(first)
    if value is None or value != value:  # noqa: PLR0124 - not a number
        raise ConfigError(f"{first} could not be measured on these images; choose other metrics in the plan")


def _describe(error: Exception) -> str:
    """What went wrong, in a line."""
    words = " ".join(str(error).split())
    return words if isinstance(error, UnlikeError) else f"{type(error).__name__}: {words}".removesuffix(": ")


def _read_facts(path: Path) -> dict[str, Any]:
    try:
        facts = tomllib.loads(path.read_text(encoding="utf-8"))
        return {name: facts[name] for name in ("fingerprint", "database", "base", "plan")}
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, KeyError) as error:
        raise OutputError(f"{path}: is not what a study wrote ({error}); choose another folder with -o") from None


def _differences(one: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    return sorted(name for name in {*one, *other} if one.get(name) != other.get(name))


def _file_url(folder: Path) -> str:
    from sqlalchemy.engine import URL

    path = str(folder.resolve() / BOOK_FILE).replace("{", "{{").replace("}", "}}")  # Optuna fills in what is in braces
    return URL.create("sqlite", database=path).render_as_string()


def _say_nothing(result: Result, done: int, total: int) -> None:
    """Where nobody wants to know."""
