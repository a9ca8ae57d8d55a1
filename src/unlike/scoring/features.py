"""What the scorers of codes share: rows of numbers from a model, gathered in bounded memory, and made comparable."""

from __future__ import annotations

import contextlib
import warnings
from abc import abstractmethod
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from unlike.config import check_range
from unlike.errors import ConfigError, DataError
from unlike.models import Model
from unlike.records import Floats
from unlike.scoring.base import Arrays, Scorer
from unlike.scoring.statistics.moments import Moments, moments_of

WIDEST = 8192  # numbers a row whose covariance is computed: 0.5 GB
BLOCK = 4096  # rows at a time
AT_ONCE = 2_000_000  # distances: more do not fit the processor's caches, and take a third longer
SAMPLE_BYTES = 400_000_000  # of rows that are kept at most, whatever was asked for


@dataclass(frozen=True, slots=True, kw_only=True)
class CodeConfig:
    """Which view of a code is measured, and how it is made comparable first."""

    # what is one row of numbers: each position of the grid by itself, the whole grid as one vector, or its mean
    code: Literal["grid", "vector", "mean"] = "grid"
    look: int | None = None  # which, from 0, of a model that looks twice (features with model.fine); none: both
    # how the numbers of a row are made comparable, by what normal images show
    scale: Literal["none", "standardise", "whiten"] = "none"
    reduce: int | None = None  # principal components to keep, before anything else is learned
    per_category: bool = True  # several categories are learned apart; an image is held against the one it looks like
    unit: bool = False  # only where a row points to counts, not how far: contrast and complexity go

    def __post_init__(self) -> None:
        if self.reduce is not None and self.reduce < 1:
            raise ConfigError(f"scorer.reduce: expected 1 component or more, or none, came {self.reduce}")
        if self.look is not None and self.look < 0:
            raise ConfigError(f"scorer.look: expected 0 or more, or none, came {self.look}")


