"""Has what comes from the camera changed? Scores of a stream against those of usual images, image by image.

Each score is held against the usual ones *and all that came since the last alarm*: if images come in no particular order, its
rank among them is uniform and independent of the ranks before, whatever the scores are like and however few usual ones there
are (Vovk, Nouretdinov & Gammerman, Testing exchangeability on-line, 2003). Held against the same few usual images for ever, p-values
would all be wrong together, and in the end found out. No torch here.
"""

from __future__ import annotations

import bisect
import hashlib
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from unlike.calibration.decision import ALL, Decision
from unlike.calibration.martingale import DEFECTS, STRANGER, TOO_NORMAL, Martingale
from unlike.errors import ArtifactError, ConfigError, DataError
from unlike.records import Floats

REPEATED = "repeated"  # the kind of change that needs no bets
FORMAT = 1  # of a state
DRAWN_BYTES = 6  # of chance, for each image
LEAST_LEARNED = 20  # images: of fewer no rank is small
MEANINGS = {
    STRANGER: "all images look stranger than usual: light, focus, camera or material?",
    DEFECTS: "more images than usual are very strange, the others are as usual: more defects?",
    TOO_NORMAL: "images look more normal than usual: covered, out of focus, another product?",
    REPEATED: "the same image again and again: is the camera frozen?",
}


@dataclass(frozen=True, slots=True)
class DriftConfig:
    """What a monitor promises, and against what it holds images."""

    false_alarms: float = 0.01  # chance that an unchanged stream, however long, ever gives an alarm
    learn: int = 0  # first images that are taken for usual in the place of the held-out ones
    repeats: int = 5  # identical images one after the other that are an alarm; 0 for never
    seed: int = 0  # of ties

    def __post_init__(self) -> None:
        if not 0 < self.false_alarms < 1:
            raise ConfigError(
                f"false_alarms: expected a share above 0 and below 1, such as 0.01, came {self.false_alarms:g}"
            )
        if self.learn and self.learn < LEAST_LEARNED:
            raise ConfigError(f"learn: expected 0, or {LEAST_LEARNED} images or more, came {self.learn}")
        if self.seed < 0:
            raise ConfigError(f"seed: expected a whole number from 0, came {self.seed}")
        if self.repeats < 0 or self.repeats == 1:
            raise ConfigError(f"repeats: expected 2 images or more, or 0 for never, came {self.repeats}")


@dataclass(frozen=True, slots=True)
class Observation:
    """What a monitor says of one image."""

    number: int  # of the image in the stream, from 1
    id: str
    score: float
    p_value: (
        float | None
    )  # rank among usual images and those that came before; None: it was learned, or was a repetition
    martingale: float  # evidence of a change since the last alarm; above 1 / false_alarms it is an alarm
    alarm: str = ""  # the kind of change
    since: int | None = None  # at which image of the stream it probably began


@dataclass(slots=True)
class Ranks:
    """Scores in order, among which others are ranked."""

    usual: list[float]  # sorted
    known: list[float] = field(default_factory=list)  # sorted: those, and what was seen since the last alarm

    def __post_init__(self) -> None:
        self.known = self.known or list(self.usual)

    def rank(self, score: float, tie: float) -> float:
        """The share of all, this one included, that is at least as high; of equal ones `tie`, a share drawn at random.

        >>> ranks = Ranks([1.0, 2.0, 3.0])
        >>> ranks.rank(9.0, tie=0.5), ranks.rank(2.5, tie=0.5)
        (0.125, 0.5)
        """
        low, high = bisect.bisect_left(self.known, score), bisect.bisect_right(self.known, score)
        p_value = (len(self.known) - high + tie * (high - low + 1)) / (len(self.known) + 1)
        self.known.insert(high, score)
        return p_value

    def forget(self) -> None:
        """Only the usual ones."""
        self.known = list(self.usual)


