"""fusion: several scorers at once, each by what normal images show it."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from unlike.calibration.precomputed import Remembered
from unlike.config import from_mapping
from unlike.errors import ConfigError, DataError, unknown
from unlike.models import Model
from unlike.scoring.base import Arrays, Scorer

LEAST_SPREAD = 1.05  # of the two levels: a few images that happen to agree must not make one scorer outvote all
LEVELS = (0.5, 0.95)  # of the scores of held-out normal images: they become 1 and 2
LEAST_VALUE = 1e-3  # in a geometric mean
AS_THEY_ARE = (1.0, 2.0)  # levels that leave a scorer's values as they are


@dataclass(frozen=True, slots=True, kw_only=True)
class EnsembleConfig:
    """Which scorers, with what settings, and how they are put together."""

    scorers: tuple[str, ...] = ("residual", "kmeans")  # one that comes again has a word after it: neighbours_fine
    settings: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)  # by scorer: {kmeans = {clusters = 3}}
    combine: Literal["mean", "geometric", "max"] = "mean"  # geometric: the mean of logarithms; max: the highest
    weights: tuple[float, ...] | None = None  # of the scorers in a mean, in their order; none: all alike
    # of each map, by held-out normal images: their median score becomes 1, and by levels what 19 in 20 stay below 2
    scale: Literal["levels", "line"] = "levels"
    per_category: bool = True  # several categories are learned apart, where all are scorers of codes

    def __post_init__(self) -> None:
        if len(self.scorers) < 2 or len(set(self.scorers)) < len(self.scorers) or "fusion" in map(_kind, self.scorers):
            raise ConfigError(
                f"scorer.scorers: expected two different names of scorers or more, not fusion, came {list(self.scorers)}; "
                "a scorer that comes again, with other settings, has a word of its own after it, as neighbours_fine"
            )
        if self.weights is not None and (
            self.combine == "max"
            or len(self.weights) != len(self.scorers)
            or not all(0 < weight < math.inf for weight in self.weights)
        ):
            raise ConfigError(
                f"scorer.weights: expected a number above 0 for each of {len(self.scorers)} scorers, with combine = 'mean' or "
                f"'geometric', or none; came {list(self.weights)} with '{self.combine}'"
            )
        for name in self.settings:
            if name not in self.scorers:
                raise unknown("scorer.settings", name, self.scorers)


class EnsembleScorer(Scorer):
    """A mean, weighted or not, or the highest, of several scorers, each brought to a scale on which normal images look alike.

    A scorer's values are stretched so that 0 stays 0, the median score of held-out normal images becomes 1, and what
    all but one in twenty of them stay below becomes 2; beyond that a straight line. `scale = "line"` only makes the
    median 1, which leaves the places of a map to each other as they were. Maps are brought to the finest grid.

    A geometric mean takes values below a thousandth for a thousandth: a scorer that finds nothing at all is no veto.
    In the mean, a scorer that finds a place twenty times as far as usual outvotes all others that find it usual. In the
    geometric mean, of four, it makes it twice as far: several must agree.

    Where no image is held out the values are left as they are, until `settle` is told what held-out images would have had.
    """

    Config = EnsembleConfig
    wants_held_out = True  # for the levels

    def __init__(self, config: EnsembleConfig, kinds: Callable[[], Mapping[str, type[Scorer]]] | None = None) -> None:
        super().__init__(config)
        known = (kinds or _registered)()
        for name in config.scorers:
            if _kind(name, known) not in known:
                raise unknown("scorer.scorers", _kind(name), [kind for kind in known if kind != "fusion"])
        self.members = [
            kind(from_mapping(kind.Config, config.settings.get(name, {}), f"scorer.settings.{name}"))
            for name, kind in ((name, known[_kind(name, known)]) for name in config.scorers)
        ]
        self.only_codes = all(member.only_codes for member in self.members)
        self.needs_held_out = not self.only_codes
        self.levels: npt.NDArray[np.float64] = np.empty((0, 2))  # of each member

    @property
    def learns_apart(self) -> bool:
        return bool(self.config.per_category) and self.only_codes

    @property
    def passes(self) -> int:
        return sum(member.passes for member in self.members)

    def check(self, model: Model) -> None:
        for name, member in zip(self.config.scorers, self.members, strict=True):
            try:
                member.check(model)
            except ConfigError as error:
                raise ConfigError(re.sub(r"^scorer\.", f"scorer.settings.{name}.", str(error))) from None

    def fit(self, model: Model, train: Iterable[Tensor], held_out: Iterable[Tensor], seed: int) -> EnsembleScorer:
        for member in self.members:
            member.fit(model, train, held_out, seed)
        self.levels = np.array([AS_THEY_ARE] * len(self.members))
        with torch.no_grad():
            means = [self.views(model, images).mean(dim=(2, 3)) for images in held_out]
        if means:
            self.levels = _levels(torch.cat(means))
        elif not self.only_codes:
            raise DataError("fusion needs normal images that the model was not trained on, for its scales; add images")
        return self

    def maps(self, model: Model, images: Tensor) -> Tensor:
        return self._join(self.views(model, images))

    def views(self, model: Model, images: Tensor) -> Tensor:
        wanted = [member.only_codes for member in self.members]
        codes, known = (
            model.encode(images) if any(wanted) else images,
            Remembered(model.feature_groups),
        )  # seen once for all
        maps = [
            member.maps(known, codes) if wants else member.maps(model, images)
            for member, wants in zip(self.members, wanted, strict=True)
        ]
        return _stack(maps)

    def knows_left_out(self, count: int) -> bool:
        return all(member.knows_left_out(count) for member in self.members)

    def left_out(self, model: Model, codes: Tensor, chosen: Tensor) -> Tensor:
        return _stack([member.left_out(model, codes, chosen)[:, 0] for member in self.members])

    def settle(self, views: Tensor) -> Tensor:
        self.levels = _levels(views.mean(dim=(2, 3)))
        return self._join(views)

    def state(self) -> dict[str, npt.NDArray[Any]]:
        arrays: dict[str, npt.NDArray[Any]] = {"levels": self.levels}
        for name, member in zip(self.config.scorers, self.members, strict=True):
            arrays |= {f"{name}.{key}": value for key, value in member.state().items()}
        return arrays

    def restore(self, arrays: Arrays) -> None:
        self.levels = np.asarray(arrays["levels"], np.float64)
        for name, member in zip(self.config.scorers, self.members, strict=True):
            start = f"{name}."
            member.restore({key.removeprefix(start): arrays[key] for key in arrays if key.startswith(start)})

    def _join(self, views: Tensor) -> Tensor:
        """(B, M, h, w) -> (B, h, w)"""
        pairs = zip(views.unbind(dim=1), self.levels.tolist(), strict=True)
        line = self.config.scale == "line"
        maps = torch.stack([view / middle if line else stretch(view, middle, high) for view, (middle, high) in pairs])
        if self.config.combine == "max":
            return maps.amax(dim=0)
        weights = maps.new_tensor(self.config.weights or [1.0] * len(maps))
        weights = (weights / weights.sum())[:, None, None, None]
        if self.config.combine == "geometric":
            return (maps.clamp_min(LEAST_VALUE).log() * weights).sum(dim=0).exp()
        return (maps * weights).sum(dim=0)


def stretch(values: Tensor, middle: float, high: float) -> Tensor:
    """Values >= 0 so that 0 stays 0, `middle` becomes 1 and `high` 2, in straight lines.

    >>> stretch(torch.tensor([0.0, 2.0, 3.0, 5.0]), middle=2.0, high=3.0).tolist()
    [0.0, 1.0, 2.0, 4.0]
    """
    return torch.where(values < middle, values / middle, 1 + (values - middle) / (high - middle))


def _kind(name: str, known: Iterable[str] = ()) -> str:
    """Of `neighbours` and of `neighbours_fine` it is neighbours; a name that is known is meant as it stands."""
    return name if name in known else name.partition("_")[0]


def _levels(means: Tensor) -> npt.NDArray[np.float64]:
    """Scores (N, M) -> (M, 2) the two levels of each, apart from each other and from 0 even where all are the same."""
    middle, high = np.quantile(means.cpu().double().numpy(), LEVELS, axis=0)
    middle = np.maximum(middle, 1e-12)
    return np.stack([middle, np.maximum(high, middle * LEAST_SPREAD)], axis=1)


def _stack(maps: list[Tensor]) -> Tensor:
    """Maps (B, h, w), one of each scorer, to the finest grid of them: (B, M, h, w)."""
    height, width = (max(map_.shape[side] for map_ in maps) for side in (1, 2))
    return torch.stack([_resize(map_, height, width) for map_ in maps], dim=1)


def _resize(maps: Tensor, height: int, width: int) -> Tensor:
    if maps.shape[1:] == (height, width):
        return maps
    return functional.interpolate(maps[:, None], (height, width), mode="bilinear", align_corners=False)[:, 0].clamp_min(
        0
    )


def _registered() -> Mapping[str, type[Scorer]]:
    from unlike.scoring import SCORERS  # which names this scorer too

    return SCORERS
