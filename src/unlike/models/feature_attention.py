"""feature-attention: frozen features through a noisy bottleneck, and back by attention that cannot focus (Dinomaly)."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn import functional

from unlike.backbones.network_cache import NetworkCache
from unlike.config import check_count
from unlike.errors import ConfigError
from unlike.models.feature_autoencoder import FeatureAutoencoder, FeatureAutoencoderConfig
from unlike.records import ImageShape


@dataclass(frozen=True, slots=True)
class FeatureAttentionConfig(FeatureAutoencoderConfig):
    """Sizes of an AttentionFeatureAutoencoder, and the features that it rebuilds."""

    width: int = 128  # of the code and of the decoder, at each position
    depth: int = 2  # layers of the decoder
    heads: int = 8  # of each layer's attention
    growth: int = 2  # how many times as wide the layers between are
    dropout: float = 0.2  # on the way to the code, while it learns
    easy_share: float = 0.9  # of the positions, those rebuilt best, that hardly teach any more

    def __post_init__(self) -> None:
        FeatureAutoencoderConfig.__post_init__(self)
        for name in ("width", "depth", "heads", "growth"):
            check_count(name, getattr(self, name))
        if self.width % self.heads:
            raise ConfigError(f"model.width: expected a multiple of model.heads, {self.heads}, came {self.width}")


class AttentionFeatureAutoencoder(FeatureAutoencoder):
    """Rebuild each position's features from noisy ones and from a blurred view of all others: defects are not passed on.

    Dinomaly (Guo et al., 2024, arXiv 2405.14325) on any backbone, a ViT's tokens or a CNN's cells: a small perceptron
    whose dropout is the noise, and layers of linear attention (Katharopoulos et al., 2020), whose weights cannot single
    out the position itself. The paper's own has a DINOv2 ViT, 8 layers of its width and 10,000 steps, a GPU's work.
    `training.objective = cosine` is its loss.
    """

    Config = FeatureAttentionConfig

    def __init__(self, config: FeatureAttentionConfig, shape: ImageShape, networks: NetworkCache | None = None) -> None:
        super().__init__(config, shape, networks)
        width, inner, noise = config.width, config.width * config.growth, config.dropout
        self.bottleneck = nn.Sequential(
            nn.Linear(self.width, width),
            nn.Dropout(noise),
            nn.Linear(width, inner),
            nn.GELU(),
            nn.Dropout(noise),
            nn.Linear(inner, width),
            nn.Dropout(noise),
        )
        layers = [AttentionLayer(width, config.heads, inner) for _ in range(config.depth)]
        self.decoder = nn.Sequential(*layers, nn.LayerNorm(width), nn.Linear(width, self.width))

    def squeeze(self, features: Tensor) -> Tensor:  # (B, D, h, w)
        return _to_grid(self.bottleneck(_to_tokens(features)), self.grid)  # (B, width, h, w)

    def decode(self, code: Tensor) -> Tensor:  # (B, width, h, w)
        return _to_grid(self.decoder(_to_tokens(code)), self.grid)  # (B, D, h, w)


class AttentionLayer(nn.Module):
    """Linear attention and a perceptron, each beside a short cut and after a layer norm: (B, N, D) -> (B, N, D)."""

    def __init__(self, width: int, heads: int, inner: int) -> None:
        super().__init__()
        self.heads = heads
        self.first_norm, self.second_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.ask = nn.Linear(width, 3 * width, bias=False)
        self.gather = nn.Linear(width, width)
        self.think = nn.Sequential(nn.Linear(width, inner), nn.GELU(), nn.Linear(inner, width))

    def forward(self, tokens: Tensor) -> Tensor:
        tokens = tokens + self._attend(self.first_norm(tokens))
        thought: Tensor = self.think(self.second_norm(tokens))
        return tokens + thought

    def _attend(self, tokens: Tensor) -> Tensor:
        asked = self.ask(tokens).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        found = attend_linearly(*asked)  # of (B, heads, N, D / heads)
        gathered: Tensor = self.gather(found.transpose(1, 2).flatten(2))
        return gathered


def attend_linearly(queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    """Means of the values (..., N, D), each weighted by elu(query) + 1 times elu(key) + 1: (..., N, D).

    The effort grows with N, not with its square (Katharopoulos et al., 2020, equation 5); and, unlike a softmax, the
    weights are flat: no query attends to a single position.
    """
    queries, keys = functional.elu(queries) + 1, functional.elu(keys) + 1
    sums = queries @ keys.sum(dim=-2)[..., None]  # (..., N, 1)
    return (queries @ (keys.mT @ values)) / sums


def _to_tokens(grid: Tensor) -> Tensor:
    return grid.flatten(2).mT  # (B, D, h, w) -> (B, h w, D)


def _to_grid(tokens: Tensor, grid: tuple[int, int]) -> Tensor:
    return tokens.mT.reshape(tokens.shape[0], -1, *grid)  # (B, h w, D) -> (B, D, h, w)
