"""Threshold rules: where normal ends, from scores of held-out images.

One line a rule; another package adds its own by an entry point of `unlike.thresholds`.
"""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

from unlike.config import from_mapping
from unlike.errors import ConfigError, unknown
from unlike.registry import Registry

if TYPE_CHECKING:
    from unlike.calibration.thresholds.base import NoSettings as NoSettings
    from unlike.calibration.thresholds.base import Promise as Promise
    from unlike.calibration.thresholds.base import ThresholdRule as ThresholdRule
    from unlike.calibration.thresholds.base import say_false_alarms as say_false_alarms
    from unlike.calibration.thresholds.conformal import AUTO_FALSE_ALARMS as AUTO_FALSE_ALARMS
    from unlike.calibration.thresholds.conformal import ConformalThreshold as ConformalThreshold
    from unlike.calibration.thresholds.conformal import auto_promise as auto_promise
    from unlike.calibration.thresholds.conformal import normals_needed as normals_needed

THRESHOLDS: Registry[type[Any]] = Registry(  # of a ThresholdRule
    "threshold",
    "unlike.thresholds",
    {
        "accuracy": "unlike.calibration.thresholds.labelled:AccuracyThreshold",
        "confidence": "unlike.calibration.thresholds.confidence:ConfidenceThreshold",
        "conformal": "unlike.calibration.thresholds.conformal:ConformalThreshold",
        "cost": "unlike.calibration.thresholds.labelled:CostThreshold",
        "f-beta": "unlike.calibration.thresholds.labelled:FBetaThreshold",
        "k-sigma": "unlike.calibration.thresholds.sigma:SigmaThreshold",
        "tail": "unlike.calibration.thresholds.tail:TailThreshold",
        "ternary": "unlike.calibration.thresholds.labelled:TernaryThreshold",
        "youden": "unlike.calibration.thresholds.labelled:YoudenThreshold",
    },
)


def make_rule(
    name: str, false_alarms: float | Literal["auto"] = "auto", settings: Mapping[str, Any] | None = None
) -> Any:
    """A rule by its name, a ThresholdRule, with the settings that are named and defaults for the others.

    >>> make_rule("k-sigma", settings={"k": 2}).config
    SigmaConfig(k=2.0)
    >>> make_rule("k-sigma", settings={"sigmas": 2})
    Traceback (most recent call last):
    unlike.errors.UnknownSettingError: unknown setting 'decision.settings.sigmas'; known: decision.settings.k
    """
    if name not in THRESHOLDS:
        raise unknown("decision.threshold", name, THRESHOLDS)
    kind = THRESHOLDS[name]
    if settings and not dataclasses.fields(kind.Config):
        raise ConfigError(f"decision.settings: {name} has no settings, came {', '.join(settings)}; leave them out")
    return kind(false_alarms, from_mapping(kind.Config, settings or {}, "decision.settings"))


_HOMES = {
    "AUTO_FALSE_ALARMS": "conformal",
    "auto_promise": "conformal",
    "ConformalThreshold": "conformal",
    "NoSettings": "base",
    "Promise": "base",
    "ThresholdRule": "base",
    "normals_needed": "conformal",
    "say_false_alarms": "base",
}

__all__ = [
    "AUTO_FALSE_ALARMS",
    "THRESHOLDS",
    "ConformalThreshold",
    "NoSettings",
    "Promise",
    "ThresholdRule",
    "auto_promise",
    "make_rule",
    "normals_needed",
    "say_false_alarms",
]


def __getattr__(name: str) -> Any:
    """Import what is named when it is first asked for, so that one rule is there without the others."""
    if name not in _HOMES:
        raise AttributeError(f"module 'unlike.calibration.thresholds' has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
