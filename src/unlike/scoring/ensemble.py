"""ensemble: several scorers at once, each by what normal images show it."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

from unlike.config import from_mapping
from unlike.errors import ConfigError, DataError, unknown
from unlike.models.base import OutputSpec
from unlike.records import Floats, Rows
from unlike.scoring.base import Capabilities, Scorer, choices_of, named_choices
from unlike.scoring.batches import Batches

LEAST_SPREAD = 1.05  # of the two levels: a few images that happen to agree must not make one scorer outvote all
LEVELS = (0.5, 0.95)  # of the scores of held-out normal images: they become 1 and 2
STRANGE = (0.5, 0.9)  # quantiles of the peaks of normal images: how far apart they are is how unsteady a scorer is
LEAST_STEADY = 0.02  # of that, in logarithms: below it all are steady enough
SMALLEST = 1e-12  # of a peak
LEAST_VALUE = 1e-3  # in a geometric mean


@dataclass(frozen=True, slots=True, kw_only=True)
class EnsembleConfig:
    """Which scorers, with what settings, and how they are put together."""

    scorers: tuple[str, ...] = ("residual", "kmeans")  # one that comes again has a word after it: neighbours_fine
    settings: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)  # by scorer: {kmeans = {clusters = 3}}
    combine: Literal["mean", "geometric", "max"] = "mean"  # geometric: the mean of logarithms; max: the highest
    # of the scorers in a mean, in their order; none: all alike; steady: the more, the less normal images differ in how
    # strange each finds them
    weights: tuple[float, ...] | Literal["steady"] | None = None
    # of each map, by held-out normal images: their median score becomes 1, and by quantiles what 19 in 20 stay below 2
    normalisation: Literal["quantiles", "median"] = "quantiles"
    per_category: bool = True  # several categories are learned each by itself, where all are scorers of features

    def __post_init__(self) -> None:
        if (
            len(self.scorers) < 2
            or len(set(self.scorers)) < len(self.scorers)
            or "ensemble" in map(_kind, self.scorers)
        ):
            raise ConfigError(
                f"scorer.scorers: expected two different names of scorers or more, not ensemble, came {list(self.scorers)}; "
                "a scorer that comes again, with other settings, has a word of its own after it, as neighbours_fine"
            )
        given = None if self.weights is None or self.weights == "steady" else self.weights
        wrong = given is not None and (
            len(given) != len(self.scorers) or not all(0 < weight < math.inf for weight in given)
        )
        if wrong or (self.weights is not None and self.combine == "max"):
            raise ConfigError(
                f"scorer.weights: expected a number above 0 for each of {len(self.scorers)} scorers, or steady, with combine = "
                f"'mean' or 'geometric', or none; came {self.weights!r} with '{self.combine}'"
            )
        for name in self.settings:
            if name not in self.scorers:
                raise unknown("scorer.settings", name, self.scorers)


class EnsembleScorer(Scorer):
    """A mean, weighted or not, or the highest, of several scorers, each brought to a scale on which normal images look alike.

    A scorer's values are stretched so that 0 stays 0, the median score of held-out normal images becomes 1, and what
    all but one in twenty of them stay below becomes 2; beyond that a straight line. `normalisation = "median"` only makes the
    median 1, which leaves the positions of a map to each other as they were. Maps are brought to the finest grid.

    A geometric mean takes values below a thousandth for a thousandth: a scorer that finds nothing at all is no veto.
    In the mean, a scorer that finds a position twenty times as far as usual outvotes all others that find it usual. In the
    geometric mean, of six, it makes it 1.6 times as far: several must agree.

    `weights = "steady"` lets each scorer count by how well it knows normal images: over how far those of the strangest
    tenth lie above the median, in logarithms of their maps' peaks. A scorer that holds positions against each other, say,
    finds images of things that lie anywhere now strange, now not, and is heard little.

    Where no image is held out the values are left as they are, until `fit_normalisation` sees what held-out images would have
    had.
    """

    Config = EnsembleConfig
    middle: Tensor  # (M,) of each member's scores: becomes 1
    spread: Tensor  # (M,) from there to what becomes 2
    shares: Tensor  # (M,) of the scorers in a mean; together 1

    def __init__(self, config: EnsembleConfig, spec: OutputSpec) -> None:
        super().__init__(config, spec)
        self.members = nn.ModuleList([_make_member(name, config, spec) for name in config.scorers])
        self.inputs = tuple(dict.fromkeys(name for member in self.scorers for name in member.inputs))
        self.register_buffer("middle", torch.ones(len(self.members)))
        self.register_buffer("spread", torch.ones(len(self.members)))
        given = torch.ones(len(self.members)) if config.weights in (None, "steady") else torch.tensor(config.weights)
        self.register_buffer("shares", given / given.sum())

    @property
    def scorers(self) -> list[Scorer]:
        """The members."""
        return cast("list[Scorer]", list(self.members))

    @property
    def capabilities(self) -> Capabilities:
        found = [member.capabilities for member in self.scorers]
        features_alone = self.inputs == ("features",)
        fewest = [one.leave_one_out for one in found if one.leave_one_out is not None]
        dependent = ((name, one.position_dependent) for name, one in zip(self.config.scorers, found, strict=True))
        return Capabilities(
            passes=sum(one.passes for one in found),
            held_out="useful" if features_alone else "needed",  # for the levels
            position_dependent=next((f"settings.{name}.{choice}" for name, choice in dependent if choice), ""),
            per_category=bool(self.config.per_category) and features_alone,
            leave_one_out=max(fewest) if len(fewest) == len(found) else None,
            chooses=any(one.chooses for one in found),
        )

    @property
    def learned_weights(self) -> dict[str, float]:
        if self.config.weights != "steady":
            return {}
        return dict(zip(self.config.scorers, self.shares.tolist(), strict=True))

    def fit(self, train: Batches, held_out: Batches, seed: int) -> EnsembleScorer:
        for member in self.scorers:
            positions = tuple(self.inputs.index(name) for name in member.inputs)
            member.fit(train.select(positions), held_out.select(positions), seed)
        self.middle, self.spread = torch.ones_like(self.middle), torch.ones_like(self.spread)
        if self.config.weights == "steady":
            self.shares = torch.full_like(self.shares, 1 / len(self.members))
        self.to(next((learned.device for learned in self.members.buffers()), self.middle.device))
        if len(held_out):
            found = [self.component_maps(*inputs) for inputs in held_out]
            self._learn_levels(*(torch.cat(part) for part in zip(*map(_means_and_peaks, found), strict=True)))
        elif self.capabilities.held_out == "needed":
            raise DataError(
                "an ensemble needs normal images that the model was not trained on, for its scales; add images"
            )
        return self

    def forward(self, *inputs: Tensor) -> Tensor:
        return self._combine(self.component_maps(*inputs))

    def component_maps(self, *inputs: Tensor) -> Tensor:
        given = dict(zip(self.inputs, inputs, strict=True))
        return _stack([member(*(given[name] for name in member.inputs)) for member in self.scorers])

    def choices(self) -> dict[str, Floats]:
        return named_choices(zip(self.config.scorers, self.scorers, strict=True))

    def settle(self, choices: Mapping[str, Floats]) -> EnsembleScorer:
        for name, member in zip(self.config.scorers, self.scorers, strict=True):
            member.settle(choices_of(name, choices))
        return self

    def leave_one_out(self, features: Tensor, chosen: Tensor, categories: Rows, groups: Rows) -> Tensor:
        return _stack([member.leave_one_out(features, chosen, categories, groups)[:, 0] for member in self.scorers])

    def fit_normalisation(self, component_maps: Tensor, categories: Rows) -> Tensor:  # noqa: ARG002
        self._learn_levels(*_means_and_peaks(component_maps))
        return self._combine(component_maps)

    def normalise(self, component_maps: Tensor, categories: Rows) -> Tensor:  # noqa: ARG002
        return self._combine(component_maps)

    def _learn_levels(self, scores: Tensor, peaks: Tensor) -> None:  # (N, M) each
        levels = _levels(scores)
        if self.config.weights == "steady":
            self.shares = torch.from_numpy(steadiness(peaks).astype(np.float32)).to(scores.device)
        self.middle = torch.from_numpy(levels[:, 0].astype(np.float32)).to(scores.device)
        self.spread = torch.from_numpy((levels[:, 1] - levels[:, 0]).astype(np.float32)).to(scores.device)

    def _combine(self, component_maps: Tensor) -> Tensor:  # (B, M, h, w)
        """(B, h, w)"""
        maps, middle = component_maps, self.middle[:, None, None]
        if self.config.normalisation == "median":
            maps = maps / middle
        else:
            maps = stretch(maps, middle, self.spread[:, None, None])
        if self.config.combine == "max":
            return maps.amax(dim=1)
        shares = self.shares[:, None, None]
        if self.config.combine == "geometric":
            return (maps.clamp_min(LEAST_VALUE).log() * shares).sum(dim=1).exp()
        return (maps * shares).sum(dim=1)


def _make_member(name: str, config: EnsembleConfig, spec: OutputSpec) -> Scorer:
    """One of the scorers, built for what the model gives; errors speak of its own settings."""
    known = _registered()
    if _kind(name) not in known:
        raise unknown("scorer.scorers", _kind(name), [kind for kind in known if kind != "ensemble"])
    kind = known[_kind(name)]
    chosen = from_mapping(kind.Config, config.settings.get(name, {}), f"scorer.settings.{name}")
    try:
        return kind(chosen, spec)
    except ConfigError as error:
        raise ConfigError(re.sub(r"^scorer\.", f"scorer.settings.{name}.", str(error))) from None


def stretch(values: Tensor, middle: Tensor, spread: Tensor) -> Tensor:
    """Values >= 0 so that 0 stays 0, `middle` becomes 1, and `spread` beyond it 2, in straight lines.

    >>> stretch(torch.tensor([0.0, 2.0, 3.0, 5.0]), torch.tensor(2.0), torch.tensor(1.0)).tolist()
    [0.0, 1.0, 2.0, 4.0]
    """
    return torch.where(values < middle, values / middle, 1 + (values - middle) / spread)


def steadiness(peaks: Tensor) -> npt.NDArray[np.float64]:
    """The shares (M,) of M scorers by the peaks (N, M) of the maps of held-out normal images: over the spread of their logarithms.

    >>> steadiness(torch.tensor([[1.0, 1.0], [1.0, 1.0], [1.1, 1.21]])).round(3).tolist()
    [0.667, 0.333]
    """
    middle, high = np.quantile(peaks.cpu().double().clamp_min(SMALLEST).log().numpy(), STRANGE, axis=0)
    weights = 1 / np.maximum(high - middle, LEAST_STEADY)
    return np.asarray(weights / weights.sum())


def _means_and_peaks(component_maps: Tensor) -> tuple[Tensor, Tensor]:  # (N, M, h, w)
    return component_maps.mean(dim=(2, 3)), component_maps.amax(dim=(2, 3))


def _kind(name: str) -> str:
    """Of `neighbours` and of `neighbours_fine` it is neighbours; a name that is known, of a plug-in say, is meant as it stands."""
    return name if name in _registered() else name.partition("_")[0]


def _levels(means: Tensor) -> npt.NDArray[np.float64]:
    """Scores (N, M) -> (M, 2) the two levels of each, neither equal nor 0 even where all are the same."""
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
    finer = functional.interpolate(maps[:, None], (height, width), mode="bilinear", align_corners=False)
    return finer[:, 0].clamp_min(0)


def _registered() -> Mapping[str, type[Scorer]]:
    from unlike.scoring import SCORERS  # which names this scorer too

    return SCORERS
