"""`unlike score` where it writes shards: to Parquet, to a folder, or by workers on Ray."""

from __future__ import annotations

import contextlib
import csv
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

from unlike.cli.arguments import finish
from unlike.cli.console import Console, plural
from unlike.errors import ConfigError, OutputError

if TYPE_CHECKING:
    from unlike.data.source import Source


@dataclass(frozen=True, slots=True)
class Sharding:
    """What the command line says of it."""

    on: str
    address: str | None
    workers: int | None
    shard: int | None
    device: str
    resume: bool


def is_sharded(output: Path) -> bool:
    """Whether an output is made of shards: a Parquet file, or a folder, which ends in a slash or is there.

    >>> is_sharded(Path("scores.parquet")), is_sharded(Path("scores.csv"))
    (True, False)
    """
    return output.suffix.lower() == ".parquet" or output.is_dir()


def refuse_sharding(given: Mapping[str, Any], output: Path | None) -> None:
    """Raise ConfigError where options are given that only shards have."""
    named = [name for name, value in given.items() if value is not None]
    if named:
        raise ConfigError(
            f"{', '.join(named)}: goes with --on ray, a .parquet file or a folder that is there, came -o {output}; leave it out"
        )


def score_shards(
    detector: Path, images: Sequence[str], output: Path | None, sharding: Sharding, given: Mapping[str, bool]
) -> None:
    """Score in shards, and say what came of it."""
    from unlike.batch import Engine, score
    from unlike.batch.run import SHARD

    if output is None:
        raise ConfigError("--on ray writes files: expected -o DIR, or -o FILE.parquet or FILE.csv, came none")
    if named := [name for name, there in given.items() if there]:
        raise ConfigError(
            f"{', '.join(named)}: {'takes' if len(named) == 1 else 'take'} all images in one process, and goes with a table: leave "
            "--on ray out, and write -o FILE.csv"
        )
    console = Console()
    on = cast("Literal['here', 'ray']", sharding.on)
    engine = Engine(
        on, sharding.address, sharding.workers, sharding.device, SHARD if sharding.shard is None else sharding.shard
    )
    joined = output.suffix.lower() in (".parquet", ".csv")
    if joined and sharding.resume and not output.absolute().with_name(f".{output.name}.unfinished").exists():
        console.say("Nothing to resume: scoring from the start.")
    with console.progress() as notify:
        found = score(
            detector,
            list(images),
            output,
            engine,
            resume=sharding.resume or not joined,
            notify=lambda done, total: notify("score", done, total, {}),
        )
    if found.found:
        console.say(f"{plural(found.found, 'shard')} of {found.shards:,} scored before, and not again.")
    console.say_scores(found.detector, found.images, found.anomalous, output)
    console.say_clipped(found.clipped, found.detector)
    console.say_known(found.known)
    finish(console, found.unreadable)


@dataclass(frozen=True, slots=True)
class Before:
    """What of a csv file was there when a killed run goes on."""

    ids: frozenset[str] = frozenset()
    anomalous: int = 0


@contextlib.contextmanager
def going_on(detector: Path, source: Source, output: Path | None, *, resume: bool) -> Iterator[Before]:
    """What of `output` a run of the same detector and images wrote before it was killed: nothing, unless it is to go on.

    A file beside it says of which run it is, and goes when all is done.
    """
    if output is None or output.suffix.lower() != ".csv":
        if resume:
            raise ConfigError(f"--resume: goes with -o FILE.csv, FILE.parquet or a folder, came -o {output}")
        yield Before()
        return
    from unlike.artifacts import DETECTOR, EXPORT, kind_of, output_errors, write_file
    from unlike.batch.shards import make_plan

    plan = make_plan(detector, EXPORT if kind_of(detector) is EXPORT else DETECTOR, source, 1)
    marker, facts = output.absolute().with_name(f".{output.name}.unfinished"), json.dumps(asdict(plan)).encode()
    before = Before()
    if resume and marker.is_file() and output.is_file():
        if marker.read_bytes() != facts:
            raise OutputError(f"{output}: is of another detector or other images; leave --resume out to begin anew")
        before = _read_before(output)
    elif resume:
        Console().say("Nothing to resume: scoring from the start.")
    with output_errors(output), output.open("a"):  # whose name is said where nothing can be written
        pass
    try:
        write_file(marker, facts)
    except OutputError:
        Console().say(f"{output}: --resume could not go on after a kill, for no other file can be written beside it.")
        yield before
        return
    yield before
    marker.unlink(missing_ok=True)


def _read_before(output: Path) -> Before:
    """The rows of a csv file that are whole; what was being written when it was killed is cut off."""
    content = output.read_bytes()
    whole = content[: content.rfind(b"\n") + 1]
    if len(whole) < len(content):
        with output.open("r+b") as file:
            file.truncate(len(whole))
    rows = list(csv.DictReader(whole.decode(errors="surrogateescape").splitlines()))
    Console().say(
        f"{plural(len(rows), 'image')} scored before, and not again; what is said of values and of images that were fitted on is of "
        "the others."
    )
    return Before(frozenset(row["id"].removeprefix("'") for row in rows), sum(row["anomalous"] == "1" for row in rows))
