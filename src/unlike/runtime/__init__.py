"""The runtime: what `unlike export` wrote, at work with numpy, OpenCV and ONNX Runtime or OpenVINO, and without torch.

>>> from unlike import runtime
>>> "load" in dir(runtime)
True
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from unlike.runtime.exported import ExportedDetector as ExportedDetector
    from unlike.runtime.exported import load as load

__all__ = ["ExportedDetector", "load"]


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used."""
    if name not in __all__:
        raise AttributeError(f"module 'unlike.runtime' has no attribute {name!r}")
    return getattr(importlib.import_module("unlike.runtime.exported"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
