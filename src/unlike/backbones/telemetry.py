"""OpenVINO as it is meant to be had: without sending anything. Needs no torch."""

from __future__ import annotations

import sys
from typing import Any


def import_openvino() -> Any:
    """OpenVINO without its telemetry, which sends usage data from the first import on unless it is not installed."""
    name = "openvino_telemetry"
    known = sys.modules.get(name)
    sys.modules[name] = None  # type: ignore[assignment]  # importing it fails, and OpenVINO goes on without
    try:
        import openvino
    finally:
        del sys.modules[name]
        if known is not None:
            sys.modules[name] = known
    return openvino
