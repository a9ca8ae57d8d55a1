"""A real `mlflow server` with its SQLite and its files: what a study leaves there, asked of the server."""

from __future__ import annotations

import importlib
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request

import pytest
from trivial import plan_of, trivial

from unlike.study import run_study
from unlike.study.page import write_results
from unlike.study.tracking import track_results

__all__ = ["trivial"]
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]  # what its packages say of each other is not ours


@pytest.fixture
def mlflow(tmp_path, monkeypatch):
    """MLflow, told of a server that runs for the test."""
    module = pytest.importorskip("mlflow", reason="needs MLflow: pip install mlflow")
    pytest.importorskip("mlflow.server", reason="needs MLflow's server: pip install mlflow")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    command += [
        "--backend-store-uri",
        f"sqlite:///{tmp_path}/mlflow.db",
        "--artifacts-destination",
        f"{tmp_path}/files",
    ]
    with (tmp_path / "log").open("wb") as log:
        server = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True, cwd=tmp_path)
    try:
        url = f"http://127.0.0.1:{port}"
        assert _is_up(f"{url}/health", server), (tmp_path / "log").read_text()[-2_000:]
        monkeypatch.setenv("MLFLOW_TRACKING_URI", url)
        module.set_tracking_uri(url)
        yield module
    finally:
        os.killpg(server.pid, signal.SIGKILL)
        server.wait()


def _is_up(url, server):
    for _ in range(1_200):
        try:
            with urllib.request.urlopen(url, timeout=5) as answer:
                return answer.status == 200
        except OSError:
            if server.poll() is not None:
                return False
            time.sleep(0.1)
    return False


@pytest.mark.usefixtures("trivial")
def test_a_server_has_params_metrics_losses_and_the_page(mlflow, tmp_path):
    plan, folder = plan_of(), tmp_path / "study"
    results = run_study(plan, folder)
    write_results(plan, results, folder)
    assert track_results(plan, results, folder) == 6
    assert track_results(plan, results, folder) == 0
    client = importlib.import_module("mlflow").MlflowClient()
    experiment = client.get_experiment_by_name(plan.name)
    runs = client.search_runs([experiment.experiment_id])
    assert len(runs) == 7  # and the page's
    named = {run.info.run_name: run for run in runs}
    one = named["1; textures; seed 0"]
    assert one.data.params == {"experiment.level": "1", "cell": "1", "data": "textures", "seed": "0"}
    assert one.data.metrics["score"] == pytest.approx(results[0].metrics["score"])
    losses = [(point.step, point.value) for point in client.get_metric_history(one.info.run_id, "train_loss")]
    assert losses == [(1, 1.0), (2, 0.5), (3, pytest.approx(1 / 3))]
    page = named["report"].info.run_id
    assert {"report.html", "results.csv"} <= {file.path for file in client.list_artifacts(page)}
    fetched = client.download_artifacts(page, "report.html", str(tmp_path))
    assert open(fetched).read() == (folder / "report.html").read_text()  # noqa: PTH123, SIM115
