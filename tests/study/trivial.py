"""An experiment that takes no time, a plan of it, and processes that can be killed."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from unlike.study.experiments import EXPERIMENTS, Experiment, Outcome
from unlike.study.plan import make_plan
from unlike.study.run import Result, open_ledger, work
from unlike.study.workers import Worker


@dataclass(frozen=True)
class TrivialOptions:
    level: float = 0.0
    other: str = ""
    fails: bool = False
    kills: bool = False
    seconds: float = 0.0
    log: str = ""  # a file that gets a line for every run that starts


def run_trivial(task):
    options = task.options
    if options.log:
        with Path(options.log).open("a") as file:
            file.write(f"{options.level:g} {options.other} {task.source.name} {task.seed}\n")
    time.sleep(options.seconds)
    if options.fails:
        raise RuntimeError("the level\nis too high")
    if options.kills:
        os.kill(os.getpid(), signal.SIGKILL)
    history = [{"epoch": epoch, "train": 1 / epoch, "validation": 1.1 / epoch} for epoch in (1, 2, 3)]
    score = options.level - (options.level - 2) ** 2 * 0.1 * options.level + 0.01 * task.seed * (1 + options.level % 2)
    metrics = {"score": score, "image.improvement": 0.1 * options.level}
    pictures = {"it": "data:image/jpeg;base64,AA=="}
    return Outcome(metrics, {"": history}, [(0, 0, 0), (1, 1, 1)], pictures)


TRIVIAL = Experiment(run_trivial, ("score",), ("score", "other", "image.improvement", "lost"), TrivialOptions)


@pytest.fixture
def trivial(monkeypatch):
    """The experiment, under its name, and short waits."""
    monkeypatch.setitem(EXPERIMENTS, "trivial", TRIVIAL)
    monkeypatch.setattr("unlike.study.run.POLL_SECONDS", 0.02)


def plan_of(base: Path | None = None, **parts):
    content = {"title": "Trivial", "experiment": "trivial", "seeds": 2, "vary": {"experiment": {"level": [1, 2, 3]}}}
    return make_plan({**content, **parts}, base or Path())


def result_of(plan, varied, data="textures", seed=0, error="", **metrics):
    metrics = {} if error else {"score": 0.5, **{name.replace("__", "."): value for name, value in metrics.items()}}
    versions = {"unlike": "1", "python": "2", "torch": "3", "numpy": "4"}
    return Result(0, plan.configuration(varied), data, seed, metrics, 1.5, 100.0, versions, error)


class Forked:
    """A copy of this process that runs something, as a Popen sees it."""

    def __init__(self, work):
        self.returncode = None
        self.pid = os.fork()
        if not self.pid:
            code = 1
            try:
                work()
                code = 0
            finally:
                os._exit(code)

    def poll(self, options=os.WNOHANG):
        if self.returncode is None:
            pid, status = os.waitpid(self.pid, options)
            self.returncode = os.waitstatus_to_exitcode(status) if pid else None
        return self.returncode

    def wait(self):
        return self.poll(0)

    def kill(self):
        if self.poll() is None:
            os.kill(self.pid, signal.SIGKILL)
        self.wait()

    def terminate(self):
        if self.poll() is None:
            os.kill(self.pid, signal.SIGTERM)


def hire_forks(plan, url):
    """Workers that are copies of this process, so that the trivial experiment is known to them."""

    def hire(folder, family, running):
        def serve():
            worker = Worker(folder, family)
            work(plan, open_ledger(plan, url), worker, running.device, lambda *_: None)
            worker.close()

        return Forked(serve)

    return hire
