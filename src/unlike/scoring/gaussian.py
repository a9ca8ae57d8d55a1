"""gaussian: the Mahalanobis distance of a code from the normal ones. (PaDiM on frozen features)"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from unlike.config import check_range
from unlike.errors import ConfigError, DataError
from unlike.models.base import OutputSpec
from unlike.records import Floats, Rows
from unlike.scoring.base import Capabilities
from unlike.scoring.batches import Batches
from unlike.scoring.features import NOT_FINITE, FeatureConfig, FeatureScorer, check_varied
from unlike.scoring.statistics.moments import Moments, check_shrinkage, moments_of, whitening_of
from unlike.scoring.statistics.positions import (
    FEWEST_LEFT,
    lengths_at,
    lengths_leave_one_out,
    moments_at,
    shares_at,
    whiten_each,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class GaussianConfig(FeatureConfig):
    """Whether each position of a grid has a Gaussian of its own, and how far few images are trusted."""

    positions: Literal["pooled", "each"] = "pooled"  # each by itself: for things that always lie the same way
    shrinkage: float | Literal["auto"] = "auto"  # of the covariance to a sphere; auto: Ledoit & Wolf's rule
    # added to each variance, in the units of the features squared: PaDiM's .01; where it is too little to invert, as much as that takes
    regularisation: float = 0.0

    def __post_init__(self) -> None:
        FeatureConfig.__post_init__(self)
        check_shrinkage(self.shrinkage)
        check_range("scorer.regularisation", self.regularisation, 0, 1e9)
        if self.regularisation and self.positions != "each":
            raise ConfigError(
                "scorer.regularisation is for scorer.positions = 'each', where images are few for a covariance: expected 0, came "
                f"{self.regularisation:g}; or take scorer.shrinkage"
            )
        if self.positions == "each" and (
            self.code != "grid" or self.unit or self.scale != "none" or self.reduce is not None
        ):
            raise ConfigError(
                "scorer.positions = 'each' measures the grid as it is: expected code = 'grid', scale = 'none', no reduce and no unit"
            )


class GaussianScorer(FeatureScorer):
    """The Mahalanobis distance from the mean of normal codes, under their shrunk covariance.

    With `positions = "each"` every position has a mean and covariance of its own, as in PaDiM (Defard et al., 2021).
    """

    Config = GaussianConfig
    needs_covariance = True
    whitening: Tensor  # (D, D), or (P, D, D) for positions = "each", where the mean is (P, D)

    def __init__(self, config: GaussianConfig, spec: OutputSpec) -> None:
        super().__init__(config, spec)
        self.register_buffer("whitening", torch.empty(0))

    @property
    def capabilities(self) -> Capabilities:
        each = self.config.positions == "each"
        return replace(
            super().capabilities,
            position_dependent="positions = 'each'" if each else "",
            leave_one_out=FEWEST_LEFT if each and self.config.shrinkage != "auto" else None,
            chooses=self.config.shrinkage == "auto",
        )

    def fit(self, train: Batches, held_out: Batches, seed: int) -> FeatureScorer:
        if self.config.positions == "pooled":
            return super().fit(train, held_out, seed)
        moments, device = moments_at((self.group_of(features) for (features,) in train), "positions = 'pooled'")
        if not moments.finite:
            raise DataError(NOT_FINITE)
        check_varied(moments)
        self.mean = torch.from_numpy(moments.mean.astype(np.float32))
        shares = self._shares(lambda: shares_at(moments))
        self.whitening = torch.from_numpy(whiten_each(moments, shares, self.config.regularisation))
        return self.to(device)

    def forward(self, features: Tensor) -> Tensor:  # (B, D, h, w)
        if self.config.positions == "pooled":
            return super().forward(features)
        return lengths_at(self._centred(features), self.whitening)  # (B, h, w)

    def leave_one_out(self, features: Tensor, chosen: Tensor, categories: Rows, groups: Rows) -> Tensor:
        if self.capabilities.leave_one_out is None:
            return super().leave_one_out(features, chosen, categories, groups)
        left = self._centred(features)
        influence = torch.eye(len(features), device=features.device) - 1 / len(features)  # that of the mean
        config = self.config
        maps = lengths_leave_one_out(
            left, self.whitening, influence, chosen, groups, float(config.shrinkage), config.regularisation
        )
        return maps[:, None]

    def learn(self, rows: Floats, moments: Moments, seed: int) -> dict[str, Floats]:  # noqa: ARG002
        share = self._shares(lambda: moments_of(rows).shrinkage())
        whitening = whitening_of(moments, share)
        return {"whitening": whitening.astype(np.float32)}

    def distances(self, rows: Tensor) -> Tensor:
        distances: Tensor = torch.linalg.vector_norm(rows @ self.whitening, dim=1)
        return distances

    def _shares(self, find: Callable[[], Floats]) -> Floats:
        """() or (P,) how far each covariance is shrunk."""
        given = self.config.shrinkage
        return self.decide("shrinkage", find) if given == "auto" else np.array(given)

    def _centred(self, features: Tensor) -> Tensor:
        """(B, D, h, w) -> what is measured of them, less the mean of its position, (B, d, h, w)."""
        group = self.group_of(features)
        return group - self.mean.T.reshape(group.shape[1:])
