"""What each possible threshold of a detector would say of the images that came and of those that people have reviewed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from unlike.calibration.conformal import p_values
from unlike.calibration.decision import ALL, Decision, is_anomalous
from unlike.records import Bools, Floats
from unlike.serving.database.tables import Image, Review
from unlike.serving.web.charts import Bar, Scale, bars

MOST_STOPS = 120
LOOSEST = 0.5  # share of false alarms that is offered
HEIGHT = 110.0  # of either half of the histogram


@dataclass(frozen=True, slots=True, eq=False)
class Judged:
    """Images of which a person said what they are, with the scores of the version that is looked at."""

    ids: Sequence[str]
    scores: Floats  # (N,)
    anomalous: Bools  # (N,)


@dataclass(frozen=True, slots=True)
class Stop:
    """A place where the threshold can stand, and what would follow."""

    share: float  # of false alarms, promised
    threshold: float
    x: float
    found: int  # reviewed defects above it
    false_alarms: int  # reviewed normal images above it
    flagged: int  # of the recent images


@dataclass(frozen=True, slots=True)
class Mark:
    """A reviewed image on the axis."""

    id: str
    x: float
    anomalous: bool
    score: float


@dataclass(frozen=True, slots=True)
class ThresholdView:
    """All that the page of the threshold shows."""

    stops: list[Stop]  # the lowest threshold first
    chosen: int  # the stop that is the threshold of now, or nearest to it
    now: Stop  # exactly as it is
    promise: float | None
    images: int  # normal ones that were held out
    normals: int  # of them, what counts as one: images, or groups
    recent: int
    defects: int
    reviewed_normals: int
    ticks: list[tuple[float, str]]
    recent_bars: list[Bar]
    normal_bars: list[Bar]
    marks: list[Mark]
    logarithmic: bool
    categories: int  # that have a threshold of their own

    def data(self) -> dict[str, Any]:
        """What the script needs."""
        return {
            "stops": [asdict(stop) for stop in self.stops],
            "chosen": self.chosen,
            "now": asdict(self.now),
            "recent": self.recent,
            "defects": self.defects,
            "normals": self.reviewed_normals,
        }


def view_threshold(decision: Decision, recent: Floats, judged: Judged) -> ThresholdView:
    """What the page of the threshold shows: recent scores (M,) of this version, and its reviewed images."""
    scale = Scale.of(np.concatenate([decision.scores, recent, judged.scores, [decision.threshold]]))
    shares = _shares(decision.independent)
    found = [(share, decision.at(share).get(ALL)) for share in shares]
    by_threshold = {basis.score: share for share, basis in reversed(found) if basis is not None}
    stops = [_stop(share, score, scale, recent, judged) for score, share in sorted(by_threshold.items())]
    now = _stop(decision.false_alarms or _share_above(decision), decision.threshold, scale, recent, judged)
    nearest = min(range(len(stops)), key=lambda place: abs(stops[place].threshold - now.threshold), default=0)
    return ThresholdView(
        stops,
        nearest,
        now,
        decision.false_alarms,
        len(decision.scores),
        decision.independent,
        len(recent),
        int(judged.anomalous.sum()),
        int((~judged.anomalous).sum()),
        scale.ticks(),
        bars(recent, scale, HEIGHT),
        bars(decision.scores, scale, HEIGHT),
        _marks(judged, scale),
        scale.logarithmic,
        len(decision.thresholds) - 1,
    )


def judged_of(rows: Iterable[tuple[Image, Review]], version_id: int) -> Judged:
    """Of reviewed images those that one version has scored."""
    own = [(image, review) for image, review in rows if image.version_id == version_id and image.score is not None]
    truth = [
        review.verdict == "missed" or (review.verdict == "right" and bool(image.anomalous)) for image, review in own
    ]
    scores = np.array([image.score for image, _ in own], np.float64)
    return Judged([image.id for image, _ in own], scores, np.array(truth, bool))


def _shares(count: int) -> list[float]:
    """What can be promised by so many normal images: of many, fewer and fewer of the larger shares."""
    most = max(1, int(LOOSEST * (count + 1)))
    ranks = np.unique(np.round(np.geomspace(1, most, MOST_STOPS)).astype(int))
    return [float(rank / (count + 1)) for rank in ranks]


def _share_above(decision: Decision) -> float:
    """The p-value of an image that stands at the threshold."""
    return float(p_values(np.array([np.nextafter(decision.threshold, np.inf)]), decision.scores, decision.weights)[0])


def _stop(share: float, threshold: float, scale: Scale, recent: Floats, judged: Judged) -> Stop:
    above = is_anomalous(judged.scores, threshold)
    return Stop(
        share,
        threshold,
        float(scale.places(np.array([threshold]))[0]),
        int((above & judged.anomalous).sum()),
        int((above & ~judged.anomalous).sum()),
        int(is_anomalous(recent, threshold).sum()),
    )


def _marks(judged: Judged, scale: Scale) -> list[Mark]:
    places = scale.places(judged.scores).tolist() if len(judged.ids) else []
    rows = zip(judged.ids, places, judged.anomalous.tolist(), judged.scores.tolist(), strict=True)
    return [Mark(name, x, odd, score) for name, x, odd, score in rows]
