"""Scores of normal images as if they were new, where there are too few images to hold any back."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from unlike.calibration.precomputed import Remembered, Remembering
from unlike.records import Floats, Rows
from unlike.scoring.base import Scorer
from unlike.scoring.maps import MapConfig, reduce_maps, smooth
from unlike.scoring.per_category import Apart, learn


@torch.inference_mode()
def view_out_of_fold(
    make_scorer: Callable[[], Scorer],
    model: Remembered,
    codes: Tensor,
    folds: Sequence[Rows],
    numbers: Rows,
    seed: int,
) -> Tensor:
    """The views (n, M, h, w) of the codes of all folds, in the order of rows, each by a scorer of all other codes (N, D, h, w).

    `folds` are rows, none of them twice; what is in no fold is known to all scorers. `numbers` (N,) are the categories of all.
    """
    parts = [_view_fold(make_scorer(), model, codes, fold, numbers, seed) for fold in folds]
    return torch.cat(parts)[torch.from_numpy(np.argsort(np.concatenate(folds)))]


@torch.inference_mode()
def view_left_out(scorer: Scorer, model: Remembered, codes: Tensor, chosen: Rows, numbers: Rows) -> Tensor:
    """The views (n, M, h, w) of the `chosen` rows of codes (N, D, h, w) by the scorer of all, each as if it alone were new."""
    rows = torch.from_numpy(chosen).to(codes.device)
    if isinstance(scorer, Apart):
        return scorer.parts_left_out(model, codes, rows, numbers)
    return scorer.left_out(model, codes, rows)


@torch.inference_mode()
def score_views(scorer: Scorer, views: Tensor, numbers: Rows, config: MapConfig) -> tuple[Floats, Floats]:
    """Let a scorer settle by the views (N, M, h, w) of normal images; their scores (N,) and largest map values (N,)."""
    maps = scorer.settle_parts(views, numbers) if isinstance(scorer, Apart) else scorer.settle(views)
    maps = smooth(maps, config)
    return reduce_maps(maps, config).cpu().double().numpy(), maps.amax(dim=(1, 2)).cpu().numpy()


def _view_fold(
    scorer: Scorer, model: Remembered, codes: Tensor, fold: Rows, numbers: Rows, seed: int
) -> Tensor:  # (n, M, h, w)
    """Learn from the other folds and look at this one; the scorer, which may be large, is gone before the next one learns."""
    batches = Remembering(codes)
    known = np.setdiff1d(np.arange(len(codes)), fold)
    learn(scorer, model, batches, known, known[:0], numbers, seed)
    return torch.cat([scorer.views(model, batch) for batch in batches(fold)])
