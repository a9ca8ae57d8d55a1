"""The way of an uploaded image: admitted, read, scored with others, written down, and only then answered."""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from typing import Any, TypeVar

from sqlalchemy import select

from unlike.data.batches import Read, read_one
from unlike.data.readers.addresses import ALL_PAGES
from unlike.data.readers.common import PILLOW_REFUSES, Reading, decode_bytes
from unlike.errors import ImageError, ServiceError
from unlike.records import Floats, Pixels, Sample
from unlike.serving import history
from unlike.serving.catalogue import Catalogue, Known, Runner
from unlike.serving.database.engine import Database
from unlike.serving.database.tables import Image, now
from unlike.serving.inference import Inference, Seen
from unlike.serving.meters import Meters
from unlike.serving.pictures import ImageStore
from unlike.serving.recording import Recorder, Result
from unlike.serving.settings import ServeSettings
from unlike.serving.uploads import Checked, check_image

Value = TypeVar("Value")


@dataclass(frozen=True, slots=True)
class Part:
    """One image of a request."""

    name: str
    client_id: str
    content: bytes


@dataclass(frozen=True, slots=True, eq=False)
class _Prepared:
    """An image that is ready to be scored."""

    id: str
    digest: str
    checked: Checked
    read: Read


class Scoring:
    """Scores what is uploaded. However many requests there are, few images are in memory at a time."""

    def __init__(
        self,
        settings: ServeSettings,
        database: Database,
        catalogue: Catalogue,
        inference: Inference,
        recorder: Recorder,
        meters: Meters,
        store: ImageStore | None,
    ) -> None:
        self._settings, self._database, self._catalogue = settings, database, catalogue
        self._inference, self._recorder, self._meters, self._store = inference, recorder, meters, store
        readers = min(8, (os.cpu_count() or 1) + 1)
        self._pool = ThreadPoolExecutor(readers, "reader")
        # images that were read and are not answered yet: two micro-batches for each thread that scores, one that is scored
        # and one that waits, and what is being read
        self._slots = asyncio.Semaphore(2 * settings.batch * settings.workers + readers)
        self.requests = 0  # that are taken on

    def stop(self) -> None:
        """Let go of the threads that read."""
        self._pool.shutdown(cancel_futures=True)

    def check_room(self) -> None:
        """Raise ServiceError (503) where as many requests are under way as can be."""
        if self.requests >= self._settings.queue:
            raise ServiceError(
                f"the service is busy with {self.requests} requests; send it again in a moment",
                status=503,
                passing=True,
                wait_seconds=self._settings.retry_seconds,
            )

    @asynccontextmanager
    async def admitted(self) -> AsyncIterator[None]:
        """Take on a request, before anything of it is read; a ServiceError (503) where there are as many as can be."""
        self.check_room()
        self.requests += 1
        try:
            yield
        finally:
            self.requests -= 1

    async def run(self, work: Callable[..., Value], *arguments: Any) -> Value:
        """Do something that takes a while in a thread that reads."""
        return await asyncio.get_running_loop().run_in_executor(self._pool, work, *arguments)

    async def score(self, name: str, parts: Iterator[Part], *, alone: bool) -> list[dict[str, Any]]:
        """A row for each image, in order, each written down. Of several, one that cannot be used has a row that says why.

        One that comes `alone` and cannot be used is refused by a ServiceError.
        """
        known = await self.run(self._catalogue.current, name)
        runner = await self.run(self._catalogue.runner, known)
        tasks: list[asyncio.Task[dict[str, Any]]] = []
        try:
            while (part := await self._next(parts)) is not None:
                tasks.append(asyncio.create_task(self._score_one(known, runner, part, alone=alone)))
            return list(await asyncio.gather(*tasks))
        finally:
            for task in tasks:
                task.cancel()  # of those that are not done, where one has failed

    def version_of(self, image_id: str) -> int:
        """The id of the version that scored an image."""
        with self._database.readers() as session:
            return history.read_image(session, image_id).version_id

    def runner_of(self, image_id: str) -> Runner:
        """What scored an image of the history."""
        return self._catalogue.runner(self._catalogue.find(self.version_of(image_id)))

    def see_again(self, image_id: str, image: Pixels) -> Floats:
        """The map (h, w) of an image of the history, computed again by the version that scored it."""
        runner = self.runner_of(image_id)
        seen = self._inference.submit(runner, read_one(Sample(image_id), lambda: image, runner.spec)).result()
        if seen.map is None:
            raise ServiceError("the image has no map: it could not be scored", status=404)
        return seen.map

    async def _next(self, parts: Iterator[Part]) -> Part | None:
        """Read the next image once there is room for it; its room is given back when it is scored."""
        await self._slots.acquire()
        try:
            part: Part | None = await self.run(next, parts, None)
        except BaseException:
            self._slots.release()
            raise
        if part is None:
            self._slots.release()
        return part

    async def _score_one(self, known: Known, runner: Runner, part: Part, *, alone: bool) -> dict[str, Any]:
        try:
            prepared = await self.run(self._prepare, known, runner, part)
            if isinstance(prepared, dict):
                row = prepared
            else:
                row = await self._score_new(known, runner, part, prepared)
        except ServiceError as error:
            if alone or error.passing:
                raise
            return failed_row(part, known, str(error))
        finally:
            self._slots.release()
        if alone and row["error"]:
            raise ServiceError(f"{part.name} {row['error']}", status=422)
        return row

    async def _score_new(self, known: Known, runner: Runner, part: Part, prepared: _Prepared) -> dict[str, Any]:
        """The row of an image that is not in the history yet."""
        seen = Seen(None, error=prepared.read.reason)
        if prepared.read.image is not None:
            seen = await asyncio.wrap_future(self._inference.submit(runner, prepared.read))
        result = await self.run(self._keep, known, part, prepared, seen)
        row = await asyncio.wrap_future(self._recorder.submit(result))
        self._count(known.name, row)
        return row

    def _prepare(self, known: Known, runner: Runner, part: Part) -> _Prepared | dict[str, Any]:
        """Read an image into the detector's form; or the row of one that came before."""
        checked = check_image(part.name, part.content, self._settings.limits)
        digest = hashlib.sha256(part.content).hexdigest()
        wanted = history.image_id(known.name, known.version_id, part.client_id, digest)
        with self._database.readers() as session:
            there = session.scalar(select(Image.id).where(Image.id == wanted)) is not None
            if there:
                return history.find_rows(session, [wanted])[wanted]
        sample = Sample(checked.name)
        read = read_one(
            sample, lambda: decode(part.content, checked, runner, self._settings.limits.pixels), runner.spec
        )
        return _Prepared(wanted, digest, checked, read)

    def _keep(self, known: Known, part: Part, prepared: _Prepared, seen: Seen) -> Result:
        """What is to be written of an image, which is kept first if any is."""
        if self._store is not None:
            self._store.keep(prepared.id, part.content, prepared.checked.kind, seen.map)
        verdict = seen.verdict
        values = {
            "id": prepared.id,
            "detector_id": known.detector_id,
            "version_id": known.version_id,
            "client_id": part.client_id,
            "digest": prepared.digest,
            "name": prepared.checked.name,
            "received_at": now(),
            "score": None if verdict is None else verdict.score,
            "threshold": None if verdict is None else verdict.threshold,
            "p_value": None if verdict is None else verdict.p_value,
            "anomalous": None if verdict is None else verdict.anomalous,
            "regions": [] if verdict is None else [asdict(region) for region in verdict.regions],
            "error": None if verdict is not None else seen.error,
            "kept": self._store is not None,
            "reviewed": False,
        }
        return Result(values, known.name, known.number)

    def _count(self, detector: str, row: dict[str, Any]) -> None:
        said = "failed" if row["anomalous"] is None else ("anomalous" if row["anomalous"] else "normal")
        self._meters.images.labels(detector, said).inc()


