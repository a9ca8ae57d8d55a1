"""Image-level figures from scores and labels: one exact sweep over all thresholds, and what follows from it.

Everywhere an image is called anomalous where its score is larger than the threshold.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from statistics import NormalDist

import numpy as np

from unlike.calibration.decision import is_anomalous
from unlike.calibration.sweep import (
    Counts,
    Ranks,
    Sweep,
    accumulate,
    accuracies,
    best_accuracy,
    best_f1,
    f_beta,
    need_both,
    rank_scores,
    sweep,
)
from unlike.calibration.thresholds import normals_needed
from unlike.errors import DataError
from unlike.records import Bools, Estimate, Floats, Metrics, Thresholds

CONFIDENCE = 0.95
REPLICATES = 1_000  # of a bootstrap
MIN_REPLICATES = 200
RESAMPLED = 40_000_000  # images drawn in all replicates together, unless that leaves too few replicates
SAME = 1e-12  # figures that differ by rounding alone
BLOCK = 2**18  # images drawn at a time


def auroc(swept: Sweep) -> float:
    """Chance that an anomalous image scores higher than a normal one, a tie counting half: area under the ROC curve.

    >>> auroc(sweep(np.array([1.0, 3.0, 2.0, 4.0]), np.array([False, False, True, True])))
    0.75
    """
    need_both(swept)
    return float(area_under_roc(swept.detected, swept.false_alarms))


def average_precision(swept: Sweep) -> float:
    """Mean precision over the anomalous images, each at the threshold that just catches it (no interpolation).

    >>> round(average_precision(sweep(np.array([1.0, 3.0, 2.0, 4.0]), np.array([False, False, True, True]))), 3)
    0.833
    """
    need_both(swept)
    return float(_average_precision(swept.detected, swept.false_alarms))


def roc_curve(swept: Sweep) -> tuple[Floats, Floats]:
    """False-alarm rates and detection rates, (T + 1,) each, from (0, 0) to (1, 1).

    >>> roc_curve(sweep(np.array([1.0, 2.0]), np.array([False, True])))
    (array([0., 0., 1.]), array([0., 1., 1.]))
    """
    need_both(swept)
    return swept.false_alarms / swept.normal, swept.detected / swept.anomalous


def pr_curve(swept: Sweep) -> tuple[Floats, Floats]:
    """Recalls and precisions, (T + 1,) each; where nothing is caught the precision is 1 by convention.

    >>> pr_curve(sweep(np.array([1.0, 2.0]), np.array([False, True])))
    (array([0., 1., 1.]), array([1. , 1. , 0.5]))
    """
    need_both(swept)
    caught = swept.detected + swept.false_alarms
    precision = np.divide(swept.detected, caught, out=np.ones_like(caught), where=caught > 0)
    return swept.detected / swept.anomalous, precision


def accuracy(scores: Floats, anomalous: Bools, threshold: Thresholds) -> float:
    """Share of the images that are called what they are.

    >>> accuracy(np.array([1.0, 3.0, 2.0, 4.0]), np.array([False, False, True, True]), threshold=1.5)
    0.75
    """
    return float((is_anomalous(scores, threshold) == anomalous).mean())


def accuracy_all_anomalous(anomalous: Bools) -> float:
    """Accuracy of calling every image anomalous: what a detector must beat to be of any use.

    >>> accuracy_all_anomalous(np.array([False, True, True, True]))
    0.75
    """
    return float(anomalous.mean())


def improvement(scores: Floats, anomalous: Bools, threshold: Thresholds) -> float:
    """Accuracy gained over calling every image anomalous; below zero the detector does harm.

    >>> improvement(np.array([1.0, 3.0, 2.0, 4.0]), np.array([False, False, True, True]), threshold=1.5)
    0.25
    """
    return accuracy(scores, anomalous, threshold) - accuracy_all_anomalous(anomalous)


def false_alarm_rate(scores: Floats, anomalous: Bools, threshold: Thresholds) -> float:
    """Share of the normal images that are called anomalous.

    >>> false_alarm_rate(np.array([1.0, 3.0, 2.0, 4.0]), np.array([False, False, True, True]), threshold=1.5)
    0.5
    """
    _need(~anomalous, "normal")
    return float(is_anomalous(scores, threshold)[~anomalous].mean())


def detection_rate(scores: Floats, anomalous: Bools, threshold: Thresholds) -> float:
    """Share of the anomalous images that are called anomalous.

    >>> detection_rate(np.array([1.0, 3.0, 2.0, 4.0]), np.array([False, False, True, True]), threshold=1.5)
    1.0
    """
    _need(anomalous, "anomalous")
    return float(is_anomalous(scores, threshold)[anomalous].mean())


def measure_images(scores: Floats, anomalous: Bools, threshold: Thresholds, seed: int = 0) -> Metrics:
    """All image-level figures of one group of images with their intervals; what cannot be had is left out, with why.

    Shares of images (accuracy, improvement and the two rates) have Wilson's interval; the others a bootstrap's, see
    `bootstrap`.

    >>> found = measure_images(np.array([1.0, 3.0, 2.0, 4.0]), np.array([False, False, True, True]), threshold=1.5)
    >>> print(found.image["accuracy"])
    0.750 [0.301, 0.954]
    """
    swept = sweep(scores, anomalous)
    drawn = bootstrap(scores, anomalous, seed)
    share_all = accuracy_all_anomalous(anomalous)
    correct = accuracy(scores, anomalous, threshold)
    figures: dict[str, Callable[[], Estimate]] = {
        "auroc": lambda: auroc_with_bounds(auroc(swept), drawn["auroc"], anomalous),
        "average_precision": lambda: with_bounds(average_precision(swept), drawn["average_precision"]),
        "f1_max": lambda: with_bounds(best_f1(swept).value, drawn["f1_max"]),
        "accuracy_max": lambda: with_bounds(best_accuracy(swept).value, drawn["accuracy_max"]),
        "accuracy": lambda: wilson(correct, len(anomalous)),
        "accuracy_all_anomalous": lambda: Estimate(share_all),
        "improvement": lambda: _shift(wilson(correct, len(anomalous)), -share_all),
        "false_alarm_rate": lambda: wilson(false_alarm_rate(scores, anomalous, threshold), int((~anomalous).sum())),
        "detection_rate": lambda: wilson(detection_rate(scores, anomalous, threshold), int(anomalous.sum())),
    }
    image, left_out = {}, {}
    for name, figure in figures.items():
        try:
            image[name] = figure()
        except DataError as reason:
            left_out[name] = str(reason)
    return Metrics(int((~anomalous).sum()), int(anomalous.sum()), image, left_out=left_out)


def measure_at(
    scores: Floats, anomalous: Bools, thresholds: Floats, share: float
) -> tuple[dict[str, Estimate], dict[str, str]]:
    """The two rates at thresholds (N,) that promise a share of false alarms, and what cannot be had, with why.

    >>> scores, anomalous = np.array([1.0, 3.0, 2.0, 4.0]), np.array([False, False, True, True])
    >>> found, _ = measure_at(scores, anomalous, np.full(4, 2.5), share=0.05)
    >>> [(name, rate.value) for name, rate in found.items()]
    [('detection_rate_at_5', 0.5), ('false_alarm_rate_at_5', 0.5)]
    """
    image, left_out = {}, {}
    for what, rate, chosen in (
        ("detection_rate", detection_rate, anomalous),
        ("false_alarm_rate", false_alarm_rate, ~anomalous),
    ):
        name = f"{what}_at_{100 * share:g}"
        if np.isinf(thresholds).any():
            left_out[name] = (
                f"needs {normals_needed(share)} independent normal images that calibrate, for a promise of {100 * share:g} %"
            )
        elif chosen.any():
            image[name] = wilson(rate(scores, anomalous, thresholds), int(chosen.sum()))
        else:
            left_out[name] = f"no {'anomalous' if what == 'detection_rate' else 'normal'} image to measure it on"
    return image, left_out


def bootstrap(scores: Floats, anomalous: Bools, seed: int = 0, replicates: int | None = None) -> dict[str, Floats]:
    """The figures that depend on all thresholds, in sets drawn anew with replacement, (R,) each.

    Normal and anomalous images are drawn separately, as many as there are. The scores are sorted once: a draw only changes
    how often each counts. Nothing is drawn, and nothing returned, where one class is missing.

    >>> drawn = bootstrap(np.array([1.0, 3.0, 2.0, 4.0]), np.array([False, False, True, True]), replicates=500)
    >>> sorted(drawn), drawn["auroc"].shape
    (['accuracy_max', 'auroc', 'average_precision', 'f1_max'], (500,))
    """
    if anomalous.all() or not anomalous.any():
        return {}
    blocks = [
        {
            "auroc": area_under_roc(detected, false_alarms),
            "average_precision": _average_precision(detected, false_alarms),
            "f1_max": f_beta(detected, false_alarms).max(axis=-1),
            "accuracy_max": accuracies(detected, false_alarms).max(axis=-1),
        }
        for detected, false_alarms in _resample(scores, anomalous, seed, replicates or replicates_for(len(scores)))
    ]
    return {name: np.concatenate([block[name] for block in blocks]) for name in blocks[0]}


def replicates_for(images: int) -> int:
    """How many replicates a bootstrap of so many images has: 1,000, and fewer (at least 200) beyond 40,000 images.

    >>> replicates_for(2_000), replicates_for(100_000), replicates_for(1_000_000)
    (1000, 400, 200)
    """
    return int(np.clip(RESAMPLED // max(images, 1), MIN_REPLICATES, REPLICATES))


def with_bounds(value: float, replicates: Floats) -> Estimate:
    """A figure with the percentile interval of its bootstrap replicates (R,), widened to hold the figure itself.

    Where they are all the same, as those of images that are told apart without a mistake, they say nothing of other
    images: the figure has no interval.

    >>> print(with_bounds(0.5, np.linspace(0.4, 0.6, 1001)))
    0.500 [0.405, 0.595]
    >>> print(with_bounds(1.0, np.ones(1000)))
    1.000
    """
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(replicates, [tail, 1 - tail])
    if max(abs(low - value), abs(high - value)) < SAME:
        return Estimate(value)
    return Estimate(value, min(float(low), value), max(float(high), value))


def newcombe(area: float, normal: int, anomalous: int) -> Estimate:
    """An area under the ROC curve with a score interval, which is sound for few images and areas of 0 and 1.

    Newcombe 2006, "Confidence intervals for an effect size measure based on the Mann-Whitney statistic. Part 2", method 5:
    the areas whose own standard error, by Hanley and McNeil for equal classes, reaches as far as the one that was found.

    >>> print(newcombe(1.0, 60, 40))
    1.000 [0.959, 1.000]
    """
    z, even = NormalDist().inv_cdf(0.5 + CONFIDENCE / 2), (normal + anomalous) / 2

    def beyond(other: float) -> float:
        spread = 1 + (even - 1) * ((1 - other) / (2 - other) + other / (1 + other))
        return abs(area - other) - z * math.sqrt(other * (1 - other) * spread / (normal * anomalous))

    return Estimate(area, _root(beyond, 0.0, area), _root(beyond, 1.0, area))


def _root(function: Callable[[float], float], outside: float, inside: float) -> float:
    """Where a function changes its sign, by halving; `inside` it is below 0."""
    for _ in range(60):
        middle = (outside + inside) / 2
        outside, inside = (middle, inside) if function(middle) > 0 else (outside, middle)
    return outside


def auroc_with_bounds(area: float, replicates: Floats, anomalous: Bools) -> Estimate:
    """By the bootstrap, or where all of its replicates are the same by a score interval."""
    found = with_bounds(area, replicates)
    return found if found.low is not None else newcombe(area, int((~anomalous).sum()), int(anomalous.sum()))


def wilson(share: float, images: int) -> Estimate:
    """A share of independent images with Wilson's score interval, which is sound for few images and shares of 0 and 1.

    Wilson 1927, "Probable inference, the law of succession, and statistical inference".

    >>> print(wilson(0.0, 20))
    0.000 [0.000, 0.161]
    """
    z = NormalDist().inv_cdf(0.5 + CONFIDENCE / 2)
    middle = (share + z**2 / (2 * images)) / (1 + z**2 / images)
    half = z / (1 + z**2 / images) * (share * (1 - share) / images + z**2 / (4 * images**2)) ** 0.5
    return Estimate(share, min(max(middle - half, 0.0), share), max(min(middle + half, 1.0), share))


def area_under_roc(detected: Counts, false_alarms: Counts) -> Floats:
    """AUROC of counts (..., T + 1) that rise from none caught to all caught."""
    heights = detected[..., 1:] + detected[..., :-1]
    areas = (np.diff(false_alarms) * heights).sum(axis=-1)
    return np.asarray(areas / (2.0 * detected[..., -1] * false_alarms[..., -1]))


def _average_precision(detected: Counts, false_alarms: Counts) -> Floats:  # (..., T + 1)
    caught = detected[..., 1:] + false_alarms[..., 1:]
    gained = np.diff(detected) * detected[..., 1:]
    precision = np.divide(gained, caught, out=np.zeros(caught.shape), where=caught > 0)
    return np.asarray(precision.sum(axis=-1) / detected[..., -1])


def _resample(scores: Floats, anomalous: Bools, seed: int, count: int) -> Iterator[tuple[Counts, Counts]]:
    """Counts of detected images and false alarms of some replicates at a time, (B, T + 1) each."""
    random = np.random.default_rng(seed)
    levels, ranks = rank_scores(scores)
    rows = max(1, BLOCK // len(ranks))
    for start in range(0, count, rows):
        drawn = [_draw(random, ranks[c], len(levels), min(rows, count - start)) for c in (anomalous, ~anomalous)]
        yield drawn[0], drawn[1]


def _draw(random: np.random.Generator, ranks: Ranks, levels: int, rows: int) -> Counts:
    chosen = ranks[random.integers(0, len(ranks), (rows, len(ranks)))]  # (B, n)
    chosen += np.arange(rows)[:, None] * levels
    return accumulate(np.bincount(chosen.ravel(), minlength=rows * levels).reshape(rows, levels))


def _shift(estimate: Estimate, by: float) -> Estimate:
    assert estimate.low is not None
    assert estimate.high is not None
    return Estimate(estimate.value + by, estimate.low + by, estimate.high + by)


def _need(chosen: Bools, what: str) -> None:
    if not chosen.any():
        raise DataError(f"needs {what} images; none of the {len(chosen):,} is {what}")
