"""The variational autoencoders of the reports, layer by layer, without the first three of their faults."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from sklearn.datasets import load_sample_image
from torch import nn
from torch.distributions import Normal, kl_divergence
from torch.nn.functional import mse_loss

from unlike.backbones.networks import Backbone
from unlike.data.randomness import isolated_randomness
from unlike.data.tensors import to_tensor
from unlike.detector.settings import Settings
from unlike.errors import ConfigError
from unlike.models.vae import LOG_VARIANCE_LIMIT, VAEConfig, VariationalAutoencoder, divergence
from unlike.records import ImageShape
from unlike.testing import check_model, example_images

SMALL = {"widths": (16, 32, 64), "latent": 16}


def build(channels: int = 3, height: int = 16, width: int = 16, **settings) -> VariationalAutoencoder:
    with isolated_randomness(0):
        return VariationalAutoencoder(VAEConfig(**(SMALL | settings)), ImageShape(channels, height, width))


def sizes(module: nn.Module, kind: type) -> list:
    return [
        (c.in_channels, c.out_channels, c.kernel_size[0], c.stride[0], c.padding[0])
        for c in module.modules()
        if isinstance(c, kind)
    ]


def count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


# the architectures of the reports

C1_DECODER = (  # at 64 x 64
    (512 + 1) * 512 * 2 * 2  # linear to the grid
    + sum(i * o * 16 + o for i, o in [(512, 256), (256, 128), (128, 64), (64, 32), (32, 3)])
    + 2 * (256 + 128 + 64 + 32)  # batch norms
)


def test_c1_is_the_reports():
    """Five Conv k4 s2 p1, 32 to 512, BN, LeakyReLU; two linear heads to 512; ConvT 256-128-64-32-3, Tanh."""
    model = VariationalAutoencoder(VAEConfig(), ImageShape(3, 64, 64))
    chain = [3, 32, 64, 128, 256, 512]
    assert sizes(model.encoder, nn.Conv2d) == [(i, o, 4, 2, 1) for i, o in pairwise(chain)]
    back = [512, 256, 128, 64, 32, 3]
    assert sizes(model.decoder, nn.ConvTranspose2d) == [(i, o, 4, 2, 1) for i, o in pairwise(back)]
    kinds = [type(layer).__name__ for layer in model.encoder]
    assert kinds == ["Conv2d", "BatchNorm", "LeakyReLU"] * 5 + ["Flatten", "Linear", "Unflatten"]
    assert isinstance(model.decoder[-1], nn.Tanh)
    heads = 2 * (512 * 2 * 2 + 1) * 512
    encoder = sum(i * o * 16 + o for i, o in pairwise(chain)) + 2 * sum(chain[1:]) + heads
    assert count(model.encoder) == encoder == 4_887_968
    assert count(model.decoder) == C1_DECODER == 3_838_883
    assert model.encode(torch.zeros(2, 3, 64, 64)).shape == (2, 512, 1, 1)
    assert model.rebuild(torch.zeros(2, 3, 64, 64)).shape == (2, 3, 64, 64)


def test_a4_is_the_reports():
    """Conv 3-12-24, then a head 24-48 each for mean and log-variance; ConvT 48-24-12-3, Tanh; ReLU between."""
    settings = Settings.resolve(preset="vae-faces")
    model = VariationalAutoencoder(settings.model, ImageShape(3, 64, 64))
    assert sizes(model.encoder, nn.Conv2d) == [(3, 12, 4, 2, 1), (12, 24, 4, 2, 1), (24, 2 * 48, 4, 2, 1)]
    assert sizes(model.decoder, nn.ConvTranspose2d) == [(48, 24, 4, 2, 1), (24, 12, 4, 2, 1), (12, 3, 4, 2, 1)]
    assert [type(layer).__name__ for layer in model.encoder] == ["Conv2d", "ReLU"] * 2 + ["Conv2d"]
    assert count(model.encoder) == 588 + 4_632 + 2 * 18_480
    assert count(model.decoder) == 18_456 + 4_620 + 579
    assert model.encode(torch.zeros(2, 3, 64, 64)).shape == (2, 48, 8, 8)


def test_c2_is_resnet18_averaged_and_a_linear_layer():
    model = VariationalAutoencoder(VAEConfig(encoder="resnet18"), ImageShape(3, 64, 64))
    trunk, pooling, _, heads, _ = model.encoder
    assert isinstance(trunk, Backbone)
    assert isinstance(pooling, nn.AdaptiveAvgPool2d)
    assert count(trunk) == 11_689_512 - (512 + 1) * 1000  # torchvision's count, less the classifier
    assert (heads.in_features, heads.out_features) == (512, 2 * 512)
    assert count(model) == 11_176_512 + (512 + 1) * 1024 + C1_DECODER
    assert model.rebuild(torch.zeros(2, 3, 64, 64)).shape == (2, 3, 64, 64)


def test_c3_is_vit_b16_with_its_tokens_averaged():
    """Without numbers (86 million of them): shapes alone, on torch's meta device."""
    with torch.device("meta"):
        model = VariationalAutoencoder(VAEConfig(encoder="vit_base_patch16_224"), ImageShape(3, 224, 224))
        trunk, _, _, heads, _ = model.encoder
        assert count(trunk) == 86_567_656 - (768 + 1) * 1000  # timm's count, less the classifier
        assert trunk(torch.zeros(2, 3, 224, 224)).shape == (2, 768, 14, 14)
        assert (heads.in_features, heads.out_features) == (768, 2 * 512)
        assert model.encode(torch.zeros(2, 3, 224, 224)).shape == (2, 512, 1, 1)
        assert model.rebuild(torch.zeros(2, 3, 224, 224)).shape == (2, 3, 224, 224)


