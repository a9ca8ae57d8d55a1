"""gaussian: the Mahalanobis distance of a code from the normal ones. (PaDiM on frozen features)"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from unlike.errors import ConfigError, DataError
from unlike.models import Model
from unlike.records import Floats
from unlike.scoring.base import Arrays
from unlike.scoring.features import CodeConfig, CodeScorer, check_varied
from unlike.scoring.statistics.moments import Moments, check_shrinkage, moments_of, whitening_of
from unlike.scoring.statistics.positions import (
    FEWEST_LEFT,
    halve,
    lengths_at,
    lengths_left_out,
    make_whole,
    moments_at,
    whiten_each,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class GaussianConfig(CodeConfig):
    """Whether each position of a grid has a Gaussian of its own, and how far few images are trusted."""

    positions: Literal["pooled", "each"] = "pooled"  # each by itself: for things that always lie the same way
    shrinkage: float | Literal["auto"] = "auto"  # of the covariance to a sphere; auto: Ledoit & Wolf's rule

    def __post_init__(self) -> None:
        CodeConfig.__post_init__(self)
        check_shrinkage(self.shrinkage)
        if self.positions == "each" and (
            self.code != "grid" or self.unit or self.scale != "none" or self.reduce is not None
        ):
            raise ConfigError(
                "scorer.positions = 'each' measures the grid as it is: expected code = 'grid', scale = 'none', no reduce and no unit"
            )


class GaussianScorer(CodeScorer):
    """The Mahalanobis distance from the mean of normal codes, under their shrunk covariance.

    With `positions = "each"` every position has a mean and covariance of its own, as in PaDiM (Defard et al., 2021).
    """

    Config = GaussianConfig
    needs_covariance = True

    def fit(self, model: Model, train: Iterable[Tensor], held_out: Iterable[Tensor], seed: int) -> CodeScorer:
        if self.config.positions == "pooled":
            return super().fit(model, train, held_out, seed)
        moments = moments_at((self._look(model, images) for images in train), "positions = 'pooled'")
        if not moments.finite:
            raise DataError(
                "the code of a normal image is not finite: fit the model with a smaller training.learning_rate"
            )
        check_varied(moments)
        self.mean = torch.from_numpy(moments.mean.astype(np.float32))  # (P, D)
        self.learned = {"whitening": torch.from_numpy(whiten_each(moments, self.config.shrinkage))}
        return self

    def maps(self, model: Model, images: Tensor) -> Tensor:
        if self.config.positions == "pooled":
            return super().maps(model, images)
        return lengths_at(self._gaps(model, images), self.learned["whitening"])

    def knows_left_out(self, count: int) -> bool:
        return self.config.positions == "each" and self.config.shrinkage != "auto" and count >= FEWEST_LEFT

    def left_out(self, model: Model, codes: Tensor, chosen: Tensor) -> Tensor:
        gaps = self._gaps(model, codes)
        influence = torch.eye(len(codes), device=codes.device) - 1 / len(codes)  # that of the mean
        maps = lengths_left_out(gaps, self.learned["whitening"], influence, chosen, float(self.config.shrinkage))
        return maps[:, None]

    def state(self) -> dict[str, npt.NDArray[Any]]:
        return halve(super().state()) if self.config.positions == "each" else super().state()

    def restore(self, arrays: Arrays) -> None:
        super().restore(make_whole(arrays) if self.config.positions == "each" else arrays)

    def learn(self, rows: Floats, moments: Moments, seed: int) -> dict[str, Floats]:  # noqa: ARG002
        auto = self.config.shrinkage == "auto"
        share = moments_of(rows).shrinkage() if auto else np.array(self.config.shrinkage)
        whitening = whitening_of(moments, share)
        return {"whitening": whitening.astype(np.float32)}

    def distances(self, rows: Tensor) -> Tensor:
        distances: Tensor = torch.linalg.vector_norm(rows @ self.learned["whitening"], dim=1)
        return distances

    def _gaps(self, model: Model, images: Tensor) -> Tensor:
        """(B, C, H, W) -> the code less the mean of its place, (B, D, h, w)."""
        code = self._look(model, images)
        self._move(code.device)
        assert self.mean is not None, "fit or restore comes first"
        return code - self.mean.T.reshape(code.shape[1:])
