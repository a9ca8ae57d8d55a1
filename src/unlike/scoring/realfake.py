"""real-or-fake: does a reconstruction look like those of normal images?"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from unlike.config import check_range
from unlike.data.randomness import isolated_randomness
from unlike.errors import ConfigError
from unlike.models.base import OutputSpec
from unlike.scoring.base import Scorer
from unlike.scoring.batches import Batches

MOST_IMAGES = 20_000  # whose codes are kept while the classifier learns: a stated bound on memory


@dataclass(frozen=True, slots=True)
class RealFakeConfig:
    """How fakes are made, and how the classifier learns to tell them."""

    noise: Literal["gaussian", "uniform"] = "gaussian"  # added to the codes of training images
    noise_size: float = 1.0  # standard deviation, in standard deviations of each element of the code
    widths: tuple[int, ...] = (16, 32, 64)  # of the classifier's blocks; each halves the image
    steps: int = 400  # of the classifier's training
    batch_size: int = 64  # half of it real, half fake
    learning_rate: float = 1e-3  # of the classifier

    def __post_init__(self) -> None:
        check_range("scorer.noise_size", self.noise_size, 1e-6, 1e3)
        check_range("scorer.learning_rate", self.learning_rate, 1e-9, 10)
        for name, least in (("steps", 1), ("batch_size", 2)):
            if getattr(self, name) < least:
                raise ConfigError(f"scorer.{name}: expected {least} or more, came {getattr(self, name)}")
        if not self.widths or min(self.widths) < 1:
            raise ConfigError(f"scorer.widths: expected one width or more, each 1 or more, came {list(self.widths)}")


class RealFakeScorer(Scorer):
    """The chance that an image's reconstruction is no reconstruction of a normal image.

    "Real" are the reconstructions of training images, "fake" the reconstructions of their codes with noise added. A
    small convolutional classifier learns the difference; P(fake) of a new image's reconstruction is its score.
    """

    Config = RealFakeConfig
    inputs = ("features", "reconstruction")  # it learns from the codes, and looks at what is made of them

    def __init__(self, config: RealFakeConfig, spec: OutputSpec) -> None:
        super().__init__(config, spec)
        if spec.decode is None:
            skips = " with skips (set model.skips=false)" if spec.skips else ""
            raise ConfigError(
                f"scorer 'real-or-fake' needs a model that decodes its code; {spec.model}{skips} does not"
            )
        assert spec.target_channels is not None, "what can be decoded has channels"
        with isolated_randomness(0):
            self.classifier = _make_classifier(spec.target_channels, config.widths).requires_grad_(requires_grad=False)
        self.classifier.eval()

    def fit(self, train: Batches, held_out: Batches, seed: int) -> RealFakeScorer:  # noqa: ARG002
        assert self.spec.decode is not None, "it was made for a model that decodes"
        config, decode = self.config, self.spec.decode
        with torch.no_grad(), isolated_randomness(seed):
            codes = _gather(features for features, _ in train)  # (N, D, h, w)
            spread = codes.std(dim=0, keepdim=True, correction=0).clamp_min(1e-6)
        with isolated_randomness(seed), torch.enable_grad(), torch.inference_mode(mode=False):
            codes, spread = codes.clone(), spread.clone()
            classifier = _make_classifier(self.spec.target_channels or 1, config.widths).to(codes.device)
            optimiser = torch.optim.AdamW(classifier.parameters(), lr=config.learning_rate)
            half = config.batch_size // 2
            for _ in range(config.steps):
                chosen = codes[torch.randint(len(codes), (2 * half,), device=codes.device)]
                with torch.no_grad():
                    noise = _noise(chosen[half:], config.noise) * spread * config.noise_size
                    shown = decode(torch.cat([chosen[:half], chosen[half:] + noise]))
                fake = torch.arange(2 * half, device=codes.device) >= half
                loss = functional.binary_cross_entropy_with_logits(classifier(shown)[:, 0], fake.float())
                optimiser.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                optimiser.step()
        self.classifier = classifier.eval().requires_grad_(requires_grad=False)
        return self

    def forward(self, features: Tensor, reconstruction: Tensor) -> Tensor:  # noqa: ARG002
        logits: Tensor = self.classifier(reconstruction)
        return torch.sigmoid(logits)[..., None]  # (B, 1, 1)


def _gather(codes: Iterable[Tensor]) -> Tensor:
    """The codes of the first images, as many as are kept."""
    kept: list[Tensor] = []
    count = 0
    for batch in codes:
        kept.append(batch[: MOST_IMAGES - count])
        count += len(kept[-1])
        if count >= MOST_IMAGES:
            break
    return torch.cat(kept)


def _noise(like: Tensor, kind: str) -> Tensor:
    """Noise of standard deviation 1."""
    if kind == "gaussian":
        return torch.randn_like(like)
    return (torch.rand_like(like) * 2 - 1) * 3**0.5


def _make_classifier(channels: int, widths: tuple[int, ...]) -> nn.Sequential:
    """Images (B, C, H, W) of any size to one logit each, (B, 1)."""
    layers: list[nn.Module] = []
    for width in widths:
        layers += [nn.Conv2d(channels, width, 3, stride=2, padding=1), nn.LeakyReLU(0.1)]
        channels = width
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, 1))
