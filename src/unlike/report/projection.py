"""Codes of many numbers on a plane: where images lie, coloured by what is known of them, with the outermost shown."""

from __future__ import annotations

import math
import warnings
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle

from unlike.artifacts import printable
from unlike.errors import ConfigError, DataError, unknown
from unlike.records import Floats, Pixels
from unlike.report.figures import GROUPS, UNKNOWN, USUAL, Look, styled
from unlike.report.wording import shorten

SIDE = 3.5  # inches of a panel
MOST_BESIDE = 3  # panels in a row; more of them make a square
RING = 5  # pictures along each edge of a panel, 16 round it
PICTURE = 0.15  # of a panel's side
INNER = (0.2, 0.8)  # where the dots are, within a panel; the ring of pictures is round it
MOST_DRAWN = 400  # dots of a panel that an SVG draws one by one; more of them are one image, a fifth of the size
PRINCIPAL = 50  # components of which t-SNE and UMAP measure distances: less noise, and quicker
MOST_NUMBERS, CONDENSED = 2048, 256  # of a code that is clustered; what a larger one is condensed to
UNLABELLED, OTHERS = "no label", "other kinds"
STRANGENESS = LinearSegmentedColormap.from_list("strangeness", colormaps["plasma"](np.linspace(0, 0.86, 256)))


def _slots() -> Floats:
    """(16, 2) the centres of the pictures round a panel, in shares of its side, clockwise from the top left."""
    near, far = PICTURE / 2 + 0.01, 1 - PICTURE / 2 - 0.01
    along = np.linspace(near, far, RING)[:-1]
    back = near + far - along
    sides = ([along, 0 * along + far], [0 * along + far, back], [back, 0 * along + near], [0 * along + near, along])
    return np.concatenate([np.transpose(side) for side in sides])


SLOTS = _slots()


@dataclass(frozen=True, slots=True, eq=False)
class Projection:
    """Where points of many dimensions lie on a plane."""

    positions: Floats  # (N, 2)
    shares: tuple[float, float] | None = None  # of the variance, along each axis; None where axes mean nothing


@dataclass(frozen=True, slots=True, eq=False)
class Panel:
    """One space of images: its name, and each image's position with a kind, or with a score, that colours it."""

    title: str
    projection: Projection
    kinds: Sequence[str] | None = None  # N
    scores: Floats | None = None  # (N,), where there are no kinds
    note: str = ""


def project(points: Floats, method: str = "pca", seed: int = 0) -> Projection:
    """Lay points (N, D) on a plane: by PCA (far apart stays far apart), t-SNE or UMAP (neighbours stay neighbours).

    The same seed gives the same positions. t-SNE's perplexity and UMAP's neighbourhood are smaller for small sets. A DataError
    says that there are too few points, that one is not finite, or that all are the same. PCA: Pearson 1901; t-SNE: van
    der Maaten & Hinton 2008; UMAP: McInnes et al. 2018.

    >>> found = project(np.array([[0.0, 0, 0], [2, 0, 0], [4, 1, 0], [6, 0, 0]]))
    >>> found.positions.shape, round(found.shares[0], 2)
    ((4, 2), 0.97)
    """
    if method not in METHODS:
        raise unknown("method", method, METHODS)
    least, lay_out = METHODS[method]
    if len(points) < least:
        hint = "" if method == "pca" else ", or take --method pca"
        raise DataError(f"{NAMES[method]} needs at least {least} images, came {len(points)}; give more images{hint}")
    check_spread(points)
    centred = points - points.mean(axis=0, dtype=np.float64)
    return lay_out(
        np.asarray(centred / np.abs(centred).max(), np.float32), seed
    )  # squares of large values would not fit


def check_spread(points: Floats) -> None:
    """Raise DataError unless all of the points (N, D) are finite and some differ.

    >>> check_spread(np.ones((4, 2)))
    Traceback (most recent call last):
    unlike.errors.DataError: the codes of all 4 images are the same: ...
    """
    check_finite(points)
    if (points == points[0]).all():
        raise DataError(
            f"the codes of all {len(points):,} images are the same: there is nothing to see; give images that differ, or fit "
            "the detector for longer"
        )


