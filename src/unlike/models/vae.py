"""vae: a variational autoencoder, with an encoder of its own or any of timm's."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, nn

from unlike.backbones.networks import make_backbone
from unlike.config import check_count_or_none, check_range, check_widths
from unlike.errors import ConfigError
from unlike.models.base import Autoencoder, Objective
from unlike.models.blocks import BatchNorm, check_strides, double
from unlike.records import ImageShape

ACTIVATIONS: dict[str, type[nn.Module]] = {"leaky-relu": nn.LeakyReLU, "relu": nn.ReLU}
LOG_VARIANCE_LIMIT = 10.0  # either way: standard deviations stay between 0.007 and 148


@dataclass(frozen=True, slots=True)
class VAEConfig:
    """Sizes of a VariationalAutoencoder, and what its code may cost."""

    encoder: str = "conv"  # or the name of a timm network, such as resnet18
    pretrained: bool = False  # the timm network's weights
    widths: tuple[int, ...] = (32, 64, 128, 256, 512)  # of each block; each halves the image, or doubles it again
    latent: int | None = 512  # length of the code; none: the last convolution gives a grid of codes
    norm: bool = True  # batch norm in each block
    activation: Literal["leaky-relu", "relu"] = "leaky-relu"  # in each block
    beta: float = 0.1  # price of the code: variance of the pixel noise that need not be rebuilt
    warm_up: float = 0.1  # share of the training over which beta rises from 0
    free_bits: float = 0.0  # nats that each element of the code may carry for nothing

    def __post_init__(self) -> None:
        check_widths("widths", self.widths)
        check_count_or_none("latent", self.latent)
        if self.latent is None and self.encoder != "conv":
            raise ConfigError(f"model.latent: none, a grid, needs encoder = 'conv', came {self.encoder!r}")
        if self.pretrained and self.encoder == "conv":
            raise ConfigError("model.pretrained: encoder 'conv' has no pretrained weights; name a timm network")
        check_range("model.beta", self.beta, 0, 1e6)
        check_range("model.warm_up", self.warm_up, 0, 1)
        check_range("model.free_bits", self.free_bits, 0, 1e6)


class VariationalAutoencoder(Autoencoder):
    """Squeeze an image into a cloud of codes around a mean, not a point, so that near codes mean near images.

    The loss is that of Kingma & Welling (2014) with the beta of Higgins et al. (2017) and the free bits of Kingma et
    al. (2016). A mean over the N = C H W values of an image and a sum over the code are brought to one scale:

        loss = objective(reconstruction, image) + beta (2 / N) sum_j max(free_bits, KL_j)

    KL_j, in nats, is the mean over the batch of KL(N(mean_j, variance_j) || N(0, 1)). With the mean squared error as
    objective, N / (2 beta) times this is the negative evidence bound of pixels with normal noise of variance beta. So
    beta = 1 is the textbook's unit variance, whatever the size of image and code, and about the mean squared error of
    a good reconstruction is the likeliest. An element of the code is used if it explains more than beta of the squared
    error summed over an image; the rest collapses to the prior, as all of it does where a summed KL meets a mean error.

    Noise enters in training alone: a score is that of the mean code and the same each time.
    """

    Config = VAEConfig

    def __init__(self, config: VAEConfig, shape: ImageShape) -> None:
        super().__init__(config, shape)
        check_strides(shape, len(config.widths))
        scale = 2 ** len(config.widths)
        grid = (config.widths[-1], shape.height // scale, shape.width // scale)
        self.encoder = _make_encoder(config, shape, grid)
        self.decoder = _make_decoder(config, shape, grid)
        self.beta = config.beta  # of now; it rises in training

    def posterior(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and logarithm of the variance of each image's codes: (B, C, H, W) -> (B, D, h, w) twice."""
        mean, log_variance = self.encoder(images).chunk(2, dim=1)
        # bent, not cut off: beyond a hard limit there would be no slope on which to come back
        return mean, LOG_VARIANCE_LIMIT * torch.tanh(log_variance / LOG_VARIANCE_LIMIT)

    def encode(self, images: Tensor) -> Tensor:  # (B, C, H, W)
        return self.posterior(images)[0]  # (B, D, 1, 1), or (B, D, h, w) of a grid

    def decode(self, code: Tensor) -> Tensor:  # (B, D, 1, 1)
        return self.decoder(code)  # type: ignore[no-any-return]  # (B, C, H, W)

    def loss(self, images: Tensor, objective: Objective, clean: Tensor | None = None) -> Tensor:
        mean, log_variance = self.posterior(images)
        code = mean + torch.randn_like(mean) * torch.exp(log_variance / 2) if self.training else mean
        target = self.target(images if clean is None else clean)
        price = (self.beta if self.training else self.config.beta) * 2 / target[0].numel()
        cost = divergence(mean, log_variance).clamp_min(self.config.free_bits).sum()
        return objective(self.decode(code), target) + price * cost

    def warm_up(self, share: float) -> None:
        rise = self.config.warm_up
        self.beta = self.config.beta * (min(share / rise, 1.0) if rise else 1.0)


