"""pca: what of a code lies outside the directions in which normal ones vary. (B2; DFR and FRE on frozen features)"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from torch import Tensor

from unlike.errors import DataError
from unlike.records import Floats
from unlike.scoring.codes import CodeConfig, CodeScorer, check_components, principal
from unlike.scoring.moments import Moments

FLOOR = 1e-6  # of the largest variance: directions with less are taken to have as much


@dataclass(frozen=True, slots=True, kw_only=True)
class PCAConfig(CodeConfig):
    """How many directions count as normal, and how the rest is measured."""

    components: int | float = 0.95  # kept; below 1, as many as explain that share of the variance
    distance: Literal["error", "mahalanobis"] = (
        "error"  # in the discarded directions; plain, or each by its own variance
    )

    def __post_init__(self) -> None:
        CodeConfig.__post_init__(self)
        check_components(self.components)


class PCAScorer(CodeScorer):
    """The squared error of a code rebuilt from the principal components of normal codes.

    `mahalanobis` divides each discarded direction by its variance: what hardly ever varies counts most (Kamoi &
    Kobayashi, 2020, for classifiers). The components come from the covariance of all codes, summed up in one pass.
    """

    Config = PCAConfig
    keeps_rows = False
    needs_covariance = True

    def learn(self, rows: Floats, moments: Moments, seed: int) -> dict[str, Floats]:  # noqa: ARG002
        values, vectors = principal(moments.covariance)
        kept = self._count(values, moments)
        values = np.maximum(values, FLOOR * values[0])
        if self.config.distance == "error":
            return {"kept": vectors[:, :kept].astype(np.float32)}
        return {"discarded": (vectors[:, kept:] / np.sqrt(values[kept:])).astype(np.float32)}

    def distances(self, rows: Tensor) -> Tensor:
        if self.config.distance == "mahalanobis":
            return (rows @ self.learned["discarded"]).square().sum(dim=1)
        kept = self.learned["kept"]
        return (rows - (rows @ kept) @ kept.T).square().sum(dim=1)

    def _count(self, values: Floats, moments: Moments) -> int:
        """How many components are kept; at least one is left out, or nothing could be strange."""
        components, most = self.config.components, moments.width - 1
        if components < 1:
            explained = np.cumsum(values) / values.sum()
            return int(min(np.searchsorted(explained, components) + 1, max(most, 0)))
        if components > min(most, moments.count - 1):
            raise DataError(
                f"{int(components)} components of {moments.count} codes of {moments.width} numbers leave nothing that could "
                f"be strange: expected {max(0, min(most, moments.count - 1))} or fewer; lower scorer.components or add images"
            )
        return int(components)
