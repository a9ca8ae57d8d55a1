"""What the scorers of features share: rows of numbers, gathered in bounded memory, and made comparable."""

from __future__ import annotations

import contextlib
import warnings
from abc import abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from unlike.config import check_range
from unlike.data.randomness import random_directions
from unlike.errors import ConfigError, DataError
from unlike.models.base import OutputSpec
from unlike.records import Floats, Rows
from unlike.scoring.base import Capabilities, Scorer
from unlike.scoring.batches import Batches, in_blocks
from unlike.scoring.statistics.moments import Moments, moments_of

WIDEST = 8192  # numbers a row whose covariance is computed: 0.5 GB
BLOCK = 4096  # rows at a time
AT_ONCE = 2_000_000  # distances: more do not fit the processor's caches, and take a third longer
NOT_FINITE = (
    "the code of a normal image is not finite: the model did not learn; fit it with a smaller training.learning_rate"
)
SHORTEST = 1e-6  # features, as from a network that sees nothing, are not made longer
SAMPLE_BYTES = 400_000_000  # of rows that are kept at most, whatever was asked for


@dataclass(frozen=True, slots=True, kw_only=True)
class FeatureConfig:
    """What of a code is measured, and how it is made comparable first."""

    # what is one row of numbers: each position of the grid by itself, the whole grid as one vector, or its mean
    code: Literal["grid", "vector", "mean"] = "grid"
    # which, from 0, of a model that gives several (features with model.fine or model.separate); none: all
    feature_group: int | tuple[int, ...] | None = None
    unit_groups: bool = False  # each feature group of a position is brought to length 1, so that all count alike
    pool: int = 1  # cells a side of the blocks whose means are taken: a coarser grid
    averaging: int = 1  # cells of that grid across, over which each is averaged; beyond the border there is nothing
    dimensions: int | None = None  # random directions that the numbers of a position are reduced to; none keeps all
    # how the numbers of a row are made comparable, by what normal images show
    scale: Literal["none", "standardise", "whiten"] = "none"
    reduce: int | None = None  # principal components to keep, before anything else is learned
    # several categories are learned each by itself; an image is held against the one it is like
    per_category: bool = True
    unit: bool = False  # only where a row points to counts, not how far: contrast and complexity go

    def __post_init__(self) -> None:
        if self.reduce is not None and self.reduce < 1:
            raise ConfigError(f"scorer.reduce: expected 1 component or more, or none, came {self.reduce}")
        groups = self.groups
        if groups is not None and (not groups or min(groups) < 0 or len(set(groups)) < len(groups)):
            raise ConfigError(
                f"scorer.feature_group: expected 0 or more, one or several different ones, or none, came {self.feature_group}"
            )
        check_range("scorer.averaging", self.averaging, 1, 99)
        if self.averaging % 2 == 0:
            raise ConfigError(f"scorer.averaging: expected an odd number, which has a middle, came {self.averaging}")
        check_counts(pool=self.pool, **({} if self.dimensions is None else {"dimensions": self.dimensions}))

    @property
    def groups(self) -> tuple[int, ...] | None:
        """The feature groups that are taken, one or several; None: all."""
        return (self.feature_group,) if isinstance(self.feature_group, int) else self.feature_group


