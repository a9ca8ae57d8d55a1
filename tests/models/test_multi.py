"""multi-encoder makes each mix that was published, with the layers of the table, and others that fit together."""

from __future__ import annotations

import tomllib

import pytest
import tomli_w
import torch
from counting import conv, kinds, layers, linear, norm, parameters, shapes
from torch import nn

from unlike.detector.settings import Settings
from unlike.errors import ConfigError
from unlike.models.multi import MultiEncoder, MultiEncoderConfig
from unlike.records import ImageShape
from unlike.testing import check_model

PIXELS = 3 * 64 * 64
CONV_DOWN = conv(3, 12, 4) + conv(12, 24, 4) + conv(24, 48, 4)
CONV_UP = conv(48, 24, 4) + conv(24, 12, 4) + conv(12, 3, 4)
FCN_DOWN = linear(PIXELS, 128) + linear(128, 64) + linear(64, 12) + linear(12, 3)
FCN_UP = linear(3, 12) + linear(12, 64) + linear(64, 128) + linear(128, PIXELS)


def from_preset(name: str) -> MultiEncoder:
    return MultiEncoder(Settings.resolve(preset=name).model, ImageShape(3, 64, 64)).eval()


@pytest.mark.parametrize(
    ("preset", "expected", "count", "code"),
    [
        ("three-fcn", 3 * FCN_DOWN + FCN_UP + norm(3), 6_340_559, (3, 1, 1)),
        ("three-conv", 3 * CONV_DOWN + CONV_UP + norm(48), 94_851, (48, 8, 8)),
        ("fcn-fcn-conv", 2 * FCN_DOWN + CONV_DOWN + linear(48 * 8 * 8, 3) + FCN_UP + norm(3), 4_791_411, (3, 1, 1)),
    ],
)
def test_mix_is_the_reports(preset, expected, count, code):
    """Fcn+fcn+fcn -> fcn; conv+conv+conv -> conv; fcn+fcn+conv -> fcn."""
    model = from_preset(preset)
    assert parameters(model) == expected == count
    assert kinds(model.decoder)[-1] == "Tanh"
    assert model.encode(torch.zeros(2, 3, 64, 64)).shape == (2, *code)


def test_exact_variant_is_the_reports():
    """Encoders of kernels 4, 4, 3, each Conv-BN-ReLU and a last BN; sum; BN; ConvT-BN, with ReLU after two of them."""
    model = from_preset("three-conv-exact")
    down = [((3, 12, 24, 48), 4), ((3, 8, 24, 48), 4), ((3, 8, 24, 48), 3)]
    for encoder, ((a, b, c, d), kernel) in zip(model.encoders, down, strict=True):
        assert shapes(encoder, nn.Conv2d) == [(i, o, kernel, 2, 1) for i, o in ((a, b), (b, c), (c, d))]
        assert kinds(encoder) == [*["Conv2d", "BatchNorm", "ReLU"] * 3, "BatchNorm"]
    assert shapes(model.decoder, nn.ConvTranspose2d) == [(48, 24, 4, 2, 1), (24, 12, 4, 2, 1), (12, 3, 4, 2, 1)]
    assert kinds(model.decoder) == (
        ["ConvTranspose2d", "BatchNorm", *["ConvTranspose2d", "BatchNorm", "ReLU"] * 2, "BatchNorm"]
    )
    expected = sum(conv(a, b, k) + conv(b, c, k) + conv(c, d, k) + norm(b, c, d, d) for (a, b, c, d), k in down)
    expected += norm(48) + CONV_UP + norm(24, 12, 3, 3)
    assert parameters(model) == expected == 82_671


def test_code_is_the_normalised_sum():
    model = from_preset("three-conv")
    images = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        total = sum(encoder(images) for encoder in model.encoders)
        torch.testing.assert_close(model.encode(images), model.norm(total))


def test_encoders_start_from_different_weights():
    first, second, _ = (encoder[0].weight for encoder in from_preset("three-conv").encoders)
    assert not torch.equal(first, second)


