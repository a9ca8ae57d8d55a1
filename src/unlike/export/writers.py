"""A graph in the words of a runtime: ONNX by torch's own exporter, and OpenVINO's from that."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import logging
import warnings
from pathlib import Path

import torch

from unlike.backbones.telemetry import import_openvino
from unlike.errors import ConfigError, ExportError
from unlike.export.graph import PixelGraph
from unlike.runtime.sessions import GRAPHS, MISSING, OUTPUTS, PACKAGES, PIXELS

OPSET = 20  # of ONNX; its operators are known since ONNX Runtime 1.17 and OpenVINO 2024
NEEDED = ("onnx", "onnxscript")  # to write ONNX


def check_installed(to: str) -> None:
    """Raise ConfigError where what an export takes is not installed."""
    missing = [name for name in (*NEEDED, PACKAGES[to]) if importlib.util.find_spec(name) is None]
    if missing:
        raise ConfigError(f"export needs {' and '.join(missing)}, not installed here: pip install 'unlike[export]'")


def write_onnx(graph: PixelGraph, folder: Path) -> Path:
    """A graph as ONNX, for any number of images, in a folder; weights in a file beside it, so that whoever loads it can map them."""
    import onnx

    main, weights = (folder / name for name in GRAPHS["onnx"])
    folder.mkdir()
    _trace(graph).save(str(main), external_data=True)
    onnx.checker.check_model(str(main))
    if not weights.exists():  # of a graph that has none to speak of
        weights.write_bytes(b"")
    return folder


def convert_to_openvino(source: Path, folder: Path) -> Path:
    """The ONNX graph of a folder as OpenVINO's, in another, in full precision."""
    openvino = import_openvino()
    folder.mkdir()
    try:
        model = openvino.Core().read_model(source / GRAPHS["onnx"][0])
        openvino.save_model(model, folder / GRAPHS["openvino"][0], compress_to_fp16=False)
    except Exception as error:
        raise ExportError(_say_unknown("OpenVINO", error)) from error
    return folder


def _trace(graph: PixelGraph) -> torch.onnx.ONNXProgram:
    """By torch's exporter; what it prints is dropped, what it cannot do is an ExportError."""
    inputs = graph.example(2)
    names = (PIXELS, MISSING)[: len(inputs)]
    batch = torch.export.Dim("batch", min=1, max=1 << 16)
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), torch.no_grad(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            program = torch.onnx.export(
                graph,
                inputs,
                input_names=list(names),
                output_names=list(OUTPUTS),
                opset_version=OPSET,
                dynamo=True,
                dynamic_shapes=tuple({0: batch} for _ in inputs),
                verbose=False,
            )
    except Exception as error:
        raise ExportError(_say_unknown("torch's exporter", error)) from error
    finally:
        logger.setLevel(level)
    assert program is not None, "it was not asked to write a file"
    return program


def _say_unknown(who: str, error: Exception) -> str:
    first = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
    return (
        f"this detector cannot be written down as a graph: {who} does not know a step of its model or scorer ({first}); "
        "expected tensor operations that torch.export can trace, whatever the number of images"
    )
