"""The promise of a model: images to a code, and, for an autoencoder, back to the target it rebuilds."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor, nn

from unlike.records import ImageShape

Objective = Callable[[Tensor, Tensor], Tensor]  # (reconstruction, target) -> scalar


@dataclass(frozen=True, slots=True)
class OutputSpec:
    """What a model gives to whoever scores it."""

    model: str  # its class, for messages
    names: tuple[str, ...]  # among features, target, reconstruction, marks
    feature_groups: tuple[int, ...] = ()  # how the D numbers of a feature part into groups; () where they are one
    target_channels: int | None = None
    images: bool = True  # whether the target is the image itself
    decode: Callable[[Tensor], Tensor] | None = None  # a code alone -> a reconstruction; None where it takes more
    skips: bool = False  # what a reconstruction takes beside the code goes round it


class Model(nn.Module, ABC):
    """Turns images into a code: what every row of `unlike`'s table has in common.

    Images are (B, C, H, W), scaled so that black is -1 and white is 1. The code is (B, D, h, w); a vector is h = w = 1.
    A subclass names its `Config`, a frozen dataclass of its sizes, and is built as `Family(config, shape)`.
    """

    Config: ClassVar[type[Any]]

    def __init__(self, config: Any, shape: ImageShape) -> None:
        super().__init__()
        self.config = config
        self.shape = shape

    trains: ClassVar[bool] = True  # False where nothing of it learns

    @property
    def feature_groups(self) -> tuple[int, ...]:
        """How the D numbers of a code part into groups, one after the other; () where they are one."""
        return ()

    @property
    def output_spec(self) -> OutputSpec:
        """What `outputs` can give."""
        return OutputSpec(type(self).__name__, ("features",), self.feature_groups)

    def outputs(self, images: Tensor, names: Sequence[str]) -> dict[str, Tensor]:  # (B, C, H, W)
        """The named outputs, of one look at the images."""
        return {name: self.encode(images) for name in names}

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

    @property
    def output_spec(self) -> OutputSpec:
        return OutputSpec(
            type(self).__name__,
            ("features", "target", "reconstruction"),
            target_channels=self.shape.channels if self.rebuilds_images else None,
            images=self.rebuilds_images,
            decode=self.decode if self.decodes else None,
            skips=hasattr(self.config, "skips"),
        )

    def outputs(self, images: Tensor, names: Sequence[str]) -> dict[str, Tensor]:
        if self.decodes and "reconstruction" in names:
            code = self.encode(images)
            found = {"features": code, "reconstruction": self.decode(code)}
        else:
            found = {"features": self.encode(images)} if "features" in names else {}
            if "reconstruction" in names:
                found["reconstruction"] = self.rebuild(images)
        if "target" in names:
            found["target"] = self.target(images)
        return {name: found[name] for name in names}

    def target(self, images: Tensor) -> Tensor:
        """What `decode` should return: (B, C, H, W)."""
        return images

    def rebuild(self, images: Tensor) -> Tensor:
        """The images as the model sees them, through the code and back."""
        reconstruction: Tensor = self.decode(self.encode(images))
        return reconstruction

    def loss(self, images: Tensor, objective: Objective, clean: Tensor | None = None) -> Tensor:
        return objective(self.rebuild(images), self.target(images if clean is None else clean))
