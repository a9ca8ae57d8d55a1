"""residual: what could not be rebuilt."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from unlike.errors import ConfigError, DataError, unknown
from unlike.models.base import OutputSpec
from unlike.models.losses import LOSS_MAPS
from unlike.records import Floats
from unlike.scoring.base import Capabilities, ReconstructionScorer
from unlike.scoring.batches import Batches
from unlike.scoring.features import WIDEST
from unlike.scoring.statistics.moments import Moments

SCALABLE = ("squared", "absolute", "charbonnier")  # losses that a difference alone decides
STILL = 1e-6  # of the largest deviation: a channel that varies less does not vary
SHRINKAGE = 0.1  # of the correlations of channels to none: few images show only so much
NOT_FINITE = "what the model rebuilds of a normal image is not finite: fit it with a smaller training.learning_rate"
LEAST_USUAL = 0.1  # of the mean over all positions: no position's usual residual counts as less


@dataclass(frozen=True, slots=True)
class ResidualConfig:
    """How a reconstruction is compared with its target."""

    difference: str = "squared"  # squared, absolute, charbonnier, ssim or cosine
    # channel: each is divided by its spread over held-out normal images; whitened: correlations are removed as well
    scale: Literal["none", "channel", "whitened"] = "none"
    positions: Literal["pooled", "each"] = "pooled"  # each: divided by what is usual there in held-out normal images

    def __post_init__(self) -> None:
        if self.difference not in LOSS_MAPS:
            raise unknown("scorer.difference", self.difference, LOSS_MAPS)
        if self.scale != "none" and self.difference not in SCALABLE:
            raise ConfigError(
                f"scorer.scale = {self.scale!r} scales a plain difference: expected difference = {', '.join(SCALABLE)}, "
                f"came {self.difference!r}"
            )


class ResidualScorer(ReconstructionScorer):
    """The textbook score of an autoencoder: what it has not seen, it rebuilds badly.

    Some channels are hard to rebuild in any image. `scale = "channel"` divides the difference in each, less its mean, by
    its standard deviation over all positions of held-out normal images; `whitened` also removes what channels
    have in common, which with the squared difference is a Mahalanobis distance, its correlations shrunk by a tenth. A busy
    texture then no longer drowns a faint defect; but a defect in the busy channels counts less too.

    `positions = "each"` divides the residual at each position by its mean there over held-out normal images (and a tenth of
    the mean over all positions). Edges of things that always lie the same way are rebuilt badly in every image; they
    then no longer drown what is strange in this one.
    """

    Config = ResidualConfig
    mean: Tensor | None  # (C,) of the differences of normal images
    scaling: Tensor | None  # (C,) or (C, C): times it, they vary alike in all channels
    usual: Tensor | None  # (h, w) of the residuals of normal images

    def __init__(self, config: ResidualConfig, spec: OutputSpec) -> None:
        super().__init__(config, spec)
        if "reconstruction" not in spec.names:
            raise ConfigError(f"scorer 'residual' needs a model that rebuilds its target; {spec.model} does not")
        if config.difference == "cosine" and spec.images and spec.target_channels == 1:
            raise ConfigError(
                "scorer.difference = 'cosine' compares the directions of several channels, and these images have one; "
                "take 'squared'"
            )
        scaled, each = config.scale != "none", config.positions == "each"
        for name, wanted in (("mean", scaled), ("scaling", scaled), ("usual", each)):
            self.register_buffer(name, torch.empty(0) if wanted else None)

    @property
    def capabilities(self) -> Capabilities:
        # for a scale: a trained model knows its own images by heart
        each = self.config.positions == "each"
        return Capabilities(held_out="needed", position_dependent="positions = 'each'" if each else "")

    def fit(self, train: Batches, held_out: Batches, seed: int) -> ResidualScorer:  # noqa: ARG002
        if self.scaling is not None:
            self._learn_scale(held_out)
        if self.usual is not None:
            self._learn_usual(held_out)
        return self

    def forward(self, target: Tensor, reconstruction: Tensor) -> Tensor:  # (B, C, h, w) each
        maps = self._residuals(target, reconstruction)
        return maps if self.usual is None else maps / self.usual  # (B, h, w)

    def _residuals(self, target: Tensor, reconstruction: Tensor) -> Tensor:
        if self.scaling is not None:
            reconstruction, target = self._scale(reconstruction - target), torch.zeros_like(target)
        return LOSS_MAPS[self.config.difference](reconstruction, target)

    def _learn_scale(self, held_out: Batches) -> None:
        """What differences of channels are divided by."""
        moments, device = None, torch.device("cpu")
        for target, reconstruction in held_out:
            device = target.device
            moments = moments or _start(target.shape[1])
            moments.add((reconstruction - target).movedim(1, -1).flatten(0, -2))  # (B h w, C)
        if moments is None:
            raise _need_others("scale", self.config.scale)
        if not moments.finite:
            raise DataError(NOT_FINITE)
        scaling = _by_channel(moments) if self.config.scale == "channel" else _whitening(moments)
        learned = (torch.from_numpy(array.astype(np.float32)).to(device) for array in (moments.mean, scaling))
        self.mean, self.scaling = learned

    def _learn_usual(self, held_out: Batches) -> None:
        """The mean residual at each position."""
        total, count = torch.zeros(()), 0
        for target, reconstruction in held_out:
            maps = self._residuals(target, reconstruction)
            total, count = total + maps.cpu().double().sum(dim=0), count + len(maps)
        if not count:
            raise _need_others("positions", self.config.positions)
        usual = total / count
        if not torch.isfinite(usual).all():
            raise DataError(NOT_FINITE)
        least = LEAST_USUAL * usual.mean()
        self.usual = ((usual + least).float() if least > 0 else torch.ones_like(usual).float()).to(maps.device)

    def _scale(self, differences: Tensor) -> Tensor:  # (B, C, h, w)
        assert self.mean is not None, "it is learned with the scaling"
        assert self.scaling is not None, "who asks has one"
        centred = differences - self.mean[:, None, None]
        if self.scaling.ndim == 1:
            return centred * self.scaling[:, None, None]
        return torch.einsum("bchw,cd->bdhw", centred, self.scaling)  # (B, C, h, w)


def _need_others(name: str, value: str) -> DataError:
    return DataError(f"scorer.{name} = {value!r} needs normal images that the model was not trained on; add images")


def _start(channels: int) -> Moments:
    if channels > WIDEST:
        raise ConfigError(
            f"scorer.scale: {channels:,} channels are too many for a covariance, which can have {WIDEST:,}; take scale = "
            "'none', or features of fewer model.dimensions"
        )
    return Moments(channels)


def _by_channel(moments: Moments) -> Floats:
    """One over the standard deviation of each channel (C,); what never varies counts as the channel that varies most."""
    deviations = np.sqrt(np.maximum(np.diag(moments.covariance), 0))
    largest = deviations.max() or 1.0
    return np.asarray(1 / np.where(deviations > STILL * largest, deviations, largest))


def _whitening(moments: Moments) -> Floats:
    """The matrix (C, C) after which the channels have variance 1 and, but for the shrinkage, nothing in common."""
    scaling = _by_channel(moments)
    correlations = scaling[:, None] * moments.covariance * scaling
    share = np.full_like(correlations, 1 - SHRINKAGE)
    np.fill_diagonal(share, 1.0)
    still = np.diag(correlations) < STILL  # it has no variance that could be shrunk
    roots = np.linalg.cholesky(share * correlations + np.diag(still.astype(np.float64)))  # L L^T
    return np.asarray(scaling[:, None] * np.linalg.inv(roots).T)
