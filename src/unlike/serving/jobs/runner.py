"""Jobs one after the other, each in a process of its own, so that scoring goes on and a failure stays there."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import IO

from sqlalchemy.exc import SQLAlchemyError

from unlike.errors import ServiceError
from unlike.serving.catalogue import Catalogue
from unlike.serving.database.engine import Database
from unlike.serving.database.tables import Job
from unlike.serving.jobs import store
from unlike.serving.jobs.orders import Order, clear_shop

LOG = logging.getLogger("unlike.serving.jobs")
LOOK_SECONDS = 1.0  # between two looks for a job, and whether one that runs was cancelled
POLL_SECONDS = 0.1
GRACE_SECONDS = 5.0  # between asking a process to end and ending it
WORKER = "unlike.serving.jobs.worker"


class Jobs:
    """Takes jobs from the line, one at a time, while the service runs.

    A job whose service stops waits again when the next one starts: a fit goes on from what it has kept.
    """

    def __init__(self, database: Database, catalogue: Catalogue, url: str, images: Path | None) -> None:
        self._database, self._catalogue, self._url, self._images = database, catalogue, url, images
        self._stopping, self._wanted = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._work, name="jobs", daemon=True)

    def start(self) -> list[str]:
        """Begin; sentences on what the last service left unfinished."""
        with self._database.sessions.begin() as session:
            told = store.recover(session)
        self._thread.start()
        return told

    def stop(self) -> None:
        """End the job that runs; it waits again when the next service starts."""
        self._stopping.set()
        self._wanted.set()
        if self._thread.is_alive():
            self._thread.join(timeout=2 * GRACE_SECONDS)

    def wake(self) -> None:
        """There may be something to do, or something to end."""
        self._wanted.set()

    def _work(self) -> None:
        while not self._stopping.is_set():
            try:
                with self._database.sessions.begin() as session:
                    job_id = store.take_next(session)
                if job_id is not None:
                    self._run(job_id)
                    continue
            except (SQLAlchemyError, ServiceError, OSError):
                LOG.exception("jobs: the database or the disk cannot be used; trying again")
            self._wanted.wait(LOOK_SECONDS)
            self._wanted.clear()

    def _run(self, job_id: int) -> None:
        folder = self._catalogue.folder
        order = Order(self._url, str(folder.absolute()), None if self._images is None else str(self._images), job_id)
        process = subprocess.Popen(  # noqa: S603 - ourselves
            [sys.executable, "-m", WORKER], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, start_new_session=True
        )
        pipe = process.stdin
        assert pipe is not None
        with contextlib.suppress(OSError):
            pipe.write(order.line())
            pipe.flush()
        self._wait(process, job_id)
        _close(pipe)
        if self._stopping.is_set():
            return
        self._tidy(job_id, process.returncode)
        with self._catalogue.changing():
            pass  # what was remembered of versions is forgotten

    def _wait(self, process: subprocess.Popen[bytes], job_id: int) -> None:
        """Until the process ends, or is ended because the job was cancelled or the service stops."""
        looked = time.monotonic()
        while process.poll() is None:
            if self._stopping.is_set():
                _end(process)
                return
            time.sleep(POLL_SECONDS)
            if time.monotonic() - looked >= LOOK_SECONDS or self._wanted.is_set():
                self._wanted.clear()
                looked = time.monotonic()
                if self._is_cancelled(job_id):
                    _end(process)
                    return

    def _is_cancelled(self, job_id: int) -> bool:
        with contextlib.suppress(SQLAlchemyError), self._database.readers() as session:
            job = session.get(Job, job_id)
            return job is None or job.state == store.INTERRUPTED
        return False

    def _tidy(self, job_id: int, code: int) -> None:
        """Whatever became of the process, the job does not run any more."""
        with self._database.sessions.begin() as session:
            if store.end(session, job_id, store.FAILED, _explain(code)):
                LOG.error("job %d: %s", job_id, _explain(code))
            if store.find(session, job_id).state != store.RUNNING:
                clear_shop(self._catalogue.folder, job_id)


def _explain(code: int) -> str:
    if code == -signal.SIGKILL:
        return "the process was killed, perhaps for want of memory: fit on fewer images or at a smaller size, or give it more"
    if code < 0:
        return f"the process was ended by signal {-code}; start the job again"
    return f"the process ended before the job did (exit code {code}); the log of the service says why"


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a process and what it started: it is asked first."""
    for wanted in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(OSError):
            os.killpg(process.pid, wanted)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(GRACE_SECONDS)
            return


def _close(pipe: IO[bytes]) -> None:
    with contextlib.suppress(OSError):
        pipe.close()
