"""kmeans and equilibrium: how far a code is from the centres of the normal ones."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

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
    nearest,
    short_seed,
    unconverged_allowed,
)
from unlike.scoring.statistics.moments import Moments


@dataclass(frozen=True, slots=True, kw_only=True)
class KMeansConfig(FeatureConfig):
    """Into how many clusters normal codes are put."""

    clusters: int = 5  # that normal codes are put into, each with a centre
    restarts: int = 10  # from other centres; the best is kept

    def __post_init__(self) -> None:
        FeatureConfig.__post_init__(self)
        check_counts(clusters=self.clusters, restarts=self.restarts)


class KMeansScorer(FeatureScorer):
    """The distance to the nearest of a few centres of normal codes.

    scikit-learn's MiniBatchKMeans finds the centres, from all codes of a small set or 200,000 of a large one.
    """

    Config = KMeansConfig
    centres: Tensor  # (K, d)

    def __init__(self, config: KMeansConfig, spec: OutputSpec) -> None:
        super().__init__(config, spec)
        self.register_buffer("centres", torch.empty(0, 0))

    def learn(self, rows: Floats, moments: Moments, seed: int) -> dict[str, Floats]:  # noqa: ARG002
        check_enough(len(rows), self.config.clusters, "clusters", "scorer.clusters")
        with unconverged_allowed():
            return {"centres": np.asarray(self.clustering(seed).fit(rows).cluster_centers_, np.float32)}

    def clustering(self, seed: int) -> Any:
        """A clustering of scikit-learn's kind, that finds the centres."""
        from sklearn.cluster import MiniBatchKMeans

        # a batch as large as threads make worthwhile; scikit-learn's own advice
        return MiniBatchKMeans(
            self.config.clusters, batch_size=4096, n_init=self.config.restarts, random_state=short_seed(seed)
        )

    def distances(self, rows: Tensor) -> Tensor:
        return nearest(rows, self.centres)[:, 0]


@dataclass(frozen=True, slots=True, kw_only=True)
class EquilibriumConfig(KMeansConfig):
    """Into how many clusters normal codes are put, and how strongly centres repel each other."""

    # how sharply a code decides for its nearest centre; contrast finds a number for many dimensions, dvariance for few
    alpha: float | Literal["dvariance", "contrast"] = "contrast"
    variant: Literal["equilibrium", "softmax"] = "equilibrium"  # softmax: centres do not repel each other

    def __post_init__(self) -> None:
        KMeansConfig.__post_init__(self)
        if not isinstance(self.alpha, str):
            check_range("scorer.alpha", self.alpha, 1e-12, 1e12)


class EquilibriumScorer(KMeansScorer):
    """The distance to the nearest centre of equilibrium k-means, which leaves small clusters their own.

    Where normal images come in kinds, some of them rare, plain k-means gives the rare ones no centre, and they look
    strange. See `EquilibriumKMeans`.
    """

    Config = EquilibriumConfig

    def clustering(self, seed: int) -> Any:
        from unlike.cluster import EquilibriumKMeans

        config = self.config
        return EquilibriumKMeans(
            config.clusters,
            alpha=config.alpha,
            variant=config.variant,
            n_init=config.restarts,
            random_state=short_seed(seed),
        )
