"""feature-linear: a whole image's frozen features through a few numbers and back, by one matrix."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

import torch
from torch import Tensor, nn
from torch.nn import functional

from unlike.backbones.network_cache import NetworkCache
from unlike.config import check_count
from unlike.models.feature_autoencoder import FeatureAutoencoder, FeatureAutoencoderConfig
from unlike.records import ImageShape


@dataclass(frozen=True, slots=True)
class FeatureLinearConfig(FeatureAutoencoderConfig):
    """Size of a LinearFeatureAutoencoder, and the features that it rebuilds."""

    code: int = 128  # numbers that a whole image is described by

    def __post_init__(self) -> None:
        FeatureAutoencoderConfig.__post_init__(self)
        check_count("code", self.code)


class LinearFeatureAutoencoder(FeatureAutoencoder):
    """Describe a whole image's features by a few numbers: what is local and new finds no room among them.

    The features of all positions are one long vector; a matrix brings it, less a mean, to the code, and the same matrix
    brings the code back. At its best it spans the principal components of normal images (Baldi & Hornik, 1989), each a
    way in which whole images vary, such as light or pose. A code for each position, as a convolution makes, can copy a
    defect; this one cannot, since no direction was learned from images with something there.

    >>> config = FeatureLinearConfig(backbone="resnet18", pretrained=False, code=8)
    >>> model = LinearFeatureAutoencoder(config, ImageShape(3, 64, 96))
    >>> model.encode(torch.zeros(2, 3, 64, 96)).shape
    torch.Size([2, 8, 1, 1])
    """

    Config = FeatureLinearConfig

    def __init__(self, config: FeatureLinearConfig, shape: ImageShape, networks: NetworkCache | None = None) -> None:
        super().__init__(config, shape, networks)
        whole = (self.width, *self.grid)
        self.mean = nn.Parameter(torch.zeros(whole))
        self.basis = nn.Parameter(torch.randn(config.code, prod(whole)) / prod(whole) ** 0.5)  # rows of length 1

    def squeeze(self, features: Tensor) -> Tensor:  # (B, D, h, w)
        code = functional.linear((features - self.mean).flatten(1), self.basis)
        return functional.dropout(code, self.config.dropout, self.training)[..., None, None]  # (B, code, 1, 1)

    def decode(self, code: Tensor) -> Tensor:  # (B, code, 1, 1)
        return (code.flatten(1) @ self.basis).view(-1, *self.mean.shape) + self.mean  # (B, D, h, w)
