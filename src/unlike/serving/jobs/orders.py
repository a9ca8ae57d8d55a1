"""What the process of a job is told, and where it works: known to the service, which loads nothing of what a job takes."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path

WORKSHOPS = ".jobs"  # in the folder of detectors: what a job that is not done has made so far


@dataclass(frozen=True, slots=True)
class Order:
    """What a process is told, as a line of JSON: not among its arguments, where others could read a password."""

    url: str
    folder: str
    images: str | None
    job_id: int

    def line(self) -> bytes:
        """As it is sent."""
        return json.dumps(asdict(self)).encode() + b"\n"


def clear_shop(folder: Path, job_id: int) -> None:
    """Delete what a job that has ended had made so far."""
    shutil.rmtree(folder / WORKSHOPS / str(job_id), ignore_errors=True)
