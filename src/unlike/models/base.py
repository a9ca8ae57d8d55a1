"""The promise of a model: images to a code, and, for an autoencoder, back to the target it rebuilds."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar

from torch import Tensor, nn

from unlike.records import ImageShape

Objective = Callable[[Tensor, Tensor], Tensor]  # (reconstruction, target) -> scalar


class Model(nn.Module, ABC):
    """Turns images into a code: what every row of `unlike`'s table has in common.

    Images are (B, C, H, W), scaled so that black is -1 and white is 1. The code is (B, D, h, w); a vector is h = w = 1.
    A subclass names its `Config`, a frozen dataclass of its sizes, and is built as `Family(config, shape)`.
    """

    Config: ClassVar[type[Any]]
    trains: ClassVar[bool] = True  # False where there is nothing to train

    def __init__(self, config: Any, shape: ImageShape) -> None:
        super().__init__()
        self.config = config
        self.shape = shape

    @property
    def looks(self) -> tuple[int, ...]:
        """How the D numbers of a code part into several looks at an image, one after the other; () where it is one."""
        return ()

    @abstractmethod
    def encode(self, images: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, D, h, w)"""

    @abstractmethod
    def loss(self, images: Tensor, objective: Objective, clean: Tensor | None = None) -> Tensor:
        """What training lowers: a scalar that reaches every trainable parameter.

        `clean`, where `images` were spoilt on purpose (noise, holes), is what they were: what a model should rebuild.
        """

    def warm_up(self, share: float) -> None:
        """Told before each epoch which share of the training is over, 0 to 1, for weights that grow; most do nothing."""


class Autoencoder(Model):
    """A model that also rebuilds a target from the code. The target is the image itself unless a family says otherwise."""

    rebuilds_images: ClassVar[bool] = True  # False where the target is something else, such as features

    @property
    def decodes(self) -> bool:
        """Whether `decode` needs nothing but a code; not where skips carry the image past it."""
        return True

    @abstractmethod
    def decode(self, code: Tensor) -> Tensor:
        """(B, D, h, w) -> a reconstruction of the target's shape"""

    def target(self, images: Tensor) -> Tensor:
        """What `decode` should return: (B, C, H, W)."""
        return images

    def rebuild(self, images: Tensor) -> Tensor:
        """The images as the model sees them, through the code and back."""
        reconstruction: Tensor = self.decode(self.encode(images))
        return reconstruction

    def loss(self, images: Tensor, objective: Objective, clean: Tensor | None = None) -> Tensor:
        return objective(self.rebuild(images), self.target(images if clean is None else clean))
