"""What a fitted detector can tell beside scores: codes, reconstructions, explanations of single images, its own description."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from unlike.calibration.explaining import explain_verdict
from unlike.calibration.thresholds import Promise
from unlike.data.input_spec import restore_map
from unlike.data.source import Images, open_source
from unlike.data.tensors import to_pixels, to_tensor
from unlike.detector.building import place
from unlike.detector.detector import Detector
from unlike.detector.nearest import summarise_pixels
from unlike.detector.pipeline import BLOCK, Pipeline, score_pixels
from unlike.detector.storage import Fitted, versions
from unlike.errors import ConfigError, none_usable
from unlike.records import Codes, Explanation, Floats, Pixels, Sample, Verdict

NEAREST = 3  # normal images that are named


def encode(detector: Detector, images: Images) -> Codes:
    """The codes of images, (N, D, h, w): where they lie in the space in which the model sees them.

    A ConfigError where it sees them in tiles.
    """
    fitted = _placed(detector)
    _refuse_tiles(fitted.pipeline)
    read = list(open_source(images, pages=detector.settings.data.pages).stream(fitted.spec))
    unreadable = tuple(item for batch in read for item in batch.unreadable)
    samples = [sample for batch in read for sample in batch.samples]
    if not samples:
        raise none_usable("no image", "read", unreadable)
    grids = [_encode(fitted, batch.pixels) for batch in read if len(batch.samples)]
    return Codes(samples, np.concatenate(grids), unreadable)


@torch.inference_mode()
def decode(detector: Detector, grids: Floats) -> Pixels:
    """Codes (N, D, h, w) as the images (N, H, W, C) that they stand for; a ConfigError where there are none."""
    fitted = _placed(detector)
    _refuse_tiles(fitted.pipeline)
    spec = fitted.pipeline.model.output_spec
    if spec.decode is None or not spec.images:
        raise ConfigError(
            f"{spec.model} has no decoder from codes to images; take a detector whose model has one, such as conv or vae"
        )
    kind = np.dtype(np.float32 if fitted.spec.floating else np.uint8)
    codes = torch.from_numpy(np.ascontiguousarray(grids, np.float32))
    images = [spec.decode(part.to(fitted.pipeline.device)) for part in torch.split(codes, BLOCK)]
    return to_pixels(torch.cat(images), fitted.spec.value_range, kind)


def explain(detector: Detector, images: Images, samples: Sequence[Sample]) -> list[Explanation]:
    """Chosen samples of a source with what the detector sees, rebuilds and finds strange in each."""
    fitted = _placed(detector)
    explanations = []
    for batch in open_source(images).with_samples(list(samples)).stream(fitted.spec, fitted.batch_size):
        if not len(batch.samples):
            continue
        maps, scores = score_pixels(fitted.pipeline, batch.pixels, fitted.spec.value_range, batch.missing)
        rebuilt = reconstruct(fitted.pipeline, batch.pixels, fitted.spec.value_range)
        images_back = [None] * len(scores) if rebuilt is None else list(rebuilt)
        names, pictures = _nearest(fitted, batch.pixels)
        rows = zip(batch.samples, scores.tolist(), batch.pixels, maps, images_back, names, pictures, strict=True)
        explanations += [Explanation(*row) for row in rows]
    return explanations


def explain_verdicts(detector: Detector, images: Images, verdicts: Sequence[Verdict]) -> list[Verdict]:
    """Verdicts on some of the images of a source, each with a line that says why: what `Verdict.explanation` holds.

    The images are looked at once more, to name the normal ones that each is most like: by the means of what the model makes of
    each quarter. A detector that sees images in tiles, or is of an earlier version, knows none.

    >>> images = np.random.default_rng(0).integers(100, 120, (40, 16, 16), dtype=np.uint8)
    >>> detector = Detector("pixels", "gaussian", false_alarms=0.1).fit(images)
    >>> print(explain_verdicts(detector, images[:1], detector.judge(images[:1]))[0].explanation)
    normal: score ..., not above ... (at most 10 % false alarms); p = ...; most like normal 0, ...
    """
    fitted, source = _placed(detector), open_source(images, pages=detector.settings.data.pages)
    wanted = {verdict.id for verdict in verdicts}
    samples = {sample.id: sample for sample in source.samples if sample.id in wanted}
    nearest: dict[str, tuple[str, ...]] = dict.fromkeys(samples, ())
    if fitted.known is not None:
        for batch in source.with_samples(list(samples.values())).stream(fitted.spec, fitted.batch_size):
            nearest |= zip([sample.id for sample in batch.samples], _nearest(fitted, batch.pixels)[0], strict=True)
    return [
        replace(one, explanation=explain_verdict(one, _promise_of(fitted, samples[one.id]), nearest[one.id]))
        for one in verdicts
    ]


def _promise_of(fitted: Fitted, sample: Sample) -> Promise:
    return fitted.decision.threshold_of(sample.category).promise


def _nearest(fitted: Fitted, pixels: Pixels) -> tuple[list[tuple[str, ...]], list[tuple[Pixels, ...]]]:
    """The ids and pictures of the normal images that each of some is most like; of tiles none are known."""
    known = fitted.known
    names: list[tuple[str, ...]] = [()] * len(pixels)
    pictures: list[tuple[Pixels, ...]] = [()] * len(pixels)
    if known is not None and len(pixels):
        rows = known.nearest(summarise_pixels(fitted.pipeline, pixels, fitted.spec.value_range), NEAREST)
        names = list(map(tuple, known.ids[rows].tolist()))
        pictures = list(map(tuple, known.pictures[rows])) if len(known.pictures) else pictures
    return names, pictures


def original_maps(detector: Detector, images: Images) -> Iterator[tuple[str, Floats]]:
    """The id and the map (H, W) of each image in turn, in the image's own pixels."""
    spec = detector.fitted_.spec
    for batch in detector.stream(images):
        for sample, map_, shape in zip(batch.samples, batch.maps, batch.shapes, strict=True):
            yield sample.id, restore_map(map_, shape, spec)


