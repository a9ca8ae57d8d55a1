"""Scoring: a model's view of an image to a map of strangeness, and a map to one number.

One line a kind; add your own to SCORERS to use it by name.
"""

from __future__ import annotations

from unlike.scoring.base import Scorer
from unlike.scoring.maps import MapConfig, reduce_maps, smooth
from unlike.scoring.realfake import RealFakeScorer
from unlike.scoring.residual import ResidualScorer

SCORERS: dict[str, type[Scorer]] = {
    "real-or-fake": RealFakeScorer,
    "residual": ResidualScorer,
}

__all__ = ["SCORERS", "MapConfig", "Scorer", "reduce_maps", "smooth"]
