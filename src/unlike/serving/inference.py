"""Threads that score: they take what waits for one detector together, a micro-batch at a time, while the event loop answers others."""

from __future__ import annotations

import threading
from collections import deque
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from dataclasses import dataclass, replace

from unlike.data.batches import Read, collect
from unlike.errors import ServiceError
from unlike.records import Floats, ScoredBatch, Verdict
from unlike.runtime.streams import judge_batch
from unlike.serving.catalogue import Runner


@dataclass(frozen=True, slots=True, eq=False)
class Seen:
    """What a detector says of one image."""

    verdict: Verdict | None  # none where its score is no number
    map: Floats | None = None  # (h, w) at the detector's size
    error: str = ""  # why there is no verdict


@dataclass(frozen=True, slots=True, eq=False)
class _Task:
    """An image that waits to be scored."""

    runner: Runner
    read: Read
    found: Future[Seen]


class Inference:
    """Scores images in threads of its own, in micro-batches of whatever waits; each image gets the score it has alone.

    A batch waits for nobody: it is what came while the one before it was scored. `most` images may wait; one more is refused
    by a ServiceError (503).
    """

    def __init__(self, batch: int = 8, workers: int = 1, most: int = 256) -> None:
        self._batch, self._most = batch, most
        self._waiting: deque[_Task] = deque()
        self._changed = threading.Condition()
        self._stopping = False
        self._threads = [
            threading.Thread(target=self._work, name=f"inference-{number}", daemon=True) for number in range(workers)
        ]
        self.batches, self.images = 0, 0  # that were scored so far

    def start(self) -> None:
        """Begin to work."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Finish what is under way; what still waits is refused."""
        with self._changed:
            self._stopping = True
            waiting, self._waiting = list(self._waiting), deque()
            self._changed.notify_all()
        _refuse(waiting, ServiceError("the service is stopping", status=503, passing=True))
        for thread in self._threads:
            thread.join(timeout=30)

    @property
    def waiting(self) -> int:
        """How many images wait."""
        return len(self._waiting)

    def submit(self, runner: Runner, read: Read) -> Future[Seen]:
        """Have an image scored that was read into the detector's form."""
        task = _Task(runner, read, Future())
        with self._changed:
            if self._stopping or len(self._waiting) >= self._most:
                raise ServiceError("the service is busy; send the image again in a moment", status=503, passing=True)
            self._waiting.append(task)
            self._changed.notify()
        return task.found

    def _work(self) -> None:
        while (tasks := self._take()) is not None:
            try:
                found = score_reads(tasks[0].runner, [task.read for task in tasks])
            except BaseException as error:  # noqa: BLE001 (whoever waits is told, and the thread goes on)
                _refuse(tasks, error)
                continue
            self.batches, self.images = self.batches + 1, self.images + len(tasks)
            for task, seen in zip(tasks, found, strict=True):
                with suppress(InvalidStateError):  # nobody waits for it any more
                    task.found.set_result(seen)

    def _take(self) -> list[_Task] | None:
        """What waits for the detector of the longest waiting image, in order; None at the end."""
        with self._changed:
            while not self._waiting:
                if self._stopping:
                    return None
                self._changed.wait()
            runner = self._waiting[0].runner
            most = min(self._batch, runner.images_at_once or self._batch)
            tasks = [task for task in self._waiting if task.runner is runner][:most]
            for task in tasks:
                self._waiting.remove(task)
            return tasks


def _refuse(tasks: list[_Task], error: BaseException) -> None:
    for task in tasks:
        with suppress(InvalidStateError):  # nobody waits for it any more
            task.found.set_exception(error)


def score_reads(runner: Runner, reads: list[Read]) -> list[Seen]:
    """What a detector says of images (B) that were read into its form."""
    numbered = [replace(read, sample=replace(read.sample, id=str(row))) for row, read in enumerate(reads)]
    batch: ScoredBatch = runner.see(collect(numbered))
    errors = {item.id: item.reason for item in batch.unreadable}
    verdicts = dict(zip((sample.id for sample in batch.samples), judge_batch(runner.judging, batch), strict=True))
    maps = dict(zip((sample.id for sample in batch.samples), batch.maps, strict=True))
    names = [read.sample.id for read in numbered]
    return [Seen(verdicts.get(name), maps.get(name), errors.get(name, "")) for name in names]
