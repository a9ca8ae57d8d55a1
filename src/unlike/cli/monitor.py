"""`unlike monitor`: has what comes from the camera changed?"""

from __future__ import annotations

import csv
import hashlib
import json
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, fields
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TextIO

import typer

from unlike.artifacts import check_writable, printable, write_file
from unlike.cli.arguments import MOST_SEED, DetectorPath, Device, finish
from unlike.cli.console import Console, plural
from unlike.errors import ArtifactError, ConfigError, none_usable

if TYPE_CHECKING:
    from unlike.calibration.drift import DriftMonitor, Observation
    from unlike.detector.detector import Detector
    from unlike.detector.monitoring import Arrived
    from unlike.records import Unreadable

STDIN = "-"
SAVE_SECONDS = 30.0  # between two times that the state is written, and at each alarm
FEW = 100  # usual images, below which a change is found late
FIGURE = "monitor.svg"


class LogFormat(StrEnum):
    """How `monitor` writes its log."""

    CSV = "csv"
    JSONL = "jsonl"


def monitor(
    detector: DetectorPath,
    images: Annotated[
        list[str],
        typer.Argument(
            metavar="IMAGES...",
            help="Images in the order in which they came (folders and globs: of their names), a table that `unlike score` "
            "wrote (.csv, .jsonl), or - for paths that come on standard input, one a line.",
        ),
    ],
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", metavar="DIR", help="Write the log and a figure here, not to the terminal."),
    ] = None,
    state: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Go on from here if it exists, and leave here what the next call goes on from."
        ),
    ] = None,
    false_alarms: Annotated[
        float | None,
        typer.Option(help="Chance that an unchanged stream, however long, ever gives an alarm; 0.01 unless given."),
    ] = None,
    learn: Annotated[
        int | None,
        typer.Option(metavar="N", help="Take the first N images for usual, in the place of the held-out normal ones."),
    ] = None,
    repeats: Annotated[
        int | None,
        typer.Option(metavar="N", help="Identical images in a row that are an alarm; 5 unless given, 0 for never."),
    ] = None,
    seed: Annotated[
        int | None, typer.Option(min=0, max=MOST_SEED, help="Of the order of equal scores; 0 unless given.")
    ] = None,
    form: Annotated[LogFormat, typer.Option("--format", help="Of the log.")] = LogFormat.CSV,
    device: Device = "auto",
) -> None:
    """Say when a stream of images has changed, and how: all of them stranger, more defects, too normal, a frozen camera.

    Example: unlike monitor bottle.unlike today/ -o drift/ --state line3.json
    """
    from unlike.cli.tables import open_output
    from unlike.detector.detector import Detector

    asked = {"false_alarms": false_alarms, "learn": learn, "repeats": repeats, "seed": seed}
    loaded = Detector.load(detector, device)
    watching, resumed = _open_monitor(loaded, state, {key: value for key, value in asked.items() if value is not None})
    console = Console()
    _say_start(console, watching, resumed=resumed)
    log = None if output is None else output / f"monitor.{form.value}"
    before, alarms = watching.number, []
    unreadable: list[Unreadable] = []
    known: list[str] = []
    saved = time.monotonic()
    try:
        with open_output(log) as file:
            writer = _Log(file, form, fresh=not resumed)
            for arrived in _arriving(loaded, images, console):
                seen = [watching.see(one.id, one.score, one.category, one.identity) for one in arrived.images]
                writer.write(seen)
                for one in (one for one in seen if one.alarm):
                    alarms.append(one.alarm)
                    _say_alarm(console, one)
                unreadable += arrived.unreadable
                known += arrived.known
                if state is not None and (any(one.alarm for one in seen) or time.monotonic() - saved > SAVE_SECONDS):
                    _save(state, loaded, watching)
                    saved = time.monotonic()
    finally:  # also when it is stopped by Ctrl-C
        if watching.number > before:
            if state is not None:
                _save(state, loaded, watching)
            if log is not None:
                _draw(log, watching.limit)
    if watching.number == before:
        raise none_usable(f"{', '.join(images[:3])}: no image", "scored", unreadable)
    _say_end(console, watching, watching.number - before, len(alarms), output)
    console.say_known(known)
    finish(console, unreadable)


class _Log:
    """Writes a row for each image as it comes."""

    def __init__(self, file: TextIO, form: LogFormat, *, fresh: bool) -> None:
        self._file, self._form, self._fresh = file, form, fresh
        self._begun = False
        self._writer = csv.writer(file, lineterminator="\n")

    def write(self, seen: Sequence[Observation]) -> None:
        from unlike.calibration.rows import cells
        from unlike.cli.tables import blamed_on

        if not seen:
            return
        with blamed_on(self._file):
            if not self._begun:
                self._begin(tuple(field.name for field in fields(seen[0])))
            for one in seen:
                if self._form is LogFormat.CSV:
                    self._writer.writerow(cells(asdict(one)))
                else:
                    self._file.write(f"{json.dumps(asdict(one))}\n")
            self._file.flush()

    def _begin(self, columns: Sequence[str]) -> None:
        """Drop an older log, and name the columns; a log that goes on has them."""
        self._begun = True
        if self._fresh:
            from unlike.cli.tables import start_over

            start_over(self._file)
        if self._form is LogFormat.CSV and (self._fresh or self._file is sys.stdout or not self._file.tell()):
            self._writer.writerow(columns)


