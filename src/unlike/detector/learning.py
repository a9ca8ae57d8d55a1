"""What the scorer learns from the model's outputs, and what normal images score that it has not learned from."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
from torch import Tensor

from unlike.calibration.groups import group_weights
from unlike.calibration.leave_one_out import fit_leave_one_out, leaves_out
from unlike.data.batches import ImageSet, block_rows, iterate
from unlike.data.input_spec import InputSpec
from unlike.data.split import Split
from unlike.data.tensors import to_tensor
from unlike.detector.grouping import Grouping
from unlike.detector.nearest import summarise
from unlike.detector.pipeline import BLOCK, Pipeline, device_of, mask_missing, score_pixels
from unlike.detector.splitting import CROSS_BYTES, FEATURES_ALONE, Pieces
from unlike.models.base import Model
from unlike.records import Bools, Floats, Rows
from unlike.scoring.base import Scorer
from unlike.scoring.batches import Batches, Inputs, PrecomputedFeatures

STRANGEST = 6  # held-out normal images whose maps are kept


def fit_scorer(scorer: Scorer, model: Model, pieces: Pieces, seed: int) -> None:
    """Let the scorer learn from what the model was trained on, and from what it was not."""
    known, others = _rows_to_learn(model, scorer, pieces.split)
    read: Callable[[Rows], Iterable[Inputs]] = partial(_read_outputs, model, scorer.inputs, pieces)
    if scorer.capabilities.passes > 1 and scorer.inputs == FEATURES_ALONE:
        read = PrecomputedFeatures(read, CROSS_BYTES)  # each image is seen once, if it can be
    train, held_out = (Batches(read, rows, pieces.numbers[rows]) for rows in (known, others))
    scorer.fit(train, held_out, seed)


@dataclass(frozen=True, slots=True, eq=False)
class HeldOut:
    """What normal images score that were not learned from."""

    scores: Floats  # (n,)
    peaks: Floats  # (n,) largest map values
    grouping: Grouping  # (n,) what of them counts as one
    strangest: Rows  # (k,) of the n images, those of the highest scores, the highest first,
    maps: Floats  # (k, h, w) and theirs
    otherwise: tuple[Floats, Floats] | None = (
        None  # scores and peaks, had what belongs together been counted the other way
    )
    summaries: Floats | None = None  # (N, S) of all that was learned from, where their features were in memory


def calibrate_held_out(
    pipeline: Pipeline, images: ImageSet, numbers: Rows, rows: Rows, spec: InputSpec, grouping: Grouping
) -> HeldOut:
    """What held-out normal images in `rows` (n,) score, on the scale that is learned from them."""
    size = block_rows(spec) if pipeline.tiling is None else pipeline.tiling.images_at_once
    scores, peaks = [], []
    shown = _Strangest()
    for start in range(0, len(rows), size):
        some = rows[start : start + size]
        maps, found = score_pixels(pipeline, images.take(some), spec.value_range, images.missing(some))
        scores.append(found)
        peaks.append(maps.max(axis=(1, 2)))
        shown.add(found, maps, start)
    divisors = pipeline.scorer.fit_score_scale(np.concatenate(scores), numbers[rows])
    whole, highest = np.concatenate(scores) / divisors, np.concatenate(peaks) / divisors
    return HeldOut(whole, highest, grouping, *shown.over(divisors))


def calibrate_leave_one_out(
    pipeline: Pipeline,
    make: Callable[[], Scorer],
    pieces: Pieces,
    seed: int,
    find_groups: Callable[[Rows, Tensor], Grouping],
) -> HeldOut:
    """Let the scorer learn from all images; what those that calibrate score, each as if its group were new.

    `find_groups` is asked, of all images that are learned from and their features (N, D, h, w), which count as one. Of a model
    that was trained, only the images that it has not seen calibrate; those that it has teach all scorers.

    Floats that keep to no usual range are scaled by the extremes of all n images, those of an image that is left out among
    them. It is then seen as new images are, except those that go beyond all n, as at most 2 in n + 1 do: by so much at most can
    false alarms grow. Were each fold scaled by the extremes of the others, one bright image would give its whole fold another
    scale, and a threshold from scores of two scales would be too high.
    """
    split, scorer = pieces.split, pipeline.scorer
    rows = np.unique(np.concatenate([split.train, split.validation, split.calibration]))
    features = collect_features(pipeline.model, pieces, rows)
    judged, numbers = np.searchsorted(rows, split.calibration), pieces.numbers[rows]
    grouping = find_groups(rows, features)
    component_maps = fit_leave_one_out(scorer, make, features, numbers, judged, grouping.used, seed)
    missing = pieces.images.missing(split.calibration)
    maps, scores, peaks = _reduce(pipeline, scorer.fit_normalisation(component_maps, numbers[judged]), missing)
    others = _otherwise(scorer, features, component_maps, judged, numbers, grouping)
    divisors = scorer.fit_score_scale(scores, numbers[judged])
    shown = _Strangest()
    shown.add(scores / divisors, maps, 0)
    found = HeldOut(
        scores / divisors,
        peaks / divisors,
        grouping.take(judged),
        *shown.over(divisors),
        summaries=np.concatenate([summarise(part) for part in torch.split(features, BLOCK)]),
    )
    if others is None:
        return found
    _, scores, peaks = _reduce(pipeline, scorer.normalise(others, numbers[judged]), missing, divisors)
    return replace(found, otherwise=(scores, peaks))


def _otherwise(
    scorer: Scorer, features: Tensor, component_maps: Tensor, judged: Rows, categories: Rows, grouping: Grouping
) -> Tensor | None:
    """The component maps, had what belongs together been counted the other way; None where that takes learning again."""
    other = grouping.otherwise
    if other is None or not (leaves_out(scorer, categories, other) and leaves_out(scorer, categories, grouping.used)):
        return None
    shared = (group_weights(other) < 1) | (group_weights(grouping.used) < 1)
    again = np.flatnonzero(shared[judged])
    maps = component_maps.clone()
    if len(again):
        chosen = torch.from_numpy(judged[again]).to(features.device)
        with torch.no_grad():
            maps[torch.from_numpy(again).to(maps.device)] = scorer.leave_one_out(features, chosen, categories, other)
    return maps


@torch.no_grad()
def _reduce(
    pipeline: Pipeline, maps: Tensor, missing: Bools | None, divisors: Floats | float = 1.0
) -> tuple[Tensor, Floats, Floats]:
    """Of a scorer's maps (n, h, w): those as they come out of the pipeline, and over their divisors scores and peaks (n,)."""
    maps, scores = pipeline.reduce(maps)
    if missing is not None:
        maps, scores = mask_missing(maps, missing, pipeline.maps)
    peaks = maps.amax(dim=(1, 2)).cpu().numpy()
    return maps, scores.cpu().double().numpy() / divisors, peaks / divisors


