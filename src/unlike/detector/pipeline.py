"""The pipeline: images in, maps and scores out; one pure module that everything that needs a score calls."""

from __future__ import annotations

from collections.abc import Callable
from itertools import chain

import numpy as np
import torch
from torch import Tensor, nn

from unlike.data.tensors import to_tensor
from unlike.data.tiles import Tiling
from unlike.detector.accelerator import in_parts
from unlike.models.base import Model
from unlike.records import Bools, Floats, Pixels
from unlike.scoring.base import Scorer
from unlike.scoring.maps import MapConfig, reduce_maps, smooth

BLOCK = 64  # images, or tiles of one, through the model at once


class Pipeline(nn.Module):
    """How strange images are, and where: images (B, C, H, W) in -1 to 1 -> maps (B, h, w) and scores (B,).

    A model makes features, and perhaps a reconstruction, of the images; a scorer a map of those; the map is smoothed and
    reduced to a score. Of large images the model sees tiles, and the scorer's maps are put together before that. Each image
    is seen by itself, and nothing is remembered: it can be exported (`torch.export`).

    >>> from unlike.models.pixels import Pixels, PixelsConfig
    >>> from unlike.records import ImageShape
    >>> from unlike.scoring.batches import Batches
    >>> from unlike.scoring.neighbours import NeighboursConfig, NeighboursScorer
    >>> model = Pixels(PixelsConfig(side=2), ImageShape(3, 8, 8))
    >>> scorer = NeighboursScorer(NeighboursConfig(code="vector"), model.output_spec)
    >>> normal = Batches.of_tensors(model.encode(torch.rand(5, 3, 8, 8)))
    >>> pipeline = Pipeline(model, scorer.fit(normal, normal, seed=0))
    >>> maps, scores = pipeline(torch.zeros(2, 3, 8, 8))
    >>> maps.shape, scores.shape
    (torch.Size([2, 1, 1]), torch.Size([2]))
    """

    def __init__(
        self, model: Model, scorer: Scorer, maps: MapConfig | None = None, tiling: Tiling | None = None
    ) -> None:
        super().__init__()
        self.model, self.scorer = model, scorer
        self.maps, self.tiling = maps or MapConfig(), tiling

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        return self.reduce(self._by_tiles(images, self._score))

    def reduce(self, maps: Tensor) -> tuple[Tensor, Tensor]:
        """Maps of the scorer (B, h, w), smoothed, and the score that each comes to (B,)."""
        smoothed = smooth(maps, self.maps)
        return smoothed, reduce_maps(smoothed, self.maps)

    def reconstruct(self, images: Tensor) -> Tensor:
        """(B, C, H, W) -> the images as the model rebuilds them; for one that rebuilds images."""
        return self._by_tiles(images, lambda seen: self.model.outputs(seen, ["reconstruction"])["reconstruction"])

    @property
    def images_at_once(self) -> int:
        """How many images are a block of work that is neither small nor heavy."""
        return BLOCK if self.tiling is None else max(1, BLOCK // len(self.tiling))

    @property
    def device(self) -> torch.device:
        """Where the weights are; a model without any works where images are."""
        return device_of(self.model)

    def _score(self, images: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, h, w)"""
        outputs = self.model.outputs(images, self.scorer.inputs)
        return self.scorer(*(outputs[name] for name in self.scorer.inputs))  # type: ignore[no-any-return]

    def _by_tiles(self, images: Tensor, see: Callable[[Tensor], Tensor]) -> Tensor:
        """What `see` finds in whole images (B, C, H, W), or in their tiles, stitched."""
        if self.tiling is None:
            return see(images)
        return self.tiling.stitch(torch.cat([see(tiles) for tiles in self.tiling.cut(images, BLOCK)], dim=0))


@torch.no_grad()
def score_pixels(
    pipeline: Pipeline, pixels: Pixels, value_range: tuple[float, float], missing: Bools | None = None
) -> tuple[Floats, Floats]:
    """Pixels (B, H, W, C) -> maps (B, h, w) and scores (B,), each image by itself, on the pipeline's device.

    Where values are `missing` (B, H, W) nothing is strange: maps are zero there, and scores are what the rest comes to. On a
    GPU whole batches go through at once, or parts of them where memory runs out.
    """

    def see(start: int, stop: int) -> tuple[Floats, Floats]:
        found = pipeline(to_tensor(pixels[start:stop], value_range, pipeline.device))
        if missing is not None:
            found = mask_missing(found[0], missing[start:stop], pipeline.maps)
        return found[0].cpu().numpy(), found[1].cpu().numpy().astype(np.float64)

    whole = pipeline.device.type == "cuda" and pipeline.tiling is None
    found = in_parts(len(pixels), len(pixels) if whole else pipeline.images_at_once, see)
    return np.concatenate([maps for maps, _ in found]), np.concatenate([scores for _, scores in found])


def mask_missing(maps: Tensor, missing: Bools, config: MapConfig) -> tuple[Tensor, Tensor]:
    """Maps (B, h, w) without what lies where values are missing (B, H, W), and the scores that they come to."""
    holes = torch.from_numpy(missing).to(maps.device)[:, None].float()
    small = nn.functional.adaptive_max_pool2d(holes, maps.shape[1:])[:, 0]
    kept = maps.masked_fill(small > 0, 0)
    return kept, reduce_maps(kept, config)


def device_of(module: nn.Module) -> torch.device:
    """Where a module's weights are; one without any works on the CPU."""
    return next((tensor.device for tensor in chain(module.parameters(), module.buffers())), torch.device("cpu"))
