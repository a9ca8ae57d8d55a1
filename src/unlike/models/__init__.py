"""Models: images to a code, and back. One line a family; add your own to MODELS to use it by name."""

from __future__ import annotations

from unlike.models.base import Autoencoder, Model, Objective
from unlike.models.conv import ConvAutoencoder
from unlike.models.conv_dense import ConvDenseAutoencoder
from unlike.models.dense import DenseAutoencoder
from unlike.models.feature_attention import AttentionFeatureAutoencoder
from unlike.models.feature_conv import ConvFeatureAutoencoder
from unlike.models.feature_linear import LinearFeatureAutoencoder
from unlike.models.features import Features
from unlike.models.multi import MultiEncoder
from unlike.models.pixels import Pixels
from unlike.models.repair import RepairNetwork
from unlike.models.residual import ResidualUNet
from unlike.models.resnet import ResNetAutoencoder
from unlike.models.vae import VariationalAutoencoder
from unlike.records import ImageShape

MODELS: dict[str, type[Model]] = {
    "conv": ConvAutoencoder,
    "conv-dense": ConvDenseAutoencoder,
    "fcn": DenseAutoencoder,
    "feature-attention": AttentionFeatureAutoencoder,
    "feature-conv": ConvFeatureAutoencoder,
    "feature-linear": LinearFeatureAutoencoder,
    "features": Features,
    "multi-encoder": MultiEncoder,
    "pixels": Pixels,
    "repair": RepairNetwork,
    "residual-unet": ResidualUNet,
    "resnet": ResNetAutoencoder,
    "vae": VariationalAutoencoder,
}

__all__ = ["MODELS", "Autoencoder", "ImageShape", "Model", "Objective"]
