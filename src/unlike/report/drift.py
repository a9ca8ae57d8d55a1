"""How a stream of images went: its p-values, and the evidence that it has changed, over time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from unlike.calibration.drift import REPEATED
from unlike.calibration.martingale import DEFECTS, STRANGER, TOO_NORMAL
from unlike.records import Floats
from unlike.report.figures import GROUPS, INK, NORMAL, QUIET, WIDE, plain_log_ticks, styled

MOST_DOTS = 4000  # of a longer stream every so many images are drawn, and of the evidence the highest of them
AROUND = 50  # images of which the median is drawn
LOOKS = {DEFECTS: GROUPS[1], STRANGER: GROUPS[4], TOO_NORMAL: GROUPS[2], REPEATED: GROUPS[3]}
LOWEST = 1e-3  # of both axes


@dataclass(frozen=True, slots=True, eq=False)
class Course:
    """What a monitor said of a stream, image by image."""

    numbers: Floats  # (N,) of the images
    p_values: Floats  # (N,); NaN of those that were learned
    martingale: Floats  # (N,)
    alarms: Sequence[tuple[int, str]]  # number and kind of each
    limit: float


@styled
def course(seen: Course, title: str = "") -> Figure:
    """Show p-values with their running median, and below them the evidence, its limit, and the alarms.

    >>> seen = Course(np.arange(1.0, 4), np.array([0.5, 0.1, 0.01]), np.array([1.0, 20, 120]), [(3, "stranger")], 100.0)
    >>> [axes.get_ylabel() for axes in course(seen).axes]
    ['p-value', 'Evidence of a change']
    """
    figure = Figure(figsize=(WIDE, 4.6), layout="constrained")
    upper, lower = figure.subplots(2, sharex=True)
    _draw_p_values(upper, seen)
    _draw_evidence(lower, seen)
    upper.set_title(title or f"{len(seen.numbers):,} images, {len(seen.alarms):,} alarms")
    lower.set_xlabel("Image of the stream")
    lower.legend(loc="upper left", ncols=5)
    return figure


def _draw_p_values(axes: Axes, seen: Course) -> None:
    step = max(1, len(seen.numbers) // MOST_DOTS)
    axes.scatter(seen.numbers[::step], np.maximum(seen.p_values[::step], LOWEST), s=3, color=QUIET, linewidths=0)
    known = np.isfinite(seen.p_values)
    values, where = seen.p_values[known], seen.numbers[known]
    if len(values) > 2 * AROUND:
        around = np.lib.stride_tricks.sliding_window_view(values, AROUND)[::step]
        axes.plot(
            where[AROUND - 1 :: step][: len(around)],
            np.maximum(np.median(around, axis=1), LOWEST),
            color=NORMAL,
            linewidth=1.4,
            label=f"median of {AROUND}",
        )
        axes.legend(loc="lower left")
    axes.set_yscale("log")
    axes.set(ylabel="p-value", ylim=(LOWEST * 0.8, 1.3))
    plain_log_ticks(axes, "y", np.array([LOWEST, 1.0]))


def _draw_evidence(axes: Axes, seen: Course) -> None:
    step = max(1, len(seen.numbers) // MOST_DOTS)
    starts = np.arange(0, len(seen.numbers), step)
    highest = np.maximum.reduceat(seen.martingale, starts) if len(starts) else seen.martingale
    axes.plot(seen.numbers[starts], np.maximum(highest, LOWEST), color=INK, linewidth=1)
    axes.axhline(seen.limit, color=INK, linestyle="--", linewidth=0.8)
    shown: set[str] = set()
    for number, kind in seen.alarms:
        colour, _, _, marker = LOOKS[kind]
        label = "" if kind in shown else kind
        axes.plot([number], [seen.limit * 2], marker=marker, color=colour, linestyle="none", label=label or None)
        shown.add(kind)
    if not shown:
        axes.plot([], [], color=INK, label="no alarm")
    top = seen.limit * 30
    axes.set_yscale("log")
    axes.set(ylabel="Evidence of a change", ylim=(LOWEST, top))
    plain_log_ticks(axes, "y", np.array([LOWEST, top]))
