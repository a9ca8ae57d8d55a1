"""Where marks of a chart stand: scales and bars in the units of an SVG's view box."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from unlike.records import Floats

WIDTH = 1000.0
SPREAD = 8.0  # highest over median: scores that are further apart are drawn on a logarithmic axis


@dataclass(frozen=True, slots=True)
class Scale:
    """From scores to places on an axis, linear or logarithmic; what is outside stands at its end.

    >>> Scale(0.0, 10.0).places(np.array([0.0, 5.0, 20.0])).tolist()
    [0.0, 500.0, 1000.0]
    """

    low: float
    high: float
    logarithmic: bool = False

    @classmethod
    def of(cls, scores: Floats) -> Scale:
        """One on which all of some scores (N,), one at least, can be told apart."""
        low, high = float(scores.min()), float(scores.max())
        if low > 0 and high > SPREAD * float(np.median(scores)):
            return cls(low / 1.1, high * 1.1, logarithmic=True)
        margin = 0.04 * (high - low) or max(abs(high), 1e-6) * 0.1
        return cls(low - margin, high + margin)

    def places(self, scores: Floats) -> Floats:
        """(N,) -> (N,) in 0..WIDTH."""
        low, high, values = self.low, self.high, np.asarray(scores, np.float64)
        if self.logarithmic:
            low, high, values = np.log(low), np.log(high), np.log(np.maximum(values, low))
        return np.asarray(np.round(WIDTH * np.clip((values - low) / (high - low), 0, 1), 1))

    def ticks(self, count: int = 6) -> list[tuple[float, str]]:
        """Places on the axis, and the score at each."""
        at = np.geomspace if self.logarithmic else np.linspace
        scores = at(self.low, self.high, count + 1)[1:-1]
        return [(float(place), f"{score:.3g}") for place, score in zip(self.places(scores), scores, strict=True)]


@dataclass(frozen=True, slots=True)
class Bar:
    """A bar of a histogram."""

    x: float
    width: float
    height: float
    count: int


def bars(scores: Floats, scale: Scale, height: float, count: int = 50) -> list[Bar]:
    """A histogram of scores (N,), its highest bar as high as `height`; by square roots, so that single images are seen.

    >>> [bar.count for bar in bars(np.array([1.0, 1.1, 9.0]), Scale(0.0, 10.0), 100.0, 10)]
    [2, 1]
    """
    if not len(scores):
        return []
    numbers, edges = np.histogram(scale.places(scores), bins=count, range=(0, WIDTH))
    heights = np.sqrt(numbers / numbers.max()) * height
    return [
        Bar(float(x), WIDTH / count, round(float(tall), 1), int(number))
        for x, tall, number in zip(edges, heights, numbers, strict=False)
        if number
    ]


def points(x: Floats, y: Floats) -> str:
    """A line through places (N,), (N,) as SVG has it.

    >>> points(np.array([0.0, 1.5]), np.array([2.0, 3.0]))
    '0,2 1.5,3'
    """
    return " ".join(f"{a:.5g},{b:.5g}" for a, b in zip(x.tolist(), y.tolist(), strict=True))


def log_places(values: Floats, low: float, high: float, height: float) -> Floats:
    """How far down (N,) values stand on a logarithmic axis of that height, from `high` at the top to `low`.

    >>> log_places(np.array([100.0, 1.0]), 1.0, 100.0, 50.0).tolist()
    [0.0, 50.0]
    """
    share = np.log(np.clip(values, low, high) / low) / np.log(high / low)
    return np.asarray(np.round(height * (1 - share), 1))


def thinned(count: int, most: int) -> npt.NDArray[np.intp]:
    """Of so many, which are drawn.

    >>> thinned(10, 4).tolist()
    [0, 3, 6, 9]
    """
    return np.arange(0, count, max(1, -(-count // most)))
