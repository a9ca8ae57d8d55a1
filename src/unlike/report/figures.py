"""The curves and charts of a report, each a matplotlib Figure of its own: no window, no global state.

Blue and solid is normal, vermillion and hatched or dashed is anomalous, everywhere: colours that colour-blind readers
tell apart (Okabe & Ito, 2008), and shapes that survive a grey printer. Sizes are those at which a figure is shown.
"""

from __future__ import annotations

import base64
import io
import math
import warnings
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
from matplotlib import style
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from unlike.artifacts import printable
from unlike.calibration.decision import is_anomalous
from unlike.calibration.sweep import sweep
from unlike.evaluation.metrics import pr_curve, roc_curve
from unlike.records import Bools, Estimate, Floats, Metrics, Thresholds, kept_epoch
from unlike.report.wording import interval, number, percent, shorten

BINS = 50
SHARP = 160  # dots per inch of a picture that is no SVG: a page shows 96
NORMAL, ANOMALOUS, INK, QUIET = "#0072B2", "#D55E00", "#1a1a1a", "#767676"
WIDE, NARROW = 7.0, 3.4  # inches: two thirds and a third of the page
MOST_DOTS = 25  # rows of a chart; a table lists the rest
MOST_CELLS = 30  # classes a side up to which a confusion matrix has numbers in its cells
SHARES = LinearSegmentedColormap.from_list("shares", ["#ffffff", NORMAL])  # from none to all
COMPARED = {"detection_rate": "Detection rate", "auroc": "AUROC"}  # between groups
HEAVY_TAIL = 15.0  # largest score over the median from which a logarithmic axis is easier to read


class Look(NamedTuple):
    """How one of several groups is drawn: what its colour tells, its hatch or its marker tells too."""

    colour: str  # of marks, lines and edges
    fill: str  # of areas; pale and not transparent, for browsers hatch no transparent area
    hatch: str
    marker: str


GROUPS = (  # in order; Okabe & Ito's colours, of which no two look alike to the colour-blind
    Look(NORMAL, "#cfe5f2", "", "o"),
    Look(ANOMALOUS, "#fbe3d3", "/////", "^"),
    Look("#009E73", "#d0ede4", ".....", "s"),
    Look("#CC79A7", "#f6e3ed", "xxxxx", "D"),
    Look("#E69F00", "#fbeccb", "-----", "v"),
    Look("#56B4E9", "#ffffff", "\\\\\\\\\\", "P"),
    Look(INK, "#ffffff", "++", "X"),
)
USUAL, ODD, *_ = GROUPS  # normal and anomalous images
UNKNOWN = Look(QUIET, "#ececec", "", ".")  # of images that are in no group

STYLE: dict[str, Any] = {
    "axes.axisbelow": True,
    "axes.edgecolor": "#8a8a8a",
    "axes.formatter.useoffset": False,
    "axes.grid": True,
    "axes.labelcolor": INK,
    "axes.linewidth": 0.7,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlelocation": "left",
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "figure.facecolor": "none",
    "font.sans-serif": ["Segoe UI", "Helvetica Neue", "Arial", "Liberation Sans", "DejaVu Sans"],
    "font.size": 9.5,
    "grid.color": "#e6e6e6",
    "grid.linewidth": 0.7,
    "hatch.linewidth": 0.6,
    "legend.fontsize": 9,
    "legend.frameon": False,
    "svg.fonttype": "none",  # letters stay letters: sharp, small, searchable
    "svg.hashsalt": "unlike",  # the same figure is the same file
    "text.parse_math": False,  # a kind of defect may be called "$x$"
    "xtick.color": "#555555",
    "ytick.color": "#555555",
}
styled = style.context(STYLE, after_reset=True)


