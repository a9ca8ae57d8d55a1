"""kmeans and equilibrium: how far a code is from the centres of the normal ones. (B2, D4)"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from torch import Tensor

from unlike.config import check_range
from unlike.errors import ConfigError
from unlike.records import Floats
from unlike.scoring.codes import CodeConfig, CodeScorer, check_enough, nearest, unconverged_allowed
from unlike.scoring.moments import Moments


@dataclass(frozen=True, slots=True, kw_only=True)
class KMeansConfig(CodeConfig):
    """Into how many clusters normal codes are put."""

    clusters: int = 5
    restarts: int = 10  # from other centres; the best is kept

    def __post_init__(self) -> None:
        CodeConfig.__post_init__(self)
        check_counts(clusters=self.clusters, restarts=self.restarts)


class KMeansScorer(CodeScorer):
    """The distance to the nearest of a few centres of normal codes.

    scikit-learn's MiniBatchKMeans finds the centres, from all codes of a small set or 200,000 of a large one.
    """

    Config = KMeansConfig

    def learn(self, rows: Floats, moments: Moments, seed: int) -> dict[str, Floats]:  # noqa: ARG002
        from sklearn.cluster import MiniBatchKMeans

        check_enough(len(rows), self.config.clusters, "clusters", "scorer.clusters")
        # a batch as large as threads make worthwhile; scikit-learn's own advice
        clusters = MiniBatchKMeans(
            self.config.clusters, batch_size=4096, n_init=self.config.restarts, random_state=_short(seed)
        )
        with unconverged_allowed():
            return {"centres": np.asarray(clusters.fit(rows).cluster_centers_, np.float32)}

    def distances(self, rows: Tensor) -> Tensor:
        return nearest(rows, self.learned["centres"])[:, 0]


@dataclass(frozen=True, slots=True, kw_only=True)
class EquilibriumConfig(CodeConfig):
    """Into how many clusters normal codes are put, and how strongly centres repel each other."""

    clusters: int = 5
    restarts: int = 10  # from other centres; the best is kept
    alpha: float | Literal["dvariance", "contrast"] = "contrast"  # see EquilibriumKMeans
    variant: Literal["equilibrium", "softmax"] = "equilibrium"

    def __post_init__(self) -> None:
        CodeConfig.__post_init__(self)
        check_counts(clusters=self.clusters, restarts=self.restarts)
        if not isinstance(self.alpha, str):
            check_range("scorer.alpha", self.alpha, 1e-12, 1e12)


class EquilibriumScorer(CodeScorer):
    """The distance to the nearest centre of equilibrium k-means, which leaves small clusters their own.

    Where normal images come in kinds, some of them rare, plain k-means gives the rare ones no centre, and they look
    strange. See `EquilibriumKMeans`.
    """

    Config = EquilibriumConfig

    def learn(self, rows: Floats, moments: Moments, seed: int) -> dict[str, Floats]:  # noqa: ARG002
        from unlike.cluster import EquilibriumKMeans

        config = self.config
        check_enough(len(rows), config.clusters, "clusters", "scorer.clusters")
        clusters = EquilibriumKMeans(
            config.clusters,
            alpha=config.alpha,
            variant=config.variant,
            n_init=config.restarts,
            random_state=_short(seed),
        )
        with unconverged_allowed():
            return {"centres": np.asarray(clusters.fit(rows).cluster_centers_, np.float32)}

    def distances(self, rows: Tensor) -> Tensor:
        return nearest(rows, self.learned["centres"])[:, 0]


def check_counts(**counts: int) -> None:
    """Raise ConfigError unless each setting of these names is 1 or more."""
    for name, value in counts.items():
        if value < 1:
            raise ConfigError(f"scorer.{name}: expected 1 or more, came {value}")


def _short(seed: int) -> int:
    """A seed as scikit-learn takes it: 32 bits."""
    return seed % 2**32
