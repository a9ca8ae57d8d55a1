"""What equilibrium k-means makes of one set of points as its alpha changes, beside k-means."""

from __future__ import annotations

import csv
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.collections import PathCollection
from matplotlib.figure import Figure

from unlike.artifacts import printable
from unlike.errors import DataError
from unlike.records import Floats
from unlike.report.figures import GROUPS, INK, WIDE, styled
from unlike.report.wording import number, percent, shorten

FACTORS = (0.1, 1.0, 10.0)
MOST_POINTS = 3000  # drawn in a panel; all of them are clustered
MOST_SIZES = 6  # printed below a panel

Labels = npt.NDArray[np.intp]
Alpha = Literal["dvariance", "contrast"] | float  # as EquilibriumKMeans has it


@dataclass(frozen=True, slots=True, eq=False)
class Clustering:
    """One way to divide the points, under its title."""

    title: str
    labels: Labels  # (N,)
    sizes: Labels  # (K,) the largest first; label 0 has the first
    centres: Floats | None = None  # (K, D)
    alpha: float | None = None
    names: Sequence[str] = ()  # K, of labels


@styled
def alpha_sweep(
    points: Floats,
    n_clusters: int,
    labels: Sequence[object] | npt.NDArray[np.generic] | None = None,
    *,
    alpha: Alpha = "dvariance",
    factors: Sequence[float] = FACTORS,
    seed: int = 0,
) -> Figure:
    """Show what alpha, times some `factors`, makes of points, beside k-means, with the sizes of the clusters.

    Points (N, D) are clustered in all D dimensions, and drawn on their first two principal components if D > 2. With
    `labels` (N,), from which nothing is learned, they are drawn as labelled too, and each panel tells how well it
    agrees (adjusted Rand index, ARI: 1 is agreement, 0 is chance). `alpha` is that of EquilibriumKMeans. Raises
    DataError (a ValueError) for points that cannot be clustered: too few, all the same, or not finite.

    >>> figure = alpha_sweep(np.random.default_rng(0).normal(size=(60, 2)), 2)
    >>> [axes.get_title(loc="left") for axes in figure.axes]
    ['k-means', '0.1 x alpha', 'alpha', '10 x alpha']
    """
    points = np.asarray(points)
    panels = _sweep(points, n_clusters, alpha, factors, seed)
    if labels is not None:
        panels.insert(0, _as_labelled(labels, len(points)))
    flatten, names = _plane(points)
    positions, drawn = flatten(points), np.random.default_rng(seed).permutation(len(points))[:MOST_POINTS]
    columns = 3 if labels is not None else 2
    rows = 1 + -(-(len(panels) - 2) // columns)
    figure = Figure(figsize=(WIDE, 2.2 + rows * WIDE / columns / 1.15), layout="constrained")
    grid = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    places = [*grid[0, :2], *grid[1:].flat]  # the first row has what to compare with
    for axes in [*grid[0, 2:], *places[len(panels) :]]:
        axes.set_visible(False)
    for axes, panel in zip(places, panels, strict=False):
        _scatter(axes, panel, positions, drawn)
        if panel.centres is not None:
            look: dict[str, Any] = {"marker": "X", "markersize": 9, "markerfacecolor": "white", "markeredgecolor": INK}
            axes.plot(*flatten(panel.centres).T, linestyle="none", label="centre", **look)
            if labels is not None:
                _tell_agreement(axes, panels[0], panel)
    figure.supxlabel(names[0], fontsize=9.5)
    figure.supylabel(names[1], fontsize=9.5)
    _explain_marks(figure, list(grid[:2, 0] if labels is not None else grid[-1:, 0]))
    return figure


def read_points(path: Path) -> Floats:
    """The points (N, D) of a CSV file, a point a row; a first row of names is skipped. A DataError says what is wrong."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = [row for row in csv.reader(file) if row]
        if rows and not all(map(_is_number, rows[0])):
            rows = rows[1:]
        points = np.array([[float(value) for value in row] for row in rows])
    except (ValueError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: expected numbers, the same count in every row ({error})") from None
    if points.ndim != 2 or not np.isfinite(points).all():
        raise DataError(f"{path}: expected rows of finite numbers, a point each; came {len(rows):,} rows")
    return points


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _explain_marks(figure: Figure, panels: Sequence[Axes]) -> None:
    """Name the labels and the centre, in the free corner where there is one."""
    entries = [entry for axes in panels for entry in zip(*axes.get_legend_handles_labels(), strict=True)]
    marks, names = [mark for mark, _ in entries], [name for _, name in entries]
    legend = figure.legend(marks, names, loc="upper right" if len(panels) > 1 else "outside upper right")
    for mark in legend.legend_handles:
        if isinstance(mark, PathCollection):  # the dots of a panel are too small and pale to tell colours apart
            mark.set(sizes=[30], alpha=1)


def _sweep(points: Floats, n_clusters: int, alpha: Alpha, factors: Sequence[float], seed: int) -> list[Clustering]:
    from sklearn.cluster import KMeans
    from sklearn.exceptions import ConvergenceWarning

    from unlike.cluster import EquilibriumKMeans

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # that centres fall together is what the figure shows
        middle = EquilibriumKMeans(n_clusters, alpha=alpha, random_state=seed).fit(points)
        plain = KMeans(n_clusters, n_init=middle.n_init, random_state=seed).fit(points)
        panels = [_ordered("k-means", plain.labels_, n_clusters, plain.cluster_centers_)]
        for factor in factors:
            value = factor * middle.alpha_
            found = EquilibriumKMeans(n_clusters, alpha=value, random_state=seed).fit(points)
            title = "alpha" if factor == 1 else f"{factor:g} x alpha"
            panels.append(_ordered(title, found.labels_, n_clusters, found.cluster_centers_, value))
    return panels


def _as_labelled(labels: Sequence[object] | npt.NDArray[np.generic], count: int) -> Clustering:
    if len(labels) != count:
        raise DataError(f"expected a label for each of the {count} points, came {len(labels)}; give as many of both")
    names, found = np.unique(np.asarray(labels).astype(str), return_inverse=True)
    sizes = np.bincount(found)
    order = sorted(range(len(names)), key=lambda kind: (names[kind] != "normal", -sizes[kind]))  # normal is blue
    return Clustering("As labelled", np.argsort(order)[found], sizes[order], names=names[order].tolist())


def _ordered(
    title: str, labels: Labels, clusters: int, centres: Floats | None = None, alpha: float | None = None
) -> Clustering:
    """With the largest cluster first, so that alike clusters look alike in all panels."""
    sizes = np.bincount(labels, minlength=clusters)
    order = np.argsort(-sizes, kind="stable")
    return Clustering(title, np.argsort(order)[labels], sizes[order], centres, alpha)


def _plane(points: Floats) -> tuple[Callable[[Floats], Floats], tuple[str, str]]:
    """How points (N, D) are brought to (N, 2), and the names of the axes."""
    if points.shape[1] <= 2:
        return lambda some: np.pad(some, ((0, 0), (0, 2 - some.shape[1]))), ("First coordinate", "Second coordinate")
    from sklearn.decomposition import PCA

    fitted = PCA(2, svd_solver="covariance_eigh").fit(points)
    shares = [percent(float(share)) for share in fitted.explained_variance_ratio_]
    return fitted.transform, (f"First principal component ({shares[0]} of the variance)", f"Second ({shares[1]})")


def _scatter(axes: Axes, panel: Clustering, positions: Floats, drawn: Labels) -> None:
    """The largest cluster first and palest, so that it covers no other; clusters look unlike normal and anomalous images."""
    looks = GROUPS if panel.names else (*GROUPS[2:], *GROUPS[:2])
    for rank in range(len(panel.sizes)):
        rows = drawn[panel.labels[drawn] == rank]
        colour, _, _, marker = looks[rank % len(looks)]
        faint = 0.35 if rank == 0 else 0.7
        named = shorten(printable(panel.names[rank]), 24) if rank < min(len(GROUPS), len(panel.names)) else None
        look: dict[str, Any] = {"s": 9, "c": colour, "marker": marker, "linewidths": 0, "alpha": faint, "label": named}
        axes.scatter(positions[rows, 0], positions[rows, 1], rasterized=True, **look)
    axes.set_title(panel.title)
    sizes = ", ".join(f"{size:,}" for size in panel.sizes[:MOST_SIZES]) + ", …" * (len(panel.sizes) > MOST_SIZES)
    value = "" if panel.alpha is None else f"alpha {number(panel.alpha, 3)}\n"
    axes.set_xlabel(f"{value}sizes {sizes}", fontsize=9)


def _tell_agreement(axes: Axes, labelled: Clustering, panel: Clustering) -> None:
    from sklearn.metrics import adjusted_rand_score

    agreement = adjusted_rand_score(labelled.labels, panel.labels)
    axes.set_title(f"ARI {agreement:.2f}", loc="right", fontsize=9, fontweight="normal")