class FeatureScorer(Scorer):
    """A distance from the features of normal images: of each position of a grid, or of a whole image.

    A subclass learns from rows of numbers and measures others; how rows come out of features, and how they are scaled, is
    the same for all. One pass over the normal images, in memory that does not grow with their number. A subclass registers a
    buffer for each array that its `learn` returns.
    """

    Config: ClassVar[type[Any]] = FeatureConfig
    inputs = ("features",)
    keeps_rows: bool = True  # False: what `Moments` says of the rows is enough
    needs_covariance: bool = False
    mean: Tensor  # (D,)
    basis: Tensor | None  # (D, d); None where rows stay as they are
    directions: Tensor | None  # (D, C, 1, 1) of the C numbers of a position; None where they stay as they are

    def __init__(self, config: Any, spec: OutputSpec) -> None:
        super().__init__(config, spec)
        self.columns, self.widths = _columns(config.groups, spec.feature_groups)
        self.register_buffer("directions", _directions_for(config, sum(self.widths)))
        self.register_buffer("mean", torch.empty(0))
        self.register_buffer("basis", None)
        self.chosen: dict[str, Floats] = {}
        self.origins: Rows = np.empty(0, np.intp)  # (N,) the image of each row that `learn` is given

    @abstractmethod
    def learn(self, rows: Floats, moments: Moments, seed: int) -> dict[str, Floats]:
        """Arrays that `distances` needs, from prepared rows (N, d), a sample of them if they are many, and their moments."""

    @abstractmethod
    def distances(self, rows: Tensor) -> Tensor:
        """(N, d) -> (N,), each >= 0"""

    @property
    def capabilities(self) -> Capabilities:
        return Capabilities(per_category=bool(self.config.per_category))

    def fit(self, train: Batches, held_out: Batches, seed: int) -> FeatureScorer:  # noqa: ARG002
        wants_covariance = self.wants_covariance()
        keeps = self.keeps_rows or self.config.unit or not wants_covariance
        sample = _RowSample(np.random.default_rng(seed), self.most_rows if keeps else 0)
        moments: Moments | None = None
        each = 1  # rows of an image
        for (features,) in train:
            rows, (height, width) = self.rows_of(features)
            each = height * width
            if moments is None:
                check_width(rows.shape[1], self.config, wants_covariance)
                moments = Moments(rows.shape[1], covariance=wants_covariance)
            moments.add(rows)
            sample.add(rows)
        if moments is None:
            raise DataError("a scorer of features needs normal images to learn from; none came")
        if not moments.finite:
            raise DataError(NOT_FINITE)
        check_varied(moments)
        basis = make_basis(moments, self.config.scale, self.config.reduce)
        plain_cosines = self.config.unit and basis is None
        around = np.zeros(moments.width) if plain_cosines else moments.mean
        device = rows.device
        self.mean = torch.from_numpy(around.astype(np.float32))
        self.basis = None if basis is None else torch.from_numpy(basis.astype(np.float32))
        rows, self.origins = torch.from_numpy(sample.rows(moments.width)), sample.numbers() // each
        del sample  # its rows are many: no more than two copies at a time
        kept = self._prepare_all(rows).numpy()
        del rows
        prepared = moments_of(kept, covariance=wants_covariance) if self.config.unit else moments.through(basis)
        for name, value in self.learn(kept, prepared, seed).items():
            setattr(self, name, torch.from_numpy(np.ascontiguousarray(value)))
        return self.to(device)

    def choices(self) -> dict[str, Floats]:
        return self.chosen

    def decide(self, name: str, find: Callable[[], Floats]) -> Floats:
        """What is settled under that name, or else what is found."""
        self.chosen[name] = self.settled[name] if name in self.settled else find()
        return self.chosen[name]

    def forward(self, features: Tensor) -> Tensor:  # (B, D, h, w)
        rows, grid = self.rows_of(features)
        return self.distances(self.prepare(rows)).view(features.shape[0], *grid)  # (B, h, w)

    def wants_covariance(self) -> bool:
        """Whether the covariance of all rows is to be computed."""
        return self.needs_covariance or self.config.scale != "none" or self.config.reduce is not None

    @property
    def most_rows(self) -> int:
        """How many rows are kept to learn from: all of a small set, a random sample of a large one."""
        return 200_000

    def group_of(self, features: Tensor) -> Tensor:
        """(B, C, H, W) -> of its feature groups those that are measured, as they are measured, (B, D, h, w)."""
        taken = features if self.columns is None else torch.cat([features[:, part] for part in self.columns], dim=1)
        if self.config.unit_groups:
            parts = torch.split(taken, self.widths, dim=1) if self.widths else (taken,)
            taken = torch.cat([functional.normalize(part, dim=1, eps=SHORTEST) for part in parts], dim=1)
        if self.config.pool > 1:  # at the border over the cells that there are
            taken = functional.avg_pool2d(taken, self.config.pool, ceil_mode=True)
        if (side := self.config.averaging) > 1:
            taken = functional.avg_pool2d(taken, side, stride=1, padding=side // 2)
        return taken if self.directions is None else functional.conv2d(taken, self.directions)

    def rows_of(self, features: Tensor) -> tuple[Tensor, tuple[int, int]]:
        """(B, D, h, w) -> rows (B h w, D), and the grid (h, w) they lie on; 1 x 1 where an image is one row."""
        group = self.group_of(features)
        if self.config.code == "vector":
            return group.flatten(1), (1, 1)
        if self.config.code == "mean":
            return group.mean(dim=(2, 3)), (1, 1)
        return group.permute(0, 2, 3, 1).reshape(-1, group.shape[1]), (group.shape[2], group.shape[3])

    def prepare(self, rows: Tensor) -> Tensor:
        """(N, D) -> (N, d), around the mean of the normal ones: distances of small numbers are exact."""
        centred = rows - self.mean
        scaled = centred if self.basis is None else centred @ self.basis
        return functional.normalize(scaled, dim=1) if self.config.unit else scaled

    def _prepare_all(self, rows: Tensor) -> Tensor:
        """The same for many rows, which are overwritten where what comes out is as wide."""
        prepared = rows if self.basis is None else rows.new_empty(len(rows), self.basis.shape[1])
        for start in range(0, len(rows), BLOCK):
            prepared[start : start + BLOCK] = self.prepare(rows[start : start + BLOCK])
        return prepared


def _columns(groups: tuple[int, ...] | None, widths: tuple[int, ...]) -> tuple[list[slice] | None, list[int]]:
    """Which of the numbers of a position are those of the groups, a slice and a width each; no slices where all are taken."""
    count = max(len(widths), 1)
    wrong = [group for group in groups or () if group >= count]
    if wrong:
        several = "(see model.fine and model.separate of features)"
        known = f"0 to {count - 1}" if count > 1 else f"0, for the model gives one {several}"
        raise ConfigError(f"scorer.feature_group: expected {known}, or none, came {wrong[0]}")
    if groups is None or not widths:
        return None, list(widths)
    ends = np.cumsum(widths).tolist()
    return [slice(ends[group] - widths[group], ends[group]) for group in groups], [widths[group] for group in groups]


def _directions_for(config: Any, width: int) -> Tensor | None:
    if config.dimensions is None:
        return None
    if config.dimensions >= width:
        raise ConfigError(
            f"scorer.dimensions: expected fewer than the numbers of a position, which are {width or 'not known of this model'}, "
            f"came {config.dimensions}; leave it out to keep all"
        )
    return torch.from_numpy(random_directions(width, config.dimensions, seed=0))[..., None, None]


def make_basis(moments: Moments, scale: str, reduce: int | None) -> Floats | None:
    """The matrix (D, d) that scales and reduces rows, by what normal ones show; None where they stay as they are.

    Directions in which normal rows do not vary at all are left unscaled, so that a constant number does not blow up.
    """
    if scale == "none" and reduce is None:
        return None
    if reduce is not None and reduce > min(moments.width, moments.count - 1):
        raise DataError(
            f"scorer.reduce: {reduce} components cannot be had of {moments.count} codes of {moments.width} numbers; "
            f"expected {max(1, min(moments.width, moments.count - 1))} or fewer"
        )
    covariance = moments.covariance
    if scale == "standardise":
        deviations = np.sqrt(np.diag(covariance))
        scaling = np.diag(1 / np.where(deviations > 1e-6 * deviations.max(), deviations, deviations.max()))
        if reduce is None:
            return np.asarray(scaling)
        _, vectors = principal(scaling @ covariance @ scaling)
        return np.asarray(scaling @ vectors[:, :reduce])
    values, vectors = principal(covariance)
    if scale == "whiten":
        vectors = vectors / np.sqrt(np.maximum(values, 1e-6 * values[0]))
    return np.asarray(vectors if reduce is None else vectors[:, :reduce])


def principal(covariance: Floats) -> tuple[Floats, Floats]:
    """Eigenvalues (D,), largest first, each >= 0, and the directions (D, D) in columns, with a sign that is certain."""
    values, vectors = np.linalg.eigh(covariance)
    values, vectors = np.maximum(values[::-1], 0), vectors[:, ::-1]
    signs = np.sign(vectors[np.abs(vectors).argmax(axis=0), np.arange(len(values))])
    return values, vectors * signs


def check_varied(moments: Moments) -> None:
    """Raise DataError where all codes are the same."""
    if not moments.variance > 1e-12 * float(np.square(moments.mean).sum()):  # rounding varies too
        raise DataError(
            f"all {moments.count} codes of normal images are the same, so there is nothing to measure distance by: the "
            "images are copies, or the model's code is constant (train it longer, or a vae with a smaller model.beta)"
        )


def check_counts(**counts: int) -> None:
    """Raise ConfigError unless each setting of these names is 1 or more."""
    for name, value in counts.items():
        if value < 1:
            raise ConfigError(f"scorer.{name}: expected 1 or more, came {value}")


def check_enough(found: int, needed: int, what: str, setting: str) -> None:
    """Raise DataError where there are fewer codes than the parts that are wanted of them."""
    if found < needed:
        raise DataError(
            f"{needed} {what} need as many codes of normal images or more, came {found}; lower {setting} or add images"
        )


def short_seed(seed: int) -> int:
    """A seed as scikit-learn takes it: 32 bits."""
    return seed % 2**32


@contextlib.contextmanager
def unconverged_allowed() -> Iterator[None]:
    """Take what an iteration has when its steps are over, without a warning: some codes are hard to part."""
    from sklearn.exceptions import ConvergenceWarning

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        yield


def nearest(rows: Tensor, points: Tensor, count: int = 1, *, owners: tuple[Tensor, Tensor] | None = None) -> Tensor:
    """Euclidean distances (N, count) of rows (N, d) to their nearest points (M, d), nearest first.

    `owners` (N,) and (M,) say what each row and point belongs to: a row is held against the points of others alone.

    Candidates come from one matrix product a block; their distances are then computed exactly, so that they do not
    depend on the block, and a row that is a point is at distance 0.
    """
    lengths = points.square().sum(dim=1)
    block = max(1, min(BLOCK, AT_ONCE // max(len(points), 1)))
    parts = in_blocks(rows, block)
    others = (
        [None] * len(parts) if owners is None else [part[:, None] == owners[1] for part in in_blocks(owners[0], block)]
    )
    found = []
    for part, own in zip(parts, others, strict=True):
        closeness = torch.addmm(lengths, part, points.T, alpha=-2)  # (block, M) squared distance, less the row's length
        if own is not None:
            closeness[own] = torch.inf
        chosen = closeness.topk(count, dim=1, largest=False).indices if count > 1 else closeness.argmin(1, keepdim=True)
        found.append(torch.linalg.vector_norm(part[:, None] - points[chosen], dim=2))
    return torch.cat(found)


class _RowSample:
    """A uniform random sample of all rows that came, as many as are wanted: those of the smallest keys, held once."""

    def __init__(self, random: np.random.Generator, most: int) -> None:
        self._random, self._most = random, most
        self._rows: Floats = np.empty((0, 0), np.float32)
        self._keys: Floats = np.empty(0)
        self._numbers = np.empty(0, np.intp)  # of the rows, in the order in which they came
        self._seen = self._count = 0

    def add(self, rows: Tensor) -> None:  # (B, D)
        if not self._most:
            return
        if not len(self._rows):
            most = max(1, min(self._most, SAMPLE_BYTES // (4 * rows.shape[1])))
            self._rows = np.empty((most, rows.shape[1]), np.float32)  # memory is taken as it is filled
            self._keys, self._numbers = np.empty(most), np.empty(most, np.intp)
        values, keys = rows.float().cpu().numpy(), self._random.random(len(rows))
        numbers = np.arange(self._seen, self._seen + len(rows))
        self._seen += len(rows)
        free = min(len(self._rows) - self._count, len(rows))
        self._put(slice(self._count, self._count + free), values[:free], keys[:free], numbers[:free])
        self._count += free
        if free < len(rows):
            self._replace(values[free:], keys[free:], numbers[free:])

    def rows(self, width: int) -> Floats:
        """(N, D), in the order in which they came."""
        if not self._count:
            return np.empty((0, width), np.float32)
        numbers = self._numbers[: self._count]
        in_order = bool((numbers[1:] > numbers[:-1]).all())
        return self._rows[: self._count] if in_order else self._rows[np.argsort(numbers)]

    def numbers(self) -> npt.NDArray[np.intp]:
        """(N,) which of all rows that came they are."""
        return np.sort(self._numbers[: self._count])

    def _replace(self, values: Floats, keys: Floats, numbers: npt.NDArray[np.intp]) -> None:
        """Of those that are there and these, as many stay as there is room for."""
        room = len(self._rows)
        stays = np.zeros(room + len(keys), np.bool_)
        stays[np.argpartition(np.concatenate([self._keys, keys]), room - 1)[:room]] = True
        new = stays[room:]
        self._put(np.flatnonzero(~stays[:room]), values[new], keys[new], numbers[new])

    def _put(
        self, where: slice | npt.NDArray[np.intp], values: Floats, keys: Floats, numbers: npt.NDArray[np.intp]
    ) -> None:
        self._rows[where], self._keys[where], self._numbers[where] = values, keys, numbers


def check_width(width: int, config: FeatureConfig, covariance: bool) -> None:
    """Raise ConfigError where a covariance that is wanted would be too large."""
    if covariance and width > WIDEST:
        instead = "code = 'mean'" if config.code == "vector" else "a model with a narrower code"
        raise ConfigError(
            f"codes of {width:,} numbers are too wide for a covariance, which can have {WIDEST:,}; take {instead}"
        )


def check_components(components: float) -> None:
    """Raise ConfigError unless this is a number of components, or the share of variance that they should explain."""
    if isinstance(components, float) and components < 1:
        check_range("scorer.components", components, 1e-6, 1)
    elif components < 1 or components != int(components):
        raise ConfigError(
            f"scorer.components: expected a whole number, or a share of variance below 1, came {components}"
        )
