"""How the scores of a version went: p-values and evidence of a change, on an axis of images in the order in which they came."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import numpy as np

from unlike.calibration.decision import Decision
from unlike.calibration.drift import MEANINGS, DriftConfig, DriftMonitor, Observation
from unlike.records import Floats
from unlike.serving.history import Series
from unlike.serving.web.charts import WIDTH, log_places, points, thinned

MOST_DOTS = 1200
AROUND = 30  # images of which the median is drawn
LOWEST = 1e-3  # of both axes
HEIGHT = 180.0


@dataclass(frozen=True, slots=True)
class Alarm:
    """A change, and when it was seen."""

    x: float
    kind: str
    meaning: str
    at: datetime
    number: int
    since: datetime  # when it probably began
    letter: str  # by which the chart names it


@dataclass(frozen=True, slots=True)
class Level:
    """A line of an axis, with what it is called."""

    y: float
    text: str


@dataclass(frozen=True, slots=True)
class DriftView:
    """All that the page of drift shows."""

    images: int
    usual: int  # normal images that they are held against
    error_rate: float  # chance that an unchanged stream ever gives an alarm
    limit: float
    limit_y: float
    now: float  # evidence after the last image
    highest: float
    evidence: str
    dots: list[tuple[float, float]]
    median: str
    alarms: list[Alarm]
    evidence_levels: list[Level]
    p_levels: list[Level]
    first: datetime | None
    last: datetime | None


def view_drift(decision: Decision, series: Series, config: DriftConfig | None = None) -> DriftView:
    """Watch the scores of a version as they came, and say what a monitor would have said.

    A repeated image (a camera that is frozen) is not looked for here: the history counts an image once for each client id.
    """
    monitor = DriftMonitor.of(decision, config or DriftConfig(repeats=0))
    seen = [monitor.see(str(place), score) for place, score in enumerate(series.scores.tolist())]
    evidence = np.array([one.martingale for one in seen], np.float64)
    x = _places(len(seen))
    top = monitor.limit * 30
    return DriftView(
        len(seen),
        monitor.usual,
        monitor.config.false_alarms,
        monitor.limit,
        float(log_places(np.array([monitor.limit]), LOWEST, top, HEIGHT)[0]),
        seen[-1].martingale if seen and not seen[-1].alarm else 1.0,
        float(evidence.max(initial=1.0)),
        _evidence(x, evidence, top),
        _dots(x, np.array([one.p_value or 1.0 for one in seen], np.float64)),
        _median(x, np.array([one.p_value or 1.0 for one in seen], np.float64)),
        [_alarm(one, x, series, place) for place, one in enumerate(one for one in seen if one.alarm)],
        _levels((LOWEST, 1.0, monitor.limit), top),
        _levels((LOWEST, 0.01, 0.1, 1.0), 1.0),
        series.at[0] if series.at else None,
        series.at[-1] if series.at else None,
    )


def _places(count: int) -> Floats:
    return np.asarray((np.arange(count) + 0.5) / max(count, 1) * WIDTH)


def _evidence(x: Floats, evidence: Floats, top: float) -> str:
    """Of many images the highest evidence of some that follow each other."""
    if not len(x):
        return ""
    starts = thinned(len(x), MOST_DOTS)
    return points(x[starts], log_places(np.maximum.reduceat(evidence, starts), LOWEST, top, HEIGHT))


def _dots(x: Floats, p_values: Floats) -> list[tuple[float, float]]:
    rows = thinned(len(x), MOST_DOTS)
    y = log_places(p_values[rows], LOWEST, 1.0, HEIGHT) if len(x) else np.empty(0)
    return [(round(a, 1), b) for a, b in zip(x[rows].tolist(), y.tolist(), strict=True)]


def _median(x: Floats, p_values: Floats) -> str:
    if len(x) < 2 * AROUND:
        return ""
    around = np.median(np.lib.stride_tricks.sliding_window_view(p_values, AROUND), axis=1)
    rows = thinned(len(around), MOST_DOTS)
    return points(x[AROUND - 1 :][rows], log_places(around[rows], LOWEST, 1.0, HEIGHT))


def _alarm(one: Observation, x: Floats, series: Series, place: int) -> Alarm:
    began = one.number if one.since is None else max(1, one.since)
    letter = chr(ord("A") + place % 26)
    at, since = series.at[one.number - 1], series.at[began - 1]
    return Alarm(float(x[one.number - 1]), one.alarm, MEANINGS[one.alarm], at, one.number, since, letter)


def _levels(values: tuple[float, ...], top: float) -> list[Level]:
    places = log_places(np.array(values), LOWEST, top, HEIGHT).tolist()
    return [Level(y, f"{value:g}") for y, value in zip(places, values, strict=True)]
