"""A sheet of pictures with words between them, laid out in inches from the top left."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from unlike.artifacts import printable
from unlike.records import Floats, Pixels
from unlike.report.figures import INK

SOFT = "#555555"
LETTER = 0.078  # inches of a title's letter


def sheet(width: float, height: float) -> tuple[Figure, Axes]:
    """An empty figure, and axes over all of it whose units are inches.

    >>> figure, axes = sheet(6.0, 4.0)
    >>> [float(bound) for bound in (*axes.get_xlim(), *axes.get_ylim())]
    [0.0, 6.0, 4.0, 0.0]
    """
    figure = Figure(figsize=(width, height))
    figure.suppressComposite = True  # in an SVG each picture stays one, with its own pixels
    axes = figure.add_axes((0.0, 0.0, 1.0, 1.0))
    axes.set(xlim=(0, width), ylim=(height, 0))
    axes.set_axis_off()
    return figure, axes


def title_width(title: str) -> float:
    """Inches that a sheet needs for its title, roughly.

    >>> title_width("Scores of 400 images") < 2.5
    True
    """
    return LETTER * len(title) + 0.3


def tile(axes: Axes, picture: Pixels, x: float, y: float, width: float) -> None:
    """A picture (H, W, 3), its left upper corner at (x, y)."""
    height = width * picture.shape[0] / picture.shape[1]
    axes.imshow(picture, extent=(x, x + width, y + height, y), aspect="auto", zorder=2)


def write(axes: Axes, text: str, x: float, y: float, **look: Any) -> None:
    """Text, its left upper corner at (x, y) unless `look` says otherwise; nothing where it is empty."""
    if not text:
        return
    style: dict[str, Any] = {"color": INK, "fontsize": 8.5, "ha": "left", "va": "top"} | look
    axes.text(x, y, "\n".join(map(printable, text.split("\n"))), **style)


def tile_height(width: float, images: Sequence[Pixels] | Pixels) -> float:
    """Inches that the tallest of some images takes.

    >>> tile_height(2.0, np.zeros((5, 30, 20, 3)))
    3.0
    """
    return max(float(width * image.shape[0] / image.shape[1]) for image in images)


def mean_gap(one: Pixels, other: Pixels, span: float) -> float:
    """By how much two stacks of images differ, on average, as a share of the values from black to white."""
    gap: Floats = np.abs(np.asarray(one, np.float64) - np.asarray(other, np.float64))
    return float(gap.mean()) / (span or 1.0)
