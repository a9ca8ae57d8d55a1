"""What the machinery of a study costs a run, and what a second worker gains.

The experiment is one that does nothing (overhead) or burns a stated number of CPU seconds (workers). Overhead is the CPU
time of a whole study in a fresh database, claims, results and page included, divided by its runs; what the first import
of Optuna costs stands apart. Workers are copies of this process, so that neither side pays for imports. Two workers are
worth measuring only where two cores are free.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from common import cpu_seconds, spread, write

from unlike.study import Plan, run_study
from unlike.study.experiments import EXPERIMENTS, Experiment, Outcome, Task
from unlike.study.ledger import need_optuna
from unlike.study.page import write_results
from unlike.study.plan import make_plan


@dataclass(frozen=True)
class Burning:
    """How long a run keeps a core busy."""

    burns: float = 0.0
    level: int = 0


def burn(task: Task) -> Outcome:
    end = time.process_time() + task.options.burns
    while time.process_time() < end:
        pass
    return Outcome({"score": float(task.options.level + task.seed)})


def plan_of(runs: int, burns: float) -> Plan:
    vary = {"experiment": {"level": list(range(runs // 2))}}
    settings = {"experiment": {"burns": burns}}
    return make_plan({"experiment": "burning", "seeds": 2, "settings": settings, "vary": vary}, Path())


def measure_overhead(runs: int) -> dict[str, float]:
    plan = plan_of(runs, 0.0)
    with tempfile.TemporaryDirectory() as folder:
        studied = cpu_seconds(lambda: run_study(plan, Path(folder)))
        again = cpu_seconds(lambda: write_results(plan, run_study(plan, Path(folder)), Path(folder)))
    return {"a_run": studied / runs, "results_and_page": again}


def measure_workers(runs: int, burns: float, workers: int) -> float:
    """Seconds until all runs are done."""
    plan = plan_of(runs, burns)
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        crew = []
        for _ in range(workers):
            pid = os.fork()
            if not pid:
                run_study(plan, Path(folder))
                os._exit(0)
            crew.append(pid)
        for pid in crew:
            os.waitpid(pid, 0)
        return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=100)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--burns", type=float, default=1.0)
    parser.add_argument("--without-workers", action="store_true")
    options = parser.parse_args()
    EXPERIMENTS["burning"] = Experiment(burn, ("score",), ("score",), Burning)
    imported = cpu_seconds(need_optuna)
    rounds = [measure_overhead(options.runs) for _ in range(options.repeats)]
    results = {"runs": options.runs, "import_of_optuna_cpu_seconds": imported}
    results |= {f"{name}_cpu_seconds": spread([each[name] for each in rounds]) for name in rounds[0]}
    if not options.without_workers:
        one, two = (measure_workers(20, options.burns, workers) for workers in (1, 2))
        results["workers"] = {
            "one_seconds": one,
            "two_seconds": two,
            "gain": one / two,
            "cpu_seconds_a_run": options.burns,
        }
    write("study_overhead", results)


if __name__ == "__main__":
    main()
