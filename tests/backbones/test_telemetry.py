"""Libraries that would send usage data do not."""

from __future__ import annotations

import importlib.util
import subprocess
import sys

import pytest


@pytest.mark.slow
def test_nncf_is_imported_without_its_telemetry():
    pytest.importorskip("openvino")
    pytest.importorskip("onnx")
    if importlib.util.find_spec("nncf") is None:
        pytest.skip("nncf is not installed")
    script = (
        "import sys; from unlike.backbones.telemetry import import_nncf; import_nncf(); "
        "from nncf.telemetry.wrapper import telemetry; print(type(telemetry).__name__, 'openvino_telemetry' in sys.modules)"
    )
    shown = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert shown.stdout.split()[-2:] == ["MagicMock", "False"]