class _Strangest:
    """The maps of the images with the highest scores so far."""

    def __init__(self) -> None:
        self._scores, self._rows = np.empty(0), np.empty(0, np.intp)
        self._maps: Floats = np.empty((0, 0, 0), np.float32)

    def add(self, scores: Floats, maps: Floats | Tensor, first: int) -> None:
        """Some more images, the first of which is number `first`."""
        chosen = np.argsort(-scores, kind="stable")[:STRANGEST]
        some = maps[chosen] if isinstance(maps, np.ndarray) else maps[torch.from_numpy(chosen)].float().cpu().numpy()
        before = self._maps if len(self._maps) else np.empty((0, *some.shape[1:]), np.float32)
        every = np.concatenate([self._scores, scores[chosen]])
        order = np.argsort(-every, kind="stable")[:STRANGEST]
        self._scores, self._rows = every[order], np.concatenate([self._rows, first + chosen])[order]
        self._maps = np.concatenate([before, some])[order]

    def over(self, divisors: Floats) -> tuple[Rows, Floats]:
        """Which images those are, and their maps over their divisors."""
        maps: Floats = self._maps / divisors[self._rows][:, None, None]
        return self._rows, maps.astype(np.float32)


def _rows_to_learn(model: Model, scorer: Scorer, split: Split) -> tuple[Rows, Rows]:
    """What the scorer learns from: images that the model knows, and others; all and none, where neither needs any held out."""
    if scorer.capabilities.held_out != "unused" or any(weight.requires_grad for weight in model.parameters()):
        return split.train, split.validation
    both = np.sort(np.concatenate([split.train, split.validation]))
    return both, both[:0]


@torch.no_grad()
def _see(model: Model, names: Sequence[str], images: Tensor) -> tuple[Tensor, ...]:
    found = model.outputs(images, names)
    return tuple(found[name] for name in names)


def _read_outputs(model: Model, names: Sequence[str], pieces: Pieces, rows: Rows) -> Iterator[tuple[Tensor, ...]]:
    """What a model gives of the pieces in some rows, in batches."""
    device = device_of(model)
    for batch in iterate(pieces.images, rows, pieces.spec):
        yield _see(model, names, to_tensor(batch.pixels, pieces.spec.value_range, device))


def collect_features(model: Model, pieces: Pieces, rows: Rows) -> Tensor:
    """(N, D, h, w) what a model makes of the pieces in some rows (N,), all in memory."""
    return _collect(_read_outputs(model, FEATURES_ALONE, pieces, rows), len(rows))


def reduce_scores(pipeline: Pipeline, maps: Tensor, missing: Bools | None) -> Floats:
    """(n,) the scores that a scorer's maps (n, h, w) come to."""
    return _reduce(pipeline, maps, missing)[1]


def _collect(batches: Iterable[tuple[Tensor, ...]], count: int) -> Tensor:
    """(N, ...) of batches (n, ...), together N: `torch.cat` would hold all of them twice."""
    whole, end = torch.empty(0), 0
    for (batch,) in batches:
        whole = whole if end else batch.new_empty((count, *batch.shape[1:]))
        whole[end : end + len(batch)] = batch
        end += len(batch)
    return whole
