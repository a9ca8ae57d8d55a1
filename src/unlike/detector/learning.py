"""What the scorer learns from the model's outputs, and what normal images score that it has not learned from."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial

import numpy as np
import torch
from torch import Tensor

from unlike.calibration.leave_one_out import fit_leave_one_out
from unlike.data.batches import ImageSet, block_rows, iterate
from unlike.data.input_spec import InputSpec
from unlike.data.split import Split
from unlike.data.tensors import to_tensor
from unlike.detector.pipeline import Pipeline, device_of, mask_missing, score_pixels
from unlike.detector.splitting import CROSS_BYTES, FEATURES_ALONE, Pieces
from unlike.models.base import Model
from unlike.records import Floats, Rows
from unlike.scoring.base import Scorer
from unlike.scoring.batches import Batches, Inputs, PrecomputedFeatures


def fit_scorer(scorer: Scorer, model: Model, pieces: Pieces, seed: int) -> None:
    """Let the scorer learn from what the model was trained on, and from what it was not."""
    known, others = _rows_to_learn(model, scorer, pieces.split)
    read: Callable[[Rows], Iterable[Inputs]] = partial(_read_outputs, model, scorer.inputs, pieces)
    if scorer.capabilities.passes > 1 and scorer.inputs == FEATURES_ALONE:
        read = PrecomputedFeatures(read, CROSS_BYTES)  # each image is seen once, if it can be
    train, held_out = (Batches(read, rows, pieces.numbers[rows]) for rows in (known, others))
    scorer.fit(train, held_out, seed)


def calibrate_held_out(
    pipeline: Pipeline, images: ImageSet, numbers: Rows, rows: Rows, spec: InputSpec
) -> tuple[Floats, Floats]:
    """The scores (n,) and largest map values (n,) of held-out normal images, on the scale that is learned from them."""
    size = block_rows(spec) if pipeline.tiling is None else pipeline.tiling.images_at_once
    scores, peaks = [], []
    for start in range(0, len(rows), size):
        some = rows[start : start + size]
        maps, found = score_pixels(pipeline, images.take(some), spec.value_range, images.missing(some))
        scores.append(found)
        peaks.append(maps.max(axis=(1, 2)))
    return _scale(pipeline.scorer, np.concatenate(scores), np.concatenate(peaks), numbers[rows])


def calibrate_leave_one_out(
    pipeline: Pipeline, make: Callable[[], Scorer], pieces: Pieces, seed: int
) -> tuple[Floats, Floats]:
    """Let the scorer learn from all images; the scores (n,) and peaks (n,) of those that calibrate, each as if it were new.

    Of a model that was trained, only the images that it has not seen calibrate; those that it has teach all scorers.

    Floats that keep to no usual range are scaled by the extremes of all n images, those of an image that is left out among
    them. It is then seen as new images are, except those that go beyond all n, as at most 2 in n + 1 do: by so much at most can
    false alarms grow. Were each fold scaled by the extremes of the others, one bright image would give its whole fold another
    scale, and a threshold from scores of two scales would be too high.
    """
    split, scorer = pieces.split, pipeline.scorer
    rows = np.unique(np.concatenate([split.train, split.validation, split.calibration]))
    features = _collect(_read_outputs(pipeline.model, FEATURES_ALONE, pieces, rows), len(rows))
    judged, numbers = np.searchsorted(rows, split.calibration), pieces.numbers[rows]
    component_maps = fit_leave_one_out(scorer, make, features, numbers, judged, seed)
    with torch.no_grad():
        maps, scores = pipeline.reduce(scorer.fit_normalisation(component_maps, numbers[judged]))
        if (missing := pieces.images.missing(split.calibration)) is not None:
            maps, scores = mask_missing(maps, missing, pipeline.maps)
    peaks = maps.amax(dim=(1, 2)).cpu().numpy()
    return _scale(scorer, scores.cpu().double().numpy(), peaks, numbers[judged])


def _rows_to_learn(model: Model, scorer: Scorer, split: Split) -> tuple[Rows, Rows]:
    """What the scorer learns from: images that the model knows, and others; all and none, where neither needs any held out."""
    if scorer.capabilities.held_out != "unused" or any(weight.requires_grad for weight in model.parameters()):
        return split.train, split.validation
    both = np.sort(np.concatenate([split.train, split.validation]))
    return both, both[:0]


def _scale(scorer: Scorer, scores: Floats, peaks: Floats, numbers: Rows) -> tuple[Floats, Floats]:
    """Scores and peaks (n,) of normal images on the scale that the scorer learns from the scores."""
    divisors = scorer.fit_score_scale(scores, numbers)
    return scores / divisors, peaks / divisors


@torch.no_grad()
def _see(model: Model, names: Sequence[str], images: Tensor) -> tuple[Tensor, ...]:
    found = model.outputs(images, names)
    return tuple(found[name] for name in names)


def _read_outputs(model: Model, names: Sequence[str], pieces: Pieces, rows: Rows) -> Iterator[tuple[Tensor, ...]]:
    """What a model gives of the pieces in some rows, in batches."""
    device = device_of(model)
    for batch in iterate(pieces.images, rows, pieces.spec):
        yield _see(model, names, to_tensor(batch.pixels, pieces.spec.value_range, device))


def _collect(batches: Iterable[tuple[Tensor, ...]], count: int) -> Tensor:
    """(N, ...) of batches (n, ...), together N: `torch.cat` would hold all of them twice."""
    whole, end = torch.empty(0), 0
    for (batch,) in batches:
        whole = whole if end else batch.new_empty((count, *batch.shape[1:]))
        whole[end : end + len(batch)] = batch
        end += len(batch)
    return whole
