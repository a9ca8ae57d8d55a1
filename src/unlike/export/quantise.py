"""A graph in 8-bit integers, where that costs next to nothing: judged by AUROC, and its threshold calibrated anew."""

from __future__ import annotations

import importlib.util
import logging
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from unlike.backbones.telemetry import import_nncf
from unlike.calibration.decision import ALL, Decision, calibrate
from unlike.data.batches import Batch
from unlike.data.source import Images, Source, open_source
from unlike.detector.detector import Detector
from unlike.errors import ConfigError, DataError, ExportError
from unlike.evaluation.synthetic import make_synthetic
from unlike.export.images import is_there
from unlike.records import Floats, Pixels
from unlike.runtime.exported import fit_depth, run_in_blocks
from unlike.runtime.sessions import GRAPHS, MISSING, PIXELS, Session

if TYPE_CHECKING:
    from onnx import GraphProto

MOST_LOST = 0.005  # of AUROC
CALIBRATED_BY = 48  # normal images that decide how values become integers; 24 of transistors did as well
CONVOLUTIONS = ("Conv", "ConvTranspose")
OF_MODEL = "pipeline.model."  # what a weight of the network is called; others are the scorer's


@dataclass(frozen=True, slots=True)
class Quantised:
    """How good a graph in integers is beside the same in single precision."""

    kept: bool
    auroc: float  # in single precision
    auroc_int8: float
    images: int  # by which
    synthetic: bool  # whose defects were made
    milliseconds: float  # of the CPU, for an image, in single precision
    milliseconds_int8: float

    @property
    def lost(self) -> float:
        return self.auroc - self.auroc_int8


def check_quantisable(detector: Detector) -> None:
    """Raise ConfigError where integers are asked for and cannot be had."""
    if importlib.util.find_spec("nncf") is None:
        raise ConfigError("--int8 needs nncf, which is not installed here: pip install 'unlike[export]'")
    rule = detector.settings.decision
    if rule.make_rule().needs_labels:
        raise ConfigError(
            f"--int8 calibrates the threshold anew, and rule {rule.threshold} takes labelled images for that; expected a rule of normal "
            "images: unlike calibrate DETECTOR IMAGES --threshold conformal, then export"
        )


def normal_source(detector: Detector, normals: Images | None) -> Source:
    """The normal images that the detector was fitted on; a DataError where they are not there any more."""
    fitted = detector.fitted_
    if normals is None and not is_there(fitted.source):
        raise DataError(
            f"--int8 needs the normal images that the detector was fitted on, and {fitted.source} is not there any more; name them with --normals"
        )
    source = open_source(fitted.source if normals is None else normals, pages=detector.pages)
    source = source.where(lambda sample: sample.anomalous is not True and sample.split != "test")
    known = {sample.id for sample in source.samples}
    lost = [name for name in fitted.decision.ids.tolist() if name not in known]
    if lost:
        raise DataError(
            f"{source.name}: {len(lost):,} of {len(fitted.decision.ids):,} normal images on which the threshold rests are not among these, "
            f"such as {lost[0]}; name those that the detector was fitted on with --normals"
        )
    return source


def write_quantised(source: Path, folder: Path, normal: Source, detector: Detector, depth: str) -> Path:
    """The ONNX graph of a folder in integers, in another folder; how values become integers, normal images decide."""
    import onnx

    nncf = import_nncf()
    logging.getLogger("nncf").setLevel(logging.ERROR)
    main, weights = GRAPHS["onnx"]
    model = onnx.load(str(source / main))
    ignored = outside_model(model.graph)
    feeds = _feeds(normal, detector, depth)
    try:
        found = nncf.quantize(
            model,
            nncf.Dataset(feeds),
            subset_size=len(feeds),
            ignored_scope=nncf.IgnoredScope(names=ignored),
            advanced_parameters=nncf.AdvancedQuantizationParameters(
                # it stumbles over convolutions without a bias (NNCF 3.4, "no tensor with the name None")
                disable_bias_correction=True,
                # a scale for each channel, NNCF's choice before depthwise convolutions, is one that ONNX Runtime has no
                # convolution for: it went back to floats each time, and took nearly twice as long as in single precision
                activations_quantization_params=nncf.quantization.advanced_parameters.QuantizationParameters(
                    per_channel=False
                ),
            ),
        )
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ExportError(
            f"NNCF cannot turn this graph into integers ({reason}); export it without --int8, in single precision"
        ) from error
    folder.mkdir()
    onnx.save_model(found, str(folder / main), save_as_external_data=True, location=weights, size_threshold=1024)
    return folder


