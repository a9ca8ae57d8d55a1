"""A model layer by layer: nothing is left out of the sum, and shapes are those that come out."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from unlike.data.randomness import isolated_randomness
from unlike.models import MODELS
from unlike.models.conv_dense import ConvDenseAutoencoder, ConvDenseConfig
from unlike.models.summary import summarise
from unlike.records import ImageShape

TINY = {"backbone": "test_efficientnet", "pretrained": False}
SETTINGS = {
    "feature-attention": TINY | {"width": 16},
    "feature-conv": TINY | {"widths": (16, 32)},
    "feature-linear": TINY | {"code": 16},
    "features": TINY,
    "residual-unet": {"widths": (4, 8), "bottleneck": 16},
    "vae": {"widths": (8, 16), "latent": 8},
}


@pytest.mark.parametrize("name", MODELS)
def test_every_parameter_of_every_family_is_in_one_row(name):
    with isolated_randomness(0):
        model = MODELS[name](MODELS[name].Config(**SETTINGS.get(name, {})), ImageShape(3, 32, 32))
    layers = summarise(model)
    assert sum(layer.parameters for layer in layers) == sum(value.numel() for value in model.parameters())
    assert len({layer.name for layer in layers}) == len(layers)


def test_the_layers_of_the_report():
    model = ConvDenseAutoencoder(ConvDenseConfig(), ImageShape(3, 32, 32)).train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    layers = {layer.name: layer for layer in summarise(model)}
    assert layers["encoder.1"].kind.startswith("Conv2d(6, 12, kernel_size=(3, 3)")
    assert layers["encoder.2"].shape == (12, 16, 16)
    assert layers["encoder.21"].shape == (384,)
    assert sum(layer.parameters for layer in layers.values()) == 191_777
    assert model.training  # and a look changes nothing
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert not any(module._forward_hooks for module in model.modules() if isinstance(module, nn.Module))
