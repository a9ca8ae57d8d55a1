"""Pretrain, then fine-tune: a model's encoder, which learned to rebuild, learns to name classes with a small head."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from unlike.config import check_range
from unlike.data.split import Labels
from unlike.errors import ConfigError
from unlike.models.base import Autoencoder, Model, Objective


@dataclass(frozen=True, slots=True)
class FinetuneConfig:
    """What is fine-tuned, and what for."""

    reconstruction_weight: float | Literal["auto"] = "auto"  # of the model's own loss; auto: 1, or 0 where it is no use
    label_weight: float = 1.0  # of the cross-entropy
    class_weights: Literal["none", "balanced"] = "none"  # balanced: rare classes count as much as others
    freeze_encoder: bool = False  # true: only the head learns
    scratch: bool = False  # true: start from random weights, not the detector's, to see what those are worth
    grid: int = 8  # cells a side to which a larger code is averaged before the head sees it
    head_width: int = 1024  # of the layer between the code and the classes
    dropout: float = 0.5  # share of that layer that is forgotten at random while it learns
    validation_share: float = 0.2  # of each class

    def __post_init__(self) -> None:
        if self.reconstruction_weight != "auto":
            check_range("finetune.reconstruction_weight", self.reconstruction_weight, 0, 1e6)
            if self.reconstruction_weight > 0 and self.freeze_encoder:
                raise ConfigError(
                    "finetune.reconstruction_weight: has nothing to teach where finetune.freeze_encoder is true; expected 0 or auto"
                )
        check_range("finetune.label_weight", self.label_weight, 1e-6, 1e6)
        check_range("finetune.grid", self.grid, 1, 1024)
        check_range("finetune.head_width", self.head_width, 1, 2**20)
        check_range("finetune.dropout", self.dropout, 0, 0.95)
        check_range("finetune.validation_share", self.validation_share, 0.01, 0.9)

    def weigh_reconstruction(self, model: Model) -> float:
        """How much the model's own loss counts; a ConfigError where it should, but the model rebuilds nothing."""
        rebuilds = isinstance(model, Autoencoder)
        if self.reconstruction_weight == "auto":
            return 1.0 if rebuilds and not self.freeze_encoder else 0.0
        if self.reconstruction_weight > 0 and not rebuilds:
            raise ConfigError(
                "finetune.reconstruction_weight: this detector's model rebuilds nothing; expected 0 or auto, "
                f"came {self.reconstruction_weight:g}"
            )
        return self.reconstruction_weight


class LabelModel(Model):
    """A model with a head on its code that names the class: linear, ReLU, dropout, linear.

    Its loss is a * the model's own + b * the cross-entropy of the labels; with a = 0 nothing is rebuilt.
    """

    Config = FinetuneConfig

    def __init__(self, config: FinetuneConfig, model: Model, classes: int) -> None:
        super().__init__(config, model.shape)
        self.model = model
        self.reconstruction_weight = config.weigh_reconstruction(model)
        length = self._measure_code()
        self.head = nn.Sequential(
            nn.Linear(length, config.head_width),
            nn.ReLU(),
            nn.Dropout(config.dropout),
            nn.Linear(config.head_width, classes),
        )
        self.class_weights: Tensor
        self.register_buffer("class_weights", torch.ones(classes))
        if config.freeze_encoder:
            model.requires_grad_(requires_grad=False)
        elif not self.reconstruction_weight:
            self._freeze_decoder()

    def encode(self, images: Tensor) -> Tensor:  # (B, C, H, W)
        return self.model.encode(images)  # (B, D, h, w)

    def name(self, images: Tensor) -> Tensor:  # (B, C, H, W)
        """What the softmax of which is how likely each class is."""
        return self.head(self._flatten(self.encode(images)))  # type: ignore[no-any-return]  # (B, K)

    def loss(
        self, images: Tensor, objective: Objective, clean: Tensor | None = None, labels: Tensor | None = None
    ) -> Tensor:
        assert labels is not None, "a model that names classes learns from labels"
        each = functional.cross_entropy(self.name(images), labels, reduction="none")  # (B,)
        loss: Tensor = self.config.label_weight * (self.class_weights[labels] * each).mean()
        if self.reconstruction_weight:
            loss = loss + self.reconstruction_weight * self.model.loss(images, objective, clean)
        return loss

    def balance(self, codes: Labels) -> None:
        """Weigh the classes of the training images, (n,), so that each counts alike, and the mean image 1."""
        counts = np.bincount(codes, minlength=len(self.class_weights))
        self.class_weights.copy_(torch.from_numpy(len(codes) / (len(counts) * counts)))

    def warm_up(self, share: float) -> None:
        self.model.warm_up(share)

    @contextlib.contextmanager
    def during_training(self) -> Iterator[None]:
        with self.model.during_training():
            yield

    def train(self, mode: bool = True) -> LabelModel:
        """A frozen encoder stays as it will be used: its batch norms learn nothing either."""
        super().train(mode)
        if self.config.freeze_encoder:
            self.model.eval()
        return self

    def _flatten(self, code: Tensor) -> Tensor:  # (B, D, h, w)
        height, width = (min(side, self.config.grid) for side in code.shape[2:])
        return functional.adaptive_avg_pool2d(code, (height, width)).flatten(1)  # (B, D * height * width)

    def _example(self) -> Tensor:
        device = next((value.device for value in self.model.state_dict().values()), None)  # pixels have no weights
        return torch.zeros(2, self.shape.channels, self.shape.height, self.shape.width, device=device)

    @torch.no_grad()
    def _measure_code(self) -> int:
        return int(self._flatten(self.model.eval().encode(self._example())).shape[1])

    def _freeze_decoder(self) -> None:
        """What no label reaches does not learn, and several processes need not wait for its gradients."""
        parameters = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
        code = self.model.eval().encode(self._example()).sum()
        if code.requires_grad:
            gradients = torch.autograd.grad(code, parameters, allow_unused=True)
            parameters = [
                parameter for parameter, gradient in zip(parameters, gradients, strict=True) if gradient is None
            ]
        for parameter in parameters:
            parameter.requires_grad_(False)


@torch.inference_mode()
def class_probabilities(model: LabelModel, images: Tensor) -> Tensor:
    """How likely each image is of each class: (B, C, H, W) -> (B, K), on the model's device."""
    return functional.softmax(model.name(images).float(), dim=1)
