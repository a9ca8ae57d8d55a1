"""pca: what of a code lies outside the directions in which normal ones vary. (DFR and FRE on frozen features)"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from unlike.errors import ConfigError, DataError
from unlike.models.base import OutputSpec
from unlike.records import Floats, Rows
from unlike.scoring.base import Capabilities
from unlike.scoring.batches import Batches
from unlike.scoring.features import FeatureConfig, FeatureScorer, check_components, principal
from unlike.scoring.statistics.moments import Moments, check_shrinkage
from unlike.scoring.statistics.positions import (
    FEWEST_LEFT,
    OWN,
    check_positions,
    lengths_at,
    lengths_leave_one_out,
    moments_at,
    shared_groups,
    shares_at,
    undo,
    whiten_each,
)

FLOOR = 1e-6  # of the largest variance: directions with less are taken to have as much
INSTEAD = "distance = 'euclidean'"  # where there is not memory enough to whiten
MOST_WHOLE = 500  # whole images whose components are computed, of more a random sample
MOST_SHARE = 0.999  # of the variance; where more is kept, what is left of an image is rounding
BATCH = 16  # images at once, where all are gone through


@dataclass(frozen=True, slots=True, kw_only=True)
class PCAConfig(FeatureConfig):
    """How many directions count as normal, and how the rest is measured."""

    # principal components that are kept; below 1, as many as explain that share of the variance. Of whole images none is
    # kept or dropped altogether: each is kept in part, so that together they count as so many, or explain that share
    components: int | float = 0.95
    # of what is left: squared (error), as a length (euclidean), or squared over variances (mahalanobis); of whole images
    # (code = vector) euclidean is a length at each position, and whitened the same under what is usually left there
    distance: Literal["error", "euclidean", "mahalanobis", "whitened"] = "error"
    shrinkage: float | Literal["auto"] = 0.2  # of a position's covariance to a sphere; whitened alone has a use for it

    def __post_init__(self) -> None:
        FeatureConfig.__post_init__(self)
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


class PCAScorer(FeatureScorer):
    """The squared error of a code rebuilt from the principal components of normal codes.

    `mahalanobis` divides each discarded direction by its variance: what hardly ever varies counts most (Kamoi &
    Kobayashi, 2020, for classifiers). The components come from the covariance of all codes, summed up in one pass.

    With `code = "vector"` a component is a way in which whole images vary, such as light or pose. What is local and new
    is no part of any, so it is not rebuilt, and its error lies where it is, as `distance = "euclidean"` tells. A direction
    of variance v is rebuilt by v / (v + noise): that is the best linear rebuilding of codes with such noise, a linear
    denoising autoencoder at its best, without training (Wiener's filter; Bishop, 1995, for noise as a penalty). Unlike a
    cut between directions, it has a leave-one-out in closed form. It comes from the products of images with each other, so
    that a code may be as wide as it likes.

    `distance = "whitened"` holds that error against what is left of normal images at the same position: its length under
    their shrunk covariance, as PaDiM does for codes as they are (Defard et al., 2021). Light, pose and kind are then
    part of no position's spread.
    """

    Config = PCAConfig
    keeps_rows = False
    needs_covariance = True
    kept: Tensor | None  # (D, M) directions that are kept, each weighed; None for mahalanobis
    discarded: Tensor | None  # (D, N) the others, each over its deviation; for mahalanobis alone
    whitening: Tensor | None  # (P, D, D) of what is left at each position; for whitened alone
    centre: Tensor | None  # (D,) of codes that have length 1 (unit), which have no mean of 0; None for others

    def __init__(self, config: PCAConfig, spec: OutputSpec) -> None:
        super().__init__(config, spec)
        wanted = {"kept": config.distance != "mahalanobis", "discarded": config.distance == "mahalanobis"}
        for name, wants in {**wanted, "whitening": config.distance == "whitened"}.items():
            self.register_buffer(name, torch.empty(0) if wants else None)
        self.register_buffer("centre", None)
        self.spread = 0.0  # variance of a number of a code, while it is learned

    @property
    def capabilities(self) -> Capabilities:
        config, whitened = self.config, self.config.distance == "whitened"
        fixed = config.whole and not (whitened and config.shrinkage == "auto")
        something = config.components >= 1 or config.components <= MOST_SHARE  # of an image is left
        return replace(
            super().capabilities,
            passes=2 if whitened else 1,
            position_dependent=f"distance = {config.distance!r}" if config.whole else "",
            leave_one_out=FEWEST_LEFT if fixed and something and not config.unit else None,
            chooses=whitened and config.shrinkage == "auto",
        )

    def wants_covariance(self) -> bool:
        return not self.config.whole

    @property
    def most_rows(self) -> int:
        return MOST_WHOLE if self.config.whole else super().most_rows

    def fit(self, train: Batches, held_out: Batches, seed: int) -> FeatureScorer:
        self.centre = None  # of an earlier fit
        super().fit(train, held_out, seed)
        if self.whitening is not None:
            self._learn_whitening(train)
        return self

    def forward(self, features: Tensor) -> Tensor:  # (B, D, h, w)
        if not self.config.whole:
            return super().forward(features)
        left = self._left_over(features)  # (B, d, h, w)
        if self.whitening is not None:
            return lengths_at(left, self.whitening)
        return torch.linalg.vector_norm(left, dim=1)  # type: ignore[no-any-return]  # (B, h, w)

    def leave_one_out(self, features: Tensor, chosen: Tensor, categories: Rows, groups: Rows) -> Tensor:
        if self.capabilities.leave_one_out is None:
            return super().leave_one_out(features, chosen, categories, groups)
        left, influence = self._all_left_over(features)
        if self.whitening is not None:
            floor, shrinkage = FLOOR * self.spread, float(self.config.shrinkage)
            maps = lengths_leave_one_out(left, self.whitening, influence, chosen, groups, shrinkage, floor)
        else:
            own = influence[chosen, chosen].clamp_min(OWN)
            maps = torch.linalg.vector_norm(left[chosen], dim=1) / own[:, None, None]
            for rows, places in shared_groups(groups, chosen):
                new = torch.einsum("ij,j...->i...", undo(influence, rows), left[rows])
                maps[places] = torch.linalg.vector_norm(new, dim=1)[torch.searchsorted(rows, chosen[places])]
        return maps[:, None]

    def learn(self, rows: Floats, moments: Moments, seed: int) -> dict[str, Floats]:  # noqa: ARG002
        if not self.config.unit:
            return self._learn_components(rows, moments)
        centre = moments.mean.astype(
            np.float32
        )  # codes of length 1 lie to one side of 0, and components start at their mean
        whole = self.config.whole  # or what is learned is in their moments
        return {"centre": centre, **self._learn_components(rows - centre if whole else rows, moments)}

    def _learn_components(self, rows: Floats, moments: Moments) -> dict[str, Floats]:
        if self.config.whole:
            self.spread = moments.variance / moments.width
            return {"kept": _rebuilding(rows, self.config.components)}
        values, vectors = principal(moments.covariance)
        kept = self._count(values, moments)
        if self.config.distance != "mahalanobis":
            return {"kept": vectors[:, :kept].astype(np.float32)}
        values = np.maximum(values, FLOOR * values[0])
        return {"discarded": (vectors[:, kept:] / np.sqrt(values[kept:])).astype(np.float32)}

    def prepare(self, rows: Tensor) -> Tensor:
        prepared = super().prepare(rows)
        return prepared if self.centre is None else prepared - self.centre

    def distances(self, rows: Tensor) -> Tensor:
        if self.discarded is not None:
            return (rows @ self.discarded).square().sum(dim=1)
        squared = self._error(rows).square().sum(dim=1)
        return squared.sqrt() if self.config.distance == "euclidean" else squared

    def group_of(self, features: Tensor) -> Tensor:
        group = super().group_of(features)
        if self.whitening is not None:  # rather now than when all have been looked at
            check_positions(group.shape[2] * group.shape[3], group.shape[1], INSTEAD)
        return group

    def _left_over(self, features: Tensor) -> Tensor:
        """(B, D, h, w) -> what of each whole code no component rebuilds, where it lies on the grid (B, d, h, w)."""
        group = self.group_of(features)
        return self._error(self.prepare(group.flatten(1))).view_as(group)

    def _learn_whitening(self, train: Batches) -> None:
        """By what is left of normal images at each position; what is left by rounding alone is no spread."""
        moments, device = moments_at((self._left_over(features) for (features,) in train), INSTEAD)
        given = self.config.shrinkage
        shares = self.decide("shrinkage", lambda: shares_at(moments)) if given == "auto" else given
        whitening = whiten_each(moments, shares, FLOOR * self.spread)
        self.whitening = torch.from_numpy(whitening).to(device)

    def _all_left_over(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """What is left of the images that were learned from, and (N, N) how much of each is in that: a column each.

        See docs/derivations.md#what-is-left-of-an-image-that-was-not-learned-from.
        """
        kept, learned = self._kept, torch.from_numpy(self.origins).to(features.device)
        left, along = features.new_empty(0), features.new_empty(len(features), kept.shape[1])
        for start in range(0, len(features), BATCH):
            part = slice(start, start + BATCH)
            group = self.group_of(features[part])
            left = left if start else group.new_empty((len(features), *group.shape[1:]))
            rows = self.prepare(group.flatten(1))
            along[part] = rows @ kept  # (n, M) what of them is in each direction that is kept
            left[part] = torch.addmm(rows, along[part], kept.T, alpha=-1).view_as(group)
        wide, seen = along.cpu().double(), along[learned].cpu().double()
        # of all images, along each direction
        sizes = seen.square().sum(dim=0) / kept.square().sum(dim=0).cpu().double()
        influence = torch.eye(len(features), dtype=torch.double) - 1 / len(features)
        # of more than MOST_WHOLE images, the others are in the mean alone
        influence[:, learned.cpu()] -= (wide / sizes) @ seen.T
        return left, influence.float().to(features.device)

    @property
    def _kept(self) -> Tensor:
        assert self.kept is not None, "mahalanobis has none, and does not ask"
        return self.kept

    def _error(self, rows: Tensor) -> Tensor:  # (N, D)
        """What of each row is not rebuilt by what is kept, (N, D)."""
        return rows - (rows @ self._kept) @ self._kept.T

    def _count(self, values: Floats, moments: Moments) -> int:
        """How many components are kept; at least one is left out, or nothing could be strange."""
        components, most = self.config.components, min(len(values), moments.width - 1)
        if components < 1:
            explained = np.cumsum(values) / values.sum()
            return int(min(np.searchsorted(explained, components) + 1, max(most, 0)))
        _check_fewer(components, min(most, moments.count - 1), moments.count, moments.width)
        return int(components)


def _check_fewer(components: float, most: int, count: int, width: int) -> None:
    if components > most:
        raise DataError(
            f"{int(components)} components of {count} codes of {width} numbers leave nothing that could be strange: "
            f"expected {max(0, most)} or fewer; lower scorer.components or add images"
        )


def _rebuilding(rows: Floats, components: float) -> Floats:
    """The matrix (D, M) by which codes are rebuilt, from rows (N, D) less their mean: products with it, and with it again."""
    values, weights = _principal_of_few(rows)
    if components >= 1:
        _check_fewer(components, len(values) - 1, *rows.shape)
    kept = values / (values + noise_for(values, components))
    parts = torch.from_numpy((weights * np.sqrt(kept)).astype(np.float32))
    rebuilding: Floats = (torch.from_numpy(rows).T @ parts).numpy()
    return rebuilding


def noise_for(values: Floats, components: float) -> float:
    """The variance of noise by which directions of variances `values` (M,), each kept by v / (v + noise), are together so many.

    Below 1 it is the share of the variance that is kept: docs/derivations.md#noise-for-a-number-of-components.

    >>> round(noise_for(np.array([3.0, 1.0]), 1), 3)
    1.732
    >>> round(noise_for(np.array([1.0, 1.0]), 0.8), 3)
    0.25
    """
    from scipy.optimize import brentq

    total = values.sum()
    shares = values / total
    counted = np.ones_like(shares) if components >= 1 else shares
    beyond = lambda noise: (counted * shares / (shares + noise)).sum() - components  # noqa: E731
    return float(total * brentq(beyond, 0, 1 / components))


def _principal_of_few(rows: Floats) -> tuple[Floats, Floats]:
    """Variances (M,), largest first, of rows (N, D), and of how much of each row a direction is made, (N, M); M < N."""
    images = torch.from_numpy(rows)
    products = (images @ images.T).double().numpy() / len(rows)
    means = products.mean(axis=0)
    centred = products - means - means[:, None] + means.mean()  # as if of rows less their mean, without a copy of them
    values, weights = principal(centred)
    varied = values > FLOOR * values[0]  # one less than there are images, or fewer where some are alike
    return values[varied], weights[:, varied] / np.sqrt(len(rows) * values[varied])
