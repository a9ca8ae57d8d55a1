"""What the feature autoencoders share: a frozen network's features as the target, and what training lowers."""

from __future__ import annotations

import contextlib
from abc import abstractmethod
from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, Self

import torch
from torch import Tensor
from torch.nn import functional

from unlike.backbones.feature_cache import FeatureCache
from unlike.backbones.frozen_features import FeaturesConfig, Sizes, make_features
from unlike.backbones.network_cache import NetworkCache
from unlike.config import check_range
from unlike.errors import ConfigError
from unlike.models.base import Autoencoder, Objective, OutputSpec
from unlike.records import ImageShape

SHRINKING = 0.1  # share of the training over which easy positions lose their gradients


@dataclass(frozen=True, slots=True)
class FeatureAutoencoderConfig(FeaturesConfig):
    """Which features are rebuilt, and what a feature autoencoder must not learn: to copy whatever it is shown."""

    averaging: int = 1  # as of features: what is rebuilt is what the network saw, and what is small counts
    scale: str = "unit"  # as of features: each stage's features of a position have length 1; or none
    dropout: float = 0.0  # of the code, or on the way to it, while it learns: a noisy bottleneck
    groups: int = 1  # of neighbouring stages, each compared with its target by itself, and then averaged
    easy_share: float = 0.0  # of the positions, those rebuilt best, that hardly teach any more
    easy_gradient: float = 0.1  # what is left of the gradients of those positions

    def __post_init__(self) -> None:
        FeaturesConfig.__post_init__(self)
        if self.fine:
            raise ConfigError(
                f"model.fine: a feature autoencoder rebuilds one feature group: expected none, came {list(self.fine)}"
            )
        check_range("model.dropout", self.dropout, 0, 0.95)
        check_range("model.easy_share", self.easy_share, 0, 0.99)
        check_range("model.easy_gradient", self.easy_gradient, 0, 1)
        check_range("model.groups", self.groups, 1, 100)
        if self.groups > 1 and self.dimensions is not None:
            raise ConfigError(
                "model.groups: random directions mix all stages, so that there is nothing to group: expected groups = 1, "
                f"or dimensions = 'none', came {self.groups}"
            )


class FeatureAutoencoder(Autoencoder):
    """Rebuilds what a frozen network sees in an image from a narrow code; a subclass says how.

    The target is the grid of features of `features`, (B, D, h, w). While it learns, each image goes through the network
    once, and its features are cached (`FeatureCache`). Two ideas of Dinomaly (Guo et al., 2024, sections 3.4 and 3.5)
    keep it from learning to rebuild anything at all: `groups` compares several stages at a time, not one with one, and
    `easy_share` shrinks the gradients of the positions that are rebuilt well already, from none to that share over the
    first tenth of the training. Its groups are sums of layers of one width; here stages, whose widths differ, stand
    side by side.
    """

    def __init__(
        self, config: FeatureAutoencoderConfig, shape: ImageShape, networks: NetworkCache | None = None
    ) -> None:
        super().__init__(config, shape)
        self.extractor = make_features(config, shape, networks)
        sizes = self.extractor.sizes
        self.width, self.grid = sizes.width, sizes.grid
        self.groups = _group(sizes, config.groups)  # channels of each
        self.feature_cache: FeatureCache | None = None  # there during a training alone
        self.easy = 0.0  # share of the positions that count as easy by now, in a training

    @classmethod
    def build(cls, config: FeatureAutoencoderConfig, shape: ImageShape, networks: NetworkCache | None = None) -> Self:
        return cls(config, shape, networks)

    def __getstate__(self) -> dict[str, Any]:
        """What a copy or a pickle has: a cache stays with the training that it is for."""
        return {**vars(self), "feature_cache": None}

    @property
    def output_spec(self) -> OutputSpec:
        return replace(super().output_spec, target_channels=self.width, images=False)

    @abstractmethod
    def squeeze(self, features: Tensor) -> Tensor:
        """(B, D, h, w) -> the code"""

    def encode(self, images: Tensor) -> Tensor:  # (B, C, H, W)
        return self.squeeze(self.target(images))

    def target(self, images: Tensor) -> Tensor:  # (B, C, H, W)
        return self.extractor(images)  # type: ignore[no-any-return]  # (B, D, h, w)

    def loss(self, images: Tensor, objective: Objective, clean: Tensor | None = None) -> Tensor:
        target = self._look_up(images if clean is None else clean)
        features = target if clean is None else self.target(images)  # spoilt otherwise each time
        reconstruction = self.decode(self.squeeze(features))
        parts = (torch.split(values, self.groups, dim=1) for values in (reconstruction, target))
        return torch.stack(
            [objective(self._shrink(part, goal), goal) for part, goal in zip(*parts, strict=True)]
        ).mean()

    def warm_up(self, share: float) -> None:
        if self.feature_cache is not None:
            self.feature_cache.drop_unused()
        self.easy = self.config.easy_share * min(share / SHRINKING, 1.0)

    @contextlib.contextmanager
    def during_training(self) -> Iterator[None]:
        self.feature_cache = FeatureCache()
        try:
            yield
        finally:
            self.feature_cache = None

    def _compute(self, images: Tensor, names: Collection[str]) -> dict[str, Tensor]:
        target = self.target(images)
        found = {"target": target}
        if "features" in names or "reconstruction" in names:
            found["features"] = self.squeeze(target)
        if "reconstruction" in names:
            found["reconstruction"] = self.decode(found["features"])
        return found

    def _look_up(self, images: Tensor) -> Tensor:
        """The target, from the feature cache of the training, if this is one."""
        return self.target(images) if self.feature_cache is None else self.feature_cache.look_up(self.target, images)

    def _shrink(self, reconstruction: Tensor, target: Tensor) -> Tensor:
        """The same values, of which positions that point as they should give but a part of their gradient."""
        if not (self.training and self.easy):
            return reconstruction
        gaps = 1 - functional.cosine_similarity(reconstruction.detach(), target, dim=1)  # (B, h, w)
        hardest = gaps.flatten().topk(max(1, round((1 - self.easy) * gaps.numel()))).values[-1]
        part = torch.where(gaps < hardest, float(self.config.easy_gradient), 1.0)[:, None]
        return part * reconstruction + (1 - part) * reconstruction.detach()


def _group(sizes: Sizes, count: int) -> list[int]:
    """How many channels each group of neighbouring stages has; a ConfigError where there are fewer stages."""
    widths = sizes.widths
    if count == 1:
        return [sizes.width]
    if count > len(widths):
        raise ConfigError(f"model.groups: expected {len(widths)} or fewer, the number of stages, came {count}")
    ends = [round(number * len(widths) / count) for number in range(count + 1)]
    return [sum(widths[start:end]) for start, end in pairwise(ends)]
