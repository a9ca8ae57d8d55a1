"""The layers and sizes of the reports' architectures, and what does not fit."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from unlike.errors import ConfigError
from unlike.models.conv import ConvAutoencoder, ConvConfig
from unlike.models.dense import DenseAutoencoder, DenseConfig
from unlike.records import ImageShape


def layers(module: nn.Module, kind: type) -> list:
    return [layer for layer in module.modules() if isinstance(layer, kind)]


def parameters(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def test_fcn_is_the_reports():
    """Linear 12288-128-64-12-3 and its mirror, ReLU between, Tanh at the end."""
    model = DenseAutoencoder(DenseConfig(), ImageShape(3, 64, 64))
    widths = [(layer.in_features, layer.out_features) for layer in layers(model, nn.Linear)]
    assert widths == [(12288, 128), (128, 64), (64, 12), (12, 3), (3, 12), (12, 64), (64, 128), (128, 12288)]
    assert len(layers(model, nn.ReLU)) == 6
    assert isinstance(model.decoder[-1], nn.Tanh)
    assert parameters(model) == sum((i + 1) * o for i, o in widths) == 3_176_419
    assert model.encode(torch.zeros(2, 3, 64, 64)).shape == (2, 3, 1, 1)


def test_conv_is_the_reports():
    """Conv 3-12-24-48, kernel 4, stride 2, padding 1, ReLU; mirrored, Tanh."""
    model = ConvAutoencoder(ConvConfig(), ImageShape(3, 64, 64))
    down = [
        (c.in_channels, c.out_channels, c.kernel_size[0], c.stride[0], c.padding[0]) for c in layers(model, nn.Conv2d)
    ]
    up = [
        (c.in_channels, c.out_channels, c.kernel_size[0], c.stride[0], c.padding[0])
        for c in layers(model, nn.ConvTranspose2d)
    ]
    assert down == [(3, 12, 4, 2, 1), (12, 24, 4, 2, 1), (24, 48, 4, 2, 1)]
    assert up == [(48, 24, 4, 2, 1), (24, 12, 4, 2, 1), (12, 3, 4, 2, 1)]
    assert isinstance(model.decoder[-1], nn.Tanh)
    assert parameters(model) == 47_355
    assert model.encode(torch.zeros(2, 3, 64, 64)).shape == (2, 48, 8, 8)


def test_linear_bottleneck_makes_the_code_a_vector():
    model = ConvAutoencoder(ConvConfig(bottleneck=32), ImageShape(3, 64, 64))
    assert model.encode(torch.zeros(2, 3, 64, 64)).shape == (2, 32, 1, 1)
    assert model.rebuild(torch.zeros(2, 3, 64, 64)).shape == (2, 3, 64, 64)


def test_output_can_reach_black_and_white_and_no_further():
    """Fault 4: the range of the output is that of the target."""
    for model in (
        ConvAutoencoder(ConvConfig(), ImageShape(1, 16, 16)),
        DenseAutoencoder(DenseConfig(), ImageShape(1, 16, 16)),
    ):
        with torch.no_grad():
            rebuilt = model.decode(model.encode(torch.full((1, 1, 16, 16), 1e6)))
        assert rebuilt.abs().max() <= 1


@pytest.mark.parametrize(
    ("height", "width", "nearest"), [(30, 64, "24 x 64 or 32 x 64"), (4, 4, "8 x 8"), (100, 61, "96 x 56 or 104 x 64")]
)
def test_conv_names_the_nearest_sizes_that_fit(height, width, nearest):
    with pytest.raises(
        ConfigError, match=rf"images of {height} x {width} cannot be halved 3 times.*: {nearest} \(--size\)"
    ):
        ConvAutoencoder(ConvConfig(), ImageShape(3, height, width))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: DenseConfig(widths=()), r"model\.widths: expected one width or more"),
        (lambda: DenseConfig(widths=(8, 0)), r"each 1 or more, came \[8, 0\]"),
        (lambda: ConvConfig(widths=()), r"model\.widths: expected one width or more"),
        (lambda: ConvConfig(bottleneck=0), r"model\.bottleneck: expected 1 or more, or none, came 0"),
    ],
)
def test_sizes_that_make_no_model(make, message):
    with pytest.raises(ConfigError, match=message):
        make()