def describe(detector: Detector) -> dict[str, dict[str, Any]]:
    """Every setting, and what was learned, by section: what `detector.toml` says."""
    sections = {**detector.settings.to_sections(), "run": {"seed": detector.seed}, "versions": versions()}
    return {**sections, "fitted": detector.fitted_.describe()}


@torch.inference_mode()
def reconstruct(pipeline: Pipeline, pixels: Pixels, value_range: tuple[float, float]) -> Pixels | None:
    """Pixels (B, H, W, C) as the model rebuilds them, or None where it rebuilds something else than images."""
    spec = pipeline.model.output_spec
    if "reconstruction" not in spec.names or not spec.images:
        return None
    size = pipeline.images_at_once
    parts = (pixels[start : start + size] for start in range(0, len(pixels), size))
    images = (pipeline.reconstruct(to_tensor(part, value_range, pipeline.device)) for part in parts)
    return np.concatenate([to_pixels(block, value_range, pixels.dtype) for block in images])


@torch.inference_mode()
def _encode(fitted: Fitted, pixels: Pixels) -> Floats:
    """Pixels (B, H, W, C) -> codes (B, D, h, w)."""
    pipeline, parts = fitted.pipeline, [pixels[start : start + BLOCK] for start in range(0, len(pixels), BLOCK)]
    images = (to_tensor(part, fitted.spec.value_range, pipeline.device) for part in parts)
    return np.concatenate([pipeline.model.encode(block).cpu().numpy() for block in images])


def _placed(detector: Detector) -> Fitted:
    """What was learned, on the device that was asked for."""
    place(detector.fitted_.pipeline, detector.device)
    return detector.fitted_


def _refuse_tiles(pipeline: Pipeline) -> None:
    if tiling := pipeline.tiling:
        raise ConfigError(
            f"this detector sees images in tiles of {tiling.tile} pixels, so that a whole image has no code; "
            "cut the images, and fit on them without data.tile"
        )
