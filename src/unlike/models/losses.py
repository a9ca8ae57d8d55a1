"""How a reconstruction differs from its target: a map per image, and its mean as something to train on."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from unlike.models.base import Objective

WINDOW = 11  # pixels across, and
SIGMA = 1.5  # pixels, of the Gaussian window of SSIM (Wang et al. 2004, section III.C)
VALUE_SPAN = 2.0  # images run from -1 to 1
ROUNDING = 1e-3  # below which a Charbonnier difference is round
SCALE_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)  # of multi-scale SSIM, finest first
TINY = 1e-6
STABILISERS = ((0.01 * VALUE_SPAN) ** 2, (0.03 * VALUE_SPAN) ** 2)


def squared(reconstruction: Tensor, target: Tensor) -> Tensor:
    """Squared difference, averaged over channels: (B, C, H, W) twice -> (B, H, W)."""
    return (reconstruction - target).square().mean(dim=1)


def absolute(reconstruction: Tensor, target: Tensor) -> Tensor:
    """Absolute difference, averaged over channels: (B, C, H, W) twice -> (B, H, W)."""
    return (reconstruction - target).abs().mean(dim=1)


def charbonnier(reconstruction: Tensor, target: Tensor) -> Tensor:
    """Absolute difference, rounded off where it is small, averaged over channels: (B, C, H, W) twice -> (B, H, W)."""
    return (((reconstruction - target).square() + ROUNDING**2).sqrt() - ROUNDING).mean(dim=1)


def ssim(reconstruction: Tensor, target: Tensor) -> Tensor:
    """Structural dissimilarity (1 - SSIM) / 2, averaged over channels: (B, C, H, W) twice -> (B, H, W), 0 to 1.

    SSIM is that of Wang et al. 2004, with a Gaussian window of 11 pixels; the border pixels are repeated outward.
    """
    light, structure = _similarity(reconstruction, target)
    return ((1 - light * structure) / 2).clamp(0, 1).mean(dim=1)


def cosine(reconstruction: Tensor, target: Tensor) -> Tensor:
    """1 less the cosine of the angle between the channels of a position: (B, C, H, W) twice -> (B, H, W), 0 to 2.

    For features, whose direction says what is there. A single channel has no direction but its sign.
    """
    return (1 - functional.cosine_similarity(reconstruction, target, dim=1)).clamp_min(0)


def _similarity(reconstruction: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """The two factors of SSIM, luminance and contrast-structure: (B, C, H, W) each."""
    mean_x, mean_y = blur(reconstruction), blur(target)
    variance_x = (blur(reconstruction.square()) - mean_x.square()).clamp_min(0)
    variance_y = (blur(target.square()) - mean_y.square()).clamp_min(0)
    covariance = blur(reconstruction * target) - mean_x * mean_y
    first, second = STABILISERS
    light = (2 * mean_x * mean_y + first) / (mean_x.square() + mean_y.square() + first)
    return light, (2 * covariance + second) / (variance_x + variance_y + second)


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


def charbonnier_loss(reconstruction: Tensor, target: Tensor) -> Tensor:
    """Mean rounded absolute difference, a scalar (Charbonnier et al. 1994)."""
    return charbonnier(reconstruction, target).mean()


def ssim_loss(reconstruction: Tensor, target: Tensor) -> Tensor:
    """Mean structural dissimilarity, a scalar."""
    return ssim(reconstruction, target).mean()


def cosine_loss(reconstruction: Tensor, target: Tensor) -> Tensor:
    """1 less the cosine of the angle between whole images, all positions and channels in one, a scalar.

    Global cosine similarity (Guo et al. 2023, ReContrast; Dinomaly, Guo et al. 2024).
    """
    return (1 - functional.cosine_similarity(reconstruction.flatten(1), target.flatten(1), dim=1)).mean()


def ms_ssim_loss(reconstruction: Tensor, target: Tensor) -> Tensor:
    """1 - multi-scale SSIM, a scalar (Wang, Simoncelli & Bovik 2003): structure at up to five scales, light at the last.

    An image too small for five scales is compared at those that it has, their weights scaled to sum to one.
    """
    side = min(reconstruction.shape[-2:])
    scales = max(1, min(len(SCALE_WEIGHTS), (side // WINDOW).bit_length()))
    weights = [weight / sum(SCALE_WEIGHTS[:scales]) for weight in SCALE_WEIGHTS[:scales]]
    similarity = torch.ones(reconstruction.shape[:2], device=reconstruction.device)
    for scale, weight in enumerate(weights):
        light, structure = _similarity(reconstruction, target)
        last = scale == scales - 1
        mean = (light * structure if last else structure).mean(dim=(2, 3))  # (B, C)
        similarity = similarity * mean.clamp_min(TINY) ** weight
        if not last:
            reconstruction, target = (functional.avg_pool2d(x, 2, ceil_mode=True) for x in (reconstruction, target))
    return 1 - similarity.mean()


def frequency_loss(reconstruction: Tensor, target: Tensor) -> Tensor:
    """Focal frequency loss, a scalar (Jiang et al. 2021, alpha = 1): squared gaps of the spectra, the largest weigh most.

    Without the weights it would be the squared error, by Parseval's theorem; with them, fine textures that an
    autoencoder blurs are not forgotten.
    """
    gap = torch.fft.fft2(reconstruction - target, norm="ortho")
    size = gap.abs()
    weight = (size / size.amax(dim=(2, 3), keepdim=True).clamp_min(TINY)).detach()
    loss: Tensor = (weight * size.square()).mean()
    return loss


LOSS_MAPS = {  # to (B, H, W)
    "squared": squared,
    "absolute": absolute,
    "charbonnier": charbonnier,
    "ssim": ssim,
    "cosine": cosine,
}
LOSSES: dict[str, Objective] = {  # to a scalar
    "squared": functional.mse_loss,
    "absolute": functional.l1_loss,
    "charbonnier": charbonnier_loss,
    "ssim": ssim_loss,
    "cosine": cosine_loss,
    "ms-ssim": ms_ssim_loss,
    "frequency": frequency_loss,
}
