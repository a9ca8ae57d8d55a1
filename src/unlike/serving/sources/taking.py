"""What becomes of the images of a source: scored, their results made safe, and only then crossed off."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from unlike.artifacts import printable
from unlike.calibration.rows import JUDGED, verdict_row
from unlike.errors import ImageError, UnlikeError
from unlike.records import Sample
from unlike.serving.sources.base import Arrival, ImageSource, client_id

if TYPE_CHECKING:
    from unlike.detector.detector import Detector
    from unlike.runtime.exported import ExportedDetector
    from unlike.serving.client import Client
    from unlike.serving.sinks.rows import RowFile

LONGEST_WAIT = 60.0  # seconds between two tries where the service is away
REFUSED = (400, 413, 415, 422)  # answers of a service that are about the images
REPORTED = 100  # broken images that are remembered by name


@dataclass(frozen=True, slots=True, eq=False)
class Outcome:
    """What was found of one arrival: a row, or why there is none."""

    arrival: Arrival
    row: Mapping[str, Any] | None = None  # with the names of `calibration.rows`
    error: str = ""


class LaterError(UnlikeError):
    """Nothing is wrong with the images, but whoever scores them is away or has no room."""

    def __init__(self, message: str, wait_seconds: float | None = None) -> None:
        super().__init__(message)
        self.wait_seconds = wait_seconds  # as it asks; None where it does not say


class Scorer(Protocol):
    """Scores arrivals: a detector here, or a service."""

    def score(self, arrivals: Sequence[Arrival]) -> list[Outcome]:
        """One outcome each, in order; a LaterError where they are to be tried again."""
        ...


class LocalScorer:
    """By a detector, or an export of one, in this process."""

    def __init__(self, detector: Detector | ExportedDetector) -> None:
        self._detector = detector

    def score(self, arrivals: Sequence[Arrival]) -> list[Outcome]:
        """Files together, frames of a camera one by one."""
        from unlike.data.files import FileSource

        samples = [Sample(one.name, one.path) for one in arrivals if one.path is not None]
        found = self._judge(FileSource("what came", samples)) if samples else {}
        for one in arrivals:
            if one.path is None:
                found[one.name] = self._judge_pixels(one)
        return [Outcome(one, *found[one.name]) for one in arrivals]

    def _judge_pixels(self, arrival: Arrival) -> tuple[dict[str, Any] | None, str]:
        try:
            assert arrival.pixels is not None
            (found,) = self._judge(arrival.pixels[None]).values()
        except UnlikeError as error:
            return None, str(error)
        row, reason = found
        return (None, reason) if row is None else ({**row, "id": arrival.name}, "")

    def _judge(self, images: Any) -> dict[str, tuple[dict[str, Any] | None, str]]:
        from unlike.runtime.streams import judge_batch

        found: dict[str, tuple[dict[str, Any] | None, str]] = {}
        for batch in self._detector.stream(images):
            verdicts = judge_batch(self._detector.fitted_, batch)
            for sample, verdict in zip(batch.samples, verdicts, strict=True):
                found[sample.id] = verdict_row(verdict, sample, JUDGED), ""
            found |= {item.id: (None, item.reason) for item in batch.unreadable}
        return found


class RemoteScorer:
    """By a service: the same image that is sent again, after a restart say, is counted once there."""

    def __init__(self, client: Client, detector: str, origin: str) -> None:
        self._client, self._detector, self._origin = client, detector, origin

    def score(self, arrivals: Sequence[Arrival]) -> list[Outcome]:
        """A few in one request; a LaterError where the service is away or busy."""
        contents, lost = _contents(arrivals)
        found = self._send([one for one in arrivals if one.name not in lost], contents)
        return [Outcome(one, None, lost[one.name]) if one.name in lost else found[one.name] for one in arrivals]

    def _send(self, arrivals: Sequence[Arrival], contents: Mapping[str, bytes]) -> dict[str, Outcome]:
        """Outcomes by name; of images that are refused together, each is sent by itself."""
        from unlike.serving.client import ServiceError

        if not arrivals:
            return {}
        files = [(printable(one.name), contents[one.name]) for one in arrivals]
        ids = [client_id(self._origin, one.key) for one in arrivals]
        try:
            items = self._client.score(self._detector, files, client_ids=ids)
        except ServiceError as error:
            if error.passing:
                raise LaterError(str(error), error.wait_seconds) from None
            if error.status not in REFUSED:
                raise
            if len(arrivals) == 1:
                return {arrivals[0].name: Outcome(arrivals[0], None, error.detail)}
            return {name: found for one in arrivals for name, found in self._send([one], contents).items()}
        return {one.name: _outcome(one, item) for one, item in zip(arrivals, items, strict=True)}


def _outcome(arrival: Arrival, item: Mapping[str, Any]) -> Outcome:
    """A row under the image's own name, not the service's id of it."""
    if item.get("error"):
        return Outcome(arrival, None, str(item["error"]))
    return Outcome(arrival, {name: arrival.name if name == "id" else item.get(name) for name in JUDGED})


def _contents(arrivals: Sequence[Arrival]) -> tuple[dict[str, bytes], dict[str, str]]:
    """What the files hold, and of those that cannot be read why."""
    contents: dict[str, bytes] = {}
    lost: dict[str, str] = {}
    for one in arrivals:
        try:
            contents[one.name] = one.content()
        except ImageError as error:
            lost[one.name] = str(error)
    return contents, lost


@dataclass(slots=True)
class Tally:
    """How many images were taken, and which are broken."""

    taken: int = 0
    anomalous: int = 0
    broken: int = 0
    named: deque[tuple[str, str]] = field(
        default_factory=lambda: deque(maxlen=REPORTED)
    )  # the last broken ones, and why
    waiting: dict[str, str] = field(default_factory=dict)  # those that are tried again later, and why


def take_all(
    source: ImageSource,
    scorer: Scorer,
    stopping: threading.Event,
    rows: RowFile | None,
    say: Callable[[str], None],
) -> Tally:
    """Take images until `stopping` is set or no more come. Results are safe, in `rows` too, before the source is told so.

    >>> from types import SimpleNamespace
    >>> one = Arrival("a", "a:1")
    >>> source = SimpleNamespace(arrivals=lambda stopping: [[one]], done=lambda taken: print("done", taken[0].name))
    >>> scorer = SimpleNamespace(score=lambda some: [Outcome(some[0], {"anomalous": True})])
    >>> take_all(source, scorer, threading.Event(), None, print).anomalous
    done a
    1
    """
    tally = Tally()
    for given in source.arrivals(stopping):
        batch = given if rows is None else _not_written(source, given, rows)
        outcomes = [one for one in _patiently(scorer, batch, stopping, say) if one.arrival.unchanged] if batch else []
        good = {one.arrival.key: one.row for one in outcomes if one.row is not None}
        if good and rows is not None:
            rows.append(good)
        if good:
            source.done([one.arrival for one in outcomes if one.row is not None])
        if good and rows is not None:
            rows.settle()
        tally.taken += len(good)
        tally.anomalous += sum(bool(row["anomalous"]) for row in good.values())
        for one in outcomes:
            tally.waiting.pop(one.arrival.name, None)
            if one.row is None:
                _refuse(source, one, tally, say)
    return tally


def _not_written(source: ImageSource, batch: Sequence[Arrival], rows: RowFile) -> list[Arrival]:
    """Those whose row an earlier run has not written; the others need only be crossed off."""
    written = [one for one in batch if one.key in rows.written]
    if written:
        source.done(written)
    return [one for one in batch if one.key not in rows.written]


def reason_of(outcome: Outcome) -> str:
    """Why there is no row, without the name, which a service may have put before it.

    >>> reason_of(Outcome(Arrival("a.png", "a"), None, "a.png is cut short")), reason_of(Outcome(Arrival("a", "a"), None, "is empty"))
    ('is cut short', 'is empty')
    """
    return outcome.error.removeprefix(f"{outcome.arrival.name} ")


def _refuse(source: ImageSource, outcome: Outcome, tally: Tally, say: Callable[[str], None]) -> None:
    """Tell the source, and people once it is given up."""
    name = outcome.arrival.name
    if source.refused(outcome.arrival, outcome.error) is not None:
        tally.waiting[name] = reason_of(outcome)
        return
    tally.broken += 1
    tally.named.append((name, reason_of(outcome)))
    say(f"{name}: given up: {reason_of(outcome)}.")


def _patiently(
    scorer: Scorer, batch: Sequence[Arrival], stopping: threading.Event, say: Callable[[str], None]
) -> list[Outcome]:
    """Score a batch, however long whoever does so is away; nothing where a stop is asked for first."""
    wait, told = 1.0, False
    while not stopping.is_set():
        try:
            outcomes = scorer.score(batch)
        except LaterError as error:
            if not told and error.wait_seconds is None:
                say(f"{error} It is tried again until it works; nothing is lost.")
                told = True
            stopping.wait(error.wait_seconds or wait)
            wait = min(2 * wait, LONGEST_WAIT)
            continue
        if told:
            say("The service is back.")
        return outcomes
    return []
