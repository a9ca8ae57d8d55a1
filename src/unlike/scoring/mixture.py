"""mixture: how unlikely a code is under a mixture of Gaussians that explains the normal ones."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from unlike.config import check_range
from unlike.models.base import OutputSpec
from unlike.records import Floats
from unlike.scoring.features import (
    FeatureConfig,
    FeatureScorer,
    check_counts,
    check_enough,
    short_seed,
    unconverged_allowed,
)
from unlike.scoring.statistics.moments import Moments


@dataclass(frozen=True, slots=True, kw_only=True)
class MixtureConfig(FeatureConfig):
    """How many Gaussians there are, and what shapes they may have."""

    components: int = 5  # Gaussians of the mixture
    shape: Literal["full", "diagonal"] = "full"  # of each; diagonal has no correlations, and needs fewer images
    restarts: int = 3  # from other starts; the likeliest is kept
    floor: float = 1e-3  # least variance of a component in any direction, as a share of a number's mean variance

    def __post_init__(self) -> None:
        FeatureConfig.__post_init__(self)
        check_counts(components=self.components, restarts=self.restarts)
        check_range("scorer.floor", self.floor, 1e-9, 1)


class MixtureScorer(FeatureScorer):
    """The negative logarithm of the density of normal codes, counted from the highest it can have.

    scikit-learn's GaussianMixture learns it, from all codes of a small set or 50,000 of a large one.
    """

    Config = MixtureConfig
    means: Tensor  # (K, d)
    roots: Tensor  # (K, d, d), or (K, d) of diagonal ones: of the inverse covariances
    heights: Tensor  # (K,) logarithms of the densities at the means, from the highest that any can have

    def __init__(self, config: MixtureConfig, spec: OutputSpec) -> None:
        super().__init__(config, spec)
        for name in ("means", "roots", "heights"):
            self.register_buffer(name, torch.empty(0))

    @property
    def most_rows(self) -> int:
        return 50_000

    def learn(self, rows: Floats, moments: Moments, seed: int) -> dict[str, Floats]:
        from sklearn.mixture import GaussianMixture

        config = self.config
        check_enough(len(rows), config.components, "components", "scorer.components")
        kind = "full" if config.shape == "full" else "diag"
        floor = config.floor * moments.variance / moments.width
        mixture = GaussianMixture(
            config.components,
            covariance_type=kind,
            n_init=config.restarts,
            reg_covar=floor,
            random_state=short_seed(seed),
        )
        with unconverged_allowed():
            mixture.fit(rows.astype(np.float64))
        roots = mixture.precisions_cholesky_  # (K, D, D) or (K, D)
        diagonal = np.diagonal(roots, axis1=1, axis2=2) if kind == "full" else roots
        heights = np.log(mixture.weights_) + np.log(diagonal).sum(axis=1) - moments.width / 2 * math.log(2 * math.pi)
        highest = heights.max() + math.log(len(heights))  # no density is above this: all components in one place
        learned = {"means": mixture.means_, "roots": roots, "heights": heights - highest}
        return {name: value.astype(np.float32) for name, value in learned.items()}

    def distances(self, rows: Tensor) -> Tensor:
        densities = []
        for mean, root, height in zip(self.means, self.roots, self.heights, strict=True):
            centred = rows - mean
            stretched = centred @ root if root.ndim == 2 else centred * root
            densities.append(height - stretched.square().sum(dim=1) / 2)
        return (-torch.logsumexp(torch.stack(densities), dim=0)).clamp_min(0)