def decode(content: bytes, checked: Checked, runner: Runner, most_pixels: int) -> Pixels:
    """An image as the detector's own sources read it; an ImageError says why it cannot be."""
    if runner.pages == "all" and checked.pages > 1:
        raise ImageError(
            f"is a {checked.kind} of {checked.pages} pages, each of which the detector takes as an image; send them one by one"
        )
    page = ALL_PAGES if runner.pages == "stack" and checked.pages > 1 else 1
    try:
        return decode_bytes(content, Reading(page, min(most_pixels, runner.spec.most_pixels)))
    except ImageError:
        raise
    except (*PILLOW_REFUSES, MemoryError, RuntimeError) as error:  # decoders fail in ways of their own
        raise ImageError(f"cannot be decoded ({type(error).__name__}); save it again") from None


def failed_row(part: Part, known: Known, reason: str) -> dict[str, Any]:
    """The row of an image that was refused, and so is not in the history."""
    empty = dict.fromkeys(
        ("id", "score", "threshold", "p_value", "anomalous", "received_at", "image", "map", "overlay")
    )
    told: dict[str, Any] = {
        "name": part.name,
        "regions": [],
        "client_id": part.client_id,
        "error": reason,
        "review": None,
    }
    return {**empty, **told, "detector": known.name, "version": known.number}
