"""A test that runs for ever: evidence that p-values have stopped being those of the usual images, image by image.

Whoever bets against a fair game does not get rich. The p-values of images that come in no particular order are independent and
uniform (Vovk, Gammerman & Shafer, Algorithmic Learning in a Random World, 2005, chapter 7), a fair game, so that a fortune that
starts at 1 exceeds 100 with probability at most 1/100, however long one plays (Ville's inequality). No torch here.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from unlike.errors import ConfigError
from unlike.records import Floats

STRANGER, DEFECTS, TOO_NORMAL = "stranger", "defects", "too normal"  # what the bets are on
KINDS = (STRANGER, DEFECTS, TOO_NORMAL)
APART = 0.1  # p-values below it are left to the bets on defects: bets on most images neither win nor lose by them
TINY = 1e-12  # no p-value is nearer to 0 or 1
TILTS = np.array([0.3, 0.9])  # slopes
POWERS = np.array([0.4, 0.7])
FLOODS = np.array([(0.5, 0.05), (0.9, 0.05), (0.9, 0.01)]).T  # shares of the images, and how small their p-values are
RISES = np.array([(0.02, 0.01), (0.05, 0.01), (0.15, 0.01), (0.05, 0.03), (0.15, 0.03)]).T  # the same
BETS = (7, 5, 7)  # on each kind
PRIOR = np.repeat(1 / len(KINDS) / np.array(BETS), BETS)  # (K,) how the fortune is put on them
KIND_OF = np.repeat(KINDS, BETS)  # (K,)


def densities(p_values: Floats) -> Floats:
    """What each bet multiplies its stake by: (N,) -> (N, K), densities on 0..1, so that the game is fair.

    >>> densities(np.array([0.001, 0.5])).shape
    (2, 19)
    """
    p = np.clip(p_values, TINY, 1 - TINY)[:, None]  # (N, 1)
    return np.concatenate([_all_smaller(p), _some_smallest(p, RISES), _all_smaller(1 - p)], axis=1)


def _all_smaller(p: Floats) -> Floats:
    """Most p-values are smaller: a little along a slope, by a power, or most of them very small."""
    tilted = np.where(p <= APART, 1.0, 1 + TILTS * (1 - 2 * (p - APART) / (1 - APART)))
    return np.concatenate([tilted, POWERS * p ** (POWERS - 1), _some_smallest(p, FLOODS)], axis=1)


def _some_smallest(p: Floats, bets: Floats) -> Floats:
    """A share of the p-values is below a bound, and the others are as usual."""
    share, below = bets
    return np.asarray((1 - share) + np.where(p <= below, share / below, 0.0))


@dataclass(frozen=True, slots=True)
class MartingaleConfig:
    """How a martingale bets."""

    patience: int = (
        100  # images, after which half of the fortune has been put on bets; the rest is for changes that come later
    )


class Martingale:
    """The fortune of bets on p-values, each on a kind of change that may begin at any image.

    Of what is in reserve a part goes on all bets with each image, less and less: a change is found after a million images too,
    only later. (Vovk et al., Retrain or not retrain: conformal test martingales for change-point detection, 2021, jump back
    and forth at a constant rate, which uses up the fortune in a long quiet time.)

    >>> martingale = Martingale()
    >>> for p in np.random.default_rng(0).uniform(size=1000):
    ...     value = martingale.see(p)
    >>> value < 1
    True
    >>> for p in np.random.default_rng(0).uniform(0, 0.3, size=100):
    ...     value = martingale.see(p)
    >>> value > 100, martingale.kind, 950 < martingale.since < 1050
    (True, 'stranger', True)
    """

    Config = MartingaleConfig

    def __init__(self, config: MartingaleConfig | None = None) -> None:
        self.config = config or MartingaleConfig()
        if self.config.patience < 1:
            raise ConfigError(f"patience: expected 1 image or more, came {self.config.patience}")
        self.restart()

    def restart(self) -> None:
        """Begin again at 1."""
        self.seen = 0  # images since
        self.reserve = 1.0
        self.stakes: Floats = np.zeros(len(PRIOR))  # (K,)
        self.begun: Floats = np.zeros(len(PRIOR))  # (K,) stakes times the image at which they were put

    @property
    def value(self) -> float:
        """The fortune."""
        return float(self.reserve + self.stakes.sum())

    @property
    def kind(self) -> str:
        """The kind of change whose bets have won the most."""
        return max(KINDS, key=lambda kind: float(self.stakes[kind == KIND_OF].sum()))

    @property
    def since(self) -> float:
        """At which image since the start, counted from 1, the bets that won have begun, on average."""
        own = self.kind == KIND_OF
        return float(self.begun[own].sum() / max(self.stakes[own].sum(), TINY))

    def see(self, p_value: float) -> float:
        """Take in one more p-value, and give back the fortune."""
        self.seen += 1
        put = self.reserve / (self.seen + self.config.patience)
        self.reserve -= put
        self.stakes += put * PRIOR
        self.begun += put * PRIOR * self.seen
        factors = densities(np.array([p_value]))[0]
        self.stakes *= factors
        self.begun *= factors
        return self.value

    def state(self) -> dict[str, Any]:
        """What JSON can hold of it."""
        return {
            "seen": self.seen,
            "reserve": self.reserve,
            "stakes": self.stakes.tolist(),
            "begun": self.begun.tolist(),
        }

    def resume(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state` gave; a ValueError, KeyError or TypeError where it did not."""
        stakes, begun = (_numbers(state[name]) for name in ("stakes", "begun"))
        seen, reserve = int(state["seen"]), float(state["reserve"])
        if not (seen >= 0 and math.isfinite(reserve)):
            raise ValueError("no state of a martingale")
        self.seen, self.reserve, self.stakes, self.begun = seen, reserve, stakes, begun


def _numbers(values: Any) -> npt.NDArray[np.float64]:
    found = np.asarray(values, np.float64)
    if found.shape != PRIOR.shape or not np.isfinite(found).all():
        raise ValueError("no stakes of a martingale")
    return found
