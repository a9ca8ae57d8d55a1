"""neighbours: how far a code is from the nearest normal ones. (PatchCore on frozen features)"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from unlike.config import check_range
from unlike.errors import ConfigError
from unlike.records import Floats
from unlike.scoring.codes import CodeConfig, CodeScorer, check_enough, nearest
from unlike.scoring.moments import Moments

FAR = 1024  # rows among which picks are made before all are looked at again
BLOCK = 4_000_000  # distances computed at once
NARROW = 32  # numbers a code, while it is chosen or not: 128 choose no better, and cost four times as much


@dataclass(frozen=True, slots=True, kw_only=True)
class NeighboursConfig(CodeConfig):
    """How many normal codes are remembered, and how many of them are asked."""

    neighbours: int = 1  # whose distances are averaged
    share: float = 0.01  # of the codes to remember, within the bounds of
    least: int = 2000  # codes, if there are so many, and
    most: int = 10_000  # codes
    candidates: int = 60_000  # random codes among which to choose

    def __post_init__(self) -> None:
        CodeConfig.__post_init__(self)
        check_range("scorer.share", self.share, 1e-9, 1)
        for name in ("neighbours", "least", "most", "candidates"):
            if getattr(self, name) < 1:
                raise ConfigError(f"scorer.{name}: expected 1 or more, came {getattr(self, name)}")
        if self.least > self.most:
            raise ConfigError(f"scorer.least: expected no more than scorer.most, {self.most}, came {self.least}")


class NeighboursScorer(CodeScorer):
    """The distance to the nearest normal codes, out of a coreset that covers them all.

    The coreset is PatchCore's (Roth et al., 2022): greedily, the code farthest from those chosen, as seen in 32 random
    directions, which keep distances well enough for that.
    """

    Config = NeighboursConfig

    @property
    def most_rows(self) -> int:
        return int(self.config.candidates)

    def learn(self, rows: Floats, moments: Moments, seed: int) -> dict[str, Floats]:
        config = self.config
        check_enough(len(rows), config.neighbours, "neighbours", "scorer.neighbours")
        size = min(max(round(config.share * moments.count), config.least, config.neighbours), config.most, len(rows))
        chosen = choose_coreset(_narrow(torch.from_numpy(rows), seed), size, seed)
        return {"bank": rows[chosen]}

    def distances(self, rows: Tensor) -> Tensor:
        return nearest(rows, self.learned["bank"], self.config.neighbours).mean(dim=1)


def _narrow(rows: Tensor, seed: int) -> Tensor:
    """Rows (N, D) along at most NARROW random orthogonal directions."""
    if rows.shape[1] <= NARROW:
        return rows
    directions, _ = np.linalg.qr(np.random.default_rng(seed).normal(size=(rows.shape[1], NARROW)))
    return rows @ torch.from_numpy(directions.astype(np.float32))


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
