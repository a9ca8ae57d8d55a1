"""pca: what of a code lies outside the directions in which normal ones vary. (B2; DFR and FRE on frozen features)"""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from unlike.errors import ConfigError, DataError
from unlike.models import Model
from unlike.records import Floats
from unlike.scoring.codes import CodeConfig, CodeScorer, check_components, principal
from unlike.scoring.moments import Moments, check_shrinkage
from unlike.scoring.places import check_places, lengths_at, moments_at, whiten_each

FLOOR = 1e-6  # of the largest variance: directions with less are taken to have as much
INSTEAD = "distance = 'euclidean'"  # where there is not memory enough to whiten
MOST_WHOLE = 1000  # whole images whose components are computed, of more a random sample


@dataclass(frozen=True, slots=True, kw_only=True)
class PCAConfig(CodeConfig):
    """How many directions count as normal, and how the rest is measured."""

    components: int | float = 0.95  # kept; below 1, as many as explain that share of the variance
    # how the rest is measured: squared (error), as a length (euclidean), or squared over variances (mahalanobis); of whole
    # images euclidean is a length at each place, and whitened the same under what is usually left there
    distance: Literal["error", "euclidean", "mahalanobis", "whitened"] = "error"
    shrinkage: float | Literal["auto"] = 0.3  # of what is left at a place to a sphere; whitened alone has a use for it

    def __post_init__(self) -> None:
        CodeConfig.__post_init__(self)
        check_components(self.components)
        check_shrinkage(self.shrinkage)
        if self.distance == "whitened" and (self.unit or not self.whole):
            raise ConfigError(
                "scorer.distance = 'whitened' measures what is left of whole images as they are: expected code = 'vector', "
                f"scale = 'none', no reduce and no unit, came {self.code!r}, {self.scale!r}, {self.reduce} and {self.unit}"
            )

    @property
    def whole(self) -> bool:
        """Whether an image is one row, as it is, and an error is wanted where it lies on the grid."""
        placed = self.distance in ("euclidean", "whitened")
        as_it_is = self.scale == "none" and self.reduce is None
        return self.code == "vector" and placed and as_it_is


