"""repair: learns from synthetic defects to mark what does not belong in an image, and to paint what should be there."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import NamedTuple, Protocol, runtime_checkable

import torch
from torch import Tensor, nn
from torch.nn import functional

from unlike.config import check_range, check_widths
from unlike.errors import ConfigError
from unlike.models.base import Autoencoder, Objective, OutputSpec
from unlike.models.blocks import convolve
from unlike.records import ImageShape

CELL = 4  # pixels a side that are marked together
POOL = 2  # cells a side of one position of the code
VISIBLE = 0.06  # change, where black to white is 2, averaged over 3 x 3 pixels, below which nothing is to be marked
SOFTENER = 0.05  # added to an image's contrast before it divides: an even image stays even


@runtime_checkable
class MarksDefects(Protocol):
    """A model that has learned where defects are."""

    def mark(self, images: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, h, w), the logarithm of the odds that a cell is defective."""


@dataclass(frozen=True, slots=True)
class RepairConfig:
    """Sizes of a RepairNetwork."""

    # of each block; the first has a quarter of the side, each other half of the one before
    widths: tuple[int, ...] = (16, 32, 48, 64)
    mark_weight: float = 1.0  # of the cross-entropy of the marks, beside the objective of the repaired image

    def __post_init__(self) -> None:
        check_widths("widths", self.widths)
        check_range("model.mark_weight", self.mark_weight, 1e-6, 1e6)


class _View(NamedTuple):
    """What the network makes of images whose sides it can halve."""

    code: list[Tensor]  # what each block on the way up has made, coarse to fine
    change: Tensor  # (B, C, H, W), to be added to the image
    marks: Tensor  # (B, 1, H / 4, W / 4)


class RepairNetwork(Autoencoder):
    """Needs no pretrained weights: it learns what is normal by repairing and marking what was damaged on purpose.

    A small U-Net on quarter-size cells. One head paints what is to be added to the image to make it whole; another sees
    the same features, the image and that change, and says of each cell of 4 x 4 pixels whether it is damaged: DRAEM's idea
    (Zavrtanik et al. 2021), with one network for both. The code, a grid of an eighth of the side, has what all blocks on
    the way up made of the image: statistics of it say what is normal where, even for defects unlike those it learned from
    (as CutPaste does, Li et al. 2021). The skips carry the image past any code, so that a code alone cannot be decoded.

    Train it with `corruption.defect_share` above 0; where nothing is spoilt it learns that nothing is to be done. Images
    of any size: what does not divide is filled up with the border's colours. Each image is brought to mean 0 and contrast
    1 first, since the light differs from image to image.
    """

    Config = RepairConfig

    def __init__(self, config: RepairConfig, shape: ImageShape) -> None:
        super().__init__(config, shape)
        widths, pixels = config.widths, shape.channels * CELL**2
        self.multiple = CELL * max(POOL, 2 ** (len(widths) - 1))
        half = max(widths[0] // 2, 1)
        self.stem = nn.Sequential(*convolve(shape.channels, half, 5, 2), *convolve(half, widths[0], 3, 2))
        self.down = nn.ModuleList(
            [nn.Sequential(*convolve(a, b), *convolve(b, b)) for a, b in pairwise((widths[0], *widths))]
        )
        self.up = nn.ModuleList(
            [nn.Sequential(*convolve(a + b, b, 1), *convolve(b, b)) for a, b in pairwise(widths[::-1])]
        )
        self.paint = nn.Conv2d(widths[0], pixels, 3, padding=1)
        nn.init.zeros_(self.paint.weight)  # what is not learned is left as it is
        assert self.paint.bias is not None
        nn.init.zeros_(self.paint.bias)
        self.look = nn.Sequential(*convolve(widths[0] + 2 * pixels, widths[0]), nn.Conv2d(widths[0], 1, 3, padding=1))

    def encode(self, images: Tensor) -> Tensor:  # (B, C, H, W)
        return self._code(self._view(images))  # (B, D, H / 8, W / 8)

    @property
    def output_spec(self) -> OutputSpec:
        spec = super().output_spec
        return replace(spec, names=(*spec.names, "marks"))

    @property
    def decodes(self) -> bool:
        return False

    def decode(self, code: Tensor) -> Tensor:  # noqa: ARG002
        raise ConfigError("model 'repair' repairs images, but cannot decode a code alone; take model 'conv' for that")

    def rebuild(self, images: Tensor) -> Tensor:  # (B, C, H, W)
        return images + self._crop(self._view(images).change)  # (B, C, H, W)

    def mark(self, images: Tensor) -> Tensor:  # (B, C, H, W)
        return self._view(images).marks[:, 0]  # (B, H / 4, W / 4)

    def loss(self, images: Tensor, objective: Objective, clean: Tensor | None = None) -> Tensor:
        clean = images if clean is None else clean
        view = self._view(images)
        differs = functional.avg_pool2d(self._fill((images - clean).abs().amax(1, keepdim=True)), 3, 1, 1) > VISIBLE
        damaged = functional.max_pool2d(differs.float(), CELL)  # (B, 1, H / 4, W / 4)
        marked = functional.binary_cross_entropy_with_logits(view.marks, damaged)
        painted = objective(images + self._crop(view.change), clean)
        return painted + float(self.config.mark_weight) * marked

    def _compute(self, images: Tensor, names: Collection[str]) -> dict[str, Tensor]:  # noqa: ARG002
        view = self._view(images)
        return {
            "features": self._code(view),
            "target": self.target(images),
            "reconstruction": images + self._crop(view.change),
            "marks": view.marks[:, 0],
        }

    def _code(self, view: _View) -> Tensor:
        code = view.code
        height, width = (side // POOL for side in code[-1].shape[2:])
        grids = [_resize(values, height, width) for values in code]
        return functional.avg_pool2d(torch.cat(grids, 1), 3, stride=1, padding=1)

    def _view(self, images: Tensor) -> _View:
        mean = images.mean((1, 2, 3), keepdim=True)
        contrast = (images - mean).square().mean((1, 2, 3), keepdim=True).sqrt()
        even = self._fill((images - mean) / (contrast + SOFTENER))
        values, seen, made = self.stem(even), list[Tensor](), list[Tensor]()
        for level, block in enumerate(self.down):
            values = block(functional.max_pool2d(values, 2) if level else values)
            seen.append(values)
        made.append(seen.pop())
        for block in self.up:
            larger = functional.interpolate(made[-1], scale_factor=2.0, mode="nearest")
            made.append(block(torch.cat([larger, seen.pop()], dim=1)))
        painted = self.paint(made[-1])
        shown = functional.pixel_unshuffle(self._fill(images), CELL)
        marks = self.look(torch.cat([made[-1], shown, painted.detach().abs()], dim=1))
        return _View(made[1:] or made, functional.pixel_shuffle(painted, CELL), marks)

    def _fill(self, images: Tensor) -> Tensor:
        """With sides that can be halved often enough."""
        down, right = (-side % self.multiple for side in images.shape[2:])
        return functional.pad(images, (0, right, 0, down), mode="replicate") if down or right else images

    def _crop(self, filled: Tensor) -> Tensor:
        return filled[..., : self.shape.height, : self.shape.width]


def _resize(grid: Tensor, height: int, width: int) -> Tensor:
    if grid.shape[2] > height:
        return functional.adaptive_avg_pool2d(grid, (height, width))
    return functional.interpolate(grid, (height, width), mode="bilinear", align_corners=False)
