"""The charts of a study's page, in the style of the reports: shapes and hatches tell what colours tell."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from unlike.artifacts import printable
from unlike.records import Estimate, Floats
from unlike.report.figures import ANOMALOUS, GROUPS, HEAVY_TAIL, INK, NARROW, NORMAL, SHARES, USUAL, WIDE, styled
from unlike.report.wording import interval, shorten

MOST_BARS, MOST_PANELS = 40, 9  # of a figure, which its caller keeps to
WIDE_RANGE = 8.0  # highest over lowest value of a setting from which a logarithmic axis is easier to read
LETTERS = 34  # of a label


@styled
def bars(estimates: Mapping[str, Estimate], runs: Mapping[str, Sequence[float]], label: str) -> Figure:
    """Show a figure of every cell: a bar for the mean, a line for its interval, a ring for each seed.

    >>> bars({"conv": Estimate(0.9, 0.8, 1.0)}, {"conv": [0.9]}, "AUROC").axes[0].get_xlabel()
    'AUROC'
    """
    shown = dict(estimates)
    figure = Figure(figsize=(WIDE, 0.75 + 0.34 * len(shown)), layout="constrained")
    axes = figure.subplots()
    for row, (name, estimate) in enumerate(shown.items()):
        axes.barh(row, estimate.value, height=0.62, color=USUAL.fill, edgecolor=USUAL.colour, linewidth=0.9)
        if bounds := interval(estimate):
            axes.plot(bounds, [row, row], color=INK, linewidth=1.4, solid_capstyle="butt", marker="|", markersize=7)
        values = list(runs.get(name, ()))
        look: dict[str, Any] = {"marker": "o", "markersize": 4.5, "markerfacecolor": "white"}
        axes.plot(values, [row] * len(values), color=NORMAL, linestyle="none", zorder=3, clip_on=False, **look)
    _name_rows(axes, list(shown))
    axes.set_xlabel(label)
    ends = [end for estimate in shown.values() for end in (estimate.value, *interval(estimate))]
    if min(ends) >= 0 and max(ends) <= 1:
        axes.set_xlim(0, 1.02)
    else:
        axes.axvline(0, color=INK, linewidth=0.9)
    return figure


@styled
def grouped_bars(groups: Mapping[str, Mapping[str, Estimate]], label: str) -> Figure:
    """Show a figure of every cell (colour) in every group (row), such as the categories of a set.

    >>> figure = grouped_bars({"bolt": {"joint": Estimate(0.1), "separate": Estimate(-0.1)}}, "Improvement")
    >>> [text.get_text() for text in figure.legends[0].get_texts()]
    ['joint', 'separate']
    """
    configurations = list(dict.fromkeys(configuration for estimates in groups.values() for configuration in estimates))
    height = 0.8 / len(configurations)
    figure = Figure(
        figsize=(WIDE, 1.1 + 0.2 * len(configurations) * len(groups) + 0.15 * len(groups)), layout="constrained"
    )
    axes = figure.subplots()
    for position, configuration in enumerate(configurations):
        colour, fill, hatch, _ = GROUPS[position]
        for row, estimates in enumerate(groups.values()):
            if configuration not in estimates:
                continue
            y = row + (position - (len(configurations) - 1) / 2) * height
            look: dict[str, Any] = {"color": fill, "edgecolor": colour, "hatch": hatch, "linewidth": 0.9}
            named: dict[str, Any] = (
                {"label": shorten(printable(configuration), LETTERS)}
                if row == 0 or configuration not in _first(groups)
                else {}
            )
            axes.barh(y, estimates[configuration].value, height=0.9 * height, **look, **named)
            if bounds := interval(estimates[configuration]):
                axes.plot(bounds, [y, y], color=INK, linewidth=1.2, marker="|", markersize=5)
    axes.axvline(0, color=INK, linewidth=0.9)
    _name_rows(axes, list(groups))
    axes.set_xlabel(label)
    figure.legend(loc="outside upper left", ncols=2)
    return figure


@styled
def curves(histories: Mapping[str, Sequence[Sequence[Mapping[str, float]]]]) -> Figure:
    """Show the loss over epochs, training and validation, a panel for each cell and a pair of lines for each seed.

    >>> figure = curves({"conv": [[{"epoch": 1, "train": 0.5, "validation": 0.6}]]})
    >>> figure.axes[0].get_title(loc="left")
    'conv'
    """
    shown = dict(histories)
    figure, panels = _panels(len(shown))
    for axes, (name, runs) in zip(panels, shown.items(), strict=False):
        values: list[float] = []
        for number, history in enumerate(runs):
            for part, colour, line in (("train", NORMAL, "-"), ("validation", ANOMALOUS, "--")):
                steps = [row for row in history if math.isfinite(row.get(part, math.nan))]
                label = {"train": "training", "validation": "validation"}[part] if number == 0 else None
                look: dict[str, Any] = {"color": colour, "linestyle": line, "linewidth": 1.1, "label": label}
                losses = [row[part] for row in steps]
                axes.plot([row["epoch"] for row in steps], losses, marker="." if len(steps) < 8 else None, **look)
                values += losses
        if values and min(values) > 0 and max(values) / min(values) > HEAVY_TAIL:
            axes.set_yscale("log")
        axes.set_title(shorten(printable(name), 30), fontsize=9)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=4))
    _label_outer(panels, len(shown), "Epoch", "Loss")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside upper left", ncols=2)
    return figure


@styled
def sensitivity(lines: Mapping[str, Sequence[tuple[float, float]]], setting: str, label: str) -> Figure:
    """Show how a figure depends on a numeric setting: a mark for each run, a line through the means.

    >>> sensitivity({"": [(0.001, 0.8), (0.01, 0.9)]}, "training.learning_rate", "AUROC").axes[0].get_xlabel()
    'training.learning_rate'
    """
    figure = Figure(figsize=(WIDE * 0.72, NARROW), layout="constrained")
    axes = figure.subplots()
    shown = list(lines.items())[: len(GROUPS)]
    for (name, points), (colour, _, _, marker) in zip(shown, GROUPS, strict=False):
        across, up = np.array(sorted(points)).T
        axes.plot(across, up, linestyle="none", marker=marker, markersize=4.5, color=colour, markerfacecolor="white")
        settings = np.unique(across)
        if len(settings) < len(across) or len(settings) <= 12:
            means = [float(up[across == value].mean()) for value in settings]
            axes.plot(settings, means, color=colour, linewidth=1.4, label=shorten(printable(name), LETTERS) or None)
    values = [value for points in lines.values() for value, _ in points]
    if min(values) > 0 and max(values) / min(values) > WIDE_RANGE:
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.set(xlabel=setting, ylabel=label)
    if len(shown) > 1:
        axes.legend(loc="best")
    return figure


@styled
def heat(
    rows: Sequence[str], columns: Sequence[str], means: Floats, label: str, names: tuple[str, str] = ("", "")
) -> Figure:
    """Show a figure for every combination of two choices, whose names are `names`: the darker, the higher.

    >>> figure = heat(["conv", "fcn"], ["pca"], np.array([[0.9], [0.8]]), "AUROC")
    >>> [text.get_text() for text in figure.axes[0].texts]
    ['0.900', '0.800']
    """
    across = float(np.clip(2.2 + 0.85 * len(columns), NARROW, WIDE))
    figure = Figure(figsize=(across, 1.3 + 0.42 * len(rows)), layout="constrained")
    axes = figure.subplots()
    low, high = float(np.nanmin(means)), float(np.nanmax(means))
    axes.imshow(means, cmap=SHARES, vmin=low - 0.1 * (high - low) - 1e-9, vmax=high + 1e-9, aspect="auto")
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)
    labels = [shorten(printable(name), 20) for name in columns]
    axes.set_xticks(range(len(labels)), labels, rotation=30 if max(map(len, labels)) > 9 else 0)
    axes.set_yticks(range(len(rows)), [shorten(printable(name), LETTERS) for name in rows])
    axes.set(title=label, ylabel=names[0], xlabel=names[1])
    for (row, column), mean in np.ndenumerate(means):
        if math.isfinite(mean):
            dark = mean - low > 0.6 * (high - low) > 0
            axes.text(
                column, row, f"{mean:.3f}", ha="center", va="center", color="white" if dark else INK, fontsize=8.5
            )
    return figure


@styled
def scatters(points: Mapping[str, Sequence[Sequence[float]]]) -> Figure:
    """Show points in the plane, (x, y, group) each, a panel for each cell; the sizes of the groups stand below.

    >>> scatters({"kmeans": [(0, 0, 0), (1, 1, 1), (1, 0, 1)]}).axes[0].get_xlabel()
    '2 : 1'
    """
    shown = dict(points)
    figure, panels = _panels(len(shown))
    for axes, (name, rows) in zip(panels, shown.items(), strict=False):
        positions = np.asarray(rows, np.float64)
        groups, sizes = np.unique(positions[:, 2], return_counts=True)
        for number, group in enumerate(groups):
            chosen = positions[positions[:, 2] == group]
            colour, _, _, marker = GROUPS[number % len(GROUPS)]
            look: dict[str, Any] = {"color": colour, "marker": marker, "markersize": 2.6}
            axes.plot(chosen[:, 0], chosen[:, 1], linestyle="none", alpha=0.75, **look)
        axes.set_title(shorten(printable(name), 30), fontsize=9)
        sizes_text = " : ".join(map(str, sorted(sizes.tolist(), reverse=True)))
        axes.set(xticks=[], yticks=[], aspect="equal", xlabel=sizes_text)
    return figure


def _panels(count: int) -> tuple[Figure, list[Axes]]:
    """Up to three panels a row; those that are not needed are empty."""
    columns = min(3, max(count, 1))
    rows = -(-count // columns)
    figure = Figure(figsize=(max(NARROW, WIDE * columns / 3), 0.4 + 2.05 * rows), layout="constrained")
    panels = list(figure.subplots(rows, columns, squeeze=False).flat)
    for axes in panels[count:]:
        axes.set_axis_off()
    return figure, panels


def _label_outer(panels: Sequence[Axes], count: int, across: str, up: str) -> None:
    columns = min(3, max(count, 1))
    for number, axes in enumerate(panels[:count]):
        if number % columns == 0:
            axes.set_ylabel(up)
        if number + columns >= count:
            axes.set_xlabel(across)


def _name_rows(axes: Axes, names: Sequence[str]) -> None:
    axes.set_yticks(range(len(names)), [shorten(printable(name), LETTERS) for name in names])
    axes.set_ylim(len(names) - 0.45, -0.55)
    axes.tick_params(axis="y", length=0)
    axes.grid(visible=False, axis="y")


def _first(groups: Mapping[str, Mapping[str, Estimate]]) -> Mapping[str, Estimate]:
    return next(iter(groups.values()))