@styled
def score_histograms(
    scores: Floats, anomalous: Bools, threshold: float, calibration: Floats | None = None, quantity: str = "Score"
) -> Figure:
    """Show how far apart normal and anomalous scores lie: one row a group, one scale of scores, 50 bins.

    >>> figure = score_histograms(np.arange(10.0), np.arange(10) > 6, threshold=5.5)
    >>> [axes.get_title(loc="left") for axes in figure.axes]
    ['Normal images (7)', 'Anomalous images (3)']
    """
    groups = [
        ("Normal images that set the threshold", calibration, UNKNOWN),
        ("Normal images", scores[~anomalous], USUAL),
        ("Anomalous images", scores[anomalous], ODD),
    ]
    shown = [(title, values, look) for title, values, look in groups if values is not None and len(values)]
    edges, logarithmic = bin_edges(np.concatenate([values for _, values, _ in shown]), threshold)
    figure = Figure(figsize=(WIDE, 0.75 + 1.3 * len(shown)), layout="constrained")
    rows = figure.subplots(len(shown), sharex=True, squeeze=False)[:, 0]
    for axes, (title, values, look) in zip(rows, shown, strict=True):
        _histogram(axes, values, edges, look)
        axes.set_title(f"{title} ({len(values):,})")
        _mark_threshold(axes, values, threshold)
    if logarithmic:
        rows[-1].set_xscale("log")
        plain_log_ticks(rows[-1], "x", edges[[0, -1]])
    rows[-1].set_xlim(edges[0], edges[-1])
    rows[-1].set_xlabel(f"{quantity} ({'logarithmic; ' * logarithmic}higher is stranger)")
    return figure


def bin_edges(values: Floats, threshold: float) -> tuple[Floats, bool]:
    """The 51 edges of 50 bins that hold every value and the threshold, and whether they are logarithmic.

    Heavy-tailed scores would crowd into one bin of a linear axis; positive ones get a logarithmic axis instead.

    >>> edges, logarithmic = bin_edges(np.array([1.0, 1.0, 1.0, 900.0]), threshold=2.0)
    >>> len(edges), logarithmic
    (51, True)
    """
    low, high = (float(bound) for bound in (min(values.min(), threshold), max(values.max(), threshold)))
    if low > 0 and high / float(np.median(values)) > HEAVY_TAIL:
        return np.asarray(np.geomspace(low * 0.98, high * 1.02, BINS + 1)), True
    margin = 0.02 * (high - low) or 0.1 * abs(high) or 0.5
    return np.linspace(low - margin, high + margin, BINS + 1), False


@styled
def roc(scores: Floats, anomalous: Bools, threshold: Thresholds) -> Figure:
    """Show the detection rate that each rate of false alarms would buy, and the point the threshold chose.

    Where each image has a threshold of its own, (N,), the point may lie beside the curve, which is of one for all.

    >>> roc(np.array([1.0, 2.0, 3.0, 4.0]), np.array([0, 0, 1, 1], bool), threshold=2.5).axes[0].get_xlabel()
    'False-alarm rate'
    """
    false_alarms, detected = roc_curve(sweep(scores, anomalous))
    figure, axes = _square("ROC curve", "False-alarm rate", "Detection rate")
    axes.plot([0, 1], [0, 1], color=QUIET, linestyle=":", linewidth=1, label="guessing")
    axes.plot(false_alarms, detected, color=NORMAL, linewidth=1.8, label="this detector")
    alarms = is_anomalous(scores, threshold)
    _mark_point(axes, float(alarms[~anomalous].mean()), float(alarms[anomalous].mean()))
    axes.legend(loc="lower right")
    return figure