@pytest.mark.parametrize("encoder", ["conv", "test_resnet", "test_vit"])
@pytest.mark.parametrize("channels", [1, 3, 5])
def test_any_encoder_keeps_the_promise_of_a_model(encoder, channels):
    check_model(build(channels, 32, 48, encoder=encoder))


def test_pretrained_trunk_starts_from_its_weights():
    model = build(3, 32, 32, encoder="efficientnet-lite0", pretrained=True)
    assert model.encoder[0].pretrained
    assert model.encode(torch.zeros(2, 3, 32, 32)).shape == (2, 16, 1, 1)


# fault 1: the posterior collapses where a KL sum meets a mean error


def patches() -> torch.Tensor:
    """256 pieces, 16 x 16, of a photograph that scikit-learn ships."""
    picture = load_sample_image("china.jpg")
    pieces = [picture[y : y + 64 : 4, x : x + 64 : 4] for y in range(0, 352, 22) for x in range(0, 560, 35)]
    return to_tensor(np.array(pieces), (0, 1))


def train(model: VariationalAutoencoder, images: torch.Tensor, loss, steps: int = 240) -> None:
    optimiser = torch.optim.Adam(model.parameters(), lr=2e-3, fused=True)
    model.train()
    with isolated_randomness(0):
        for step in range(steps):
            model.warm_up(step / steps)
            loss(model, images[torch.randperm(len(images))[:64]]).backward()
            optimiser.step()
            optimiser.zero_grad()
    model.eval()


@torch.no_grad()
def content(model: VariationalAutoencoder, images: torch.Tensor) -> tuple[float, int]:
    """Nats in the code of an image, and how many of its elements differ from image to image."""
    mean, log_variance = model.posterior(images)
    active = mean.var(dim=0) > 0.01  # Burda et al. 2016, section 5
    return float(divergence(mean, log_variance).sum()), int(active.sum())


def test_1_the_posterior_does_not_collapse():
    model, images = build(), patches()
    train(model, images, lambda model, batch: model.loss(batch, mse_loss))
    nats, active = content(model, images)
    assert nats > 15
    assert active >= 8
    with torch.no_grad():
        assert torch.pdist(model.encode(images).flatten(1)).median() > 1
        spread = (images - images.mean(dim=0)).square().mean()
        assert mse_loss(model.rebuild(images), images) < spread / 3


def test_1_the_reports_loss_does_collapse():
    """KL summed over batch and latent, error averaged: the test above can fail."""

    def reports_loss(model, batch):
        mean, log_variance = model.posterior(batch)
        code = mean + torch.randn_like(mean) * torch.exp(log_variance / 2)
        return mse_loss(model.decode(code), batch) + divergence(mean, log_variance).sum() * len(batch)

    model, images = build(), patches()
    train(model, images, reports_loss)
    nats, active = content(model, images)
    assert nats < 0.1
    assert active == 0


def test_1_the_loss_is_the_evidence_bound_of_pixels_with_noise_of_variance_beta():
    model = build(beta=0.3).eval()
    images = example_images(model)
    with torch.no_grad():
        mean, log_variance = model.posterior(images)
        pixels = Normal(model.decode(mean), math.sqrt(0.3)).log_prob(images).flatten(1).sum(dim=1)
        codes = kl_divergence(Normal(mean, torch.exp(log_variance / 2)), Normal(0.0, 1.0)).flatten(1).sum(dim=1)
        constant = images[0].numel() / 2 * math.log(2 * math.pi * 0.3)
        scaled = model.loss(images, mse_loss) * images[0].numel() / (2 * 0.3)
    torch.testing.assert_close(scaled + constant, (codes - pixels).mean(), rtol=1e-4, atol=1e-3)


