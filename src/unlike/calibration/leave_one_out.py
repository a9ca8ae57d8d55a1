"""Scores of normal images as if they were new, where there are too few images to hold any back.

Some scorers know what they would say of an image had they not learned from it: they learn once (leave-one-out in closed
form). Of others some more learn from four fifths each (cross-conformal prediction: Vovk, 2015): they know a little less than
the one of all that is used, so the thresholds are a little high, and the promise is rather kept too well.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from unlike.errors import DataError
from unlike.records import Rows
from unlike.scoring.base import Scorer
from unlike.scoring.batches import Batches

FOLDS = 5  # of which each is scored by a scorer of the others
MOST = 5000  # images that are left out one by one: what is known of each pair of them takes memory


@torch.no_grad()
def fit_leave_one_out(
    scorer: Scorer, make: Callable[[], Scorer], features: Tensor, categories: Rows, judged: Rows, seed: int
) -> Tensor:
    """Let a scorer learn from all features (N, D, h, w); component maps (n, M, h, w) of the `judged`, each as if it were new.

    `make` gives a fresh scorer of the same kind, `categories` (N,) numbers those of the images.
    """
    every = Batches.of_tensors(features, categories=categories)
    none = every.take(np.empty(0, np.intp))
    fewest = int(np.bincount(categories)[np.unique(categories)].min())
    least = scorer.capabilities.leave_one_out
    if least is not None and len(features) <= MOST and fewest >= least:
        scorer.fit(every, none, seed)
        return scorer.leave_one_out(features, torch.from_numpy(judged).to(features.device), categories)
    folds = np.array_split(np.random.default_rng(seed).permutation(judged), min(FOLDS, len(judged)))
    try:
        maps = maps_out_of_fold(make, every, folds, seed)
    except DataError as error:
        scorer.fit(every, none, seed)  # where all are too few as well, it says so
        fifths = "each image calibrates by the other four fifths; decision.calibration = 'held-out' does not"
        raise DataError(f"{error} ({fifths})") from None
    scorer.fit(every, none, seed)  # now that the scorers of the folds, which may be large, are gone
    return maps


@torch.no_grad()
def maps_out_of_fold(make: Callable[[], Scorer], every: Batches, folds: Sequence[Rows], seed: int) -> Tensor:
    """Component maps (n, M, h, w) of the images of all folds, in the order of rows, each by a scorer of all other images.

    `folds` are rows, none of them twice; what is in no fold is known to all scorers.
    """
    parts = [_maps_of_fold(make(), every, fold, seed) for fold in folds]
    return torch.cat(parts)[torch.from_numpy(np.argsort(np.concatenate(folds)))]


def _maps_of_fold(scorer: Scorer, every: Batches, fold: Rows, seed: int) -> Tensor:
    """Learn from the other folds and look at this one; the scorer, which may be large, is gone before the next one learns."""
    others = every.take(np.setdiff1d(np.arange(len(every)), fold))
    scorer.fit(others, others.take(np.empty(0, np.intp)), seed)
    return torch.cat([scorer.component_maps(*inputs) for inputs in every.take(fold)])
