"""The steps of a fit in the service: look at the images first, fit, and write a graph that runs without torch beside it."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from unlike.config import from_mapping
from unlike.data.source import Source
from unlike.errors import UnlikeError

if TYPE_CHECKING:  # torch: the service itself can do without
    from unlike.detector.detector import Detector
    from unlike.detector.fitting import Notify

EXPORT_NEEDS = ("onnx", "onnxscript")
RUNTIMES = {"openvino": "openvino", "onnx": "onnxruntime"}  # by preference, and the package of each
SHARES = {"read": (0.0, 0.3), "train": (0.3, 0.9), "score": (0.9, 1.0)}  # of a fit, for its bar


@dataclass(frozen=True, slots=True)
class FitChoices:
    """What may be chosen of a fit by the service; all else is as `unlike fit` has it."""

    preset: str | None = None
    size: int | tuple[int, int] | Literal["auto", "native"] | None = None
    epochs: int | None = None
    false_alarms: float | Literal["auto"] | None = None
    contamination: float | Literal["none", "auto"] | None = None
    group_by: str | None = None
    seed: int = 0

    @classmethod
    def of(cls, chosen: Mapping[str, Any]) -> FitChoices:
        """Those of a request; a ConfigError names what is not known.

        >>> FitChoices.of({"preset": "patchcore"}).preset
        'patchcore'
        """
        return from_mapping(cls, chosen, "choices")

    def detector(self) -> Detector:
        """One that is not fitted; a ConfigError says which choice is wrong."""
        from unlike.detector.detector import Detector

        settings: dict[str, dict[str, Any]] = {}
        for name in ("contamination", "group_by"):
            if getattr(self, name) is not None:
                settings.setdefault("decision", {})[name] = getattr(self, name)
        return Detector(
            preset=self.preset,
            size=self.size,
            epochs=self.epochs,
            false_alarms=self.false_alarms,
            seed=self.seed,
            device="auto",
            settings=settings,
        )


def look_first(source: Source, detector: Detector, notify: Notify) -> tuple[list[dict[str, Any]], str]:
    """What an inspection found, as JSON holds it, and why a fit would take no image; empty where it would."""
    from unlike.detector.inspect import inspect
    from unlike.report.findings import findings

    found = inspect(source, settings=detector.settings, seed=detector.seed, device=detector.device, notify=notify)
    told = [
        {"title": one.title, "lines": list(one.lines), "names": list(one.names[:50]), "grave": one.grave}
        for one in findings(found)
    ]
    return told, found.refusal


def fit(source: Source, detector: Detector, unfinished: Path, *, resume: bool, notify: Notify) -> list[str]:
    """Fit on normal images, keeping the state of a training in `unfinished`; sentences that are worth telling."""
    unfinished.parent.mkdir(parents=True, exist_ok=True)
    detector.fit(source, checkpoint=unfinished, resume=resume, notify=notify)
    fitted = detector.fitted_
    notes = [*fitted.notes, *fitted.warnings]
    if fitted.unreadable:
        named = ", ".join(str(one) for one in fitted.unreadable[:3])
        notes.append(f"{len(fitted.unreadable):,} images could not be read and are left out: {named}")
    return notes


def facts_of(detector: Detector) -> dict[str, Any]:
    """What is shown of a version: what it was fitted on and what it promises."""
    fitted = detector.fitted_
    return {
        "images": dict(fitted.counts),
        "calibrated_on": len(fitted.decision.scores),
        "promise": fitted.decision.false_alarms,
        "threshold": float(fitted.decision.threshold),
        "size": list(fitted.spec.size),
        "model": detector.settings.model_name,
        "scorer": detector.settings.scorer_name,
        "calibrated": fitted.calibrated,
    }


def export_beside(detector: Detector, folder: Path) -> str:
    """Write the detector as a graph, proven equal, where what that takes is installed; a sentence where there is none."""
    runtime = next((name for name, package in RUNTIMES.items() if importlib.util.find_spec(package)), "")
    if not runtime or not all(importlib.util.find_spec(name) for name in EXPORT_NEEDS):
        return "No export was made: pip install 'unlike[export]' for scoring without torch."
    from unlike.export.exporting import export_detector

    try:
        export_detector(detector, folder, runtime)
    except UnlikeError as error:
        return f"No export was made, scoring is by torch: {error}"
    return ""


def progress_of(stage: str, done: int, total: int) -> float:
    """How far a fit is, 0 to 1.

    >>> progress_of("read", 1, 2), round(progress_of("train", 5, 10), 3)
    (0.15, 0.6)
    """
    low, high = SHARES.get(stage, (0.0, 1.0))
    return low + (high - low) * min(done / max(total, 1), 1.0)


def within(notify: Callable[..., None], low: float, high: float) -> Notify:
    """A `notify` of a fit that says how far the whole job is: this part of it goes from `low` to `high`."""
    words = {
        "read": "reading {:,} of {:,} images",
        "train": "training, epoch {:,} of {:,}",
        "score": "scoring {:,} of {:,} images",
    }

    def told(stage: str, done: int, total: int, figures: Mapping[str, float]) -> None:  # noqa: ARG001
        text = words.get(stage, stage + " {:,} of {:,}").format(done, total)
        notify(low + (high - low) * progress_of(stage, done, total), text, at_once=done >= total)

    return told
