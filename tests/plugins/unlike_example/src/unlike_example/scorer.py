"""A scorer: how far each position is from the mean of the normal ones."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from unlike.scoring.base import Scorer


@dataclass(frozen=True, slots=True)
class FarthestConfig:
    """How distances are measured."""

    power: float = 2.0  # of the norm


class FarthestScorer(Scorer):
    """Distance of each position from the mean of all normal positions."""

    Config = FarthestConfig
    inputs = ("features",)

    def __init__(self, config: FarthestConfig, output_spec) -> None:
        super().__init__(config, output_spec)
        self.register_buffer("mean", torch.empty(0))  # (D,)

    def fit(self, train, held_out, seed: int):
        total, count = 0, 0
        for (features,) in train:  # (B, D, h, w)
            total = total + features.sum(dim=(0, 2, 3))
            count += features[:, 0].numel()
        self.mean = total / count
        return self

    def forward(self, features: Tensor) -> Tensor:  # (B, D, h, w)
        return (features - self.mean[:, None, None]).norm(self.config.power, dim=1)  # (B, h, w)
