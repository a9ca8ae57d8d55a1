"""features: what a frozen network sees, stage by stage, in one grid; PatchCore, PaDiM and DFR score it."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
from dataclasses import dataclass
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from unlike.backbones.network_cache import CachedNetwork, NetworkCache
from unlike.backbones.networks import Stages, make_stages, weights_source
from unlike.backbones.runtimes import CHOICES, Frozen
from unlike.config import check_count_or_none, check_range, from_mapping
from unlike.data.randomness import isolated_randomness, random_directions
from unlike.errors import ConfigError, unknown
from unlike.records import ImageShape

SOURCES = ("frozen_features.py", "networks.py", "runtimes.py", "lazy_network.py", "network_cache.py")  # of a network
BORDERS, SCALES = ("damp", "keep"), ("unit", "none")
SHORTEST = 1e-6  # features, as from a network that sees nothing, are not made longer


@dataclass(frozen=True, slots=True)
class FeaturesConfig:
    """Which features of which network are taken, and what computes them."""

    backbone: str = "efficientnet-lite0"  # or the name of any timm network, such as resnet18
    pretrained: bool = True  # false: random weights, to see what pretrained ones are worth
    # a file of safetensors with them, as timm names them, in the stead of an installed package's or the hub's
    weights: str | None = None
    # as timm counts them; auto: those with cells 8 and 16 pixels across, or half and three quarters of the way through
    stages: tuple[int, ...] | Literal["auto"] = "auto"
    cell: int | Literal["auto"] = "auto"  # pixels across, of the one grid of all stages; auto: the finest's
    final_norm: bool = False  # each stage of a vision transformer as its last normalisation makes it
    averaging: int = 3  # cells of a stage across, over which it is averaged; 1 averages nothing
    border: str = "damp"  # damp: what an average lacks beyond the image counts as nothing; keep: it is not counted
    scale: str = "none"  # unit: each stage's features of a position have length 1, so all stages count alike
    dimensions: int | None = None  # random directions that the features of a position are reduced to; none keeps all
    direction_seed: int = 0  # of the draw of those directions
    fine: tuple[int, ...] = ()  # stages that come once more as they are, not averaged: a second feature group
    separate: bool = False  # each stage is a feature group of its own, for scorers that take some of them
    most_cells: int | None = None  # down and across, of the one grid; a finer one is averaged to fewer
    runtime: str = "auto"  # on a CPU: openvino, onnxruntime, torchscript or torch; auto: the fastest that is installed

    def __post_init__(self) -> None:
        if self.stages != "auto" and not self.stages:
            raise ConfigError("model.stages: expected one stage or more, or auto, came none")
        if self.weights is not None and not self.pretrained:
            raise ConfigError("model.weights are pretrained ones: leave model.pretrained = false out, or model.weights")
        if self.cell != "auto":
            check_range("model.cell", self.cell, 1, 1024)
        check_range("model.averaging", self.averaging, 1, 99)
        if self.averaging % 2 == 0:
            raise ConfigError(f"model.averaging: expected an odd number, which has a middle, came {self.averaging}")
        check_count_or_none("dimensions", self.dimensions)
        check_count_or_none("most_cells", self.most_cells)
        if self.separate and self.dimensions is not None:
            raise ConfigError(
                f"model.separate keeps the stages apart: expected no model.dimensions, which mix them, came {self.dimensions}; "
                "scorer.dimensions reduces what a scorer takes"
            )
        check_range("model.direction_seed", self.direction_seed, 0, 2**63 - 1)
        for name, known in (("border", BORDERS), ("scale", SCALES), ("runtime", CHOICES)):
            if getattr(self, name) not in known:
                raise unknown(f"model.{name}", getattr(self, name), known)


@dataclass(frozen=True, slots=True)
class Sizes:
    """What a model must know of the features that it is to learn from."""

    widths: tuple[int, ...]  # channels of each stage
    grid: tuple[int, int]  # cells down and across
    feature_groups: tuple[int, ...]  # of the numbers of a position, how many each group has; () where there is one
    width: int  # numbers of a position, all in all


class FrozenFeatures(Frozen):
    """Features as a frozen network, (B, C, H, W) -> (B, D, h, w), and their sizes."""

    def __init__(self, module: nn.Module, runtime: str, sizes: Sizes, cached: CachedNetwork | None = None) -> None:
        super().__init__(module, runtime, cached)
        self.sizes = sizes


def make_features(config: FeaturesConfig, shape: ImageShape, networks: NetworkCache | None = None) -> FrozenFeatures:
    """The frozen extractor by itself, (B, C, H, W) -> (B, D, h, w), for models that learn from what it sees.

    Its layers are not made where all that matters of it is in the network cache that is given.

    >>> config = FeaturesConfig(backbone="resnet18", pretrained=False)
    >>> make_features(config, ImageShape(3, 64, 96))(torch.zeros(2, 3, 64, 96)).shape
    torch.Size([2, 384, 8, 12])
    """
    recipe = _recipe(config, shape)
    if networks is None or recipe is None:
        grid = _make_grid(config, shape)
        return FrozenFeatures(grid, config.runtime, grid.sizes)
    source = weights_source(config.backbone, config.weights) if config.pretrained else None
    bare = dataclasses.replace(config, pretrained=False, weights=None)  # it is given the weights
    found = networks.find(recipe, source, partial(_make_grid, bare, shape))
    if found is not None:
        return FrozenFeatures(found.network, config.runtime, from_mapping(Sizes, found.facts, "sizes"), found.cached)
    grid = _make_grid(config, shape)
    cached = networks.keep(recipe, grid, dataclasses.asdict(grid.sizes), source)
    return FrozenFeatures(grid, config.runtime, grid.sizes, cached)


def _make_grid(config: FeaturesConfig, shape: ImageShape) -> FeatureGrid:
    chosen = None if config.stages == "auto" else config.stages
    size = (shape.height, shape.width)
    # pretrained, it must not change what is drawn for the rest of a model, for it may as well be taken from the cache
    with isolated_randomness(0) if config.pretrained else contextlib.nullcontext():
        stages = make_stages(
            config.backbone,
            config.pretrained,
            shape.channels,
            size,
            chosen,
            weights=config.weights,
            final_norm=config.final_norm,
        )
    return FeatureGrid(stages, config, size).eval()


def _recipe(config: FeaturesConfig, shape: ImageShape) -> str | None:
    """A digest of all that the network for images of that shape depends on, but its weights; None where that is not known."""
    if CODE is None:
        return None
    choices = {field.name: getattr(config, field.name) for field in dataclasses.fields(FeaturesConfig)}
    for name in ("runtime", "pretrained", "weights"):
        del choices[name]
    return hashlib.sha256(repr((CODE, torch.get_default_dtype(), choices, shape)).encode()).hexdigest()


def _read_code() -> str | None:
    """A digest of the code that is being imported, and of what it works with; None where the sources are not installed."""
    sums = hashlib.sha256()
    try:
        for name in SOURCES:
            sums.update(Path(__file__).with_name(name).read_bytes())
    except OSError:
        return None
    for package in ("torch", "timm", "openvino"):
        with contextlib.suppress(PackageNotFoundError):
            sums.update(f"{package} {version(package)}\n".encode())
    return sums.hexdigest()


CODE = _read_code()  # now: what lies on the disk may be upgraded while this process runs


class FeatureGrid(nn.Module):
    """The stages of a network in one grid, (B, C, H, W) -> (B, D, h, w); an image's own do not depend on the others'."""

    directions: Tensor | None

    def __init__(self, stages: Stages, config: FeaturesConfig, size: tuple[int, int]) -> None:
        super().__init__()
        self.stages = stages
        self.averaging, self.border, self.scale = config.averaging, config.border, config.scale
        self.fine = [stages.index(number) for number in config.fine]
        finest = max(stages.grids)
        grid = finest if config.cell == "auto" else (-(-size[0] // config.cell), -(-size[1] // config.cell))
        coarser = 1 if config.most_cells is None else -(-max(grid) // config.most_cells)
        self.grid = (-(-grid[0] // coarser), -(-grid[1] // coarser))
        self.register_buffer("directions", _draw_directions(sum(stages.widths), config))
        first = sum(stages.widths) if config.dimensions is None else config.dimensions
        fine = [stages.widths[index] for index in self.fine]
        groups = (*stages.widths, *fine) if config.separate else (first, sum(fine)) if fine else ()
        self.sizes = Sizes(tuple(stages.widths), self.grid, groups, first + sum(fine))

    def forward(self, images: Tensor) -> Tensor:  # (B, C, H, W)
        stages, sizes = self.stages(images), self.stages.grids
        grids = [
            self._bring(self._average(self._rescale(grid)), size) for grid, size in zip(stages, sizes, strict=True)
        ]
        features = torch.cat(grids, dim=1)
        first = features if self.directions is None else functional.conv2d(features, self.directions)
        fine = [self._bring(self._rescale(stages[index]), sizes[index]) for index in self.fine]
        return torch.cat([first, *fine], dim=1) if fine else first  # (B, D, h, w)

    def _rescale(self, grid: Tensor) -> Tensor:
        return _to_unit(grid) if self.scale == "unit" else grid

    def _average(self, grid: Tensor) -> Tensor:
        """Over neighbouring cells; at the border over those that there are, or as if the others were zero."""
        if self.averaging == 1:
            return grid
        side, damped = self.averaging, self.border == "damp"
        return functional.avg_pool2d(grid, side, stride=1, padding=side // 2, count_include_pad=damped)

    def _bring(self, grid: Tensor, size: tuple[int, int]) -> Tensor:
        """From the grid (h, w) of a stage to the one grid: means of cells where it is coarser, else a smooth surface."""
        if size == self.grid:
            return grid
        down, right = size[0] // self.grid[0], size[1] // self.grid[1]
        if (down * self.grid[0], right * self.grid[1]) == size:  # the same as below, in words that every runtime knows
            return functional.avg_pool2d(grid, (down, right))
        if size[0] >= self.grid[0] and size[1] >= self.grid[1]:
            return functional.adaptive_avg_pool2d(grid, self.grid)
        return functional.interpolate(grid, self.grid, mode="bilinear", align_corners=False)


def _to_unit(grid: Tensor) -> Tensor:
    return functional.normalize(grid, dim=1, eps=SHORTEST)


def _draw_directions(count: int, config: FeaturesConfig) -> Tensor | None:
    """Orthogonal directions (D, count, 1, 1) of length 1; a ConfigError where there are not so many."""
    if config.dimensions is None:
        return None
    if config.dimensions > count:
        raise ConfigError(
            f"model.dimensions: expected {count} or less, the channels of the chosen stages of {config.backbone}, "
            f"came {config.dimensions}"
        )
    return torch.from_numpy(random_directions(count, config.dimensions, config.direction_seed))[..., None, None]
