"""Scores of normal images by scorers that have not seen them, where there are too few images to hold any back."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from unlike.records import Floats
from unlike.scoring.apart import learn
from unlike.scoring.base import Scorer
from unlike.scoring.maps import MapConfig, reduce_maps, smooth
from unlike.scoring.remembered import Remembered, Remembering, Rows


@torch.inference_mode()
def score_out_of_fold(
    make_scorer: Callable[[], Scorer],
    codes: Tensor,
    folds: Sequence[Rows],
    numbers: Rows,
    config: MapConfig,
    seed: int,
) -> tuple[Floats, Floats]:
    """Scores (N,) and largest map values (N,) of codes (N, D, h, w), each by a scorer that learned from other folds.

    `folds` are rows, together all of them once; `numbers` (N,) the categories of all.
    """
    scores, peaks = np.empty(len(codes)), np.empty(len(codes))
    for fold in folds:
        scores[fold], peaks[fold] = _score_fold(make_scorer(), codes, fold, numbers, config, seed)
    return scores, peaks


def _score_fold(
    scorer: Scorer, codes: Tensor, fold: Rows, numbers: Rows, config: MapConfig, seed: int
) -> tuple[Floats, Floats]:  # (n,), (n,)
    """Learn from the other folds and score this one; the scorer, which may be large, is gone before the next one learns."""
    model, batches = Remembered(), Remembering(codes)
    known = np.setdiff1d(np.arange(len(codes)), fold)
    learn(scorer, model, batches, known, known[:0], numbers, seed)
    maps = torch.cat([smooth(scorer.maps(model, batch), config) for batch in batches(fold)])
    return reduce_maps(maps, config).cpu().double().numpy(), maps.amax(dim=(1, 2)).cpu().numpy()
