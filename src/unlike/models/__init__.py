"""Models: images to a code, and back. One line a family; add your own to MODELS to use it by name."""

from __future__ import annotations

from unlike.models.base import Autoencoder, ImageShape, Model, Objective
from unlike.models.conv import ConvAutoencoder
from unlike.models.dense import DenseAutoencoder

MODELS: dict[str, type[Model]] = {
    "conv": ConvAutoencoder,
    "fcn": DenseAutoencoder,
}

__all__ = ["MODELS", "Autoencoder", "ImageShape", "Model", "Objective"]