class CodeScorer(Scorer):
    """A distance from the codes of normal images: of each position of a grid, or of a whole image.

    A subclass learns from rows of numbers and measures others; how rows come out of images, and how they are scaled, is
    the same for all. A model is asked for nothing but `encode`. One pass over the normal images, in memory that does not
    grow with their number.
    """

    Config: ClassVar[type[Any]] = CodeConfig
    only_codes = True
    keeps_rows: bool = True  # False: what `Moments` says of the rows is enough
    needs_covariance: bool = False

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self.mean: Tensor | None = None  # (D,)
        self.basis: Tensor | None = None  # (D, d), or None where rows stay as they are
        self.learned: dict[str, Tensor] = {}  # by the subclass
        self.origins: npt.NDArray[np.intp] = np.empty(0, np.intp)  # (N,) the image of each row that `learn` is given

    @abstractmethod
    def learn(self, rows: Floats, moments: Moments, seed: int) -> dict[str, Floats]:
        """Arrays that `distances` needs, from prepared rows (N, d), a sample of them if they are many, and their moments."""

    @abstractmethod
    def distances(self, rows: Tensor) -> Tensor:
        """(N, d) -> (N,), each >= 0; `self.learned` has what was learned."""

    def check(self, model: Model) -> None:
        count = max(len(model.feature_groups), 1)
        if self.config.look is not None and self.config.look >= count:
            known = f"0 to {count - 1}" if count > 1 else "0, for the model looks once (see model.fine of features)"
            raise ConfigError(f"scorer.look: expected {known}, or none, came {self.config.look}")

    def fit(self, model: Model, train: Iterable[Tensor], held_out: Iterable[Tensor], seed: int) -> CodeScorer:  # noqa: ARG002
        wants_covariance = self.wants_covariance()
        keeps = self.keeps_rows or self.config.unit or not wants_covariance
        sample = _RowSample(np.random.default_rng(seed), self.most_rows if keeps else 0)
        moments: Moments | None = None
        each = 1  # rows of an image
        with torch.no_grad():
            for images in train:
                rows, (height, width) = self._rows(model, images)
                each = height * width
                if moments is None:
                    check_width(rows.shape[1], self.config, wants_covariance)
                    moments = Moments(rows.shape[1], covariance=wants_covariance)
                moments.add(rows)
                sample.add(rows)
        if moments is None:
            raise DataError("a scorer of codes needs normal images to learn from; none came")
        if not moments.finite:
            raise DataError(
                "the code of a normal image is not finite: the model did not learn; fit it with a smaller training.learning_rate"
            )
        check_varied(moments)
        basis = make_basis(moments, self.config.scale, self.config.reduce)
        around = (
            np.zeros(moments.width) if self.config.unit and basis is None else moments.mean
        )  # plain cosines: from 0
        self.mean = torch.from_numpy(around.astype(np.float32))
        self.basis = None if basis is None else torch.from_numpy(basis.astype(np.float32))
        rows, self.origins = torch.from_numpy(sample.rows(moments.width)), sample.numbers() // each
        del sample  # its rows are many: no more than two copies at a time
        kept = self._prepare_all(rows).numpy()
        del rows
        prepared = moments_of(kept, covariance=wants_covariance) if self.config.unit else moments.through(basis)
        found = self.learn(kept, prepared, seed)
        self.learned = {name: torch.from_numpy(np.ascontiguousarray(value)) for name, value in found.items()}
        return self

    def maps(self, model: Model, images: Tensor) -> Tensor:
        rows, grid = self._rows(model, images)
        self._move(rows.device)
        return self.distances(self._prepare(rows)).view(len(images), *grid)

    @property
    def learns_apart(self) -> bool:
        return bool(self.config.per_category)

    def wants_covariance(self) -> bool:
        """Whether the covariance of all rows is to be computed."""
        return self.needs_covariance or self.config.scale != "none" or self.config.reduce is not None

    @property
    def most_rows(self) -> int:
        """How many rows are kept to learn from: all of a small set, a random sample of a large one."""
        return 200_000

    def state(self) -> dict[str, npt.NDArray[Any]]:
        assert self.mean is not None, "fit comes first"
        own = {"mean": self.mean} | ({} if self.basis is None else {"basis": self.basis}) | self.learned
        return {name: value.cpu().numpy() for name, value in own.items()}

    def restore(self, arrays: Arrays) -> None:
        tensors = {name: torch.from_numpy(np.ascontiguousarray(value)) for name, value in arrays.items()}
        self.mean, self.basis = tensors.pop("mean"), tensors.pop("basis", None)
        self.learned = tensors

    def _look(self, model: Model, images: Tensor) -> Tensor:
        """(B, C, H, W) -> the code (B, D, h, w), or of several looks the one that is measured."""
        code = model.encode(images)
        if self.config.look is None or not model.feature_groups:
            return code
        look: Tensor = torch.split(code, list(model.feature_groups), dim=1)[self.config.look]
        return look

    def _rows(self, model: Model, images: Tensor) -> tuple[Tensor, tuple[int, int]]:
        """(B, C, H, W) -> rows (B h w, D), and the grid (h, w) they lie on; 1 x 1 where an image is one row."""
        code = self._look(model, images)
        if self.config.code == "vector":
            return code.flatten(1), (1, 1)
        if self.config.code == "mean":
            return code.mean(dim=(2, 3)), (1, 1)
        return code.permute(0, 2, 3, 1).reshape(-1, code.shape[1]), (code.shape[2], code.shape[3])

    def _prepare(self, rows: Tensor) -> Tensor:
        """(N, D) -> (N, d), around the mean of the normal ones: distances of small numbers are exact."""
        assert self.mean is not None, "fit or restore comes first"
        centred = rows - self.mean
        scaled = centred if self.basis is None else centred @ self.basis
        return functional.normalize(scaled, dim=1) if self.config.unit else scaled

    def _prepare_all(self, rows: Tensor) -> Tensor:
        """The same for many rows, which are overwritten where what comes out is as wide."""
        prepared = rows if self.basis is None else rows.new_empty(len(rows), self.basis.shape[1])
        for start in range(0, len(rows), BLOCK):
            prepared[start : start + BLOCK] = self._prepare(rows[start : start + BLOCK])
        return prepared

    def _move(self, device: torch.device) -> None:
        assert self.mean is not None, "fit or restore comes first"
        if self.mean.device != device:
            self.mean = self.mean.to(device)
            self.basis = None if self.basis is None else self.basis.to(device)
            self.learned = {name: value.to(device) for name, value in self.learned.items()}


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
    found = []
    for start in range(0, len(rows), block):
        part = rows[start : start + block]
        closeness = torch.addmm(lengths, part, points.T, alpha=-2)  # (block, M) squared distance, less the row's length
        if owners is not None:
            closeness[owners[0][start : start + block, None] == owners[1]] = torch.inf
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
        """Of those that are there and these, as many as there are places for stay."""
        places = len(self._rows)
        stays = np.zeros(places + len(keys), np.bool_)
        stays[np.argpartition(np.concatenate([self._keys, keys]), places - 1)[:places]] = True
        new = stays[places:]
        self._put(np.flatnonzero(~stays[:places]), values[new], keys[new], numbers[new])

    def _put(
        self, where: slice | npt.NDArray[np.intp], values: Floats, keys: Floats, numbers: npt.NDArray[np.intp]
    ) -> None:
        self._rows[where], self._keys[where], self._numbers[where] = values, keys, numbers


def check_width(width: int, config: CodeConfig, covariance: bool) -> None:
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