def _arriving(detector: Detector, images: Sequence[str], console: Console) -> Iterator[Arrived]:
    """What was named, as it comes."""
    from unlike.data.source import open_source
    from unlike.detector.monitoring import is_rows, read_rows, score_arriving, score_lines

    tables = [is_rows(Path(name)) for name in images]
    if STDIN in images or any(tables):
        if len(images) > 1:
            raise ConfigError(
                f"IMAGES: expected images, or one table of scores, or - alone, came {', '.join(images)}; monitor one after the other with --state"
            )
        yield from (score_lines(detector, sys.stdin) if images[0] == STDIN else read_rows(Path(images[0])))
        return
    source = open_source(list(images), pages=detector.settings.data.pages)
    done = 0
    with console.progress() as notify:
        for arrived in score_arriving(detector, source):
            yield arrived
            done += len(arrived.images) + len(arrived.unreadable)
            notify("score", done, len(source), {})


def _open_monitor(detector: Detector, state: Path | None, asked: Mapping[str, Any]) -> tuple[DriftMonitor, bool]:
    """A new monitor, or the one that a state goes on from."""
    from unlike.calibration.drift import DriftConfig, DriftMonitor

    if state is None or not state.exists():
        if state is not None:
            check_writable(state)
        return DriftMonitor.of(detector.fitted_.decision, DriftConfig(**asked)), False
    try:
        kept = json.loads(state.read_text(encoding="utf-8"))
        made_for = kept["detector"]
        found = DriftMonitor.resume(kept["monitor"])
    except (ValueError, KeyError, TypeError) as error:
        why = (
            str(error)
            if isinstance(error, ArtifactError)
            else "is not the state of a monitor, as `unlike monitor --state` writes it"
        )
        raise ArtifactError(f"{state}: {why}; name another file to begin anew") from None
    if made_for != _fingerprint(detector):
        raise ConfigError(f"{state}: is of another detector, whose scores are others; name another file to begin anew")
    for name, value in asked.items():
        if getattr(found.config, name) != value:
            raise ConfigError(
                f"--{name.replace('_', '-')}: {state} goes on with {getattr(found.config, name):g}, came {value:g}; leave it out, "
                "or name another file to begin anew"
            )
    return found, True


def _fingerprint(detector: Detector) -> str:
    return hashlib.sha256(detector.fitted_.decision.scores.tobytes()).hexdigest()


def _save(state: Path, detector: Detector, watching: DriftMonitor) -> None:
    kept = {"detector": _fingerprint(detector), "monitor": watching.state()}
    write_file(state, f"{json.dumps(kept)}\n".encode())


def _draw(log: Path, limit: float) -> None:
    """The figure of the whole log, of earlier calls too."""
    import numpy as np

    from unlike.report.drift import Course, course
    from unlike.report.figures import file_of

    rows = list(_read_log(log))
    seen = Course(
        np.array([float(row["number"]) for row in rows]),
        np.array([float(row["p_value"]) if row["p_value"] not in ("", None) else np.nan for row in rows]),
        np.array([float(row["martingale"]) for row in rows]),
        [(int(row["number"]), row["alarm"]) for row in rows if row["alarm"]],
        limit,
    )
    write_file(log.with_name(FIGURE), file_of(course(seen), "svg", facecolor="white"))


def _read_log(log: Path) -> Iterable[Mapping[str, Any]]:
    with log.open(encoding="utf-8", errors="surrogateescape", newline="") as file:
        yield from (json.loads(line) for line in file) if log.suffix == ".jsonl" else csv.DictReader(file)


def _say_start(console: Console, watching: DriftMonitor, *, resumed: bool) -> None:
    if resumed:
        console.say(f"Going on after image {watching.number:,}.")
    elif watching.config.learn:
        console.say(f"The first {watching.config.learn:,} images are taken for usual, and not judged.")
    else:
        few = (
            " Few: a small change is found late, or never; --learn 200 takes the first of the stream for usual."
            if watching.usual < FEW
            else ""
        )
        console.say(f"Held against {plural(watching.usual, 'held-out normal image')}, and all that came before.{few}")


def _say_alarm(console: Console, one: Observation) -> None:
    from unlike.calibration.drift import MEANINGS

    console.say(
        f"ALARM at image {one.number:,} ({printable(one.id)}): {MEANINGS[one.alarm]} Probably since image {one.since or one.number:,}."
    )


def _say_end(console: Console, watching: DriftMonitor, images: int, alarms: int, output: Path | None) -> None:
    promise = f"at most {100 * watching.config.false_alarms:.3g} % of unchanged streams ever give one"
    where = f"; log and figure in {output}" if output else ""
    console.say(
        f"{plural(images, 'image')} watched, {plural(alarms, 'alarm') if alarms else 'no alarm'} ({promise}){where}."
    )
    if watching.number < watching.config.learn:
        console.say(f"Still learning: {watching.config.learn - watching.number:,} more images before any is judged.")
