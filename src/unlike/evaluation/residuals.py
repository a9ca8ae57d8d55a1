"""How much larger the reconstruction error of anomalous images is than that of normal ones that no model has learned from."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from unlike.calibration.sweep import sweep
from unlike.errors import DataError
from unlike.evaluation.metrics import auroc, auroc_with_bounds, bootstrap, replicates_for, with_bounds
from unlike.records import Bools, Estimate, Floats


@dataclass(frozen=True, slots=True)
class Gap:
    """Mean residuals of normal and of anomalous images, and how far apart the two groups are."""

    normal: Estimate  # mean residual
    anomalous: Estimate  # mean residual
    ratio: Estimate  # of the anomalous mean to the normal one; 1 is no gap
    auroc: Estimate  # chance that an anomalous image has the larger residual; 0.5 is no gap


def measure_gap(residuals: Floats, anomalous: Bools, seed: int = 0) -> Gap:
    """Compare the residuals (N,) of normal and anomalous images; intervals by a bootstrap that draws both separately.

    A ratio of means can be large because of a few images; the AUROC says how many are affected.

    >>> gap = measure_gap(np.array([1.0, 3.0, 4.0, 8.0]), np.array([False, False, True, True]))
    >>> gap.normal.value, gap.anomalous.value, gap.ratio.value, gap.auroc.value
    (2.0, 6.0, 3.0, 1.0)
    """
    residuals = np.asarray(residuals, np.float64)
    normals = residuals[~anomalous]
    if anomalous.all() or not anomalous.any():
        raise DataError(f"needs normal and anomalous images; came {len(normals):,} and {int(anomalous.sum()):,}")
    if normals.min() <= 0:
        raise DataError(
            "a normal image is reconstructed without any residual: the model copies what it is given; take a smaller bottleneck"
        )
    random = np.random.default_rng(seed)
    count = replicates_for(len(residuals))
    usual, strange = (_resample_means(random, group, count) for group in (normals, residuals[anomalous]))
    swept, drawn = sweep(residuals, anomalous), bootstrap(residuals, anomalous, seed)
    means = normals.mean(), residuals[anomalous].mean()
    return Gap(
        normal=with_bounds(float(means[0]), usual),
        anomalous=with_bounds(float(means[1]), strange),
        ratio=with_bounds(float(means[1] / means[0]), strange / usual),
        auroc=auroc_with_bounds(auroc(swept), drawn["auroc"], anomalous),
    )


def _resample_means(random: np.random.Generator, values: Floats, count: int) -> Floats:
    """The means of sets drawn anew with replacement, (count,)."""
    return np.array([values[random.integers(0, len(values), len(values))].mean() for _ in range(count)])
