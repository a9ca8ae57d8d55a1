"""How a model learns, as settings."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Literal

import numpy as np

from unlike.config import check_range
from unlike.data.defects import DefectConfig
from unlike.errors import ConfigError, unknown
from unlike.models.initialise import INITIALISATIONS
from unlike.models.losses import LOSSES

AUTO_STEPS = 1_500  # that `epochs = "auto"` aims at
AUTO_EPOCHS = (10, 300)  # that it keeps to


@dataclass(frozen=True, slots=True)
class TrainingConfig:
    """How a model learns."""

    epochs: int | Literal["auto"] = "auto"  # passes over the images; auto: some 1,500 steps, 10 to 300 epochs
    batch_size: int | Literal["auto"] = "auto"  # images a step, over all processes; auto: 128, fewer for small sets
    accumulate: int = 1  # parts in which a batch is taken, one after the other, where memory is short
    optimiser: Literal["adamw", "adam", "sgd"] = "adamw"  # how weights follow gradients
    learning_rate: float = 1e-3  # the highest of the schedule
    momentum: float = 0.9  # of sgd
    weight_decay: float = 0.0  # pull of the weights towards zero
    clip_norm: float | None = None  # longest gradient that is followed as it is; none: any
    schedule: Literal["one-cycle", "cosine", "constant", "plateau"] = "one-cycle"  # of the learning rate
    t_max: int | None = None  # epochs of half a cosine; none: all
    objective: str = "squared"  # what is lowered: squared, absolute, charbonnier, ssim, ms-ssim, cosine, frequency
    initialisation: str = "default"  # of new weights: default, or kaiming-xavier, as for VAEs on products
    # whose weights are kept: those of the epoch with the lowest loss of these images, or of the last; minibatch: those of the
    # step with the lowest loss of its own few images, which is noise for the most part, as a published report did
    keep: Literal["validation", "train", "minibatch", "last"] = "validation"
    # of batch norms, in use: estimated anew after each epoch, from training images as they are and the weights as they
    # are, or running means over past steps with their dropout and noise
    statistics: Literal["estimated", "running"] = "estimated"
    patience: int | None = None  # stop after this many epochs without a better loss; none: never
    # bits of a number; bf16 and 16 are mixed with 32, faster on some devices; auto: bf16 where the device gains by it
    precision: Literal["32", "auto", "bf16", "16"] = "32"
    compile: bool = False  # by torch.compile: slow to start, then faster on some devices
    # that share each batch, on this machine; auto: one for each GPU; what torchrun was told goes before it
    processes: int | Literal["auto"] = 1

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "accumulate", "processes", "patience", "t_max"):
            value = getattr(self, name)
            if isinstance(value, int) and value < 1:
                raise ConfigError(f"training.{name}: expected 1 or more, came {value}")
        check_range("training.learning_rate", self.learning_rate, 1e-12, 1e3)
        check_range("training.momentum", self.momentum, 0, 0.9999)
        check_range("training.weight_decay", self.weight_decay, 0, 1e3)
        if self.clip_norm is not None:
            check_range("training.clip_norm", self.clip_norm, 1e-9, 1e9)
        if self.initialisation not in INITIALISATIONS:
            raise unknown("training.initialisation", self.initialisation, INITIALISATIONS)
        if self.objective not in LOSSES:
            raise unknown("training.objective", self.objective, LOSSES)

    def resolve(self, images: int) -> tuple[int, int]:
        """Epochs and batch size for this many training images.

        >>> TrainingConfig().resolve(3000), TrainingConfig().resolve(40)
        ((62, 128), (300, 8))
        """
        batch = int(np.clip(images // 16, 8, 128)) if self.batch_size == "auto" else self.batch_size
        steps = -(-images // batch)
        return (int(np.clip(AUTO_STEPS // steps, *AUTO_EPOCHS)) if self.epochs == "auto" else self.epochs), batch


@dataclass(frozen=True, slots=True)
class CorruptionConfig:
    """How images are spoilt before the model sees them in training: it is to rebuild them as they were, or to say where.

    >>> CorruptionConfig(defect_share=0.5, defect_kinds=("scratch",)).damage.kinds
    ('scratch',)
    """

    noise: float = 0.0  # standard deviation of Gaussian noise, where black to white is 2 (denoising)
    hole_share: float = 0.0  # of the image that is hidden by grey squares (inpainting)
    hole_pixels: int = 8  # side of a square
    defect_share: float = 0.0  # of the images that get synthetic defects, those held out to validate too
    defect_most: int = 3  # defects an image gets at most
    defect_kinds: tuple[str, ...] = DefectConfig().kinds  # each as likely as the others
    defect_size: tuple[float, float] = DefectConfig().size  # a side, as a share of the image's
    defect_opacity: tuple[float, float] = DefectConfig().opacity  # of scratches, stains and textures

    def __post_init__(self) -> None:
        check_range("corruption.noise", self.noise, 0, 10)
        check_range("corruption.hole_share", self.hole_share, 0, 0.95)
        if self.hole_pixels < 1:
            raise ConfigError(f"corruption.hole_pixels: expected 1 or more, came {self.hole_pixels}")
        _ = self.damage  # its own checks

    @property
    def damage(self) -> DefectConfig:
        """The synthetic defects among all this."""
        names = [field.name for field in fields(DefectConfig)]
        try:
            return DefectConfig(**{name: getattr(self, f"defect_{name}") for name in names})
        except ConfigError as error:
            raise ConfigError(str(error).replace("defects.", "corruption.defect_")) from None
