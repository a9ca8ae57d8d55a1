"""neighbours: how far a code is from the nearest normal ones. (PatchCore on frozen features)"""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from unlike.config import check_range
from unlike.data.randomness import random_directions
from unlike.errors import ConfigError
from unlike.models.base import OutputSpec
from unlike.records import Floats, Rows
from unlike.scoring.base import Capabilities
from unlike.scoring.features import FeatureConfig, FeatureScorer, check_counts, check_enough, check_width, nearest
from unlike.scoring.statistics.moments import Moments, check_shrinkage, moments_of, whitening_of

BATCH = 16  # images at once, where all are gone through
FAR = 1024  # rows among which picks are made before all are looked at again
BLOCK = 1_000_000  # distances computed at once: 4 MB, which stay near the processor
PAIRS = 12_000  # of a code and its nearest, by which gaps are measured
MAY_BE_ALL = ("candidates", "coreset_directions")  # settings that are a number, or "all"
FEWEST_LEFT = 2  # images of which each can be left out
LARGE = 100  # codes in a bank for each neighbour that is asked for


@dataclass(frozen=True, slots=True, kw_only=True)
class NeighboursConfig(FeatureConfig):
    """How many normal codes are remembered, and how many of them are asked."""

    neighbours: int = 1  # that are asked; their distances are averaged
    share: float = 0.01  # of the codes that are remembered, within least and most
    least: int = 2000  # codes that are remembered at least, if there are so many
    most: int = 10_000  # codes that are remembered at most
    # codes drawn at random, among which those are chosen; all: every one, or as many as 400 MB hold (features.SAMPLE_BYTES)
    candidates: int | Literal["all"] = 60_000
    # random ones, along which codes are told apart while some are chosen; all: as they are
    coreset_directions: int | Literal["all"] = 32
    # mahalanobis: under the covariance of the gaps between normal codes and their nearest: what usually differs counts less;
    # cosine: one less the cosine of the angle, of codes of length 1 (unit)
    metric: Literal["euclidean", "cosine", "mahalanobis"] = "euclidean"
    shrinkage: float | Literal["auto"] = 0.1  # of that covariance to a sphere; the others have no use for it

    def __post_init__(self) -> None:
        FeatureConfig.__post_init__(self)
        check_shrinkage(self.shrinkage)
        check_range("scorer.share", self.share, 1e-9, 1)
        counts = {name: getattr(self, name) for name in ("neighbours", "least", "most", *MAY_BE_ALL)}
        check_counts(**{name: value for name, value in counts.items() if name not in MAY_BE_ALL or value != "all"})
        if self.metric == "cosine" and not self.unit:
            raise ConfigError(
                "scorer.metric = 'cosine' is of codes of length 1: expected scorer.unit = true, came false"
            )
        if self.least > self.most:
            raise ConfigError(f"scorer.least: expected no more than scorer.most, {self.most}, came {self.least}")


class NeighboursScorer(FeatureScorer):
    """The distance to the nearest normal codes, out of a coreset that covers them all.

    The coreset is PatchCore's (Roth et al., 2022): greedily, the code farthest from those chosen. `coreset_directions` and
    `candidates` are short cuts: 32 random directions keep distances well enough for features of length 1, and some of the
    codes stand for all. Preset `patchcore` takes neither.

    Between a normal code and its nearest there is always a gap, and it is wide in some directions and narrow in others.
    `metric = "mahalanobis"` measures under the shrunk covariance of such gaps: what is unusual is a gap where there
    hardly ever is one.
    """

    Config = NeighboursConfig
    bank: Tensor  # (M, d)
    whitening: Tensor | None  # (d, d) for metric = "mahalanobis"

    def __init__(self, config: NeighboursConfig, spec: OutputSpec) -> None:
        super().__init__(config, spec)
        self.register_buffer("bank", torch.empty(0, 0))
        self.register_buffer("whitening", None)
        # (M,) the image that each code of the bank is of, once it has learned
        self.owners = torch.empty(0, dtype=torch.long)

    @property
    def capabilities(self) -> Capabilities:
        config = self.config
        fixed = config.scale != "whiten" and config.reduce is None and config.metric != "mahalanobis"
        large = config.least >= LARGE * config.neighbours  # else all codes of the bank could be one image's
        # covariances would have to be learned again
        return replace(
            super().capabilities,
            leave_one_out=FEWEST_LEFT if fixed and large else None,
            chooses=config.metric == "mahalanobis",
        )

    @property
    def most_rows(self) -> int:
        return sys.maxsize if self.config.candidates == "all" else self.config.candidates

    def learn(self, rows: Floats, moments: Moments, seed: int) -> dict[str, Floats]:
        config = self.config
        check_enough(len(rows), config.neighbours, "neighbours", "scorer.neighbours")
        size = min(max(round(config.share * moments.count), config.least, config.neighbours), config.most, len(rows))
        codes = torch.from_numpy(rows)
        chosen = choose_coreset(_narrow(codes, config.coreset_directions, seed), size, seed)
        if config.metric != "mahalanobis":
            self.owners = torch.from_numpy(self.origins[chosen])
            return {"bank": rows[chosen]}
        check_width(rows.shape[1], config, covariance=True)
        gaps = moments_of(gaps_to_nearest(codes, chosen, seed))
        given = config.shrinkage
        share = self.decide("shrinkage", gaps.shrinkage) if given == "auto" else np.array(given)
        usual = self.decide("size", lambda: np.array(gaps.variance))  # gaps are shorter between more codes
        shorter = np.sqrt(gaps.variance / usual) if usual > 0 else 1.0  # between copies there are none
        whitening = (whitening_of(gaps, share) * shorter).astype(np.float32)
        whitened = codes @ torch.from_numpy(whitening)
        chosen = choose_coreset(_narrow(whitened, config.coreset_directions, seed), size, seed)
        return {"bank": whitened[chosen].numpy(), "whitening": whitening}

    def distances(self, rows: Tensor) -> Tensor:
        if self.whitening is not None:
            rows = rows @ self.whitening
        return self._mean(nearest(rows, self.bank, self.config.neighbours))

    def leave_one_out(self, features: Tensor, chosen: Tensor, categories: Rows, groups: Rows) -> Tensor:
        """Each by the codes of other groups in the bank: fewer than another bank would have without it, so rather far."""
        config, group_of = self.config, torch.from_numpy(groups)
        if self.capabilities.leave_one_out is None:
            return super().leave_one_out(features, chosen, categories, groups)
        owners = group_of[self.owners]
        others = len(self.bank) - int(torch.bincount(owners).max())
        check_enough(others, config.neighbours, "neighbours of other images", "scorer.neighbours")
        maps = []
        for part in torch.split(chosen, BATCH):
            rows, grid = self.rows_of(features[part])
            images = group_of.to(part.device)[part].repeat_interleave(grid[0] * grid[1])
            pairs = (images, owners.to(rows.device))
            gaps = nearest(self.prepare(rows), self.bank, config.neighbours, owners=pairs)
            maps.append(self._mean(gaps).view(len(part), 1, *grid))
        return torch.cat(maps)

    def _mean(self, gaps: Tensor) -> Tensor:  # (N, k) -> (N,)
        """Of distances to the nearest; for unit vectors half the squared distance is one less their cosine."""
        return (gaps.square() / 2 if self.config.metric == "cosine" else gaps).mean(dim=1)