@styled
def precision_recall(scores: Floats, anomalous: Bools, threshold: Thresholds) -> Figure:
    """Show the share of alarms that are right, for each share of anomalous images found.

    >>> figure = precision_recall(np.array([1.0, 2.0, 3.0]), np.array([0, 0, 1], bool), threshold=2.5)
    >>> figure.axes[0].get_xlabel(), figure.axes[0].get_ylabel()
    ('Detection rate (recall)', 'Share of alarms that are right (precision)')
    """
    recall, precision = pr_curve(sweep(scores, anomalous))
    figure, axes = _square(
        "Precision-recall curve", "Detection rate (recall)", "Share of alarms that are right (precision)"
    )
    share = float(anomalous.mean())
    axes.plot([0, 1], [share, share], color=QUIET, linestyle=":", linewidth=1, label="guessing")
    axes.plot(recall, precision, color=NORMAL, linewidth=1.8, drawstyle="steps-pre", label="this detector")
    alarms = is_anomalous(scores, threshold)
    if alarms.any():
        _mark_point(axes, float(alarms[anomalous].mean()), float(anomalous[alarms].mean()))
    axes.legend(loc="upper right" if precision[recall > 0.5].mean() < 0.5 else "lower left")
    return figure


@styled
def losses(history: Sequence[Mapping[str, Any]], keep: str = "validation") -> Figure:
    """Show how the loss fell over the epochs, and which epoch was kept, by `training.keep`.

    >>> figure = losses([{"epoch": 1, "train": 0.5, "validation": 0.6, "learning_rate": 0.1}])
    >>> figure.axes[0].get_xlabel(), figure.axes[0].get_ylabel()
    ('Epoch', 'Loss')
    """
    figure = Figure(figsize=(NARROW, NARROW), layout="constrained")
    axes = figure.subplots()
    axes.set(title="Loss while training", xlabel="Epoch", ylabel="Loss")
    marker = "o" if len(history) < 20 else None
    drawn = [_loss_line(axes, history, "train", color=NORMAL, marker=marker, label="training")]
    drawn += [
        _loss_line(axes, history, "validation", color=ANOMALOUS, linestyle="--", marker=marker, label="validation")
    ]
    if kept := kept_epoch(history, keep):
        axes.axvline(kept["epoch"], color=INK, linewidth=0.8, linestyle="-.", label=f"kept: epoch {kept['epoch']:.0f}")
    values = np.concatenate(drawn)
    if len(values) and values.min() > 0 and values.max() / values.min() > HEAVY_TAIL:
        axes.set_yscale("log")
        plain_log_ticks(axes, "y", values)
    else:
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=6))
    if len(values):
        axes.legend(loc="upper right")
    return figure


def hardest_first(groups: Mapping[str, Metrics]) -> list[tuple[str, Metrics]]:
    """Groups from the lowest detection rate, then AUROC, to the highest; those without either last.

    >>> easy, hard = (Metrics(1, 1, image={"auroc": Estimate(value)}) for value in (0.9, 0.6))
    >>> [name for name, _ in hardest_first({"bent": easy, "cut": hard})]
    ['cut', 'bent']
    """
    unknown = Estimate(2.0)  # above every value there is

    def difficulty(group: tuple[str, Metrics]) -> list[float]:
        return [group[1].image.get(key, unknown).value for key in COMPARED]

    return sorted(groups.items(), key=difficulty)


@styled
def dots(groups: Mapping[str, Metrics], overall: Metrics) -> Figure | None:
    """Compare groups of images: detection rate and AUROC of each, with intervals, hardest group on top.

    None where no group has either figure.

    >>> sure = Metrics(5, 5, image={"auroc": Estimate(0.9, 0.8, 1.0)})
    >>> dots({"bent": sure}, sure).axes[0].get_xlabel()
    'AUROC'
    """
    columns = [(key, label) for key, label in COMPARED.items() if any(key in group.image for group in groups.values())]
    if not columns:
        return None
    rows = [*hardest_first(groups)[:MOST_DOTS], ("all together", overall)]
    layout = ConstrainedLayoutEngine(wspace=0.06)
    figure = Figure(figsize=(WIDE, 0.8 + 0.27 * len(rows)), layout=layout)
    panels = figure.subplots(1, len(columns), sharey=True, squeeze=False)[0]
    for axes, (key, label) in zip(panels, columns, strict=True):
        _dot_column(axes, [metrics.image.get(key) for _, metrics in rows])
        axes.set_xlabel(label)
        if key == "auroc":
            axes.axvline(0.5, color=QUIET, linestyle=":", linewidth=1)
        else:
            axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: percent(value, 0)))
    panels[0].set_yticks(range(len(rows)), [shorten(printable(name), 30) for name, _ in rows])
    panels[0].set_ylim(len(rows) - 0.4, -0.6)
    return figure


