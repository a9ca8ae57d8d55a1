"""resnet has the layers of the report's, takes images of any size, and learns from whatever batch is left."""

from __future__ import annotations

import pytest
import torch
from counting import conv, kinds, layers, linear, norm, parameters, shapes
from torch import nn

from unlike.errors import ConfigError
from unlike.models.blocks import BatchNorm
from unlike.models.resnet import ResNetAutoencoder, ResNetConfig
from unlike.records import ImageShape

TRUNK = 11_689_512 - linear(512, 1000)  # ResNet-18 as published, without its classifier


def test_resnet_is_the_reports():
    """At 64 x 64: ResNet-18, linear 1024-768-256; linear 256-768-64*4*4, transposed convolutions 64-32-8-3, Tanh."""
    model = ResNetAutoencoder(ResNetConfig(), ImageShape(3, 64, 64))
    widths = [(layer.in_features, layer.out_features) for layer in layers(model, nn.Linear)]
    assert widths == [(512, 1024), (1024, 768), (768, 256), (256, 768), (768, 64 * 4 * 4)]
    up = [(64, 32), (32, 8), (8, 3)]
    assert shapes(model.decoder, nn.ConvTranspose2d) == [(i, o, 4, 2, 1) for i, o in up]
    assert kinds(model.narrow) == ["Linear", "BatchNorm", "ReLU", "Linear", "BatchNorm", "ReLU", "Linear"]
    assert kinds(model.decoder) == (
        ["Linear", "BatchNorm", "ReLU", "Linear", "BatchNorm", "ReLU", "Unflatten"]
        + ["ConvTranspose2d", "BatchNorm", "ReLU"] * 2
        + ["ConvTranspose2d", "Upsample", "Tanh"]
    )
    assert parameters(model.trunk) == TRUNK == 11_176_512
    expected = TRUNK + sum(linear(i, o) for i, o in widths) + norm(1024, 768, 768, 1024)
    expected += sum(conv(i, o, 4) for i, o in up) + norm(32, 8)
    assert parameters(model) == expected == 13_715_259
    assert model.eval().encode(torch.zeros(2, 3, 64, 64)).shape == (2, 256, 1, 1)


def test_every_batch_norm_takes_a_single_image():
    model = ResNetAutoencoder(ResNetConfig(), ImageShape(1, 16, 16))
    assert all(isinstance(layer, BatchNorm) for layer in layers(model, nn.modules.batchnorm._BatchNorm))


def test_sizes_are_free():
    config = ResNetConfig(hidden=(40,), code=7, decoder_hidden=(30, 50), decoder_widths=(16, 8))
    model = ResNetAutoencoder(config, ImageShape(2, 33, 47)).eval()
    widths = [(layer.in_features, layer.out_features) for layer in layers(model, nn.Linear)]
    assert widths == [(512, 40), (40, 7), (7, 30), (30, 50), (50, 16 * 3 * 3)]
    assert model.encode(torch.zeros(2, 2, 33, 47)).shape == (2, 7, 1, 1)
    assert model.rebuild(torch.zeros(2, 2, 33, 47)).shape == (2, 2, 33, 47)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ResNetConfig(hidden=()), r"model\.hidden: expected one width or more"),
        (lambda: ResNetConfig(code=0), r"model\.code: expected 1 or more, came 0"),
        (lambda: ResNetConfig(decoder_hidden=(0,)), r"model\.decoder_hidden: expected .* came \[0\]"),
        (lambda: ResNetConfig(decoder_widths=()), r"model\.decoder_widths: expected .* came \[\]"),
    ],
)
def test_sizes_that_make_no_model(make, message):
    with pytest.raises(ConfigError, match=message):
        make()
