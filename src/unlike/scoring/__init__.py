"""Scoring: what a model makes of an image to a map of strangeness, and a map to one number.

One line a kind; another package adds its own by an entry point of `unlike.scorers`.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from unlike.registry import Registry

if TYPE_CHECKING:
    from unlike.scoring.base import Scorer as Scorer
    from unlike.scoring.maps import MapConfig as MapConfig
    from unlike.scoring.maps import reduce_maps as reduce_maps
    from unlike.scoring.maps import smooth as smooth

SCORERS: Registry[type[Scorer]] = Registry(
    "scorer",
    "unlike.scorers",
    {
        "ensemble": "unlike.scoring.ensemble:EnsembleScorer",
        "equilibrium": "unlike.scoring.clusters:EquilibriumScorer",
        "gaussian": "unlike.scoring.gaussian:GaussianScorer",
        "kmeans": "unlike.scoring.clusters:KMeansScorer",
        "mixture": "unlike.scoring.mixture:MixtureScorer",
        "neighbours": "unlike.scoring.neighbours:NeighboursScorer",
        "pca": "unlike.scoring.pca:PCAScorer",
        "real-or-fake": "unlike.scoring.realfake:RealFakeScorer",
        "residual": "unlike.scoring.reconstruction:ResidualScorer",
        "segmentation": "unlike.scoring.segmentation:SegmentationScorer",
    },
)
_HOMES = {
    "MapConfig": "unlike.scoring.maps",
    "Scorer": "unlike.scoring.base",
    "reduce_maps": "unlike.scoring.maps",
    "smooth": "unlike.scoring.maps",
}

__all__ = ["SCORERS", "MapConfig", "Scorer", "reduce_maps", "smooth"]


def __getattr__(name: str) -> Any:
    """Import what is named when it is first asked for, so that one scorer is there without the others."""
    if name not in _HOMES:
        raise AttributeError(f"module 'unlike.scoring' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)