@styled
def confusion(counts: npt.NDArray[np.intp], classes: Sequence[str]) -> Figure:
    """Show which classes are taken for which: true classes down, named ones across, images in the cells.

    The colour is the share of the true class, so that rare classes can be read too.

    >>> figure = confusion(np.array([[8, 2], [0, 10]]), ["cat", "dog"])
    >>> [text.get_text() for text in figure.axes[0].texts]
    ['8', '2', '10']
    """
    side = float(np.clip(1.4 + 0.42 * len(classes), NARROW, WIDE))
    figure = Figure(figsize=(side, side), layout="constrained")
    axes = figure.subplots()
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    axes.imshow(shares, cmap=SHARES, vmin=0, vmax=1)
    axes.grid(visible=False)
    axes.set(title="Confusion matrix", xlabel="Named class", ylabel="True class")
    axes.spines[:].set_visible(False)
    names = [shorten(printable(name), 16) for name in classes]
    if len(classes) > MOST_CELLS:  # too small for numbers and names
        return figure
    axes.set_xticks(range(len(names)), names, rotation=45 if max(map(len, names)) > 3 else 0)
    axes.set_yticks(range(len(names)), names)
    for row, column in zip(*np.nonzero(counts), strict=True):
        colour = "white" if shares[row, column] > 0.65 else INK
        axes.text(
            float(column), float(row), f"{counts[row, column]:,}", ha="center", va="center", color=colour, fontsize=8.5
        )
    return figure


@styled
def colour_bar(start: float, limit: float, colours: LinearSegmentedColormap) -> Figure:
    """The key of every map on the page: from `start` to `limit`.

    >>> from matplotlib import colormaps
    >>> [label.get_text() for label in colour_bar(0.1, 0.5, colormaps["cividis"]).axes[0].get_xticklabels()]
    ['0.1 or less', '0.3', '0.5 or more']
    """
    figure = Figure(figsize=(NARROW, 0.62), layout="constrained")
    axes = figure.subplots()
    axes.imshow(np.linspace(0, 1, 256)[None], cmap=colours, aspect="auto", extent=(start, limit, 0, 1))
    axes.set(yticks=[], xlim=(start, limit))
    axes.grid(visible=False)
    middle = (start + limit) / 2
    axes.set_xticks([start, middle, limit], [f"{number(start)} or less", number(middle), f"{number(limit)} or more"])
    axes.get_xticklabels()[0].set_horizontalalignment("left")
    axes.get_xticklabels()[-1].set_horizontalalignment("right")
    axes.spines[:].set_visible(False)
    return figure


METADATA = {  # what would differ from run to run, left out
    "svg": {"Creator": None, "Date": None, "Format": None, "Type": None},
    "png": {"Software": None},
    "jpeg": None,
}


@styled
def file_of(figure: Figure, form: Literal["svg", "png", "jpeg"], **look: Any) -> bytes:
    """A figure as a file; `look` is savefig's. A letter of an image's name that no font has becomes a box.

    >>> file_of(Figure(figsize=(1, 1)), "png")[1:4]
    b'PNG'
    """
    content = io.BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing")
        figure.savefig(content, format=form, metadata=METADATA[form], **look)
    return content.getvalue()


def svg(figure: Figure) -> str:
    """A figure as a data URI that an <img> shows: nothing in it can run or load.

    >>> svg(Figure(figsize=(1, 1)))[:26]
    'data:image/svg+xml;base64,'
    """
    return f"data:image/svg+xml;base64,{base64.b64encode(file_of(figure, 'svg')).decode()}"


