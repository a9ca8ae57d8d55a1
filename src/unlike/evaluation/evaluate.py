"""How good a detector is on labelled images: stream them once, and state every figure with its interval."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from unlike.calibration.decision import is_anomalous
from unlike.calibration.sweep import best_accuracy, best_f1, sweep
from unlike.data.source import Images, Source, labelled, open_source
from unlike.errors import none_usable
from unlike.evaluation.metrics import REPLICATES, measure_at, measure_images, replicates_for
from unlike.evaluation.pixels import PixelFigures, PixelSpool
from unlike.evaluation.protocols import FittedDetector
from unlike.evaluation.synthetic import make_synthetic
from unlike.records import (
    Bools,
    Estimate,
    Evaluation,
    Floats,
    Metrics,
    Sample,
    Scores,
    Unreadable,
)

ORACLE = ("image.f1_max", "image.accuracy_max")  # found with the test's own labels
UNNAMED = ("", "anomalous")  # labels that name no kind of defect
PROMISES = (0.01, 0.02, 0.05)  # of false alarms, at each of which it is measured what is found
NO_MASKS = "needs masks of the defects; no anomalous image has one"


def evaluate(
    detector: FittedDetector,
    images: Images,
    labels: Any = None,
    *,
    synthetic: bool = False,
    seed: int = 0,
    notify: Callable[[int, int], None] | None = None,
) -> Evaluation:
    """Measure a fitted detector on labelled images: overall, for each category, and for each kind of defect.

    Each image is judged by the threshold of its category, where the detector has one; figures that need no threshold
    compare the scores as they are.

    `images` and `labels` are as for `open_source`; of a set with splits, the test split is used. Where defects have
    masks, pixels are measured too, which keeps the maps in a temporary file. A figure that cannot be had is left out,
    with the reason; so is an image or a mask that cannot be read. `seed` is the bootstrap's; `notify` is called with the
    number of images done and of all. A DataError says that nothing could be read, or that nothing has a label.

    With `synthetic`, for want of defective images: the normal ones alone are used, and defects are made on a copy of each
    (`make_synthetic`). The figures rank detectors and settings; they do not say how real defects will be found.
    """
    fitted, source = detector.fitted_, open_source(images, labels)
    source, lost = make_synthetic(source, fitted.spec, seed) if synthetic else (labelled(source), ())
    masked = any(sample.anomalous and sample.mask is not None for sample in source.samples)
    with ExitStack() as stack:
        spool = stack.enter_context(PixelSpool(fitted.spec, seed)) if masked else None
        seen = _watch(detector, source, spool, notify)
        seen.unreadable += lost
        scores = seen.scores(source.name, spool)
        pixels = spool.measure() if spool else {}
    samples, decision = tuple(seen.samples), fitted.decision
    categories = [sample.category for sample in samples]
    thresholds = np.array([decision.threshold_of(name).score for name in categories])
    promised = {share: decision.thresholds_at(share, categories) for share in PROMISES}
    groups = _Groups(scores.image, samples, thresholds, seed, pixels, promised)
    leaked = np.isin(np.concatenate(seen.digests), fitted.digests)
    return Evaluation(
        overall=groups.overall(),
        categories=groups.categories(),
        kinds=groups.kinds(),
        scores=scores,
        samples=samples,
        p_values=decision.p_values(scores.image, categories),
        image_thresholds=thresholds,
        alarms=is_anomalous(scores.image, thresholds),
        threshold=float(decision.threshold),
        promised_false_alarms=decision.false_alarms,
        calibrated_on=len(decision.scores),
        leaked=tuple(name for name, twin in zip(scores.ids, leaked, strict=True) if twin),
        source=source,
        synthetic=synthetic,
        thresholds={name: float(own.score) for name, own in decision.thresholds.items() if name},
    )


def to_json(evaluation: Evaluation) -> dict[str, Any]:
    """What `metrics.json` holds: figures as {"value", "low", "high"}, nested by their names; strictly valid JSON."""
    scores, promised = evaluation.scores, evaluation.promised_false_alarms
    swept = sweep(scores.image, evaluation.anomalous)
    found = {}
    if swept.normal and swept.anomalous:
        found = dict(zip(ORACLE, (best_f1(swept).threshold, best_accuracy(swept).threshold), strict=True))
    whole = _metrics_json(evaluation.overall)
    whole["counts"]["unreadable"] = len(scores.unreadable)
    return whole | {
        "source": str(getattr(evaluation.source, "name", "")),
        "synthetic": evaluation.synthetic,
        "threshold": _number(evaluation.threshold),
        "thresholds": {name: _number(threshold) for name, threshold in evaluation.thresholds.items()},
        "promised_false_alarms": None if promised is None else _number(promised),
        "oracle": list(ORACLE),
        "oracle_thresholds": found,
        "categories": {name: _metrics_json(metrics) for name, metrics in evaluation.categories.items()},
        "kinds": {name: _metrics_json(metrics) for name, metrics in evaluation.kinds.items()},
        "unreadable": [{"id": item.id, "reason": item.reason} for item in scores.unreadable],
        "leaked": list(evaluation.leaked),
        "intervals": _interval_methods(len(scores)),
    }


@dataclass(slots=True, eq=False)
class _Seen:
    """What is kept of the stream."""

    samples: list[Sample] = field(default_factory=list)
    image: list[Floats] = field(default_factory=list)
    digests: list[npt.NDArray[np.uint64]] = field(default_factory=list)
    unreadable: list[Unreadable] = field(default_factory=list)
    clipped: list[str] = field(default_factory=list)

    def scores(self, name: str, spool: PixelSpool | None) -> Scores:
        if not self.samples:
            raise none_usable(f"{name}: no labelled image", "read", self.unreadable)
        unreadable = (*self.unreadable, *(spool.unusable if spool else ()))
        ids = tuple(sample.id for sample in self.samples)
        return Scores(ids, np.concatenate(self.image), None, unreadable, tuple(self.clipped))


def _watch(
    detector: FittedDetector,
    source: Source,
    spool: PixelSpool | None,
    notify: Callable[[int, int], None] | None,
) -> _Seen:
    """Score all images once, a batch at a time; maps go to the spool or are forgotten."""
    seen = _Seen()
    for batch in detector.stream(source):
        seen.samples += batch.samples
        seen.image.append(batch.image)
        seen.digests.append(batch.digests)
        seen.unreadable += batch.unreadable
        seen.clipped += batch.clipped
        if spool:
            for sample, map_, shape in zip(batch.samples, batch.maps, batch.shapes, strict=True):
                spool.add(sample, map_, shape)
        if notify:
            notify(len(seen.samples) + len(seen.unreadable), len(source))
    return seen


@dataclass(frozen=True, slots=True, eq=False)
class _Groups:
    """The images in groups, each to be measured by itself."""

    scores: Floats  # (N,)
    samples: tuple[Sample, ...]  # N
    thresholds: Floats  # (N,)
    seed: int
    pixels: Mapping[str, PixelFigures]  # by category, of all images under the empty name
    promised: Mapping[float, Floats]  # by promise, the threshold of each image (N,); infinite where it cannot be held

    def overall(self) -> Metrics:
        return self._with_pixels(self._measure(np.ones(len(self.samples), bool)), "")

    def categories(self) -> dict[str, Metrics]:
        named = np.array([sample.category for sample in self.samples])
        return {
            name: self._with_pixels(self._measure(named == name), name) for name in map(str, np.unique(named)) if name
        }

    def kinds(self) -> dict[str, Metrics]:
        """Each kind of defect against the normal images of its category."""
        several = len({sample.category for sample in self.samples}) > 1
        found = {}
        for category, kind in sorted({(s.category, s.kind) for s in self.samples if s.anomalous}):
            if kind not in UNNAMED:
                name = f"{category}/{kind}" if several and category else kind
                found[name] = self._measure(self._against_normal(category, kind))
        return found

    def _against_normal(self, category: str, kind: str) -> Bools:
        chosen = (s.category == category and (not s.anomalous or s.kind == kind) for s in self.samples)
        return np.fromiter(chosen, bool, len(self.samples))

    def _measure(self, chosen: Bools) -> Metrics:
        anomalous = np.fromiter((bool(sample.anomalous) for sample in self.samples), bool, len(self.samples))
        found = measure_images(self.scores[chosen], anomalous[chosen], self.thresholds[chosen], self.seed)
        image, left_out = dict(found.image), dict(found.left_out)
        for share, thresholds in self.promised.items():
            figures, missing = measure_at(self.scores[chosen], anomalous[chosen], thresholds[chosen], share)
            image |= figures
            left_out |= missing
        return replace(found, image=image, left_out=left_out)

    def _with_pixels(self, metrics: Metrics, name: str) -> Metrics:
        found = self.pixels.get(name, PixelFigures({}, dict.fromkeys(("pixel.auroc", "pixel.aupro"), NO_MASKS)))
        return replace(metrics, pixel=found.values, left_out={**metrics.left_out, **found.left_out})


def _metrics_json(metrics: Metrics) -> dict[str, Any]:
    return {
        "image": {name: estimate_json(estimate) for name, estimate in metrics.image.items()},
        "pixel": {name: estimate_json(estimate) for name, estimate in metrics.pixel.items()},
        "counts": {"normal": metrics.normal, "anomalous": metrics.anomalous},
        "left_out": dict(metrics.left_out),
    }


def estimate_json(estimate: Estimate) -> dict[str, float | None]:
    """A figure, and its bounds where it has some."""
    if estimate.low is None or estimate.high is None:
        return {"value": _number(estimate.value)}
    return {"value": _number(estimate.value), "low": _number(estimate.low), "high": _number(estimate.high)}


def _number(value: float) -> float | None:
    """A number that JSON can hold; it knows neither NaN nor infinity."""
    return float(value) if math.isfinite(value) else None


def _interval_methods(images: int) -> dict[str, str]:
    bootstrap = "percentiles of a bootstrap that draws normal and anomalous images separately"
    return {
        "confidence": "95 %",
        "image.auroc, average_precision, f1_max, accuracy_max": f"{bootstrap}, {replicates_for(images):,} replicates",
        "image.auroc of images told apart without fault": "Newcombe's score interval",
        "image.accuracy, improvement, false_alarm_rate, detection_rate, and these at a promise": "Wilson's score interval",
        "pixel.auroc, aupro": f"{bootstrap}, {REPLICATES:,} replicates",
        "note": "other figures have no bounds where a bootstrap cannot show doubt",
    }
