"""fusion: several scorers at once, each by what normal images show it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from itertools import chain
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from unlike.config import from_mapping
from unlike.errors import ConfigError, DataError, unknown
from unlike.models import Model
from unlike.scoring.base import Arrays, Scorer
from unlike.scoring.codes import CodeScorer
from unlike.scoring.remembered import Remembered, Remembering

LEAST_SPREAD = 1.05  # of the two levels: a few images that happen to agree must not make one scorer outvote all
LEVELS = (0.5, 0.95)  # of the scores of held-out normal images: they become 1 and 2
FEW = 128  # images that are enough to learn the levels from, where none are held out


@dataclass(frozen=True, slots=True, kw_only=True)
class FusionConfig:
    """Which scorers, with what settings, and how they are put together."""

    scorers: tuple[str, ...] = ("residual", "kmeans")
    settings: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)  # by scorer: {kmeans = {clusters = 3}}
    combine: Literal["mean", "max"] = "mean"
    scale: Literal["levels", "line"] = "levels"  # of each: by the two levels, or by the first alone, in a straight line
    per_category: bool = True  # as of scorers of codes, where all of them are such

    def __post_init__(self) -> None:
        if len(self.scorers) < 2 or len(set(self.scorers)) < len(self.scorers) or "fusion" in self.scorers:
            raise ConfigError(
                f"scorer.scorers: expected two different scorers or more, not fusion, came {list(self.scorers)}"
            )
        for name in self.settings:
            if name not in self.scorers:
                raise unknown("scorer.settings", name, self.scorers)


class FusionScorer(Scorer):
    """The mean, or the highest, of several scorers, each brought to a scale on which normal images look alike.

    A scorer's values are stretched so that 0 stays 0, the median score of held-out normal images becomes 1, and what
    all but one in twenty of them stay below becomes 2; beyond that a straight line. `scale = "line"` only makes the
    median 1, which leaves the places of a map to each other as they were. Maps are brought to the finest grid.

    Where no image is held out, as with frozen features, the scorers learn the levels from every other image and the rest,
    and then everything else from all of them.
    """

    Config = FusionConfig

    def __init__(self, config: FusionConfig, kinds: Callable[[], Mapping[str, type[Scorer]]] | None = None) -> None:
        super().__init__(config)
        known = (kinds or _registered)()
        for name in config.scorers:
            if name not in known:
                raise unknown("scorer.scorers", name, [kind for kind in known if kind != "fusion"])
        self.members = [
            known[name](from_mapping(known[name].Config, config.settings.get(name, {}), f"scorer.settings.{name}"))
            for name in config.scorers
        ]
        self.only_codes = all(isinstance(member, CodeScorer) for member in self.members)
        self.needs_held_out = not self.only_codes
        self.levels: npt.NDArray[np.float64] = np.empty((0, 2))  # of each member

    @property
    def learns_apart(self) -> bool:
        return bool(self.config.per_category) and self.only_codes

    def check(self, model: Model) -> None:
        for member in self.members:
            member.check(model)

    def fit(self, model: Model, train: Iterable[Tensor], held_out: Iterable[Tensor], seed: int) -> FusionScorer:
        others = iter(held_out)
        first = next(others, None)
        if first is None:
            self._learn_levels(model, train, seed)
            self._fit_members(model, train, held_out, seed)
        else:
            self._fit_members(model, train, held_out, seed)
            self.levels = self._measure(model, chain([first], others))
        return self

    def maps(self, model: Model, images: Tensor) -> Tensor:
        maps = [
            self._scale(map_, *levels)
            for map_, levels in zip(self._maps_of_members(model, images), self.levels.tolist(), strict=True)
        ]
        height, width = (max(map_.shape[side] for map_ in maps) for side in (1, 2))
        resized = torch.stack([_resize(map_, height, width) for map_ in maps])
        return resized.mean(dim=0) if self.config.combine == "mean" else resized.amax(dim=0)

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

    def _fit_members(self, model: Model, train: Iterable[Tensor], held_out: Iterable[Tensor], seed: int) -> None:
        for member in self.members:
            member.fit(model, train, held_out, seed)

    def _learn_levels(self, model: Model, train: Iterable[Tensor], seed: int) -> None:
        """Learn from one half of some images what the other half scores."""
        if not self.only_codes:
            raise DataError("fusion needs normal images that the model was not trained on, for its scales; add images")
        codes = _collect_few(model, train)
        if len(codes) < 3:
            raise DataError(
                f"fusion learns its scales from one half of the normal images and the other: expected 3 or more, came {len(codes)}; "
                "add images, or take one scorer alone, as the presets padim and patchcore do"
            )
        batches = Remembering(codes)
        rows = np.arange(len(codes))
        self._fit_members(Remembered(), batches(rows[::2]), [], seed)
        self.levels = self._measure(Remembered(), batches(rows[1::2]))

    def _measure(self, model: Model, held_out: Iterable[Tensor]) -> npt.NDArray[np.float64]:
        """(M, 2) the levels of each member."""
        with torch.no_grad():
            scores = [
                torch.stack([map_.mean(dim=(1, 2)) for map_ in self._maps_of_members(model, images)])
                for images in held_out
            ]
        return np.array([_levels(values) for values in torch.cat(scores, dim=1).cpu().double().numpy()])

    def _maps_of_members(self, model: Model, images: Tensor) -> list[Tensor]:
        """The maps (B, h, w) of each member; those that want codes alone get them from one look."""
        wanted = [isinstance(member, CodeScorer) for member in self.members]
        codes, known = model.encode(images) if any(wanted) else images, Remembered()
        return [
            member.maps(known, codes) if wants else member.maps(model, images)
            for member, wants in zip(self.members, wanted, strict=True)
        ]

    def _scale(self, values: Tensor, middle: float, high: float) -> Tensor:
        return values / middle if self.config.scale == "line" else stretch(values, middle, high)


def stretch(values: Tensor, middle: float, high: float) -> Tensor:
    """Values >= 0 so that 0 stays 0, `middle` becomes 1 and `high` 2, in straight lines.

    >>> stretch(torch.tensor([0.0, 2.0, 3.0, 5.0]), middle=2.0, high=3.0).tolist()
    [0.0, 1.0, 2.0, 4.0]
    """
    return torch.where(values < middle, values / middle, 1 + (values - middle) / (high - middle))


def _collect_few(model: Model, train: Iterable[Tensor]) -> Tensor:
    """The codes (n, D, h, w) of all images, or of between FEW / 2 and FEW of them, evenly spaced."""
    kept: list[Tensor] = []
    step, seen = 1, 0
    with torch.no_grad():
        for images in train:
            chosen = images[-seen % step :: step]
            seen += len(images)
            kept += list(model.encode(chosen)) if len(chosen) else []
            while len(kept) > FEW:
                kept, step = kept[::2], 2 * step
    return torch.stack(kept) if kept else torch.empty(0)


def _levels(scores: npt.NDArray[np.float64]) -> tuple[float, float]:
    """The two levels of normal scores, apart from each other and from 0 even where all scores are the same."""
    middle, high = np.quantile(scores, LEVELS)
    middle = max(float(middle), 1e-12)
    return middle, max(float(high), middle * LEAST_SPREAD)


def _resize(maps: Tensor, height: int, width: int) -> Tensor:
    if maps.shape[1:] == (height, width):
        return maps
    return functional.interpolate(maps[:, None], (height, width), mode="bilinear", align_corners=False)[:, 0].clamp_min(
        0
    )


def _registered() -> Mapping[str, type[Scorer]]:
    from unlike.scoring import SCORERS  # which names this scorer too

    return SCORERS
