"""A study's runs in MLflow, for those who keep their experiments there."""

from __future__ import annotations

import importlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from unlike.artifacts import write_file
from unlike.errors import ConfigError, OutputError, unknown
from unlike.study.plan import Plan, write_value
from unlike.study.run import Result

TRACKERS = ("mlflow",)
TRACKED = "tracked.json"  # which runs are there already, so that a study that goes on logs none twice
PAGES = ("report.html", "results.csv", "losses.csv")  # of a study's folder, as far as they are there


def check_tracker(name: str | None) -> None:
    """Raise ConfigError, before anything runs, for a tracker that is unknown or not installed."""
    if name is None:
        return
    if name not in TRACKERS:
        raise unknown("tracker", name, TRACKERS)
    _import_mlflow()


def track_results(plan: Plan, results: Sequence[Result], folder: Path) -> int:
    """Log every run that is not logged yet, one MLflow run each, with its settings, figures and losses; how many.

    The page of the study and its tables are artefacts of one more, called report, as they are now. All go where MLFLOW_TRACKING_URI says, by default into ./mlruns, as an experiment with the study's title.
    """
    mlflow = _import_mlflow()
    done, page = _read_tracked(folder)
    fresh = [result for result in results if result.run not in done]
    try:
        mlflow.set_experiment(plan.name)
        for result in fresh:
            _log(mlflow, result)
            done.add(result.run)
            _write_tracked(folder, done, page)
        if fresh or not page:
            _write_tracked(folder, done, _log_page(mlflow, folder, page))
    except mlflow.exceptions.MlflowException as error:
        raise OutputError(
            f"MLflow took {len(done)} of {len(results)} runs, then refused ({error}); run again for the rest"
        ) from None
    return len(fresh)


def _log(mlflow: Any, result: Result) -> None:
    with mlflow.start_run(run_name=f"{result.configuration.label}; {result.data}; seed {result.seed}"):
        settings = {name: write_value(value) for name, value in result.configuration.choices.items()}
        mlflow.log_params({**settings, "cell": result.configuration.label, "data": result.data, "seed": result.seed})
        mlflow.set_tags({f"version.{name}": version for name, version in result.versions.items()})
        if result.error:
            mlflow.set_tags({"error": result.error})
        costs = {"cpu_seconds": result.cpu_seconds, "peak_megabytes": result.peak_megabytes}
        mlflow.log_metrics({_name(metric): value for metric, value in {**result.metrics, **costs}.items()})
        for part, history in result.histories.items():
            for row in history:
                losses = {f"{name}_loss" + f".{part}" * bool(part): row[name] for name in ("train", "validation")}
                mlflow.log_metrics({_name(name): value for name, value in losses.items()}, step=int(row["epoch"]))


def _log_page(mlflow: Any, folder: Path, page: str) -> str:
    """Put the study's page and tables beside its runs; the MLflow run that has them: `page`, or a new one where that is empty."""
    files = [folder / name for name in PAGES if (folder / name).is_file()]
    if not files:
        return page
    with mlflow.start_run(run_id=page) if page else mlflow.start_run(run_name="report") as run:
        for file in files:
            mlflow.log_artifact(str(file))
        return str(run.info.run_id)


def _name(metric: str) -> str:
    """A name that MLflow takes: letters, digits, and a few signs."""
    return "".join(letter if letter.isalnum() or letter in "_-./ " else "_" for letter in metric)


def _read_tracked(folder: Path) -> tuple[set[int], str]:
    """The runs that are logged, and the MLflow run that has the page; empty where none has."""
    path = folder / TRACKED
    if not path.exists():
        return set(), ""
    kept = json.loads(path.read_text(encoding="utf-8"))
    if isinstance(kept, list):  # of a study that was logged before pages were
        return {int(run) for run in kept}, ""
    return {int(run) for run in kept["runs"]}, str(kept["page"])


def _write_tracked(folder: Path, done: set[int], page: str) -> None:
    write_file(folder / TRACKED, json.dumps({"runs": sorted(done), "page": page}).encode())


def _import_mlflow() -> Any:
    try:
        return importlib.import_module("mlflow")
    except ImportError:
        raise ConfigError("--track mlflow: MLflow is not installed: pip install 'unlike[track]'") from None