def jpeg(figure: Figure) -> str:
    """A figure of many photographs as a data URI: a fifth of the size that it has as an SVG.

    >>> jpeg(Figure(figsize=(1, 1)))[:23]
    'data:image/jpeg;base64,'
    """
    content = file_of(figure, "jpeg", dpi=SHARP, facecolor="white", pil_kwargs={"quality": 85})
    return f"data:image/jpeg;base64,{base64.b64encode(content).decode()}"


def _histogram(axes: Axes, values: Floats, edges: Floats, look: Look) -> None:
    counts, _ = np.histogram(values, edges)
    axes.stairs(counts, edges, fill=True, facecolor=look.fill, edgecolor=look.colour, linewidth=0.9, hatch=look.hatch)
    axes.set_ylabel("Images")
    axes.set_ylim(0, counts.max() * 1.12)
    axes.yaxis.set_major_locator(MaxNLocator(nbins=4, integer=True))
    axes.grid(visible=False, axis="x")


def _mark_threshold(axes: Axes, values: Floats, threshold: float) -> None:
    axes.axvline(threshold, color=INK, linewidth=1.2, linestyle="--")
    many = int(is_anomalous(values, threshold).sum())
    text = f"{many:,} above the threshold ({percent(many / len(values))})"
    axes.set_title(text, loc="right", fontsize=9, fontweight="normal")


def _square(title: str, across: str, up: str) -> tuple[Figure, Axes]:
    """An empty figure of two shares from 0 to 1."""
    figure = Figure(figsize=(NARROW, NARROW), layout="constrained")
    axes = figure.subplots()
    axes.set(title=title, xlabel=across, ylabel=up, xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(MaxNLocator(5))
        axis.set_major_formatter(FuncFormatter(lambda value, _: percent(value, 0)))
    return figure, axes


def _mark_point(axes: Axes, across: float, up: float) -> None:
    look: dict[str, Any] = {"marker": "o", "markersize": 7, "markerfacecolor": "white", "markeredgewidth": 1.8}
    axes.plot([across], [up], linestyle="none", color=INK, label="the threshold", zorder=5, clip_on=False, **look)


def _loss_line(axes: Axes, history: Sequence[Mapping[str, Any]], name: str, **look: Any) -> Floats:
    steps = [step for step in history if _finite(step.get(name))]
    values = np.array([float(step[name]) for step in steps])
    if steps:
        axes.plot([step["epoch"] for step in steps], values, linewidth=1.6, markersize=4, **look)
    return values


def _dot_column(axes: Axes, estimates: Sequence[Estimate | None]) -> None:
    """One dot a row, a line for its interval; the last row stands for all and has another shape."""
    for row, estimate in enumerate(estimates):
        if estimate is None or not _finite(estimate.value):
            continue
        colour, marker = (INK, "D") if row == len(estimates) - 1 else (ANOMALOUS, "o")
        if bounds := interval(estimate):
            axes.plot(bounds, [row, row], color=colour, linewidth=1.6, solid_capstyle="round")
        axes.plot([estimate.value], [row], marker=marker, markersize=6, color=colour, linestyle="none", clip_on=False)
    axes.axhline(len(estimates) - 1.5, color="#8a8a8a", linewidth=0.7)
    axes.set_xlim(-0.02, 1.02)
    axes.tick_params(axis="y", length=0)


def plain_log_ticks(axes: Axes, name: Literal["x", "y"], values: Iterable[float]) -> None:
    """Tick labels such as 0.02 and 300 in place of powers, so that a short axis has some too."""
    axis = axes.xaxis if name == "x" else axes.yaxis
    decades = math.log10(max(values) / min(values))
    axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if decades < 2.5 else (1.0,)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())


def _finite(value: Any) -> bool:
    return value is not None and math.isfinite(value)
