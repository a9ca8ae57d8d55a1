"""residual-unet has the layers of the report's, and its skips carry anomalies past the code, which is measured here."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from counting import conv, norm, parameters, shapes
from torch import nn
from torch.nn import functional

from unlike.data.randomness import isolated_randomness
from unlike.errors import ConfigError
from unlike.models.residual import ResidualUNet, ResidualUNetConfig
from unlike.records import ImageShape
from unlike.testing import check_model

DOWN = [(3, 64), (64, 128), (128, 256), (256, 512), (512, 1024)]
UP = [(1024, 512), (512, 256), (256, 128), (128, 64)]


def block(inputs: int, outputs: int) -> int:
    """Two Conv k3 + BN, and a 1x1 skip."""
    return conv(inputs, outputs, 3) + conv(outputs, outputs, 3) + conv(inputs, outputs, 1) + norm(outputs, outputs)


@pytest.mark.parametrize(("skips", "count"), [(True, 32_439_427), (False, 28_957_827)])
def test_residual_unet_is_the_reports(skips, count):
    """Blocks 3-64-128-256-512, bottleneck 1024, ConvT k2 s2 up, skips concatenated, 1x1 conv."""
    with torch.device("meta"):
        model = ResidualUNet(ResidualUNetConfig(skips=skips), ImageShape(3, 32, 48))
    assert shapes(model.grow, nn.ConvTranspose2d) == [(i, o, 2, 2, 0) for i, o in UP]
    down = [shape for i, o in DOWN for shape in ((i, o, 3, 1, 1), (o, o, 3, 1, 1), (i, o, 1, 1, 0))]
    assert shapes(model.down, nn.Conv2d) + shapes(model.bottleneck, nn.Conv2d) == down
    assert shapes(model.last, nn.Conv2d) == [(64, 3, 1, 1, 0)]
    expected = sum(block(i, o) for i, o in DOWN) + sum(conv(i, o, 2) for i, o in UP)
    expected += sum(block(o * (2 if skips else 1), o) for _, o in UP) + conv(64, 3, 1)
    assert parameters(model) == expected == count
    images = torch.zeros(2, 3, 32, 48, device="meta")
    assert model.encode(images).shape == (2, 1024, 2, 3)
    assert model.rebuild(images).shape == images.shape


def test_with_skips_every_promise_is_kept_but_decoding_alone():
    model = ResidualUNet(ResidualUNetConfig(widths=(4, 6), bottleneck=8, skips=True), ImageShape(2, 8, 12))
    check_model(model)
    with pytest.raises(
        ConfigError, match=r"with skips rebuilds images, but cannot decode a code alone: set model\.skips"
    ):
        model.decode(torch.zeros(1, 8, 2, 3))


def test_without_skips_a_rebuild_is_what_the_code_says():
    model = ResidualUNet(ResidualUNetConfig(widths=(4, 6), bottleneck=8), ImageShape(2, 8, 12)).eval()
    images = torch.rand(3, 2, 8, 12)
    with torch.no_grad():
        torch.testing.assert_close(model.rebuild(images), model.decode(model.encode(images)))


def leak(skips: bool) -> float:
    """The share of an anomaly that a model, trained on normal images alone, hands on to the reconstruction.

    An anomaly is what it adds to its image. 1: it is rebuilt as it was; 0: it leaves no trace in its place.
    """
    random = np.random.default_rng(0)
    y, x = np.mgrid[:16, :16] / 16
    phases = random.uniform(0, 2 * np.pi, (144, 1, 1))
    stripes = torch.tensor(0.7 * np.sin(2 * np.pi * (x + y) + phases), dtype=torch.float32)[:, None]
    normal, unseen = stripes[:128], stripes[128:]
    anomaly = torch.zeros_like(unseen)
    anomaly[:, :, 5:9, 6:10] = -unseen[:, :, 5:9, 6:10].sign() - unseen[:, :, 5:9, 6:10]
    with isolated_randomness(0):
        config = ResidualUNetConfig(widths=(8, 16, 16), bottleneck=4, skips=skips)
        model = ResidualUNet(config, ImageShape(1, 16, 16)).train()
        optimiser = torch.optim.Adam(model.parameters(), lr=5e-3, fused=True)
        for _ in range(80):
            optimiser.zero_grad()
            model.loss(normal[torch.randperm(128)[:32]], functional.mse_loss).backward()
            optimiser.step()
    model.eval()
    with torch.no_grad():
        assert functional.mse_loss(model.rebuild(unseen), unseen) < 0.01  # normal images are rebuilt well
        added = model.rebuild(unseen + anomaly) - model.rebuild(unseen)
    return float((added * anomaly).sum() / anomaly.square().sum())


def test_skips_carry_the_anomaly_round_the_code():
    """With skips most of an anomaly is rebuilt, and so not found; without them next to nothing of it."""
    assert leak(skips=True) > 0.5
    assert leak(skips=False) < 0.05


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ResidualUNetConfig(widths=()), r"model\.widths: expected one width or more"),
        (lambda: ResidualUNetConfig(bottleneck=0), r"model\.bottleneck: expected 1 or more, came 0"),
        (
            lambda: ResidualUNet(ResidualUNetConfig(), ImageShape(3, 24, 70)),
            r"images of 24 x 70 cannot be halved 4 times.*: 16 x 64 or 32 x 80 \(--size\)",
        ),
    ],
)
def test_sizes_that_make_no_model(make, message):
    with pytest.raises(ConfigError, match=message):
        make()
