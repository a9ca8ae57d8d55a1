"""Scores of normal images as if they were new, where there are too few images to hold any back.

Some scorers know what they would say of an image had they not learned from it: they learn once (leave-one-out in closed
form). Of others some more learn from four fifths each (cross-conformal prediction: Vovk, 2015): they know a little less than
the one of all that is used, so the thresholds are a little high, and the promise is rather kept too well. That holds where they
measure on the same scale: what a scorer chooses by how many images there are is chosen once, by all.
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
    scorer: Scorer,
    make: Callable[[], Scorer],
    features: Tensor,
    categories: Rows,
    judged: Rows,
    groups: Rows,
    seed: int,
) -> Tensor:
    """Let a scorer learn from all features (N, D, h, w); component maps (n, M, h, w) of the `judged`, each as if it were new.

    `make` gives a fresh scorer of the same kind, `categories` (N,) numbers those of the images, and `groups` (N,) the groups
    that are left out as wholes.

    What a scorer of all images chooses by how many there are, those of the folds take. A shrinkage by Ledoit & Wolf's rule, say, is
    less for more images, and distances under it are longer: were each fold to shrink by a rule of its own, images would look less
    strange to it than new ones do to the scorer that is used, and the threshold would be too low. Under the same shrinkage they look
    stranger, if anything.
    """
    every = Batches.of_tensors(features, categories=categories)
    none = every.take(np.empty(0, np.intp))
    if leaves_out(scorer, categories, groups):
        scorer.fit(every, none, seed)
        return scorer.leave_one_out(features, torch.from_numpy(judged).to(features.device), categories, groups)
    folds, chooses = make_folds(judged, groups, seed), scorer.capabilities.chooses
    choices = scorer.fit(every, none, seed).choices() if chooses else {}
    try:
        maps = maps_out_of_fold(lambda: make().settle(choices), every, folds, seed)
    except DataError as error:
        if not chooses:
            scorer.fit(every, none, seed)  # where all are too few as well, it says so
        fifths = "each image calibrates by the other four fifths; decision.calibration = 'held-out' does not"
        raise DataError(f"{error} ({fifths})") from None
    if not chooses:
        scorer.fit(every, none, seed)  # now that the scorers of the folds, which may be large, are gone
    return maps


def leaves_out(scorer: Scorer, categories: Rows, groups: Rows) -> bool:
    """Whether a scorer that has learned from all images can leave each group (N,) out in closed form."""
    least = scorer.capabilities.leave_one_out
    if least is None or len(groups) > MOST:
        return False
    own = (groups[categories == name] for name in np.unique(categories))
    largest = ((len(some), int(np.unique(some, return_counts=True)[1].max())) for some in own)
    return all(count - most + 1 >= least for count, most in largest)


def make_folds(judged: Rows, groups: Rows, seed: int) -> list[Rows]:
    """FOLDS parts of the rows `judged` (n,), drawn at random, each of whole groups (N,).

    >>> folds = make_folds(np.arange(6), np.array([0, 1, 1, 2, 3, 4]), seed=0)
    >>> sorted(sorted(fold.tolist()) for fold in folds)
    [[0], [1, 2], [3], [4], [5]]
    """
    numbers = np.unique(groups[judged], return_index=True)[1]
    first = np.sort(numbers)  # in the order of the rows
    order = np.random.default_rng(seed).permutation(first)
    parts = np.array_split(order, min(FOLDS, len(order)))
    return [np.concatenate([judged[groups[judged] == groups[judged[one]]] for one in part]) for part in parts]


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
