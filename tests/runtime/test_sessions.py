"""Graphs at work: what runs them, and on how many threads."""

from __future__ import annotations

import os

import pytest

from exports import small_export
from unlike.errors import ConfigError, ExportError
from unlike.runtime import sessions
from unlike.runtime.proof import verify_export
from unlike.runtime.sessions import open_session, usual_threads


def test_a_runtime_that_is_not_installed_is_named(monkeypatch, tmp_path):
    monkeypatch.setattr(sessions.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match="needs onnxruntime, which is not installed here: pip install onnxruntime"):
        open_session(tmp_path, "onnx")


@pytest.mark.parametrize(("said", "threads"), [("3", 3), ("", None), ("0", None), ("many", None)])
def test_threads_are_as_many_as_the_environment_says(monkeypatch, said, threads):
    monkeypatch.setenv("OMP_NUM_THREADS", said)
    assert usual_threads() == (threads or len(os.sched_getaffinity(0)))


def test_the_proof_fires_where_openvino_computes_in_less_than_single_precision():
    """Which it does by itself, on processors that can, unless it is told not to."""
    from unlike.backbones.telemetry import import_openvino

    folder = small_export("openvino")
    assert verify_export(folder).size < 1e-4
    if "BF16" not in import_openvino().Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        pytest.skip("this processor has no bfloat16")
    with pytest.raises(
        ExportError, match=r"is not equal to its detector on this machine .*expected .* within 0.0001, came"
    ):
        verify_export(folder, precision="bf16")
