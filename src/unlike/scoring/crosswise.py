"""Scores of normal images by scorers that have not seen them, where there are too few images to hold any back."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from unlike.models import ImageShape, Model, Objective
from unlike.records import Floats
from unlike.scoring.base import Scorer
from unlike.scoring.maps import MapConfig, reduce_maps, smooth

BLOCK = 16  # codes at once


class Remembered(Model):
    """Stands for a model whose codes are known already: they come in the place of images."""

    def __init__(self) -> None:
        super().__init__(None, ImageShape(0, 0, 0))

    def encode(self, images: Tensor) -> Tensor:
        return images

    def loss(self, images: Tensor, objective: Objective, clean: Tensor | None = None) -> Tensor:  # noqa: ARG002
        return images.new_zeros(())  # there is nothing to train


@torch.inference_mode()
def score_out_of_fold(
    make_scorer: Callable[[], Scorer], codes: Tensor, folds: Sequence[Tensor], config: MapConfig, seed: int
) -> tuple[Floats, Floats]:
    """Scores (N,) and largest map values (N,) of codes (N, D, h, w), each by a scorer that learned from other folds.

    `folds` are rows, together all of them once.
    """
    scores, peaks = np.empty(len(codes)), np.empty(len(codes))
    for fold in folds:
        scores[fold], peaks[fold] = _score_fold(make_scorer(), codes, fold, config, seed)
    return scores, peaks


def _score_fold(
    scorer: Scorer, codes: Tensor, fold: Tensor, config: MapConfig, seed: int
) -> tuple[Floats, Floats]:  # (n,), (n,)
    """Learn from the other folds and score this one; the scorer, which may be large, is gone before the next one learns."""
    model = Remembered()
    others = torch.ones(len(codes), dtype=torch.bool)
    others[fold] = False
    known = others.nonzero()[:, 0]
    scorer.fit(model, (codes[rows] for rows in torch.split(known, BLOCK)), (), seed)
    maps = torch.cat([smooth(scorer.maps(model, codes[rows]), config) for rows in torch.split(fold, BLOCK)])
    return reduce_maps(maps, config).cpu().double().numpy(), maps.amax(dim=(1, 2)).cpu().numpy()
