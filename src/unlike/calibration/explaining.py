"""A verdict in one line for people: the score, what it says, where, and which normal images the image is most like."""

from __future__ import annotations

from collections.abc import Sequence

from unlike.calibration.thresholds import Promise
from unlike.records import Region, Verdict

NAMED = 3  # regions that a line names


def explain_verdict(verdict: Verdict, promise: Promise, nearest: Sequence[str] = ()) -> str:
    """Why an image is called what it is called, by which promise; `nearest` are the normal images that it is most like.

    >>> region = Region(x=3, y=9, width=20, height=4, area=61, peak=7.0)
    >>> verdict = Verdict("a.png", 2.5, 1.0, 0.02, anomalous=True, regions=(region,))
    >>> print(explain_verdict(verdict, Promise(0.05, "at most 5 % false alarms"), ["n7.png"]))
    anomalous: score 2.5, above 1 (at most 5 % false alarms); p = 0.02; strange: 20 x 4 pixels at (3, 9); most like normal n7.png
    """
    name = "anomalous" if verdict.anomalous else "normal"
    above = "above" if verdict.score > verdict.threshold else "not above"
    parts = [f"{name}: score {verdict.score:.4g}, {above} {verdict.threshold:.4g} ({promise})", _say_chance(verdict)]
    if verdict.regions:
        parts.append(f"strange: {_say_regions(verdict.regions)}")
    if nearest:
        parts.append(f"most like normal {', '.join(nearest)}")
    return "; ".join(parts)


def _say_chance(verdict: Verdict) -> str:
    together = "" if verdict.q_value is None else f", q = {verdict.q_value:.3g} of all judged together"
    return f"p = {verdict.p_value:.3g}{together}"


def _say_regions(regions: Sequence[Region]) -> str:
    """The strangest regions, in pixels of the image, and how many more there are."""
    named = [f"{one.width} x {one.height} pixels at ({one.x}, {one.y})" for one in regions[:NAMED]]
    more = f" and {len(regions) - NAMED} more" if len(regions) > NAMED else ""
    return f"{', '.join(named)}{more}"