def gaps_to_nearest(rows: Tensor, chosen: np.ndarray[tuple[int], np.dtype[np.intp]], seed: int) -> Floats:
    """Of some random rows (N, D), at most PAIRS, each less the nearest of the chosen ones that is not itself: (n, D).

    >>> gaps_to_nearest(torch.tensor([[0.0], [3.0], [7.0]]), np.array([0, 1]), seed=0).tolist()
    [[-3.0], [3.0], [4.0]]
    """
    some = np.sort(np.random.default_rng(seed).permutation(len(rows))[:PAIRS])
    points = rows[chosen]
    lengths, gaps = points.square().sum(dim=1), []
    block = max(1, BLOCK // len(points))
    for start in range(0, len(some), block):
        part = some[start : start + block]
        # (n, M) squared distances, less the length of the row
        closeness = torch.addmm(lengths, rows[part], points.T, alpha=-2)
        closeness[torch.from_numpy(part[:, None] == chosen)] = torch.inf
        gaps.append(rows[part] - points[closeness.argmin(dim=1)])
    found: Floats = torch.cat(gaps).numpy()
    return found


def _narrow(rows: Tensor, count: int | Literal["all"], seed: int) -> Tensor:
    """Rows (N, D) along at most that many random orthogonal directions."""
    if count == "all" or rows.shape[1] <= count:
        return rows
    return rows @ torch.from_numpy(random_directions(rows.shape[1], count, seed)).T


def choose_coreset(rows: Tensor, size: int, seed: int) -> np.ndarray[tuple[int], np.dtype[np.intp]]:
    """Which `size` of the rows (N, D) cover them best: each pick is the row farthest from all before it.

    The greedy k-centre rule is within twice the best radius (Gonzalez, 1985). The first pick is random. Distances to the
    picks only shrink, so while the farthest of a few FAR rows is farther than all others were, none but those need be
    looked at: the picks are the same but for ties and rounding, and all rows are gone through now and then, not once a pick.

    >>> choose_coreset(torch.tensor([[0.0], [0.1], [9.0], [9.1], [5.0]]), 3, seed=0).tolist()
    [0, 3, 4]
    """
    if size >= len(rows):
        return np.arange(len(rows))
    lengths = rows.square().sum(dim=1)
    gaps = torch.full_like(lengths, torch.inf)  # squared, to the nearest pick
    chosen = np.random.default_rng(seed).integers(len(rows), size=1)
    latest = torch.from_numpy(chosen)
    while len(chosen) < size:
        _shrink(gaps, rows, lengths, latest)
        far = gaps.topk(min(FAR, len(rows))).indices
        latest = far[_pick(rows[far], lengths[far], gaps[far], size - len(chosen))]
        chosen = np.concatenate([chosen, latest.numpy()])
    return np.sort(chosen)


def _shrink(gaps: Tensor, rows: Tensor, lengths: Tensor, picks: Tensor) -> None:
    """Bring the gaps (N,) of rows (N, D) up to date after some picks."""
    block = max(1, BLOCK // len(picks))
    for start in range(0, len(rows), block):
        part = slice(start, start + block)
        to_picks = torch.addmm(lengths[picks], rows[part], rows[picks].T, alpha=-2).amin(dim=1) + lengths[part]
        torch.minimum(gaps[part], to_picks, out=gaps[part])
    gaps[picks] = -torch.inf


def _pick(rows: Tensor, lengths: Tensor, gaps: Tensor, most: int) -> list[int]:
    """Greedily up to `most` of the rows (n, D), as long as the farthest is no nearer than the nearest was at first."""
    least = float(gaps.min())
    chosen: list[int] = []
    latest = int(gaps.argmax())
    while len(chosen) < most and float(gaps[latest]) >= least:
        chosen.append(latest)
        to_latest = torch.addmv(lengths, rows, rows[latest], alpha=-2).add_(lengths[latest])
        torch.minimum(gaps, to_latest, out=gaps)
        gaps[latest] = -torch.inf
        latest = int(gaps.argmax())
    return chosen
