"""`unlike watch`: score images as they come, each once."""

from __future__ import annotations

import contextlib
import hashlib
import os
import platform
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from unlike.artifacts import printable
from unlike.cli.arguments import DONE_IN_PART, Device
from unlike.cli.console import NAMED, Console, plural
from unlike.config import need_package
from unlike.errors import ConfigError

if TYPE_CHECKING:
    from unlike.serving.sources.taking import Scorer, Tally

TOKEN = "UNLIKE_TOKEN"  # noqa: S105 (the name of the variable, not a token)


class RowForm(StrEnum):
    """How `watch` writes its rows."""

    CSV = "csv"
    JSONL = "jsonl"


def watch(
    where: Annotated[
        str, typer.Argument(metavar="DIR", help="The folder to watch; with --source, what that source goes by.")
    ],
    detector: Annotated[
        str,
        typer.Option("--detector", metavar="DETECTOR", help="What scores: a folder, or with --server a name there."),
    ],
    server: Annotated[
        str | None,
        typer.Option(metavar="URL", help="Have a service score, which keeps the results: http://127.0.0.1:8000."),
    ] = None,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", metavar="FILE", help="Append rows here, not to the terminal.")
    ] = None,
    form: Annotated[RowForm | None, typer.Option("--format", help="By the ending of -o, else csv.")] = None,
    move_to: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Where files go that are done; else they stay.")
    ] = None,
    move_broken_to: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Where files go that cannot be used; else they stay.")
    ] = None,
    settle: Annotated[
        float | None,
        typer.Option(
            metavar="SECONDS",
            help="A file is whole once size and time have stayed the same for so long; 1 unless given, 0 where they are renamed in.",
        ),
    ] = None,
    state: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="What remembers which files are done; in DIR unless given."),
    ] = None,
    once: Annotated[bool, typer.Option("--once", help="Take what is there, then end.")] = False,
    source: Annotated[
        str, typer.Option(metavar="NAME", help="Where images come from: folder, or a source of a package.")
    ] = "folder",
    any_other: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="source.KEY=VALUE", help="A setting of the source; may be repeated."),
    ] = None,
    device: Device = "auto",
) -> None:
    """Score images as a line makes them: each file once, when it is whole, over restarts too. Ctrl-C ends it.

    Example: unlike watch /data/line3 --detector bottle.unlike -o scores.csv --move-to /data/done
    """
    from unlike.serving.sinks.rows import RowFile
    from unlike.serving.sources import open_arrivals
    from unlike.serving.sources.taking import take_all

    def say(text: str) -> None:
        Console().say(printable(text))

    paths = {"move_to": move_to, "move_broken_to": move_broken_to, "state": state}
    settings = {name: str(path) for name, path in paths.items() if path is not None} | _read_settings(any_other or [])
    settings |= {"settle_seconds": settle} if settle is not None else {}
    settings |= {"once": True} if once else {}
    rows = RowFile(output, _form_of(form, output)) if server is None or output is not None else None
    with _stopped_by_signals() as stopping, contextlib.ExitStack() as stack:
        scorer = _open_scorer(detector, where, server, device, stack)
        arriving = open_arrivals(source, where, settings, say)
        stack.callback(arriving.close)
        say(f"Watching {where}, once." if once else f"Watching {where}; Ctrl-C ends it.")
        tally = take_all(arriving, scorer, stopping, rows, say)
    _say_end(say, tally, output)
    if tally.broken or (once and tally.waiting):
        raise typer.Exit(DONE_IN_PART)


def _open_scorer(detector: str, where: str, server: str | None, device: str, stack: contextlib.ExitStack) -> Scorer:
    """A detector here, an export of one, or a service that has one by that name."""
    from unlike.serving.sources.taking import LocalScorer, RemoteScorer

    if server is not None:
        need_package("httpx", "serve", "--server needs HTTPX")
        from unlike.serving.client import Client

        client = stack.enter_context(Client(server, os.environ.get(TOKEN)))
        return RemoteScorer(client, detector, _origin_of(where))
    from unlike.artifacts import EXPORT, kind_of

    if kind_of(Path(detector)) is EXPORT:
        from unlike.runtime.exported import load

        return LocalScorer(load(detector))
    from unlike.detector.detector import Detector

    return LocalScorer(Detector.load(detector, device))


def _origin_of(where: str) -> str:
    """What images of this place are called by, so that those of two machines that send to one service are told apart."""
    place = f"{platform.node()}:{Path(where).absolute()}"
    return f"watch:{hashlib.sha256(place.encode(errors='surrogateescape')).hexdigest()[:8]}"


@contextlib.contextmanager
def _stopped_by_signals() -> Iterator[threading.Event]:
    """An event that Ctrl-C, or who stops a service, sets: what is under way is finished first. A second Ctrl-C stops at once."""
    stopping = threading.Event()

    def stop(number: int, frame: object) -> None:
        del number, frame
        if stopping.is_set():
            raise KeyboardInterrupt
        stopping.set()

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stopping
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _read_settings(assignments: Sequence[str]) -> dict[str, Any]:
    """What `--set` says of the source."""
    from unlike.config import parse_assignment

    settings: dict[str, Any] = {}
    for text in assignments:
        section, key, value = parse_assignment(text)
        if section != "source":
            raise ConfigError(f"--set: expected source.key=value, came {text!r}; for instance source.poll_seconds=2")
        settings[key] = value
    return settings


def _form_of(form: RowForm | None, output: Path | None) -> Literal["csv", "jsonl"]:
    if form is not None:
        return form.value
    return "jsonl" if output is not None and output.suffix == ".jsonl" else "csv"


def _say_end(say: Callable[[str], None], tally: Tally, output: Path | None) -> None:
    where = f"; rows in {output}" if output else ""
    broken = f", {tally.broken:,} could not be used" if tally.broken else ""
    say(f"{plural(tally.taken, 'image')} scored, {tally.anomalous:,} anomalous{broken}{where}.")
    for name, reason in list(tally.waiting.items())[:NAMED]:
        say(f"  {name}: not yet: {reason}; the next watch tries it again.")
