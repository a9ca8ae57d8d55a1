"""Score all images of a source in shards: what is there already is not scored again, and what is finished is kept."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from unlike.artifacts import DETECTOR, EXPORT, check_writable, find_folder, kind_of, write_file
from unlike.batch.on_ray import Cluster, need_ray, score_on_ray
from unlike.batch.scoring import load_scoring, score_shard
from unlike.batch.shards import Plan, join_shards, make_plan, need_parquet, open_shards, read_about
from unlike.config import check_range
from unlike.data.source import Images, Source, open_source
from unlike.errors import none_usable, unknown
from unlike.records import Unreadable

if TYPE_CHECKING:
    from unlike.detector.detector import Detector
    from unlike.runtime.exported import ExportedDetector

ON = ("here", "ray")
JOINED = (".parquet", ".csv")  # outputs that are one file; any other is a folder of shards
SHARD = 1_000  # images
Notify = Callable[[int, int], None]  # images done, of how many


@dataclass(frozen=True, slots=True)
class Engine:
    """What scores: one process here, or workers on Ray. None of it changes a score."""

    on: Literal["here", "ray"] = "here"
    address: str | None = None  # of a Ray cluster; None: this machine
    workers: int | None = None  # on Ray; None: one a core, or one a GPU where there are some
    device: str = "auto"
    shard: int = SHARD  # images that are written at once, and lost at most where a process is killed

    def __post_init__(self) -> None:
        if self.on not in ON:
            raise unknown("engine", self.on, ON)
        check_range("shard", self.shard, 1, 100_000)
        if self.workers is not None:
            check_range("workers", self.workers, 1, 100_000)


@dataclass(frozen=True, slots=True, eq=False)
class BatchScores:
    """What came of it: where the scores are, and what there is to tell of the images."""

    output: Path
    detector: Detector | ExportedDetector  # that scored them
    images: int  # that were scored, now or before
    anomalous: int
    shards: int
    found: int  # shards that were there already
    unreadable: tuple[Unreadable, ...] = ()
    clipped: tuple[str, ...] = ()  # ids of images with values beyond white
    known: tuple[str, ...] = ()  # ids of images that the detector was fitted on


def score(
    detector: str | os.PathLike[str],
    images: Images,
    output: str | os.PathLike[str],
    engine: Engine | None = None,
    *,
    resume: bool = True,
    notify: Notify | None = None,
) -> BatchScores:
    """Score every image by the detector, or the export, in that folder, and write a row for each.

    `output` is a folder, which gets Parquet files of `engine.shard` images each, or one `.parquet` or `.csv` file that is made of
    them in the end. The columns are id, score, threshold, p_value, anomalous and, in Parquet, reason: an image that cannot be read
    has a row with that alone. A shard that is there already is not scored again, if it is of the same detector and images;
    `resume=False` begins anew where the output is one file. `notify(done, total)` is called as shards are finished.
    Raises DataError where no image can be scored, and OutputError for a folder that holds something else.
    """
    engine, folder, target = engine or Engine(), Path(detector), Path(output)
    need_parquet()
    if engine.on == "ray":
        need_ray()
    kind = EXPORT if kind_of(folder) is EXPORT else DETECTOR
    find_folder(folder, kind)
    scoring = load_scoring(folder, engine.device if engine.on == "here" else "cpu")
    source = open_source(images, pages=scoring.pages)
    plan = make_plan(folder, kind, source, engine.shard)
    joined = target.suffix.lower() in JOINED
    shards = target.absolute().with_name(f".{target.name}.unfinished") if joined else target
    if joined and not resume:
        shutil.rmtree(shards, ignore_errors=True)
    check_writable(target if joined else shards / "x")
    there = open_shards(shards, plan)
    done = sum(len(plan.rows(number)) for number in there)
    if notify is not None:
        notify(done, plan.count)
    for number, content in _finished(folder, scoring, source, plan, there, engine):
        write_file(shards / plan.name(number), content)
        done += len(plan.rows(number))
        if notify is not None:
            notify(done, plan.count)
    found = _gather(shards, plan, target, len(there), scoring, source.name)
    if joined:
        join_shards((shards / plan.name(number) for number in range(plan.shards)), target)
        shutil.rmtree(shards, ignore_errors=True)
    return found


def _finished(
    folder: Path, scoring: Detector | ExportedDetector, source: Source, plan: Plan, there: set[int], engine: Engine
) -> Iterator[tuple[int, bytes]]:
    """The shards that are not there yet, as they are finished."""
    numbers = [number for number in range(plan.shards) if number not in there]
    if engine.on == "ray" and numbers:
        yield from score_on_ray(folder, source, plan, numbers, Cluster(engine.address, engine.workers, engine.device))
        return
    for number in numbers:
        rows = plan.rows(number)
        yield number, score_shard(scoring, source.take(np.arange(rows.start, rows.stop)))


def _gather(
    shards: Path, plan: Plan, target: Path, there: int, scoring: Detector | ExportedDetector, name: str
) -> BatchScores:
    """What all shards say of themselves, together."""
    told = [read_about(shards / plan.name(number)) for number in range(plan.shards)]
    images, unreadable = sum(one.images for one in told), tuple(item for one in told for item in one.unreadable)
    if not images:
        raise none_usable(f"{name}: no image", "scored", unreadable)
    return BatchScores(
        target,
        scoring,
        images,
        sum(one.anomalous for one in told),
        plan.shards,
        there,
        unreadable,
        _all(one.clipped for one in told),
        _all(one.known for one in told),
    )


def _all(names: Iterable[Sequence[str]]) -> tuple[str, ...]:
    return tuple(name for group in names for name in group)
