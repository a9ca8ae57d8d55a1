"""How a reconstruction differs from its target: a map per image, and its mean as something to train on."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from unlike.models.base import Objective

WINDOW = 11  # pixels across, and
SIGMA = 1.5  # pixels, of the Gaussian window of SSIM (Wang et al. 2004, section III.C)
VALUE_SPAN = 2.0  # images run from -1 to 1
STABILISERS = ((0.01 * VALUE_SPAN) ** 2, (0.03 * VALUE_SPAN) ** 2)


def squared(reconstruction: Tensor, target: Tensor) -> Tensor:
    """Squared difference, averaged over channels: (B, C, H, W) twice -> (B, H, W)."""
    return (reconstruction - target).square().mean(dim=1)


def absolute(reconstruction: Tensor, target: Tensor) -> Tensor:
    """Absolute difference, averaged over channels: (B, C, H, W) twice -> (B, H, W)."""
    return (reconstruction - target).abs().mean(dim=1)


def ssim(reconstruction: Tensor, target: Tensor) -> Tensor:
    """Structural dissimilarity (1 - SSIM) / 2, averaged over channels: (B, C, H, W) twice -> (B, H, W), 0 to 1.

    SSIM is that of Wang et al. 2004, with a Gaussian window of 11 pixels; the border pixels are repeated outward.
    """
    mean_x, mean_y = blur(reconstruction), blur(target)
    variance_x = (blur(reconstruction.square()) - mean_x.square()).clamp_min(0)
    variance_y = (blur(target.square()) - mean_y.square()).clamp_min(0)
    covariance = blur(reconstruction * target) - mean_x * mean_y
    light, contrast = STABILISERS
    similarity = (2 * mean_x * mean_y + light) * (2 * covariance + contrast)
    similarity = similarity / ((mean_x.square() + mean_y.square() + light) * (variance_x + variance_y + contrast))
    return ((1 - similarity) / 2).clamp(0, 1).mean(dim=1)


def blur(images: Tensor, sigma: float = SIGMA, window: int | None = WINDOW) -> Tensor:
    """Gaussian blur of each channel, borders replicated: (B, C, H, W) -> (B, C, H, W). `sigma` is in pixels."""
    radius = window // 2 if window else max(1, round(4 * sigma))
    steps = torch.arange(-radius, radius + 1, dtype=images.dtype, device=images.device)
    kernel = torch.exp(-steps.square() / (2 * sigma**2))
    kernel = kernel / kernel.sum()
    batch, channels, height, width = images.shape
    planes = images.reshape(batch * channels, 1, height, width)
    planes = functional.conv2d(
        functional.pad(planes, (radius, radius, 0, 0), mode="replicate"), kernel.view(1, 1, 1, -1)
    )
    planes = functional.conv2d(
        functional.pad(planes, (0, 0, radius, radius), mode="replicate"), kernel.view(1, 1, -1, 1)
    )
    return planes.view(batch, channels, height, width)


def ssim_loss(reconstruction: Tensor, target: Tensor) -> Tensor:
    """Mean structural dissimilarity, a scalar."""
    return ssim(reconstruction, target).mean()


MEASURES = {"squared": squared, "absolute": absolute, "ssim": ssim}  # to (B, H, W)
OBJECTIVES: dict[str, Objective] = {
    "squared": functional.mse_loss,
    "absolute": functional.l1_loss,
    "ssim": ssim_loss,
}  # to a scalar