# fault 2: heads that cannot be negative


def test_2_means_have_either_sign_and_deviations_may_be_small():
    model, images = build(), patches()
    train(model, images, lambda model, batch: model.loss(batch, mse_loss), steps=60)
    with torch.no_grad():
        mean, log_variance = model.posterior(images)
    assert (mean < 0).float().mean() > 0.2
    assert (mean > 0).float().mean() > 0.2
    assert log_variance.min() < -1


# fault 3: noise where nobody expects it


def test_3_codes_losses_and_scores_are_the_same_at_each_look():
    model = build().eval()
    images = example_images(model)
    with torch.no_grad():
        assert torch.equal(model.encode(images), model.encode(images))
        assert torch.equal(model.encode(images), model.posterior(images)[0])
        assert torch.equal(model.rebuild(images), model.rebuild(images))
        assert torch.equal(model.loss(images, mse_loss), model.loss(images, mse_loss))
        model.train()
        assert not torch.equal(model.loss(images, mse_loss), model.loss(images, mse_loss))


# beta, warm-up, free bits


def test_warm_up_raises_beta_in_training_and_leaves_validation_alone():
    """The validation losses of two epochs must speak of the same thing, or an early epoch is taken for the best."""
    model = build(beta=0.5, warm_up=0.4)
    images = example_images(model)
    with torch.no_grad():
        expected = model.eval().loss(images, mse_loss)
        assert model.beta == 0.5  # until told otherwise
        betas = []
        for share in (0.0, 0.2, 0.4, 1.0):
            model.warm_up(share)
            betas.append(model.beta)
            assert torch.equal(model.loss(images, mse_loss), expected)
    assert betas == [0.0, 0.25, 0.5, 0.5]
    at_once = build(beta=0.5, warm_up=0.0)
    at_once.warm_up(0.0)
    assert at_once.beta == 0.5


def test_free_bits_cost_the_same_whether_used_or_not():
    model = build(beta=0.5, free_bits=100.0).eval()
    images = example_images(model)
    with torch.no_grad():
        price = model.loss(images, mse_loss) - mse_loss(model.rebuild(images), images)
    assert float(price) == pytest.approx(0.5 * 2 / (3 * 16 * 16) * 16 * 100, rel=1e-5)


def test_rebuilds_the_clean_image():
    model = build(beta=0.0).eval()
    images, clean = example_images(model), example_images(model, seed=1)
    with torch.no_grad():
        assert torch.equal(model.loss(images, mse_loss, clean), mse_loss(model.rebuild(images), clean))


def test_extreme_images_have_a_finite_loss_with_a_slope():
    model = build(norm=False).train()
    loss = model.loss(example_images(model) * 300, mse_loss)
    loss.backward()
    assert torch.isfinite(loss)
    assert all(torch.isfinite(parameter.grad).all() for parameter in model.parameters())
    with torch.no_grad():
        _, log_variance = model.posterior(example_images(model) * 1e6)
    assert log_variance.abs().max() <= LOG_VARIANCE_LIMIT


# what does not fit


@pytest.mark.parametrize("encoder", ["conv", "resnet18"])
def test_sizes_that_cannot_be_halved_name_the_nearest(encoder):
    with pytest.raises(
        ConfigError, match="48 x 72 cannot be halved 5 times; the nearest sizes that can: 32 x 64 or 64"
    ):
        VariationalAutoencoder(VAEConfig(encoder=encoder), ImageShape(3, 48, 72))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"widths": ()}, r"model\.widths: expected one width or more"),
        ({"latent": 0}, r"model\.latent: expected 1 or more, or none, came 0"),
        (
            {"latent": None, "encoder": "resnet18"},
            r"model\.latent: none, a grid, needs encoder = 'conv', came 'resnet18'",
        ),
        ({"pretrained": True}, r"model\.pretrained: encoder 'conv' has no pretrained weights; name a timm network"),
        ({"beta": -1.0}, r"model\.beta: expected 0"),
        ({"warm_up": 2.0}, r"model\.warm_up: expected 0 to 1, came 2"),
        ({"free_bits": -1.0}, r"model\.free_bits: expected 0"),
    ],
)
def test_settings_that_make_no_model(settings, message):
    with pytest.raises(ConfigError, match=message):
        VAEConfig(**settings)


def test_preset_for_products_trains_as_the_report_did():
    settings = Settings.resolve(preset="vae-products")
    assert settings.model == VAEConfig()
    assert (settings.training.schedule, settings.training.t_max) == ("cosine", 100)
    assert settings.training.initialisation == "kaiming-xavier"
