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

BLOCK = 64  # codes at once


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
    model = Remembered()
    scores, peaks = np.empty(len(codes)), np.empty(len(codes))
    for fold in folds:
        others = torch.ones(len(codes), dtype=torch.bool)
        others[fold] = False
        scorer = make_scorer().fit(model, torch.split(codes[others], BLOCK), (), seed)
        for rows in torch.split(fold, BLOCK):
            maps = smooth(scorer.maps(model, codes[rows]), config)
            scores[rows] = reduce_maps(maps, config).cpu().double().numpy()
            peaks[rows] = maps.amax(dim=(1, 2)).cpu().numpy()
    return scores, peaks
