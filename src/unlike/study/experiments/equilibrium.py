"""equilibrium: does a method of clustering find a small group beside a large one?"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from unlike.config import check_range
from unlike.data.source import Source
from unlike.detector.explain import encode
from unlike.errors import ConfigError, DataError
from unlike.records import Floats
from unlike.scoring.features import short_seed
from unlike.study.datasets import open_classes
from unlike.study.experiments.base import Experiment, Outcome, Task
from unlike.study.experiments.pretraining import without_labels

DRAWN = 400  # points of the scatter plot at most
Labels = npt.NDArray[np.intp]


@dataclass(frozen=True, slots=True)
class EquilibriumOptions:
    """What is clustered, and how."""

    method: Literal["kmeans", "equilibrium", "softmax"] = "equilibrium"
    alpha_factor: float = 1.0  # times the alpha that the method chooses; kmeans has none
    shares: tuple[int, ...] = (2, 1, 1)  # sizes of the classes to each other; as many classes as there are shares
    components: int = 2  # principal components of the codes, in which the clusters are sought

    def __post_init__(self) -> None:
        check_range("experiment.alpha_factor", self.alpha_factor, 1e-6, 1e6)
        check_range("experiment.components", self.components, 2, 10_000)
        if len(self.shares) < 2 or min(self.shares) < 1:
            raise ConfigError(f"experiment.shares: expected two whole numbers or more, came {list(self.shares)}")


def cluster_unequal_classes(task: Task) -> Outcome:
    """Cluster the codes of classes of unequal size, and compare the clusters with the classes."""
    learn, _ = open_classes(task.source)
    options = task.options
    chosen, classes = _draw_unequal(learn, options.shares, task.seed)
    unlabelled = without_labels(chosen)
    detector = task.detector().fit(unlabelled)
    codes = encode(detector, unlabelled).vectors
    points = _principal(codes, options.components)
    found = _cluster(points, options, task.seed)
    sizes = np.sort(np.bincount(found, minlength=len(options.shares)))[::-1]
    metrics = _agreement(classes, found, len(options.shares))
    metrics |= {f"size.{number}": float(size) for number, size in enumerate(sizes, start=1)}
    shown = np.random.default_rng(0).permutation(len(points))[:DRAWN]
    drawn = [[round(float(value), 4) for value in (*points[row, :2], found[row])] for row in np.sort(shown)]
    return Outcome(metrics, points=drawn, warnings=detector.fitted_.warnings)


def _draw_unequal(images: Source, shares: tuple[int, ...], seed: int) -> tuple[Source, Labels]:
    """Images of the first classes, as many of each as its share says, drawn by the seed; and the class of each."""
    kinds = np.array([sample.kind for sample in images.samples])
    names, counts = np.unique(kinds, return_counts=True)
    if len(names) < len(shares):
        raise DataError(f"{images.name}: {len(shares)} classes are wanted, came {len(names)}: {', '.join(names)}")
    unit = min(int(count) // share for count, share in zip(counts, shares, strict=False))
    random = np.random.default_rng(seed)
    rows = [
        random.permutation(np.flatnonzero(kinds == name))[: unit * share]
        for name, share in zip(names, shares, strict=False)
    ]
    classes = np.repeat(np.arange(len(shares)), [len(part) for part in rows])
    order = np.argsort(np.concatenate(rows))
    return images.take(np.concatenate(rows)[order]), classes[order]


def _principal(codes: Floats, components: int) -> Floats:
    from sklearn.decomposition import PCA

    count = min(components, *codes.shape)
    if count < 2:
        raise DataError(f"codes of {codes.shape[1]} numbers of {len(codes)} images have no plane to be clustered in")
    return np.asarray(PCA(count, svd_solver="full").fit_transform(codes.astype(np.float64)))


def _cluster(points: Floats, options: EquilibriumOptions, seed: int) -> Labels:
    from sklearn.cluster import KMeans
    from sklearn.exceptions import ConvergenceWarning

    from unlike.cluster import EquilibriumKMeans

    count, seed = len(options.shares), short_seed(seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # that clusters fell together shows in their sizes
        if options.method == "kmeans":
            return np.asarray(KMeans(count, n_init=10, random_state=seed).fit_predict(points))
        variant: Any = options.method
        alpha = EquilibriumKMeans(count, variant=variant, random_state=seed).fit(points).alpha_ * options.alpha_factor
        chosen = EquilibriumKMeans(count, alpha=alpha, variant=variant, random_state=seed)
        return np.asarray(chosen.fit_predict(points))


def _agreement(classes: Labels, found: Labels, count: int) -> dict[str, float]:
    """How well clusters and classes agree; each class is matched with a cluster of its own."""
    from scipy.optimize import linear_sum_assignment
    from sklearn.metrics import adjusted_rand_score

    table = np.zeros((count, count))
    np.add.at(table, (classes, found), 1)
    rows, columns = linear_sum_assignment(-table)
    recalls = table[rows, columns] / table.sum(axis=1)
    return {
        "adjusted_rand": float(adjusted_rand_score(classes, found)),
        "accuracy": float(table[rows, columns].sum() / table.sum()),
        "lowest_recall": float(recalls.min()),
    }


EQUILIBRIUM = Experiment(
    cluster_unequal_classes,
    metrics=("adjusted_rand", "accuracy", "lowest_recall", "size.1", "size.2", "size.3"),
    known=("adjusted_rand", "accuracy", "lowest_recall", *(f"size.{number}" for number in range(1, 100))),
    options=EquilibriumOptions,
)
