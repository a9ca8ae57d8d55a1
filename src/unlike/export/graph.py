"""What is exported: one module from pixels, as a camera or a file has them, to maps and scores."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor, nn

from unlike.backbones.lazy_network import materialise
from unlike.backbones.runtimes import Compiled, Frozen
from unlike.data.input_spec import InputSpec
from unlike.detector.pipeline import Pipeline
from unlike.records import Bools, Floats, Pixels
from unlike.scoring.maps import reduce_maps


class PixelGraph(nn.Module):
    """A pipeline from pixels (B, H, W, C) of one number type: maps (B, h, w) and scores (B,).

    Where the detector knows a value that stands for none, a second input, (B, H, W), says where those are: nothing is strange
    there.

    >>> from unlike import Detector
    >>> images = np.random.default_rng(0).integers(100, 120, (40, 16, 16), dtype=np.uint8)
    >>> fitted = Detector("pixels", "gaussian", false_alarms=0.1, device="cpu").fit(images).fitted_
    >>> maps, scores = PixelGraph(fitted.pipeline, fitted.spec, "uint8")(torch.from_numpy(images[:2, ..., None]))
    >>> scores.shape
    torch.Size([2])
    """

    rows: Tensor
    columns: Tensor

    def __init__(self, pipeline: Pipeline, spec: InputSpec, depth: str) -> None:
        super().__init__()
        self.pipeline, self.spec, self.depth = pipeline, spec, depth
        low, high = spec.value_range if depth == "float32" else (0.0, float(np.iinfo(depth).max))
        self.low, self.half_span = low, max(high - low, 1e-12) / 2
        if spec.missing is not None:
            height, width = self.size_of_maps()
            self.register_buffer("rows", _overlaps(spec.height, height))  # (h, H)
            self.register_buffer("columns", _overlaps(spec.width, width).T.contiguous())  # (W, w)

    def forward(self, pixels: Tensor, missing: Tensor | None = None) -> tuple[Tensor, Tensor]:
        values = pixels.to(torch.int32) if pixels.dtype == torch.uint16 else pixels  # few operations know the type
        images = (values.permute(0, 3, 1, 2).to(torch.float32) - self.low) / self.half_span - 1
        maps, scores = self.pipeline(images)
        if missing is None:
            return maps, scores
        # a cell of a map is left out where any pixel that it stands for has no value
        holes = self.rows @ missing.to(torch.float32) @ self.columns  # (B, h, w)
        maps = torch.where(holes > 0, torch.zeros_like(maps), maps)
        return maps, reduce_maps(maps, self.pipeline.maps)

    def example(self, count: int) -> tuple[Tensor, ...]:
        """Inputs (`count`, ...) of the right type: what a graph is traced with."""
        spec = self.spec
        shape = (count, spec.height, spec.width, spec.channels)
        draw = np.random.default_rng(0)
        low, high = spec.value_range if self.depth == "float32" else (0, int(np.iinfo(self.depth).max))
        pixels = torch.from_numpy(draw.uniform(low, high, shape).astype(self.depth))
        return (pixels,) if spec.missing is None else (pixels, torch.zeros(shape[:3], dtype=torch.bool))

    @torch.no_grad()
    def size_of_maps(self) -> tuple[int, int]:
        """Height and width of the maps."""
        spec = self.spec
        maps, _ = self.pipeline(torch.zeros(1, spec.channels, spec.height, spec.width))
        return int(maps.shape[1]), int(maps.shape[2])

    @torch.no_grad()
    def see(self, pixels: Pixels, missing: Bools | None) -> tuple[Floats, Floats]:
        """What torch itself says: maps (B, h, w) and scores (B,), each image by itself."""
        found = [
            self(
                *(
                    torch.from_numpy(np.ascontiguousarray(one[row : row + 1]))
                    for one in (pixels, missing)
                    if one is not None
                )
            )
            for row in range(len(pixels))
        ]
        maps, scores = (torch.cat(parts).numpy() for parts in zip(*found, strict=True))
        return maps, scores.astype(np.float64)


@contextlib.contextmanager
def by_torch(pipeline: Pipeline) -> Iterator[Pipeline]:
    """The pipeline with all its layers, on the CPU, run by torch itself: what an exported graph is held against."""
    device = pipeline.device
    materialise(pipeline.to("cpu").eval())
    frozen = [part for part in pipeline.modules() if isinstance(part, Frozen)]
    before = [part.compiled for part in frozen]
    try:
        for part in frozen:
            part.compiled = Compiled("torch")
        yield pipeline
    finally:
        for part, compiled in zip(frozen, before, strict=True):
            part.compiled = compiled
        pipeline.to(device)


def _overlaps(pixels: int, cells: int) -> Tensor:
    """(cells, pixels) 1 where a cell of a map stands for that pixel, as in `adaptive_max_pool2d`; else 0."""
    starts = np.arange(cells) * pixels // cells
    stops = -(-(np.arange(cells) + 1) * pixels // cells)
    places = np.arange(pixels)
    return torch.from_numpy(((places >= starts[:, None]) & (places < stops[:, None])).astype(np.float32))