def check_finite(points: Floats) -> None:
    """Raise DataError unless all of the codes (N, D) are numbers that can be computed with.

    >>> check_finite(np.array([[1.0], [np.nan]]))
    Traceback (most recent call last):
    unlike.errors.DataError: the codes of 1 of 2 images are not finite: ...
    """
    finite = np.isfinite(points).all(axis=1)
    if not finite.all():
        raise DataError(
            f"the codes of {int((~finite).sum()):,} of {len(points):,} images are not finite: the detector did not learn; "
            "fit it with a smaller training.learning_rate"
        )


def condense(points: Floats, seed: int = 0) -> Floats:
    """Points (N, D) of more than 2,048 numbers in the 256 directions in which they vary most; others as they are.

    >>> condense(np.zeros((300, 64))).shape, condense(np.random.default_rng(0).normal(size=(300, 3000))).shape
    ((300, 64), (300, 256))
    """
    if points.shape[1] <= MOST_NUMBERS:
        return points
    check_spread(points)
    return _reduce(points, CONDENSED, seed)[0]


def _principal(points: Floats, seed: int) -> Projection:
    positions, shares = _reduce(points, 2, seed)
    return Projection(positions, shares)


def _neighbourhoods(points: Floats, seed: int) -> Projection:
    from sklearn.manifold import TSNE
    from threadpoolctl import threadpool_limits

    reduced, _ = _reduce(points, PRINCIPAL, seed)
    start = reduced[:, :2] / reduced[:, 0].std() * 1e-4
    perplexity = min(30.0, (len(points) - 1) / 3)
    with threadpool_limits(1):  # several threads add up in another order each time
        return Projection(TSNE(2, perplexity=perplexity, init=start, random_state=seed).fit_transform(reduced))


def _manifold(points: Floats, seed: int) -> Projection:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what it would say about parts of it that are not used here
            from umap import UMAP
    except ImportError:
        raise ConfigError(
            "--method umap: umap-learn is not installed; pip install 'unlike[umap]', or take --method tsne"
        ) from None
    reduced, _ = _reduce(points, PRINCIPAL, seed)
    neighbours = min(15, len(points) - 1)
    start = "spectral" if len(points) > 4 * neighbours else "random"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        mapper = UMAP(n_neighbors=neighbours, init=start, random_state=seed, n_jobs=1)
        return Projection(np.asarray(mapper.fit_transform(reduced)))


def _reduce(points: Floats, most: int, seed: int) -> tuple[Floats, tuple[float, float]]:
    """At most `most` principal components, at least two, and the first two's shares of the variance."""
    from sklearn.decomposition import PCA

    count = min(most, *points.shape)
    pca = PCA(count, svd_solver="randomized", random_state=seed)
    reduced = pca.fit_transform(points)
    padded = np.pad(reduced, ((0, 0), (0, max(0, 2 - count))))
    shares = [*pca.explained_variance_ratio_.tolist(), 0.0]
    return padded, (float(shares[0]), float(shares[1]))


NAMES = {"pca": "PCA", "tsne": "t-SNE", "umap": "UMAP"}
METHODS: Mapping[str, tuple[int, Callable[[Floats, int], Projection]]] = {  # -> least number of points, and how
    "pca": (3, _principal),
    "tsne": (6, _neighbourhoods),
    "umap": (6, _manifold),
}


@styled
def projections(
    panels: Sequence[Panel], pictures: Mapping[int, Pixels] = MappingProxyType({}), title: str = ""
) -> Figure:
    """Show one panel for each space, all of the same images; `pictures` (H, W, 3) of rows stand round the dots.

    Of those, the ones that `outermost` names for a panel are drawn in it, each with a line to its dot. Where a panel is coloured
    by score, colours are ranks, so that detectors with different scales can be compared.

    >>> plane = Projection(np.array([[0.0, 0], [1, 0], [1, 1], [2, 1]]), (0.9, 0.1))
    >>> figure = projections([Panel("conv", plane, kinds=["normal", "normal", "bent", "bent"])])
    >>> figure.axes[0].get_title(loc="left"), [text.get_text() for text in figure.legends[0].get_texts()]
    ('conv', ['normal (2)', 'bent (2)'])
    """
    columns = len(panels) if len(panels) <= MOST_BESIDE else min(MOST_BESIDE, math.ceil(math.sqrt(len(panels))))
    rows = math.ceil(len(panels) / columns)
    figure = Figure(figsize=(columns * SIDE, rows * (SIDE + 0.35) + 0.55), layout="constrained")
    figure.suppressComposite = True  # in an SVG each picture stays one, with its own pixels
    grid: list[Axes] = list(figure.subplots(rows, columns, squeeze=False).flat)
    looks = choose_looks([kind for panel in panels for kind in panel.kinds or ()])
    for axes, panel in zip(grid, panels, strict=False):
        _draw_panel(axes, panel, looks, pictures)
    for axes in grid[len(panels) :]:
        axes.set_axis_off()
    _explain_colours(figure, panels, looks)
    if title:
        figure.suptitle(printable(title), x=0.01, ha="left", fontsize=11)
    return figure


