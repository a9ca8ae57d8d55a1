"""MLflow, as far as we call it."""

from __future__ import annotations

import contextlib
import sys
import types
from dataclasses import replace

import pytest
from trivial import plan_of, result_of, trivial

from unlike.errors import ConfigError, OutputError
from unlike.study import run_study
from unlike.study.tracking import check_tracker, track_results

__all__ = ["trivial"]


@pytest.fixture
def mlflow(monkeypatch):
    """A module that keeps what it is told."""
    module = types.ModuleType("mlflow")
    module.runs, module.refuse, module.files = [], False, []
    module.exceptions = types.SimpleNamespace(MlflowException=type("MlflowException", (Exception,), {}))

    @contextlib.contextmanager
    def start_run(run_name="", run_id=""):
        if run_id:
            yield types.SimpleNamespace(info=types.SimpleNamespace(run_id=run_id))
            return
        if module.refuse:
            raise module.exceptions.MlflowException("server is gone")
        module.runs.append({"name": run_name, "params": {}, "metrics": {}, "tags": {}, "steps": {}})
        yield types.SimpleNamespace(info=types.SimpleNamespace(run_id=f"run {len(module.runs)}"))

    def keep(what, values):
        module.runs[-1][what].update(values)

    def log_metrics(values, step=None):
        keep("metrics" if step is None else "steps", values)

    module.log_artifact = module.files.append
    module.set_experiment = lambda name: setattr(module, "experiment", name)
    module.start_run = start_run
    module.log_params = lambda values: keep("params", values)
    module.set_tags = lambda values: keep("tags", values)
    module.log_metrics = log_metrics
    monkeypatch.setitem(sys.modules, "mlflow", module)
    return module


@pytest.mark.usefixtures("trivial")
def test_every_run_is_logged_once(tmp_path, mlflow):
    check_tracker("mlflow")
    plan = plan_of()
    results = run_study(plan, tmp_path)
    failed = result_of(plan, {"experiment.level": 9}, error="too high")
    assert track_results(plan, results[:4], tmp_path) == 4
    assert track_results(plan, results, tmp_path) == 2
    assert track_results(plan, results, tmp_path) == 0
    assert mlflow.experiment == plan.name
    first = mlflow.runs[0]
    assert first["name"] == "1; textures; seed 0"
    assert first["params"] == {"experiment.level": "1", "cell": "1", "data": "textures", "seed": 0}
    assert first["metrics"]["score"] == results[0].metrics["score"]
    assert first["metrics"]["cpu_seconds"] == results[0].cpu_seconds
    assert first["steps"]["validation_loss"] == pytest.approx(1.1 / 3)
    assert "version.torch" in first["tags"]
    (tmp_path / "tracked.json").unlink()
    track_results(plan, [failed], tmp_path)
    assert mlflow.runs[-1]["tags"]["error"] == "too high"


@pytest.mark.usefixtures("trivial")
def test_the_page_is_an_artefact_of_one_run(tmp_path, mlflow):
    plan = plan_of()
    results = run_study(plan, tmp_path)
    track_results(plan, results[:1], tmp_path)
    assert mlflow.files == []  # there is no page yet
    (tmp_path / "report.html").write_text("<p>a page</p>")
    for _ in range(2):  # the second time there is nothing new
        track_results(plan, results, tmp_path)
    assert mlflow.files == [str(tmp_path / "report.html")]
    failed = result_of(plan, {"experiment.level": 9}, error="too high")
    track_results(plan, [*results, replace(failed, run=99)], tmp_path)
    assert len(mlflow.files) == 2
    assert [run["name"] for run in mlflow.runs].count("report") == 1


@pytest.mark.usefixtures("trivial")
def test_runs_that_were_logged_before_pages_were_are_known(tmp_path, mlflow):
    plan = plan_of()
    results = run_study(plan, tmp_path)
    (tmp_path / "tracked.json").write_text("[0, 1, 2, 3]")
    assert track_results(plan, results, tmp_path) == 2


@pytest.mark.usefixtures("trivial")
def test_names_are_those_that_mlflow_takes(tmp_path, mlflow):
    plan = plan_of()
    track_results(plan, [result_of(plan, {"experiment.level": 1}, **{"image__auroc@bolt": 0.5})], tmp_path)
    assert "image.auroc_bolt" in mlflow.runs[0]["metrics"]


@pytest.mark.usefixtures("trivial")
def test_a_server_that_is_gone(tmp_path, mlflow):
    plan = plan_of()
    mlflow.refuse = True
    message = r"MLflow took 0 of 1 runs, then refused \(server is gone\); run again for the rest"
    with pytest.raises(OutputError, match=message):
        track_results(plan, [result_of(plan, {"experiment.level": 1})], tmp_path)


def test_a_tracker_is_known_and_installed(monkeypatch):
    check_tracker(None)
    with pytest.raises(ConfigError, match=r"unknown tracker 'mlfow'; did you mean 'mlflow'?"):
        check_tracker("mlfow")
    monkeypatch.setitem(sys.modules, "mlflow", None)
    with pytest.raises(ConfigError, match=r"MLflow is not installed: pip install 'unlike\[track\]'"):
        check_tracker("mlflow")
