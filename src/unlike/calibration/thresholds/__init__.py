"""Threshold rules: where normal ends, from scores of held-out images.

One line a rule; another package adds its own by an entry point of `unlike.thresholds`.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from unlike.registry import Registry

if TYPE_CHECKING:
    from unlike.calibration.thresholds.base import Promise as Promise
    from unlike.calibration.thresholds.base import ThresholdRule as ThresholdRule
    from unlike.calibration.thresholds.base import say_false_alarms as say_false_alarms
    from unlike.calibration.thresholds.conformal import AUTO_FALSE_ALARMS as AUTO_FALSE_ALARMS
    from unlike.calibration.thresholds.conformal import ConformalThreshold as ConformalThreshold
    from unlike.calibration.thresholds.conformal import normals_needed as normals_needed

THRESHOLDS: Registry[type[Any]] = Registry(  # of a ThresholdRule
    "threshold", "unlike.thresholds", {"conformal": "unlike.calibration.thresholds.conformal:ConformalThreshold"}
)
_HOMES = {
    "AUTO_FALSE_ALARMS": "conformal",
    "ConformalThreshold": "conformal",
    "Promise": "base",
    "ThresholdRule": "base",
    "normals_needed": "conformal",
    "say_false_alarms": "base",
}

__all__ = [
    "AUTO_FALSE_ALARMS",
    "THRESHOLDS",
    "ConformalThreshold",
    "Promise",
    "ThresholdRule",
    "normals_needed",
    "say_false_alarms",
]


def __getattr__(name: str) -> Any:
    """Import what is named when it is first asked for, so that one rule is there without the others."""
    if name not in _HOMES:
        raise AttributeError(f"module 'unlike.calibration.thresholds' has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
