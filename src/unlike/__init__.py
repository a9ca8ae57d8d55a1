"""Show it what normal looks like; it finds what is unlike it.

>>> import unlike
>>> "Detector" in dir(unlike)
True
"""

from __future__ import annotations

import importlib
import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from unlike._version import __version__ as __version__
    from unlike.calibration.drift import DriftMonitor as DriftMonitor
    from unlike.cluster import EquilibriumKMeans as EquilibriumKMeans
    from unlike.detector.classifier import Classifier as Classifier
    from unlike.detector.detector import Detector as Detector
    from unlike.errors import UnlikeError as UnlikeError
    from unlike.evaluation import evaluate as evaluate
    from unlike.records import Evaluation as Evaluation
    from unlike.records import Scores as Scores
    from unlike.records import Verdict as Verdict
    from unlike.report import write_report as write_report

# before torch is loaded: threads that spin while they wait ran five times slower on a busy machine
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

_HOMES = {
    "__version__": "unlike._version",
    "Classifier": "unlike.detector.classifier",
    "Detector": "unlike.detector.detector",
    "DriftMonitor": "unlike.calibration.drift",
    "EquilibriumKMeans": "unlike.cluster",
    "Evaluation": "unlike.records",
    "Scores": "unlike.records",
    "UnlikeError": "unlike.errors",
    "Verdict": "unlike.records",
    "evaluate": "unlike.evaluation",
    "write_report": "unlike.report",
}
__all__ = [
    "Classifier",
    "Detector",
    "DriftMonitor",
    "EquilibriumKMeans",
    "Evaluation",
    "Scores",
    "UnlikeError",
    "Verdict",
    "evaluate",
    "write_report",
]


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used, so that `import unlike` costs nothing."""
    if name not in _HOMES:
        raise AttributeError(f"module 'unlike' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
