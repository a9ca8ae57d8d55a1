"""How the scores of several detectors are spread, and how far apart they keep normal and anomalous images: one page."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from unlike.artifacts import printable
from unlike.calibration.sweep import sweep
from unlike.errors import DataError
from unlike.evaluation.metrics import auroc
from unlike.records import Floats, Sample
from unlike.report.figures import INK, ODD, UNKNOWN, USUAL, bin_edges, plain_log_ticks, styled
from unlike.report.wording import shorten

WIDE, HIGH = 5.2, 1.75  # inches of a panel
MOST_BELOW = 3  # panels that stand below each other; more of them stand in two columns
LOOKS = {"normal": USUAL, "anomalous": ODD, "no label": UNKNOWN}


@dataclass(frozen=True, slots=True, eq=False)
class Spread:
    """The scores that one detector gives to groups of images: normal, anomalous, no label."""

    title: str
    groups: Mapping[str, Floats]  # group -> (n,) scores
    threshold: float | None  # None where the images have several
    note: str = ""


def group_scores(samples: Sequence[Sample], scores: Floats) -> dict[str, Floats]:
    """Scores (N,) by what is known of each image.

    >>> group_scores([Sample("a", anomalous=True), Sample("b"), Sample("c", anomalous=True)], np.array([1.0, 2.0, 3.0]))
    {'anomalous': array([1., 3.]), 'no label': array([2.])}
    """
    words = {False: "normal", True: "anomalous", None: "no label"}
    named = np.array([words[sample.anomalous] for sample in samples])
    return {name: scores[named == name] for name in LOOKS if (named == name).any()}


@styled
def score_spreads(detectors: Sequence[Spread], title: str = "") -> Figure:
    """Show one panel for each detector: a histogram of each group's scores over their range, in 50 bins.

    Where there are normal and anomalous images, the AUROC stands beside the title. Dashed: the detector's threshold.

    >>> groups = {"normal": np.array([1.0, 2.0, 3.0]), "anomalous": np.array([2.5, 4.0])}
    >>> score_spreads([Spread("conv", groups, threshold=3.5)]).axes[0].get_title(loc="right")
    'AUROC 0.833'
    """
    for spread in detectors:
        if not any(len(scores) for scores in spread.groups.values()):
            raise DataError(f"{spread.title}: no score to show; give images")
    columns = 1 if len(detectors) <= MOST_BELOW else 2
    rows = math.ceil(len(detectors) / columns)
    figure = Figure(figsize=(columns * WIDE, rows * HIGH + 0.75), layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False)
    for axes, spread in zip(panels.flat, detectors, strict=False):
        _draw_spread(axes, spread)
    for axes in list(panels.flat)[len(detectors) :]:
        axes.set_axis_off()
    for axes in list(panels.flat)[max(0, len(detectors) - columns) : len(detectors)]:
        axes.set_xlabel("Score (higher is stranger)")
    if title:
        figure.suptitle(printable(title), x=0.01, ha="left", fontsize=11)
    marked = any(spread.threshold is not None for spread in detectors)
    figure.legend(handles=_legend(detectors[0].groups, marked=marked), loc="outside lower left", ncols=4)
    return figure


def _draw_spread(axes: Axes, spread: Spread) -> None:
    everything = np.concatenate(list(spread.groups.values()))
    edges, logarithmic = bin_edges(everything, everything[0] if spread.threshold is None else spread.threshold)
    tallest = 0
    for name, scores in spread.groups.items():
        colour, fill, hatch, _ = LOOKS[name]
        counts, _ = np.histogram(scores, edges)
        tallest = max(tallest, int(counts.max()))
        axes.stairs(counts, edges, fill=True, facecolor=fill, edgecolor=colour, hatch=hatch, linewidth=0)
        outline = np.where(counts > 0, counts, np.nan)
        axes.stairs(outline, edges, color=colour, linewidth=1.1, zorder=3)  # in front of what another group fills
    if spread.threshold is not None:
        axes.axvline(spread.threshold, color=INK, linewidth=1.1, linestyle="--")
    if logarithmic:
        axes.set_xscale("log")
        plain_log_ticks(axes, "x", edges[[0, -1]])
    axes.set(xlim=(edges[0], edges[-1]), ylim=(0, tallest * 1.1))
    axes.set_ylabel("Images")
    axes.yaxis.set_major_locator(MaxNLocator(nbins=4, integer=True))
    axes.grid(visible=False, axis="x")
    axes.set_title(shorten(printable(spread.title), 26))
    axes.set_title(_measure(spread), loc="right", fontsize=9, fontweight="normal")


def _measure(spread: Spread) -> str:
    normal, anomalous = (spread.groups.get(name, np.empty(0)) for name in ("normal", "anomalous"))
    if not (len(normal) and len(anomalous)):
        return spread.note
    labels = np.repeat([False, True], [len(normal), len(anomalous)])
    figure = f"AUROC {auroc(sweep(np.concatenate([normal, anomalous]), labels)):.3f}"
    return f"{spread.note} · {figure}" if spread.note else figure


def _legend(groups: Mapping[str, Floats], *, marked: bool) -> list[Artist]:
    entries: list[Artist] = []
    for name, scores in groups.items():
        colour, fill, hatch, _ = LOOKS[name]
        label = f"{name} ({len(scores):,})"
        entries.append(Patch(facecolor=fill, edgecolor=colour, hatch=hatch, label=label))
    return (
        [*entries, Line2D([], [], color=INK, linewidth=1.1, linestyle="--", label="threshold")] if marked else entries
    )