def outermost(positions: Floats) -> dict[int, int]:
    """The slots round a panel, clockwise from the top left, and for each the row of an image that lies far out.

    For each direction the image farthest that way, none twice; then slots are dealt out so that the lines from them to the
    dots are shortest in all, which also keeps the lines from crossing.

    >>> outermost(np.array([[0.0, 0], [1, 1], [0.5, 0.5]]))
    {0: 2, 5: 1, 10: 0}
    """
    from scipy.optimize import linear_sum_assignment

    inside, slots = unit_square(positions), np.arange(len(SLOTS))
    if len(positions) < len(slots):
        slots = np.linspace(0, len(slots), len(positions), endpoint=False).astype(int)
    outward = SLOTS[slots] - 0.5
    outward /= np.linalg.norm(outward, axis=1, keepdims=True)
    _, rows = linear_sum_assignment(-outward @ (inside - 0.5).T)
    dots = INNER[0] + (INNER[1] - INNER[0]) * inside[rows]
    lengths = np.linalg.norm(SLOTS[slots][:, None] - dots[None], axis=2)
    _, dealt = linear_sum_assignment(lengths)
    return {int(slot): int(row) for slot, row in zip(slots, rows[dealt], strict=True)}


def unit_square(positions: Floats) -> Floats:
    """Positions (N, 2) scaled to 0 to 1 along each axis; one that does not vary lies in the middle."""
    low, high = positions.min(axis=0), positions.max(axis=0)
    span = high - low
    return np.asarray(np.where(span > 0, (positions - low) / np.where(span > 0, span, 1), 0.5), np.float64)


def choose_looks(kinds: Sequence[str]) -> dict[str, Look]:
    """How each kind is drawn: normal is blue and round; the most frequent others have a look of their own.

    >>> {kind: (look.colour, look.marker) for kind, look in choose_looks(["normal", "bent", "bent", "no label"]).items()}
    {'normal': ('#0072B2', 'o'), 'no label': ('#767676', '.'), 'bent': ('#D55E00', '^')}
    """
    looks = {}
    if "normal" in kinds:
        looks["normal"] = USUAL
    if UNLABELLED in kinds:
        looks[UNLABELLED] = UNKNOWN
    free = GROUPS[1:]  # all but that of normal images
    others = [kind for kind, _ in Counter(kinds).most_common() if kind not in looks]
    shown = others if len(others) <= len(free) else others[: len(free) - 1]
    looks |= dict(zip(shown, free, strict=False))
    return looks | dict.fromkeys(others[len(shown) :], free[-1])


def _draw_panel(axes: Axes, panel: Panel, looks: Mapping[str, Look], pictures: Mapping[int, Pixels]) -> None:
    low, high = INNER if pictures else (0.04, 0.96)
    dots = low + (high - low) * unit_square(panel.projection.positions)
    colours = _dot_colours(panel, looks)
    _draw_dots(axes, dots, panel, looks)
    for slot, row in outermost(panel.projection.positions).items():
        if row in pictures:
            _draw_picture(axes, pictures[row], SLOTS[slot], dots[row], colours[row])
    axes.set(xlim=(0, 1), ylim=(0, 1), xticks=[], yticks=[], aspect="equal")
    axes.grid(visible=False)
    axes.spines[:].set_visible(True)
    axes.spines[:].set_color("#d0d0d0")
    axes.set_title(shorten(printable(panel.title), 34 - len(panel.note)))
    axes.set_title(panel.note, loc="right", fontsize=8.5, fontweight="normal", color="#555555")
    if panel.projection.shares:
        across, up = (f"{100 * share:.0f} % of the variance" for share in panel.projection.shares)
        axes.set_xlabel(f"1st component: {across}", fontsize=8.5, color="#555555")
        axes.set_ylabel(f"2nd component: {up}", fontsize=8.5, color="#555555")


