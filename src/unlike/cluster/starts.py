"""Where the centres of a clustering start from."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from sklearn.cluster import kmeans_plusplus
from sklearn.metrics import euclidean_distances, pairwise_distances_argmin

from unlike.records import Floats

SAMPLE = 4000  # points that are enough to look at
SEEDS = 8  # for each cluster, of a spread start


def _draw_start(points: Floats, clusters: int, random: np.random.RandomState) -> Floats:
    """k-means++: points drawn one after the other, with odds by the squared distance to the nearest before."""
    return np.asarray(kmeans_plusplus(points, clusters, random_state=random)[0])


def _spread_start(points: Floats, clusters: int, random: np.random.RandomState) -> Floats:
    """Centres far from each other: k-means++ rarely draws one from each of several small clusters, this mostly does.

    Many seeds, each moved to the mean of the points nearest to it, which takes the noise out of their distances; then
    one of them, and again and again the one farthest from those taken (Gonzalez, 1985).
    """
    points = points[draw_rows(len(points), max(SAMPLE, SEEDS * clusters), random)]
    seeds = kmeans_plusplus(points, min(len(points), SEEDS * clusters), random_state=random, n_local_trials=1)[0]
    labels = pairwise_distances_argmin(points, seeds)
    sums = np.stack([np.bincount(labels, column, len(seeds)) for column in points.T], axis=1)
    sizes = np.bincount(labels, minlength=len(seeds))
    means = sums[sizes > 0] / sizes[sizes > 0, None]
    taken = [random.randint(len(means))]
    while len(taken) < clusters:
        taken.append(int(euclidean_distances(means, means[taken]).min(axis=1).argmax()))
    return np.asarray(means[taken])


STARTS = {"both": (_draw_start, _spread_start), "k-means++": (_draw_start,), "spread": (_spread_start,)}


def draw_rows(count: int, most: int, random: np.random.RandomState) -> npt.NDArray[np.intp]:
    """Rows drawn without repetition, in order."""
    return np.sort(random.permutation(count)[:most])
