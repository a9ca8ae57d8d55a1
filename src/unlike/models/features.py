"""features: what a frozen network sees, stage by stage, in one grid; PatchCore, PaDiM and DFR score it."""

from __future__ import annotations

from typing import Self

from torch import Tensor

from unlike.backbones.frozen_features import FeaturesConfig, make_features
from unlike.backbones.network_cache import NetworkCache
from unlike.models.base import Model, Objective
from unlike.records import ImageShape


class Features(Model):
    """Look with a network that already knows how to see, and learn nothing: the code is what it sees at each position.

    An image's features are (D, h, w): the chosen stages of the network, each averaged over neighbouring cells, in the
    grid of the finest one (PatchCore, Roth et al. 2022, section 3.1). Nothing is trained; scorers of codes learn
    what normal features are.

    Averages are steady and miss what is small. So with `fine` there is a second feature group, (D', h, w) after
    the first, in which some of the stages are as they are. With `separate` each stage, and each of those that come once more,
    is a group of its own. A scorer's `feature_group` says which of them it takes.

    At the border an average has fewer cells, and the network has seen the padding round the image: features vary
    most there, and the strangest position of a normal image would mostly be at its edge. So they are damped by the share of
    the averaged cells that lies inside the image.
    """

    Config = FeaturesConfig
    trains = False

    def __init__(self, config: FeaturesConfig, shape: ImageShape, networks: NetworkCache | None = None) -> None:
        super().__init__(config, shape)
        self.extractor = make_features(config, shape, networks)

    @classmethod
    def build(cls, config: FeaturesConfig, shape: ImageShape, networks: NetworkCache | None = None) -> Self:
        return cls(config, shape, networks)

    @property
    def feature_groups(self) -> tuple[int, ...]:
        return self.extractor.sizes.feature_groups

    def encode(self, images: Tensor) -> Tensor:  # (B, C, H, W)
        return self.extractor(images)  # type: ignore[no-any-return]  # (B, D, h, w)

    def loss(self, images: Tensor, objective: Objective, clean: Tensor | None = None) -> Tensor:  # noqa: ARG002
        return images.new_zeros(())  # there is nothing to train
