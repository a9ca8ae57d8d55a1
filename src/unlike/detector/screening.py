"""Which of the training images to distrust, where some may not be normal."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
from torch import Tensor

from unlike.calibration.contamination import distrust, rate, settle
from unlike.calibration.leave_one_out import fit_leave_one_out, make_folds
from unlike.data.batches import ImageSet, value_range_of
from unlike.data.input_spec import InputSpec
from unlike.data.pixels import make_small
from unlike.data.samples import column
from unlike.data.split import Split
from unlike.detector.grouping import find_by_features, find_by_pictures, given_groups
from unlike.detector.learning import collect_features, fit_scorer, reduce_scores
from unlike.detector.pipeline import Pipeline, score_pixels
from unlike.detector.scorers import make_scorer
from unlike.detector.settings import Settings
from unlike.detector.splitting import CROSS_BYTES, FEATURES_ALONE, Pieces, feature_bytes, part_categories, rows_to_learn
from unlike.detector.storage import Distrusted, Strangest
from unlike.errors import DataError
from unlike.models.base import Model
from unlike.records import Bools, Floats, Rows
from unlike.scoring.base import Scorer
from unlike.training import Trim, image_losses

BATCH = 16  # images at once
FEWEST = 20  # images, or groups, to say which of them are not like the others
SHOWN = 12  # distrusted images whose pictures and maps are kept


@dataclass(frozen=True, slots=True, eq=False)
class Witnesses:
    """Scorers of features that say what they find strange of images from which they have not learned."""

    make: Callable[[], Scorer]  # a fresh one
    reduce: Callable[[Tensor, Rows], Floats]  # maps (n, h, w) of images at n positions -> scores (n,)
    features: Tensor  # (N, D, h, w) of all images
    categories: Rows  # (N,)
    groups: Rows  # (N,) what is left out as a whole
    seed: int

    @torch.no_grad()
    def learn(self, trusted: Bools) -> tuple[Scorer, Floats]:
        """A scorer that has learned from the trusted images (N,), and their scores (n,), each as if its group were left out."""
        known, scorer = np.flatnonzero(trusted), self.make()
        own, groups = self.categories[known], self.groups[known]
        every = np.arange(len(known))
        maps = fit_leave_one_out(scorer, self.make, self._take(known), own, every, groups, self.seed)
        return scorer, self.reduce(scorer.fit_normalisation(maps, own), known)

    @torch.no_grad()
    def score(self, trusted: Bools) -> Floats:
        """(N,) the scores of all images, each as a new one, by a scorer that has learned from the trusted ones (N,)."""
        scorer, known = self.learn(trusted)
        scores, others = np.empty(len(trusted)), np.flatnonzero(~trusted)
        scores[trusted] = known
        if len(others):
            new = torch.cat([scorer.component_maps(part) for part in torch.split(self._take(others), BATCH)])
            scores[others] = self.reduce(scorer.normalise(new, self.categories[others]), others)
        return scores

    def _take(self, rows: Rows) -> Tensor:
        return self.features if len(rows) == len(self.features) else self.features[torch.from_numpy(rows)]


def distrust_by_scores(settings: Settings, model: Model, images: ImageSet, spec: InputSpec, seed: int) -> Rows:
    """The rows of images to distrust, by what scorers of the others say of each; for a model that is not trained.

    Features of all images are kept in memory while that is needed; where they do not fit, where the scorer takes more than
    those, and of tiles, five scorers learn from four fifths of the images each, and features are computed again for each.
    """
    rows = rows_to_learn(images)
    spec = replace(spec, value_range=value_range_of(images, rows, spec))
    plain = make_scorer(settings, model.output_spec)
    numbers, categories = part_categories(images, Split(rows, rows[:0], rows), plain, cross=True)
    tiling = settings.data.tiling(spec)
    pieces = Pieces.of(images, Split(rows, rows[:0], rows), spec, tiling, numbers)
    make = partial(make_scorer, settings, model.output_spec, categories)
    pipeline = Pipeline(model, make(), settings.map, tiling).eval()
    parts = np.unique(column(images.samples, "category")[rows], return_inverse=True)[1]
    known = given_groups(images, settings.decision)
    fits = len(rows) * feature_bytes(model) <= CROSS_BYTES
    if plain.inputs == FEATURES_ALONE and tiling is None and fits:
        features = collect_features(model, pieces, rows)
        grouping = (
            known.take(rows) if known else find_by_features(model, images, rows, features, settings.decision, seed)
        )

        def reduce(maps: Tensor, positions: Rows) -> Floats:
            return reduce_scores(pipeline, maps, images.missing(rows[positions]))

        score = Witnesses(make, reduce, features, numbers[rows], grouping.used, seed).score
    else:
        grouping = known.take(rows) if known else find_by_pictures(images, rows, settings.decision, seed)
        score = partial(_score_folds, pipeline, make, pieces, rows, grouping.used, images, spec, seed)
    check_enough(grouping.used)
    return rows[settle(score, grouping.used, settings.decision.contamination, parts)]


def _score_folds(
    pipeline: Pipeline,
    make: Callable[[], Scorer],
    pieces: Pieces,
    rows: Rows,
    groups: Rows,
    images: ImageSet,
    spec: InputSpec,
    seed: int,
    trusted: Bools,
) -> Floats:
    """(n,) scores of the images in `rows` (n,), each by a scorer of the trusted ones (n,) of the other folds."""
    scores, every = np.empty(len(rows)), np.arange(len(rows))
    for fold in make_folds(every, groups, seed):
        known = np.setdiff1d(every[trusted], fold)
        tiles = 1 if pipeline.tiling is None else len(pipeline.tiling)
        own = (rows[known][:, None] * tiles + np.arange(tiles)).ravel()
        scorer = make().to(pipeline.device)
        fit_scorer(scorer, pipeline.model, replace(pieces, split=Split(own, own[:0], own)), seed)
        looking = Pipeline(pipeline.model, scorer, pipeline.maps, pipeline.tiling).eval()
        for start in range(0, len(fold), BATCH):
            some = fold[start : start + BATCH]
            pixels, missing = images.take(rows[some]), images.missing(rows[some])
            scores[some] = score_pixels(looking, pixels, spec.value_range, missing)[1]
    return scores


def distrust_by_losses(
    settings: Settings, model: Model, images: ImageSet, pieces: Pieces, spec: InputSpec, groups: Rows
) -> Rows:
    """The rows of images to distrust, by the loss that each has, or its worst tile, after a training that left the worst out.

    Images that were trained on and others are looked at by themselves: the first have lower losses. `groups` (n,) are of the
    images in `rows_to_learn`.
    """
    rows = rows_to_learn(images)
    check_enough(groups)
    tiles = len(pieces.images.samples) // len(images.samples)
    own = (rows[:, None] * tiles + np.arange(tiles)).ravel()
    losses = image_losses(model, pieces.images, own, settings.training.objective, spec.value_range)
    kinds = np.unique(column(images.samples, "category")[rows], return_inverse=True)[1]
    parts = 2 * kinds + np.isin(rows * tiles, pieces.split.train)
    worst = losses.reshape(-1, tiles).max(axis=1)
    return rows[distrust(rate(worst, parts), groups, settings.decision.contamination)]


def make_trim(settings: Settings, images: ImageSet, pieces: Pieces, groups: Rows) -> Trim | None:
    """What a training leaves out, epoch by epoch, of the pieces to train on: groups as wholes, but tiles each by itself."""
    contamination = settings.decision.contamination
    if contamination == "none":
        return None
    rows = pieces.split.train
    whole = len(pieces.images.samples) == len(images.samples)
    own = groups[np.searchsorted(rows_to_learn(images), rows)] if whole else np.arange(len(rows))
    return lambda losses: distrust(rate(losses), own, contamination)


def check_enough(groups: Rows) -> None:
    """Raise DataError where images are of too few groups (n,) to say which are not like the others."""
    count = len(np.unique(groups))
    if count < FEWEST:
        what = "normal images" if count == len(groups) else f"groups of normal images ({len(groups):,} images)"
        raise DataError(
            f"{count:,} {what} are too few to say which are not like the others: at least {FEWEST} are needed; add some, or look "
            "at them yourself and fit with --contamination none"
        )


def show_distrusted(pipeline: Pipeline, images: ImageSet, rows: Rows, spec: InputSpec, of: int) -> Distrusted:
    """What a detector that did not learn from images in `rows` (n,) says of them."""
    low, high = spec.value_range
    found = [
        score_pixels(pipeline, images.take(rows[[n]]), spec.value_range, images.missing(rows[[n]]))
        for n in range(len(rows))
    ]
    scores = np.array([score[0] for _, score in found], np.float64)
    order = np.argsort(-scores, kind="stable")
    ids = [images.samples[row].id for row in rows[order]]
    shown = tuple(
        Strangest(ids[place], float(scores[n]), make_small(images.take(rows[[n]])[0], low, high), found[n][0][0])
        for place, n in enumerate(order[:SHOWN].tolist())
    )
    return Distrusted(tuple(ids), scores[order], shown, of)
