"""Versions of a detector on the same reviewed images: what each finds, how often it is wrong, and how sure that is."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from unlike.calibration.decision import Decision
from unlike.calibration.sweep import sweep
from unlike.data.source import Source
from unlike.errors import DataError, none_usable
from unlike.evaluation.evaluate import estimate_json
from unlike.evaluation.metrics import auroc, measure_images, with_bounds
from unlike.evaluation.protocols import FittedDetector
from unlike.records import Bools, Estimate, Floats, Unreadable

FIGURES = {  # of `measure_images` -> of a comparison
    "auroc": "auroc",
    "average_precision": "average_precision",
    "detection_rate": "found",
    "false_alarm_rate": "false_alarms",
}
REPLICATES = 500  # of the paired bootstrap
NAMED = 5  # images that a sentence names


@dataclass(frozen=True, slots=True, eq=False)
class Seen:
    """What one version says of the images it could read, and which of them it has learned from."""

    scores: Mapping[str, float]  # by id
    known: frozenset[str]  # ids of images that it was fitted or calibrated on
    decision: Decision
    unreadable: tuple[Unreadable, ...] = ()


def look_at(detector: FittedDetector, source: Source, notify: Callable[[int, int], None] | None = None) -> Seen:
    """Score images once; `notify(done, total)` is called as they are done."""
    scores: dict[str, float] = {}
    known: set[str] = set()
    unreadable: list[Unreadable] = []
    for batch in detector.stream(source):
        ids = [sample.id for sample in batch.samples]
        scores |= dict(zip(ids, batch.image.tolist(), strict=True))
        twins = np.isin(batch.digests, detector.fitted_.digests)
        known |= {name for name, twin in zip(ids, twins, strict=True) if twin}
        unreadable += batch.unreadable
        if notify:
            notify(len(scores) + len(unreadable), len(source))
    if not scores:
        raise none_usable(f"{source.name}: no reviewed image", "read", unreadable)
    return Seen(scores, frozenset(known), detector.fitted_.decision, tuple(unreadable))


def compare(seen: Mapping[str, Seen], source: Source, seed: int = 0) -> dict[str, Any]:
    """Figures of versions on the images that all could read and none has learned from, as JSON holds them.

    Each version judges by its own thresholds. `gain` is its AUROC less that of the first, with the interval of a bootstrap that
    draws the same images for both. What cannot be had is left out, with why.
    """
    samples = {sample.id: sample for sample in source.samples}
    readable = [name for name in samples if all(name in one.scores for one in seen.values())]
    known = {name for one in seen.values() for name in one.known}
    ids = [name for name in readable if name not in known]
    if not ids:
        raise DataError(
            f"none of the {len(samples):,} reviewed images can be compared on: versions have learned from them or cannot read them; "
            "review images that came since"
        )
    anomalous = np.array([bool(samples[name].anomalous) for name in ids])
    categories = [samples[name].category for name in ids]
    scores = {label: np.array([one.scores[name] for name in ids]) for label, one in seen.items()}
    first = next(iter(scores.values()))
    versions = []
    for label, one in seen.items():
        row = _figures(scores[label], anomalous, one.decision, categories, seed)
        if scores[label] is not first and anomalous.any() and not anomalous.all():
            row["gain"] = estimate_json(gain(first, scores[label], anomalous, seed))
        versions.append({"version": label, **row})
    return {
        "images": {"normal": int((~anomalous).sum()), "anomalous": int(anomalous.sum())},
        "versions": versions,
        "notes": _notes(len(samples) - len(readable), sorted(known & set(readable)), anomalous),
    }


def gain(before: Floats, after: Floats, anomalous: Bools, seed: int = 0) -> Estimate:
    """How much higher the AUROC of other scores (N,) of the same images is, with a bootstrap's interval.

    >>> scores, anomalous = np.array([1.0, 2.0, 3.0, 4.0]), np.array([False, True, False, True])
    >>> gain(scores, np.array([1.0, 3.0, 2.0, 4.0]), anomalous).value
    0.25
    """
    random = np.random.default_rng(seed)
    rows = [np.flatnonzero(anomalous), np.flatnonzero(~anomalous)]
    drawn = (np.concatenate([random.choice(part, len(part)) for part in rows]) for _ in range(REPLICATES))
    replicates = np.array([_gained(before, after, anomalous, chosen) for chosen in drawn])
    return with_bounds(_gained(before, after, anomalous, np.arange(len(anomalous))), replicates)


def _gained(before: Floats, after: Floats, anomalous: Bools, rows: npt.NDArray[np.intp]) -> float:
    return auroc(sweep(after[rows], anomalous[rows])) - auroc(sweep(before[rows], anomalous[rows]))


def _figures(scores: Floats, anomalous: Bools, decision: Decision, categories: list[str], seed: int) -> dict[str, Any]:
    thresholds = np.array([decision.threshold_of(name).score for name in categories])
    found = measure_images(scores, anomalous, thresholds, seed)
    figures = {name: estimate_json(found.image[of]) for of, name in FIGURES.items() if of in found.image}
    missing = {name: found.left_out[of] for of, name in FIGURES.items() if of in found.left_out}
    return {**figures, "promise": decision.false_alarms, "threshold": float(decision.threshold), "left_out": missing}


def _notes(unread: int, known: list[str], anomalous: Bools) -> list[str]:
    notes = []
    if known:
        more = ", ..." if len(known) > NAMED else ""
        notes.append(
            f"{len(known):,} reviewed images are left out: a version has learned from them, and would look better than it is "
            f"({', '.join(known[:NAMED])}{more})."
        )
    if unread:
        notes.append(f"{unread:,} reviewed images are left out: not every version can read them.")
    if anomalous.all():
        notes.append("No reviewed normal image is among them: false alarms and AUROC cannot be said.")
    if not anomalous.any():
        notes.append("No confirmed defect is among them: what is found and AUROC cannot be said.")
    return notes
