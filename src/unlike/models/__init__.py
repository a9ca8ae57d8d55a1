"""Models: images to a code, and back. One line a family; another package adds its own by an entry point of `unlike.models`."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from unlike.models.base import Autoencoder as Autoencoder
    from unlike.models.base import Model as Model
    from unlike.models.base import Objective as Objective
    from unlike.registry import Registry

    MODELS: Registry[type[Model]]

FAMILIES = {  # name -> where its class is
    "conv": "unlike.models.conv:ConvAutoencoder",
    "conv-dense": "unlike.models.conv_dense:ConvDenseAutoencoder",
    "fcn": "unlike.models.dense:DenseAutoencoder",
    "feature-attention": "unlike.models.feature_attention:AttentionFeatureAutoencoder",
    "feature-conv": "unlike.models.feature_conv:ConvFeatureAutoencoder",
    "feature-linear": "unlike.models.feature_linear:LinearFeatureAutoencoder",
    "features": "unlike.models.features:Features",
    "multi-encoder": "unlike.models.multi:MultiEncoder",
    "pixels": "unlike.models.pixels:Pixels",
    "repair": "unlike.models.repair:RepairNetwork",
    "residual-unet": "unlike.models.residual:ResidualUNet",
    "resnet": "unlike.models.resnet:ResNetAutoencoder",
    "vae": "unlike.models.vae:VariationalAutoencoder",
}

__all__ = ["FAMILIES", "MODELS", "Autoencoder", "Model", "Objective"]


def __getattr__(name: str) -> Any:
    """Import what is named when it is first asked for, so that one family is there without the others."""
    if name not in __all__:
        raise AttributeError(f"module 'unlike.models' has no attribute {name!r}")
    if name == "MODELS":
        from unlike.registry import Registry

        found: Any = Registry("model", "unlike.models", FAMILIES)
    else:
        found = getattr(importlib.import_module("unlike.models.base"), name)
    globals()[name] = found
    return found
