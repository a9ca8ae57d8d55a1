"""The strangest and the plainest images of each of several detectors, on one page."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from unlike.records import Explanation, Sample
from unlike.report.figures import ANOMALOUS, NORMAL, styled
from unlike.report.gallery import colour_limit, colour_start, displayable, overlay, shades
from unlike.report.tiles import LETTER, SOFT, sheet, tile, tile_height, title_width, write
from unlike.report.wording import number, shorten

TILE, GAP, PAIR_GAP, BETWEEN = 1.1, 0.05, 0.2, 0.4  # inches: a picture, beside it, between pairs, between detectors
MARGIN, TITLE, HEADING, CAPTION = 0.18, 0.36, 0.28, 0.42  # inches that words take
NOTE_LETTER, SHORTEST = 0.06, 6  # inches of a letter beside a name; letters of the name that stay
MOST_BELOW = 3  # pairs that stand below each other; more of them make a square


@dataclass(frozen=True, slots=True, eq=False)
class Shown:
    """What one detector has to show: its strangest images, the strangest first, and its plainest."""

    title: str
    largest: Sequence[Explanation]
    smallest: Sequence[Explanation]
    note: str = ""


@styled
def score_extremes(detectors: Sequence[Shown], title: str = "") -> Figure:
    """Show for each detector its largest and smallest scores: original beside reconstruction, or beside the map.

    >>> import numpy as np
    >>> image = np.zeros((8, 8, 1), np.uint8)
    >>> strange = Explanation(Sample("a.png", anomalous=True), 0.5, image, np.ones((8, 8)), image)
    >>> figure = score_extremes([Shown("conv", [strange], [])])
    >>> [text.get_text() for text in figure.axes[0].texts]
    ['conv', 'largest scores', 'original, reconstruction', '0.5', 'anomalous', 'a.png']
    """
    shown = [item for block in detectors for item in (*block.largest, *block.smallest)]
    height = tile_height(TILE, [item.image for item in shown])
    most = max(max(len(block.largest), len(block.smallest)) for block in detectors)
    across = 1 if most <= MOST_BELOW else math.ceil(math.sqrt(most))
    width = across * (2 * TILE + GAP) + (across - 1) * PAIR_GAP
    block_height = HEADING + math.ceil(most / across) * (height + CAPTION)
    head = MARGIN + (TITLE if title else 0)
    whole = 2 * MARGIN + len(detectors) * width + (len(detectors) - 1) * BETWEEN
    figure, axes = sheet(max(whole, title_width(title)), head + TITLE + 2 * block_height + MARGIN)
    write(axes, title, MARGIN, MARGIN, fontsize=11)
    low, high, _ = shades([item.image for item in shown])
    for column, block in enumerate(detectors):
        x = MARGIN + column * (width + BETWEEN)
        room = int((width - NOTE_LETTER * len(block.note)) / LETTER)
        write(axes, shorten(block.title, max(SHORTEST, room)), x, head, fontsize=10, fontweight="bold")
        write(axes, block.note, x + width, head + 0.03, ha="right", fontsize=7.5, color=SOFT)
        limit = colour_limit([item.map for item in (*block.largest, *block.smallest)])
        start = colour_start([item.map for item in block.smallest], limit)
        ends = (("largest scores", block.largest), ("smallest scores", block.smallest))
        for position, (heading, items) in enumerate(ends):
            y = head + TITLE + position * block_height
            if items:
                _draw_heading(axes, heading, items[0], (x, x + width), y)
            for item, left, top in _positions(items, x, y + HEADING, across, height):
                _draw_pair(axes, item, left, top, height, (low, high, start, limit))
    return figure


def _positions(
    items: Sequence[Explanation], x: float, y: float, across: int, height: float
) -> Iterator[tuple[Explanation, float, float]]:
    for position, item in enumerate(items):
        row, column = divmod(position, across)
        yield item, x + column * (2 * TILE + GAP + PAIR_GAP), y + row * (height + CAPTION)


def _draw_heading(axes: Axes, heading: str, first: Explanation, edges: tuple[float, float], y: float) -> None:
    axes.plot(edges, (y, y), color="#b5b5b5", linewidth=0.7)
    write(axes, heading, edges[0], y + 0.07, fontweight="bold")
    beside = "map" if first.reconstruction is None else "reconstruction"
    write(axes, f"original, {beside}", edges[1], y + 0.085, ha="right", fontsize=6.5, color=SOFT)


def _draw_pair(
    axes: Axes, item: Explanation, x: float, y: float, height: float, scale: tuple[float, float, float, float]
) -> None:
    """An image, what became of it, and below them its score, its kind and its name."""
    low, high, start, limit = scale
    image = displayable(item.image, low, high)
    beside = (
        overlay(image, item.map, limit, start)
        if item.reconstruction is None
        else displayable(item.reconstruction, low, high)
    )
    tile(axes, image, x, y, TILE)
    tile(axes, beside, x + TILE + GAP, y, TILE)
    word, colour = _label(item.sample)
    write(axes, number(item.score), x, y + height + 0.04, fontweight="bold")
    write(axes, shorten(word, 18), x + 2 * TILE + GAP, y + height + 0.04, ha="right", color=colour)
    write(axes, shorten(item.sample.id, 40), x, y + height + 0.2, fontsize=6.5, color=SOFT)


def _label(sample: Sample) -> tuple[str, str]:
    if sample.anomalous is None:
        return "", SOFT
    return (sample.kind or "anomalous", ANOMALOUS) if sample.anomalous else ("normal", NORMAL)
