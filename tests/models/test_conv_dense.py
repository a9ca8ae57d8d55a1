"""conv-dense has the layers of the report's, and sizes of its own where they are asked for."""

from __future__ import annotations

import pytest
import torch
from counting import conv, kinds, layers, linear, norm, parameters, shapes
from torch import nn

from unlike.errors import ConfigError
from unlike.models.conv_dense import ConvDenseAutoencoder, ConvDenseConfig
from unlike.records import ImageShape


def test_conv_dense_is_the_reports():
    """At 32 x 32: Conv 3-6, four blocks to 96, linear 384-96-ReLU-32; mirrored, Tanh."""
    model = ConvDenseAutoencoder(ConvDenseConfig(), ImageShape(3, 32, 32))
    down = [(3, 6), (6, 12), (12, 24), (24, 48), (48, 96)]
    up = [(96, 48), (48, 24), (24, 12), (12, 6), (6, 3)]
    assert shapes(model.encoder, nn.Conv2d) == [(i, o, 3, 1, 1) for i, o in down]
    assert shapes(model.decoder, nn.ConvTranspose2d) == [(i, o, 3, 1, 1) for i, o in up]
    widths = [(layer.in_features, layer.out_features) for layer in layers(model, nn.Linear)]
    assert widths == [(384, 96), (96, 32), (32, 96), (96, 384)]
    assert kinds(model.encoder) == (
        ["Conv2d", *["Conv2d", "MaxPool2d", "BatchNorm", "Dropout", "ReLU"] * 4, "Flatten", "Linear", "ReLU", "Linear"]
    )
    assert kinds(model.decoder) == (
        ["Linear", "ReLU", "Linear", "Unflatten"]
        + ["ConvTranspose2d", "Upsample", "BatchNorm", "Dropout", "ReLU"] * 3
        + ["ConvTranspose2d", "ConvTranspose2d", "Upsample", "BatchNorm", "Dropout", "Tanh"]
    )
    assert {layer.p for layer in layers(model, nn.Dropout)} == {0.5}
    assert {layer.mode for layer in layers(model, nn.Upsample)} == {"nearest"}
    expected = sum(conv(i, o, 3) for i, o in down + up) + sum(linear(i, o) for i, o in widths)
    expected += norm(12, 24, 48, 96, 48, 24, 12, 3)
    assert parameters(model) == expected == 191_777
    assert model.eval().encode(torch.zeros(2, 3, 32, 32)).shape == (2, 32, 1, 1)


def test_sizes_are_free():
    config = ConvDenseConfig(widths=(4, 8, 16), hidden=20, code=5, dropout=0.1)
    model = ConvDenseAutoencoder(config, ImageShape(2, 12, 20)).eval()
    assert [layer.in_features for layer in layers(model, nn.Linear)] == [16 * 3 * 5, 20, 5, 20]
    assert model.encode(torch.zeros(2, 2, 12, 20)).shape == (2, 5, 1, 1)
    assert model.rebuild(torch.zeros(2, 2, 12, 20)).shape == (2, 2, 12, 20)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: ConvDenseConfig(widths=(6, 0)),
            r"model\.widths: expected one width or more, each 1 or more, came \[6, 0",
        ),
        (lambda: ConvDenseConfig(hidden=0), r"model\.hidden: expected 1 or more, came 0"),
        (lambda: ConvDenseConfig(code=-1), r"model\.code: expected 1 or more, came -1"),
        (lambda: ConvDenseConfig(dropout=1.0), r"model\.dropout: expected 0 to 0\.95, came 1"),
        (
            lambda: ConvDenseAutoencoder(ConvDenseConfig(), ImageShape(3, 40, 32)),
            r"images of 40 x 32 cannot be halved 4 times.*: 32 x 32 or 48 x 32 \(--size\)",
        ),
    ],
)
def test_sizes_that_make_no_model(make, message):
    with pytest.raises(ConfigError, match=message):
        make()
