"""Scoring: a model's view of an image to a map of strangeness, and a map to one number.

One line a kind; add your own to SCORERS to use it by name.
"""

from __future__ import annotations

from unlike.scoring.base import Scorer
from unlike.scoring.clusters import EquilibriumScorer, KMeansScorer
from unlike.scoring.ensemble import EnsembleScorer
from unlike.scoring.gaussian import GaussianScorer
from unlike.scoring.maps import MapConfig, reduce_maps, smooth
from unlike.scoring.mixture import MixtureScorer
from unlike.scoring.neighbours import NeighboursScorer
from unlike.scoring.pca import PCAScorer
from unlike.scoring.realfake import RealFakeScorer
from unlike.scoring.reconstruction import ResidualScorer
from unlike.scoring.segmentation import SegmentationScorer

SCORERS: dict[str, type[Scorer]] = {
    "ensemble": EnsembleScorer,
    "equilibrium": EquilibriumScorer,
    "gaussian": GaussianScorer,
    "kmeans": KMeansScorer,
    "mixture": MixtureScorer,
    "neighbours": NeighboursScorer,
    "pca": PCAScorer,
    "real-or-fake": RealFakeScorer,
    "residual": ResidualScorer,
    "segmentation": SegmentationScorer,
}

__all__ = ["SCORERS", "MapConfig", "Scorer", "reduce_maps", "smooth"]
