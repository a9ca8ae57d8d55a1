"""OpenVINO, and NNCF, which is of the same makers, without their telemetry. Needs no torch."""

from __future__ import annotations

import importlib
import sys
from typing import Any


def import_openvino() -> Any:
    """OpenVINO without its telemetry, which sends usage data from the first import on unless it is not installed."""
    return _import_quietly("openvino")


def import_nncf() -> Any:
    """NNCF without its telemetry, which sends usage data from the first import on unless it is not installed."""
    return _import_quietly("nncf")


def _import_quietly(module: str) -> Any:
    name = "openvino_telemetry"
    known = sys.modules.get(name)
    sys.modules[name] = None  # type: ignore[assignment]  # importing it fails, and they go on without
    try:
        return importlib.import_module(module)
    finally:
        del sys.modules[name]
        if known is not None:
            sys.modules[name] = known