def _draw_dots(axes: Axes, dots: Floats, panel: Panel, looks: Mapping[str, Look]) -> None:
    """The rare kinds on top; where colours are ranks, chance decides, so that neither end hides the other."""
    size = float(np.clip(6000 / len(dots), 7, 34))
    style: dict[str, Any] = {
        "s": size,
        "alpha": 0.8,
        "linewidths": 0,
        "zorder": 3,
        "rasterized": len(dots) > MOST_DRAWN,
    }
    if panel.kinds is None:
        ranks = _ranks(panel)
        order = np.random.default_rng(0).permutation(len(ranks))
        axes.scatter(dots[order, 0], dots[order, 1], c=STRANGENESS(ranks[order]), **style)
        return
    kinds = np.array(panel.kinds)
    counts = Counter(panel.kinds)
    for kind in sorted(counts, key=lambda kind: (-counts[kind], kind != "normal")):
        x, y = dots[kinds == kind].T
        axes.scatter(x, y, c=looks[kind].colour, marker=looks[kind].marker, **style)


def _dot_colours(panel: Panel, looks: Mapping[str, Look]) -> Sequence[object]:
    if panel.kinds is not None:
        return [looks[kind].colour for kind in panel.kinds]
    return list(STRANGENESS(_ranks(panel)))


def _ranks(panel: Panel) -> Floats:
    """(N,) from 0, the least strange, to 1, the strangest; the same for equal scores."""
    from scipy.stats import rankdata

    scores = np.zeros(len(panel.projection.positions)) if panel.scores is None else panel.scores
    ranks: Floats = rankdata(scores, method="average")
    return (ranks - 1) / max(len(ranks) - 1, 1)


def _draw_picture(axes: Axes, picture: Pixels, centre: Floats, dot: Floats, colour: object) -> None:
    """One picture of the ring, framed in its dot's colour, and a thin line between the two."""
    height, width = (PICTURE * side / max(picture.shape[:2]) for side in picture.shape[:2])
    left, bottom = centre[0] - width / 2, centre[1] - height / 2
    axes.plot(*zip(centre, dot, strict=True), color="#a8a8a8", linewidth=0.6, zorder=2)
    axes.imshow(picture, extent=(left, left + width, bottom, bottom + height), zorder=4)
    axes.add_patch(Rectangle((left, bottom), width, height, fill=False, edgecolor=colour, linewidth=1.4, zorder=5))


def _explain_colours(figure: Figure, panels: Sequence[Panel], looks: Mapping[str, Look]) -> None:
    look: dict[str, Any] = {"handletextpad": 0.3, "columnspacing": 1.4}
    by_kind = next((panel.kinds for panel in panels if panel.kinds is not None), None)
    if by_kind is not None:
        figure.legend(handles=_legend(by_kind, looks), loc="outside lower left", ncols=6, **look)
    if any(panel.kinds is None for panel in panels):
        words = {0.0: "lowest score", 0.5: "median", 1.0: "highest score"}
        handles = [_dot(STRANGENESS(rank), "o", word) for rank, word in words.items()]
        figure.legend(handles=handles, loc="outside lower right", ncols=len(handles), **look)


def _dot(colour: Any, marker: str, label: str) -> Line2D:
    return Line2D([], [], linestyle="none", color=colour, marker=marker, markersize=6, label=label)


def _legend(kinds: Sequence[str], looks: Mapping[str, Look]) -> list[Line2D]:
    entries: dict[Look, tuple[str, int]] = {}
    counts = Counter(kinds)
    for kind, look in looks.items():
        several = look in entries
        name = OTHERS if several else shorten(printable(kind), 24)
        entries[look] = (name, counts[kind] + (entries[look][1] if several else 0))
    return [_dot(look.colour, look.marker, f"{name} ({count:,})") for look, (name, count) in entries.items()]
