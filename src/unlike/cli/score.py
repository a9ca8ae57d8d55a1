"""`unlike score`: how unusual is each image?"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from unlike.cli.arguments import IMAGES_HELP, DetectorPath, Device, finish
from unlike.cli.console import Console
from unlike.cli.shards import Sharding, is_sharded, refuse_sharding, score_shards
from unlike.errors import ConfigError, none_usable

if TYPE_CHECKING:
    from unlike.data.source import Source
    from unlike.detector.detector import Detector
    from unlike.records import Sample, Unreadable, Verdict
    from unlike.runtime.exported import ExportedDetector

    Why = Callable[[Source, Sequence[Verdict]], list[Verdict]]  # the verdicts on images of a source, explained


class Format(StrEnum):
    """How `score` writes its results."""

    TABLE = "table"
    CSV = "csv"
    JSONL = "jsonl"
    SUBMISSION = "submission"


class On(StrEnum):
    """What scores."""

    HERE = "here"
    RAY = "ray"


def score(
    detector: DetectorPath,
    images: Annotated[list[str], typer.Argument(metavar="IMAGES...", help=IMAGES_HELP)],
    output: Annotated[
        Path | None,
        typer.Option(
            "-o",
            "--output",
            metavar="FILE|DIR",
            help="Write here, not to the terminal: .csv, .parquet, or a folder/ of shards.",
        ),
    ] = None,
    form: Annotated[Format | None, typer.Option("--format", help="table on a terminal, csv otherwise.")] = None,
    maps: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Also write each image's map, in its own pixels.")
    ] = None,
    id_column: Annotated[str, typer.Option(help="For --format submission: what the column of ids is called.")] = "ID",
    score_column: Annotated[
        str, typer.Option(help="For --format submission: what that of scores is called.")
    ] = "score",
    first_id: Annotated[int, typer.Option(help="For --format submission: the number of an array's first row.")] = 0,
    fdr: Annotated[
        float | None,
        typer.Option(
            metavar="Q", help="Judge all images together: at most this share of those named is normal; 0.1 for 10 %."
        ),
    ] = None,
    explain: Annotated[
        bool,
        typer.Option("--explain", help="Say why, in a line for each image: also the normal images it is most like."),
    ] = False,
    device: Device = "auto",
    on: Annotated[On, typer.Option(help="What scores: this process, or workers on Ray, which write shards.")] = On.HERE,
    address: Annotated[
        str | None, typer.Option(metavar="A", help="Of a Ray cluster that runs; this machine unless given.")
    ] = None,
    workers: Annotated[int | None, typer.Option(help="On Ray; one a core, or one a GPU, unless given.")] = None,
    shard: Annotated[
        int | None,
        typer.Option(help="Images that are written at once, where -o is Parquet, a folder, or on Ray; 1,000."),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on where the same command was killed.")] = False,
) -> None:
    """Say how unusual each image is: its score, its p-value, and whether it is anomalous.

    Example: unlike score bottle.unlike new/ -o scores.csv --maps maps/
    """
    if on is On.RAY or (output is not None and is_sharded(output)):
        given = {
            "--fdr": fdr is not None,
            "--maps": maps is not None,
            "--explain": explain,
            "--format": form is not None,
        }
        score_shards(detector, images, output, Sharding(on.value, address, workers, shard, device, resume), given)
        return
    refuse_sharding({"--address": address, "--workers": workers, "--shard": shard}, output)
    from unlike.calibration.discoveries import check_fdr, judge_together
    from unlike.calibration.rows import EXPLANATION, Q_VALUE
    from unlike.cli.shards import going_on
    from unlike.cli.tables import Submission, open_table
    from unlike.data.source import open_source
    from unlike.runtime.streams import judge_batch, known_images

    if fdr is not None:
        check_fdr(fdr)
    loaded, why = _open(detector, device, explain=explain)
    source = open_source(images, pages=loaded.pages)
    console = Console()
    form = form or (Format.TABLE if output is None and sys.stdout.isatty() else Format.CSV)
    unreadable: list[Unreadable] = []
    clipped: list[str] = []
    known: list[str] = []
    waiting: list[tuple[Sample, Verdict]] = []  # until all are known, where they are judged together
    marked = output if form is Format.CSV and fdr is None else None
    with (
        going_on(detector, source, marked, resume=resume) as before,
        open_table(
            output,
            form.value,
            Submission(id_column, score_column, first_id),
            (Q_VALUE,) * (fdr is not None) + (EXPLANATION,) * explain,
        ) as table,
        console.progress() as notify,
    ):
        table.rows, table.anomalous = len(before.ids), before.anomalous
        left = source.where(lambda sample: sample.id not in before.ids) if before.ids else source
        for batch in loaded.stream(left):
            verdicts = judge_batch(loaded.fitted_, batch, regions=explain or form is Format.JSONL)
            if fdr is None:
                table.write(batch.samples, why(source, verdicts) if explain else verdicts)
            else:
                waiting += zip(batch.samples, verdicts, strict=True)
            if maps is not None:
                from unlike.report.maps import write_maps  # which loads what draws, for seconds

                write_maps(maps, loaded.fitted_, source, batch)
            unreadable += batch.unreadable
            clipped += batch.clipped
            known += known_images(loaded.fitted_.digests, batch)
            notify("score", table.rows + len(waiting) + len(unreadable), len(source), {})
        if fdr is not None and waiting:
            samples = [sample for sample, _ in waiting]
            verdicts = judge_together([verdict for _, verdict in waiting], fdr)
            table.write(samples, why(source, verdicts) if explain else verdicts)
    if not table.rows:
        raise none_usable(f"{source.name}: no image", "scored", unreadable)
    console.say_scores(loaded, table.rows, table.anomalous, output, fdr)
    if fdr is not None:
        console.say_reach(loaded, [sample.category for sample, _ in waiting], fdr)
    console.say_clipped(clipped, loaded)
    console.say_known(known)
    finish(console, unreadable)


def _open(folder: Path, device: str, *, explain: bool) -> tuple[Detector | ExportedDetector, Why]:
    """A detector, or an export of one, which needs no torch; and what says why of its verdicts."""
    from unlike.artifacts import EXPORT, kind_of

    if kind_of(folder) is EXPORT:
        from unlike.runtime.exported import load

        if device not in ("auto", "cpu"):
            raise ConfigError(
                f"--device {device}: an export runs on the CPU; expected cpu, or a detector in place of its export"
            )
        exported = load(folder)
        if explain:
            Console().say("Which normal images are most like one is not known: an export leaves them out.")
        return exported, exported.explain
    from unlike.detector.detector import Detector
    from unlike.detector.explain import explain_verdicts

    loaded = Detector.load(folder, device)
    if explain and loaded.fitted_.known is None:
        Console().say(
            "Which normal images are most like one is not known: the detector sees tiles, or is of an earlier version; fit again."
        )
    return loaded, partial(explain_verdicts, loaded)