class PCAScorer(CodeScorer):
    """The squared error of a code rebuilt from the principal components of normal codes.

    `mahalanobis` divides each discarded direction by its variance: what hardly ever varies counts most (Kamoi &
    Kobayashi, 2020, for classifiers). The components come from the covariance of all codes, summed up in one pass.

    With `code = "vector"` a component is a way in which whole images vary, such as light or pose. What is local and new
    is no part of any, so it is not rebuilt, and its error lies where it is, as `distance = "euclidean"` tells: the linear
    autoencoder at its best (Baldi & Hornik, 1989), of the codes, without training. Its components come from the products
    of images with each other, so that a code may be as wide as it likes.

    `distance = "whitened"` holds that error against what is left of normal images at the same place: its length under
    their shrunk covariance, as PaDiM does for codes as they are (Defard et al., 2021). Light, pose and kind are then
    part of no place's spread.
    """

    Config = PCAConfig
    keeps_rows = False
    needs_covariance = True
    _spread = 0.0  # variance of a number of a code, while it is learned

    def wants_covariance(self) -> bool:
        return not self.config.whole

    @property
    def most_rows(self) -> int:
        return MOST_WHOLE if self.config.whole else super().most_rows

    def fit(self, model: Model, train: Iterable[Tensor], held_out: Iterable[Tensor], seed: int) -> CodeScorer:
        if self.config.distance == "whitened":
            for images in itertools.islice(train, 1):  # rather now than when all have been looked at
                _, width, height, across = self._look(model, images).shape
                check_places(height * across, width, INSTEAD)
        super().fit(model, train, held_out, seed)
        if self.config.distance == "whitened":
            assert self.mean is not None, "it was fitted just now"
            self.learned["whitening"] = torch.from_numpy(self._whiten(model, train)).to(self.mean.device)
        return self

    def maps(self, model: Model, images: Tensor) -> Tensor:
        if not self.config.whole:
            return super().maps(model, images)
        left = self._left_over(model, images)  # (B, D, h, w)
        if self.config.distance == "whitened":
            return lengths_at(left, self.learned["whitening"])
        return torch.linalg.vector_norm(left, dim=1)  # type: ignore[no-any-return]

    def learn(self, rows: Floats, moments: Moments, seed: int) -> dict[str, Floats]:  # noqa: ARG002
        whole = self.config.whole
        self._spread = moments.variance / moments.width
        values, vectors = _principal_of_few(rows) if whole else principal(moments.covariance)
        kept = self._count(values, moments)
        values = np.maximum(values, FLOOR * values[0])
        if self.config.distance != "mahalanobis":
            directions = vectors[:, :kept].astype(np.float32)
            return {"kept": _directions(rows, directions) if whole else directions}
        return {"discarded": (vectors[:, kept:] / np.sqrt(values[kept:])).astype(np.float32)}

    def distances(self, rows: Tensor) -> Tensor:
        if self.config.distance == "mahalanobis":
            return (rows @ self.learned["discarded"]).square().sum(dim=1)
        squared = self._error(rows).square().sum(dim=1)
        return squared.sqrt() if self.config.distance == "euclidean" else squared

    def _left_over(self, model: Model, images: Tensor) -> Tensor:
        """(B, C, H, W) -> what of each whole code no component rebuilds, where it lies on the grid (B, D, h, w)."""
        code = self._look(model, images)
        self._move(code.device)
        return self._error(self._prepare(code.flatten(1))).view_as(code)

    def _whiten(self, model: Model, train: Iterable[Tensor]) -> Floats:
        """(P, D, D), by what is left of normal images at each place; what is left by rounding alone is no spread."""
        moments = moments_at((self._left_over(model, images) for images in train), INSTEAD)
        return whiten_each(moments, self.config.shrinkage, FLOOR * self._spread)

    def _error(self, rows: Tensor) -> Tensor:  # (N, D)
        """What of each row is in no direction that is kept, (N, D)."""
        kept = self.learned["kept"]
        return rows - (rows @ kept) @ kept.T

    def _count(self, values: Floats, moments: Moments) -> int:
        """How many components are kept; at least one is left out, or nothing could be strange."""
        components, most = self.config.components, min(len(values), moments.width - 1)
        if self.config.distance == "whitened":  # something must be left of normal images, to whiten by
            most = min(most, len(values) - 1)
        if components < 1:
            explained = np.cumsum(values) / values.sum()
            return int(min(np.searchsorted(explained, components) + 1, max(most, 0)))
        if components > min(most, moments.count - 1):
            raise DataError(
                f"{int(components)} components of {moments.count} codes of {moments.width} numbers leave nothing that could "
                f"be strange: expected {max(0, min(most, moments.count - 1))} or fewer; lower scorer.components or add images"
            )
        return int(components)


def _principal_of_few(rows: Floats) -> tuple[Floats, Floats]:
    """Variances (M,), largest first, of rows (N, D), and of how much of each row a direction is made, (N, M); M < N."""
    images = torch.from_numpy(rows)
    products = (images @ images.T).double().numpy() / len(rows)
    means = products.mean(axis=0)
    centred = products - means - means[:, None] + means.mean()  # as if of rows less their mean, without a copy of them
    values, weights = principal(centred)
    varied = values > FLOOR * values[0]  # one less than there are images, or fewer where some are alike
    return values[varied], weights[:, varied] / np.sqrt(len(rows) * values[varied])


def _directions(rows: Floats, weights: Floats) -> Floats:
    """Orthogonal directions (D, M) of length 1, made of rows (N, D) by weights (N, M): by Cholesky's root, without QR's copies."""
    made = torch.from_numpy(rows).T @ torch.from_numpy(weights.astype(np.float32))  # orthogonal but for rounding
    root = torch.linalg.cholesky((made.T @ made).double()).float()
    directions: Floats = torch.linalg.solve_triangular(root.T, made, upper=True, left=False).numpy()
    return directions
