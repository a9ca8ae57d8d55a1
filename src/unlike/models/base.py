"""The promise of a model: images to a code, and, for an autoencoder, back to the target it rebuilds."""

from __future__ import annotations

import contextlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Self

from torch import Tensor, nn

from unlike.errors import ConfigError
from unlike.records import ImageShape

if TYPE_CHECKING:
    from unlike.backbones.network_cache import NetworkCache

Objective = Callable[[Tensor, Tensor], Tensor]  # (reconstruction, target) -> scalar


@dataclass(frozen=True, slots=True)
class OutputSpec:
    """What a model can be asked for by name, and what whoever takes it must know: all that a scorer is told of a model."""

    model: str  # name of its class, for messages
    names: tuple[str, ...]  # among "features", "target", "reconstruction" and "marks"
    feature_groups: tuple[int, ...] = ()  # how many of the D numbers of a feature are in each group; () where it is one
    target_channels: int | None = None  # None where there is no target
    images: bool = True  # the target is the image itself; False where it is something else, such as features
    decode: Callable[[Tensor], Tensor] | None = None  # codes to what the model makes of them; None where it cannot
    skips: bool = False  # it cannot, because skips carry the image past the code

    def check(self, names: Sequence[str]) -> None:
        """Raise ConfigError unless all of these names are outputs of the model.

        >>> OutputSpec("Pixels", ("features",)).check(["target"])
        Traceback (most recent call last):
        ConfigError: Pixels does not give 'target'; expected some of: features. Take a model that does, ...
        """
        missing = [name for name in names if name not in self.names]
        if missing:
            raise ConfigError(
                f"{self.model} does not give {', '.join(map(repr, missing))}; expected some of: {', '.join(self.names)}. "
                "Take a model that does, or another scorer"
            )


class Model(nn.Module, ABC):
    """Turns images into a code: what every row of `unlike`'s table has in common.

    Images are (B, C, H, W), scaled so that black is -1 and white is 1. The code is (B, D, h, w); a vector is h = w = 1.
    A subclass names its `Config`, a frozen dataclass of its sizes, and is built as `Family(config, shape)`. What it gives
    in use (`eval`) depends on images and weights alone, and leaves the model as it is.
    """

    Config: ClassVar[type[Any]]
    trains: ClassVar[bool] = True  # False where there is nothing to train

    def __init__(self, config: Any, shape: ImageShape) -> None:
        super().__init__()
        self.config = config
        self.shape = shape

    @classmethod
    def build(cls, config: Any, shape: ImageShape, networks: NetworkCache | None = None) -> Self:  # noqa: ARG003
        """A fresh model; one that has a frozen network inside takes it from the network cache, and puts it there."""
        return cls(config, shape)

    @property
    def feature_groups(self) -> tuple[int, ...]:
        """How the D numbers of a code part into several groups, one after the other; () where it is one."""
        return ()

    @property
    def output_spec(self) -> OutputSpec:
        """What can be asked of `outputs`."""
        return OutputSpec(type(self).__name__, ("features",), self.feature_groups)

    def outputs(self, images: Tensor, names: Sequence[str]) -> dict[str, Tensor]:  # (B, C, H, W)
        """The outputs of these names, computed together, none of it twice; a ConfigError where there is no such output.

        "features" is the code (B, D, h, w); of an autoencoder, "target" is what it should rebuild and "reconstruction"
        what it does; "marks", (B, h, w), says how likely each cell is defective.
        """
        self.output_spec.check(names)
        found = self._compute(images, names)
        return {name: found[name] for name in names}

    def _compute(self, images: Tensor, names: Collection[str]) -> dict[str, Tensor]:  # noqa: ARG002
        """At least the outputs of these names; a family that has more of them computes together what they share."""
        return {"features": self.encode(images)}

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

    @contextlib.contextmanager
    def during_training(self) -> Iterator[None]:
        """Entered for the time of one training, for what a model needs then and never else, such as a feature cache."""
        yield


class Autoencoder(Model):
    """A model that also rebuilds a target from the code. The target is the image itself unless a family says otherwise."""

    @property
    def output_spec(self) -> OutputSpec:
        names, decode = ("features", "target", "reconstruction"), self.decode if self.decodes else None
        return OutputSpec(
            type(self).__name__,
            names,
            self.feature_groups,
            self.shape.channels,
            decode=decode,
            skips=not self.decodes,
        )

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

    def _compute(self, images: Tensor, names: Collection[str]) -> dict[str, Tensor]:
        found = {"target": self.target(images)} if "target" in names else {}
        if "features" in names or ("reconstruction" in names and self.decodes):
            found["features"] = self.encode(images)
        if "reconstruction" in names:
            found["reconstruction"] = self.decode(found["features"]) if self.decodes else self.rebuild(images)
        return found