class DriftMonitor:
    """Watches the scores of a stream of images, and says when they have changed, and how.

    `usual` are scores of usual images that were not learned from, (n,), or by category. The chance that a stream of images like
    them, in no particular order, ever gives an alarm is at most `false_alarms`. After an alarm it begins again.

    >>> random = np.random.default_rng(0)
    >>> monitor = DriftMonitor(random.normal(size=200))
    >>> scores = np.concatenate([random.normal(size=500), random.normal(1, size=100)])
    >>> alarms = [one for one in (monitor.see(str(n), score) for n, score in enumerate(scores)) if one.alarm]
    >>> alarms[0].alarm, 500 < alarms[0].number < 560
    ('stranger', True)
    """

    Config = DriftConfig

    def __init__(self, usual: Floats | Mapping[str, Floats] | None = None, config: DriftConfig | None = None) -> None:
        self.config = config or DriftConfig()
        self.martingale = Martingale()
        by_category = usual if isinstance(usual, Mapping) else {ALL: () if usual is None else usual}
        self._ranks = {ALL: Ranks([])} | {name: _ranks_of(scores) for name, scores in by_category.items()}
        if self.config.learn:
            self._ranks = {ALL: Ranks([])}
        elif not self._ranks[ALL].usual:
            raise DataError("no score of a usual image; give some, or learn them from the first images of the stream")
        self.number = 0  # images seen
        self._begun = 0  # how many of them before the last alarm
        self._last, self._run = "", 0  # the image before, and how many of it came one after the other

    @classmethod
    def of(cls, decision: Decision, config: DriftConfig | None = None) -> DriftMonitor:
        """Against the held-out normal images of a detector: one of each group, in each category by itself."""
        config = config or DriftConfig()
        order = np.random.default_rng(config.seed).permutation(len(decision.scores))
        _, first = np.unique(decision.groups[order], return_index=True)
        rows = order[first]
        usual = {ALL: decision.scores[rows]}
        for name in decision.thresholds:
            own = rows[decision.categories[rows] == name]
            if name != ALL and len(own):
                usual[name] = decision.scores[own]
        return cls(usual, config)

    @property
    def usual(self) -> int:
        """How many usual images there are to hold others against, of all categories."""
        return max((len(ranks.usual) for ranks in self._ranks.values()), default=0)

    @property
    def limit(self) -> float:
        """Above it the martingale is an alarm."""
        return 1 / self.config.false_alarms

    def see(self, name: str, score: float, category: str = ALL, identity: str = "") -> Observation:
        """What the next image says. Images of the same `identity`, if there is one, are the same image."""
        if not math.isfinite(score):
            raise DataError(f"{name}: expected a finite score, came {score}")
        self.number += 1
        self._run = self._run + 1 if identity and identity == self._last else 1
        self._last = identity
        if self.config.repeats and self._run >= self.config.repeats:
            return self._repetition(name, score)
        if self.number <= self.config.learn:
            bisect.insort(self._ranks[ALL].usual, score)
            self._ranks[ALL].forget()
            return Observation(self.number, name, score, None, self.martingale.value)
        ranks = self._ranks.get(category, self._ranks[ALL])
        p_value = ranks.rank(score, self._tie())
        value = self.martingale.see(p_value)
        if value < self.limit:
            return Observation(self.number, name, score, p_value, value)
        kind, since = self.martingale.kind, self._begun + round(self.martingale.since)
        self._restart()
        return Observation(self.number, name, score, p_value, value, kind, since)

    def _repetition(self, name: str, score: float) -> Observation:
        """An image that came before, again: it says nothing of others, and is an alarm once."""
        value = self.martingale.value
        if self._run > self.config.repeats:
            self._begun = self.number
            return Observation(self.number, name, score, None, value)
        self._restart()
        return Observation(self.number, name, score, None, value, REPEATED, self.number - self._run + 1)

    def _restart(self) -> None:
        self._begun = self.number
        self.martingale.restart()
        for ranks in self._ranks.values():
            ranks.forget()

    def _tie(self) -> float:
        """Above 0, at most 1; the same for the same image of the same stream."""
        drawn = hashlib.blake2b(f"{self.config.seed} {self.number}".encode(), digest_size=DRAWN_BYTES).digest()
        # ten times as fast as a generator of its own for each image
        return float((int.from_bytes(drawn) + 1) / 256**DRAWN_BYTES)

    def state(self) -> dict[str, Any]:
        """All that it has to know to go on, as JSON can hold it."""
        return {
            "format": FORMAT,
            "config": asdict(self.config),
            "number": self.number,
            "begun": self._begun,
            "last": self._last,
            "run": self._run,
            "martingale": self.martingale.state(),
            "ranks": {name: {"usual": ranks.usual, "known": ranks.known} for name, ranks in self._ranks.items()},
        }

    @classmethod
    def resume(cls, state: Any) -> DriftMonitor:
        """A monitor that goes on from what `state` gave; an ArtifactError says that it is no such thing."""
        try:
            if state["format"] != FORMAT:
                raise ArtifactError(
                    f"format {state['format']} of another version; expected {FORMAT}; begin a new state"
                )
            config = DriftConfig(**state["config"])
            ranks = {str(name): _ranks_of(one["usual"], one["known"]) for name, one in state["ranks"].items()}
            monitor = cls(np.zeros(1), config)
            monitor._ranks = ranks
            monitor.number, monitor._begun = int(state["number"]), int(state["begun"])
            monitor._last, monitor._run = str(state["last"]), int(state["run"])
            monitor.martingale.resume(state["martingale"])
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            if isinstance(error, ArtifactError):
                raise
            raise ArtifactError("is not the state of a monitor, as `unlike monitor --state` writes it") from error
        return monitor


def _ranks_of(usual: Any, known: Any = ()) -> Ranks:
    sorted_usual, sorted_known = (sorted(np.asarray(values, np.float64).tolist()) for values in (usual, known))
    if not all(map(math.isfinite, (*sorted_usual, *sorted_known))):
        raise DataError("a score of a usual image is not a finite number")
    return Ranks(sorted_usual, sorted_known)