def test_output_keeps_to_the_range_of_images_unless_it_is_the_exact_variants():
    """Fault 4: every mix is bounded as its target is; a last batch norm is not."""
    far = torch.full((1, 48, 8, 8), 1e4)
    with torch.no_grad():
        assert from_preset("three-conv").decode(far).abs().max() <= 1
        assert from_preset("three-conv-exact").decode(far).abs().max() > 1
    exact = Settings.resolve(preset="three-conv-exact", overrides={"model": {"bounded": True}}).model
    with torch.no_grad():
        assert MultiEncoder(exact, ImageShape(3, 64, 64)).eval().decode(far).abs().max() <= 1


@pytest.mark.parametrize("decoder", ["fcn", "conv"])
@pytest.mark.parametrize("encoders", [("fcn",), ("conv",), ("conv", "fcn"), ("fcn", "conv", "conv")])
def test_any_encoders_go_with_any_decoder(encoders, decoder):
    config = MultiEncoderConfig(encoders, decoder, dense_widths=(12, 5), conv_widths=((4, 8),))
    model = MultiEncoder(config, ImageShape(2, 8, 12))
    check_model(model)
    code = model.encode(torch.zeros(2, 2, 8, 12)).shape[1:]
    assert code == ((5, 1, 1) if decoder == "fcn" else (8, 2, 3))
    assert len(layers(model.decoder, nn.ConvTranspose2d)) == (2 if decoder == "conv" else 0)


def test_convs_of_other_depths_add_up_to_a_vector():
    config = MultiEncoderConfig(("conv", "conv"), "fcn", (12, 5), ((4,), (4, 6)), kernels=(4, 3))
    check_model(MultiEncoder(config, ImageShape(1, 8, 8)))


def test_settings_of_the_exact_variant_survive_toml():
    settings = Settings.resolve(preset="three-conv-exact")
    assert Settings.from_sections(tomllib.loads(tomli_w.dumps(settings.to_sections()))) == settings
    assert settings.model.conv_widths == ((12, 24, 48), (8, 24, 48), (8, 24, 48))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"encoders": ()}, r"model\.encoders: expected one encoder or more, came none"),
        ({"encoders": ("conf",)}, r"unknown model\.encoders 'conf'; did you mean 'conv'\? known: conv, fcn"),
        ({"decoder": "fnc"}, r"unknown model\.decoder 'fnc'; did you mean 'fcn'\? known: conv, fcn"),
        ({"dense_widths": ()}, r"model\.dense_widths: expected one width or more"),
        ({"conv_widths": ((8, 0),)}, r"model\.conv_widths: expected .* came \[8, 0\]"),
        ({"kernels": (0,)}, r"model\.kernels: expected .* came \[0\]"),
        (
            {"kernels": (4, 3)},
            r"model\.kernels: expected 1 for all conv encoders, or 1 for each of the 3, came 2",
        ),
        ({"encoders": ("fcn",), "conv_widths": ()}, r"model\.conv_widths: expected 1 for all conv encoders"),
        (
            {"encoders": ("conv", "conv"), "conv_widths": ((8, 24), (8, 16))},
            r"as many blocks and the same last width, came \[\[8, 24\], \[8, 16\]\]",
        ),
    ],
)
def test_sizes_that_make_no_model(settings, message):
    with pytest.raises(ConfigError, match=message):
        MultiEncoderConfig(**settings)


def test_sizes_that_cannot_be_halved_name_those_that_can():
    with pytest.raises(ConfigError, match=r"30 x 64 cannot be halved 3 times.*: 24 x 64 or 32 x 64"):
        MultiEncoder(MultiEncoderConfig(), ImageShape(3, 30, 64))
    config = MultiEncoderConfig(("fcn",), "fcn", dense_widths=(4,))
    assert MultiEncoder(config, ImageShape(1, 7, 5)).encode(torch.zeros(2, 1, 7, 5)).shape == (2, 4, 1, 1)