def outside_model(graph: GraphProto) -> list[str]:
    """The steps of an ONNX graph that stay in single precision: all that no convolution of the network comes after.

    Distances are small differences of large numbers: with their steps in integers AUROC on transistors fell from .99 to .54.
    An ExportError says that there is nothing to turn into integers.
    """
    made_by = {name: node for node in graph.node for name in node.output}
    waiting = [node for node in graph.node if node.op_type in CONVOLUTIONS and node.input[1].startswith(OF_MODEL)]
    if not waiting:
        raise ExportError(
            "--int8 turns the convolutions of a network into integers, and this detector's model has none; export it without "
            "--int8, in single precision"
        )
    inside: set[str] = set()
    while waiting:
        node = waiting.pop()
        if node.name not in inside:
            inside.add(node.name)
            waiting += [made_by[name] for name in node.input if name in made_by]
    return [node.name for node in graph.node if node.name not in inside]


def _feeds(normal: Source, detector: Detector, depth: str) -> list[dict[str, Pixels]]:
    spec = detector.fitted_.spec
    rows = np.linspace(0, len(normal) - 1, min(len(normal), CALIBRATED_BY)).astype(np.intp)
    feeds = []
    for batch in normal.take(np.unique(rows)).stream(spec, 1):
        fitting = fit_depth(batch, depth)
        if len(fitting.samples):
            fed = {PIXELS: fitting.pixels}
            feeds.append(fed if spec.missing is None else {**fed, MISSING: _holes(fitting)})
    return feeds


def compare_quality(
    detector: Detector, normal: Source, labelled: Images | None, depth: str, whole: Session, integers: Session
) -> Quantised:
    """AUROC of both graphs, by labelled images where there are some of both kinds, else by defects that are made."""
    from sklearn.metrics import roc_auc_score

    source, synthetic = _labelled(detector, normal, labelled)
    found = _score(detector, source, depth, (whole, integers))
    truth = np.array([bool(sample.anomalous) for sample in found.samples])
    auroc, auroc_int8 = (float(roc_auc_score(truth, scores)) for scores, _ in found.results)
    took, took_int8 = (1000 * seconds / len(truth) for seconds in found.seconds)
    return Quantised(auroc - auroc_int8 < MOST_LOST, auroc, auroc_int8, len(truth), synthetic, took, took_int8)


def recalibrate_quantised(
    detector: Detector, normal: Source, depth: str, whole: Session, integers: Session
) -> Decision:
    """The decision by scores in integers: each held-out score changes as that of its image does.

    A held-out image's score is what it would have been had the detector not seen it; what it is in integers is that, times the
    ratio of the two graphs' scores of the image. Where the scorer never saw it, that is its score in integers itself.
    """
    before, settings = detector.fitted_.decision, detector.settings.decision
    rows = {name: row for row, name in enumerate(before.ids.tolist())}
    found = _score(detector, normal.where(lambda sample: sample.id in rows), depth, (whole, integers))
    scores, peaks = before.scores.astype(np.float64), before.peaks.astype(np.float64)
    (first, first_peaks), (second, second_peaks) = found.results
    for place, sample in enumerate(found.samples):
        row = rows[sample.id]
        scores[row] *= _ratio(second[place], first[place])
        peaks[row] *= _ratio(second_peaks[place], first_peaks[place])
    by_itself = [name for name in before.thresholds if name != ALL]
    made = calibrate(
        scores, peaks, before.categories, settings.make_rule(), by_itself, ids=before.ids, groups=before.groups
    )
    return replace(made, too_few=before.too_few)


@dataclass(frozen=True, slots=True, eq=False)
class _Scored:
    samples: list  # type: ignore[type-arg]
    results: list[tuple[Floats, Floats]]  # of each graph: scores and peaks (N,)
    seconds: list[float]  # of the CPU, that each took for all


def _score(detector: Detector, source: Source, depth: str, sessions: tuple[Session, ...]) -> _Scored:
    """What several graphs say of the same images."""
    spec = detector.fitted_.spec
    samples, found = [], [([], []) for _ in sessions]  # type: ignore[var-annotated]
    seconds = [0.0 for _ in sessions]
    for read in source.stream(spec, 16):
        batch = fit_depth(read, depth)
        if not len(batch.samples):
            continue
        samples += list(batch.samples)
        missing = None if spec.missing is None else _holes(batch)
        for place, (session, (scores, peaks)) in enumerate(zip(sessions, found, strict=True)):
            start = time.process_time()
            maps, values = run_in_blocks(session, batch.pixels, missing, 1)
            seconds[place] += time.process_time() - start
            scores.append(values)
            peaks.append(maps.max(axis=(1, 2)))
    return _Scored(samples, [(np.concatenate(scores), np.concatenate(peaks)) for scores, peaks in found], seconds)


def _labelled(detector: Detector, normal: Source, labelled: Images | None) -> tuple[Source, bool]:
    if labelled is not None:
        source = open_source(labelled, pages=detector.pages)
        source = source.where(lambda sample: sample.anomalous is not None and sample.split != "train")
        kinds = {sample.anomalous for sample in source.samples}
        if kinds == {True, False}:
            return source, False
    return make_synthetic(normal, detector.fitted_.spec)[0], True


def _holes(batch: Batch) -> Pixels:
    return np.zeros(batch.pixels.shape[:3], np.bool_) if batch.missing is None else batch.missing


def _ratio(new: float, old: float) -> float:
    return float(new / old) if old > 0 else 1.0
