"""An exported graph at work: by ONNX Runtime or by OpenVINO, in single precision whatever the processor would rather do."""

from __future__ import annotations

import importlib.util
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from unlike.backbones.telemetry import import_openvino
from unlike.errors import ArtifactError, ConfigError
from unlike.records import Bools, Floats, Pixels

# pixels (B, H, W, C) of the graph's own type, and, if the graph asks for it, where values are missing (B, H, W)
Session = Callable[[Pixels, Bools | None], tuple[Floats, Floats]]  # -> maps (B, h, w) and scores (B,)
PIXELS, MISSING, OUTPUTS = "pixels", "missing", ("maps", "scores")  # what goes in and comes out is called
GRAPHS = {"onnx": ("model.onnx", "model.onnx.data"), "openvino": ("model.xml", "model.bin")}  # files, by runtime
PACKAGES = {"onnx": "onnxruntime", "openvino": "openvino"}  # the module of a runtime, which is also what to install
# of OpenVINO: on processors that have bfloat16 it would compute in that, and give other scores
SINGLE_PRECISION = "f32"
# of ONNX Runtime: on ARM it may compute matrix products in bfloat16
ONNX_OPTIONS = {"mlas.enable_gemm_fastmath_arm64_bfloat16": "0", "session.intra_op.allow_spinning": "0"}


def open_session(folder: Path, to: str, threads: int | None = None, precision: str = SINGLE_PRECISION) -> Session:
    """The graph in a folder, ready to run on so many threads; by default as many as there are cores, or OMP_NUM_THREADS.

    A ConfigError says that what runs it is not installed, an ArtifactError that it cannot be run here. Another `precision`
    than "f32" is for comparisons: its scores are not the detector's.
    """
    package = PACKAGES[to]
    if importlib.util.find_spec(package) is None:
        raise ConfigError(f"{folder}: needs {package}, which is not installed here: pip install {package}")
    opened = {"onnx": _open_onnx, "openvino": _open_openvino}[to]
    try:
        return opened(folder / GRAPHS[to][0], threads or usual_threads(), precision)
    except Exception as error:  # of a library, whose errors have no common type
        reason = " ".join(str(error).split())
        raise ArtifactError(
            f"{folder}: {package} {_version_of(package)} cannot run {GRAPHS[to][0]} on this machine ({reason}); expected a release "
            f"that knows all of its operators: pip install --upgrade {package}"
        ) from error


def usual_threads() -> int:
    """How many threads a graph runs on where nobody says: OMP_NUM_THREADS, or the cores that this process may use."""
    wanted = os.environ.get("OMP_NUM_THREADS", "")
    if wanted.isdecimal() and int(wanted) > 0:
        return int(wanted)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _open_onnx(path: Path, threads: int, precision: str) -> Session:  # noqa: ARG001 (it computes as the graph says)
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.log_severity_level = 3  # errors
    for name, value in ONNX_OPTIONS.items():
        options.add_session_config_entry(name, value)
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])

    def run(pixels: Pixels, missing: Bools | None) -> tuple[Floats, Floats]:
        return _checked(*session.run(list(OUTPUTS), _fed(pixels, missing)))

    return run


def _open_openvino(path: Path, threads: int, precision: str) -> Session:
    openvino = import_openvino()
    core = openvino.Core()
    kinds = {"INFERENCE_PRECISION_HINT": precision, "ENABLE_CPU_PINNING": False, "NUM_STREAMS": 1}
    request: Any = core.compile_model(
        core.read_model(path), "CPU", {**kinds, "INFERENCE_NUM_THREADS": threads}
    ).create_infer_request()

    lock = threading.Lock()  # a request is one thread's at a time

    def run(pixels: Pixels, missing: Bools | None) -> tuple[Floats, Floats]:
        with lock:
            found = request.infer(_fed(pixels, missing), share_inputs=True)
            return _checked(*(np.array(found[name]) for name in OUTPUTS))

    return run


def _fed(pixels: Pixels, missing: Bools | None) -> dict[str, Pixels]:
    whole = {PIXELS: np.ascontiguousarray(pixels)}
    return whole if missing is None else {**whole, MISSING: np.ascontiguousarray(missing)}


def _checked(maps: Floats, scores: Floats) -> tuple[Floats, Floats]:
    return np.asarray(maps), np.asarray(scores, np.float64)


def _version_of(package: str) -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(package)
    except PackageNotFoundError:
        return "of an unknown version"