def divergence(mean: Tensor, log_variance: Tensor) -> Tensor:
    """KL divergence of each code element from the standard normal, averaged over the batch: (B, D, h, w) -> (D, h, w).

    In nats, equation 10 of Kingma & Welling (2014).

    >>> divergence(torch.ones(2, 1, 1, 1), torch.zeros(2, 1, 1, 1)).item()
    0.5
    """
    return (mean.square() + log_variance.exp() - log_variance - 1).mean(dim=0) / 2


def _make_encoder(config: VAEConfig, shape: ImageShape, grid: tuple[int, int, int]) -> nn.Sequential:
    """Images to the means, and after them the log-variances, of a code; nothing follows the two heads, which are one."""
    if config.encoder != "conv":
        size = (shape.height, shape.width)
        backbone = make_backbone(config.encoder, config.pretrained, shape.channels, size)
        return nn.Sequential(backbone, nn.AdaptiveAvgPool2d(1), *_make_heads(backbone.width, config.latent))
    steps = list(pairwise((shape.channels, *config.widths)))
    if config.latent is None:
        *steps, (inputs, outputs) = steps
        heads: list[nn.Module] = [nn.Conv2d(inputs, 2 * outputs, 4, stride=2, padding=1)]
    else:
        heads = _make_heads(grid[0] * grid[1] * grid[2], config.latent)
    convolutions = [nn.Conv2d(inputs, outputs, 4, stride=2, padding=1) for inputs, outputs in steps]
    return nn.Sequential(*_blocks(convolutions, config), *heads)


def _make_heads(inputs: int, latent: int | None) -> list[nn.Module]:
    assert latent is not None, "VAEConfig allows no grid here"
    return [nn.Flatten(), nn.Linear(inputs, 2 * latent), nn.Unflatten(1, (2 * latent, 1, 1))]


def _make_decoder(config: VAEConfig, shape: ImageShape, grid: tuple[int, int, int]) -> nn.Sequential:
    start: list[nn.Module] = []
    if config.latent is not None:
        start = [nn.Flatten(), nn.Linear(config.latent, grid[0] * grid[1] * grid[2]), nn.Unflatten(1, grid)]
    convolutions = [double(inputs, outputs) for inputs, outputs in pairwise(config.widths[::-1])]
    return nn.Sequential(*start, *_blocks(convolutions, config), double(config.widths[0], shape.channels), nn.Tanh())


def _blocks(convolutions: list[nn.Conv2d] | list[nn.ConvTranspose2d], config: VAEConfig) -> list[nn.Module]:
    """Each convolution with its norm, if wanted, and its activation."""
    layers: list[nn.Module] = []
    for convolution in convolutions:
        norm = [BatchNorm(convolution.out_channels)] if config.norm else []
        layers += [convolution, *norm, ACTIVATIONS[config.activation]()]
    return layers
