"""Grouping points where the groups are of unequal size: a scikit-learn estimator, numpy only."""

from __future__ import annotations

from unlike.cluster.equilibrium import EquilibriumKMeans

__all__ = ["EquilibriumKMeans"]
