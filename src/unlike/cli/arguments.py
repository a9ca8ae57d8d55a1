"""What several commands take, read and end with."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from unlike.artifacts import is_first_process
from unlike.cli.console import Console
from unlike.errors import ConfigError

if TYPE_CHECKING:
    from unlike.detector.detector import Detector
    from unlike.records import Unreadable

MOST_SEED = 2**32 - 1  # that numpy, scikit-learn and torch all take
DONE, DONE_IN_PART, WRONG_USE, INTERRUPTED = 0, 1, 2, 130

DetectorPath = Annotated[Path, typer.Argument(metavar="DETECTOR", help="A detector that `unlike fit` wrote.")]
Beside = Annotated[
    list[Path] | None,
    typer.Option("--beside", metavar="DETECTOR", help="Another detector to show beside it; may be repeated."),
]
Labels = Annotated[Path | None, typer.Option(metavar="Y.csv|Y.npy", help="One label a row of an array; 0 is normal.")]
Good = Annotated[
    list[str] | None,
    typer.Option(
        metavar="GLOB",
        help="Which files of IMAGES are normal, such as 'ok/*', where names of folders do not say it; may be repeated.",
    ),
]
GroupBy = Annotated[
    str | None,
    typer.Option(
        "--group-by",
        metavar="folder|REGEX",
        help="Which images belong together, such as shots of one part: by their folder, or by what of their name a pattern finds.",
    ),
]
Config = Annotated[Path | None, typer.Option(metavar="FILE.toml", help="Settings by section.")]
AnyOther = Annotated[
    list[str] | None, typer.Option("--set", metavar="SECTION.KEY=VALUE", help="Any other setting; may be repeated.")
]
FitSeed = Annotated[int | None, typer.Option(help="Of every random choice; 0 unless given.")]
Cached = Annotated[
    bool, typer.Option("--cache/--no-cache", help="Keep decoded images and compiled networks in the cache folder.")
]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, mps.")]
IMAGES_HELP = (
    "A folder (any depth), an image, a quoted glob, a .npy or .npz, a .zip, a .csv or .parquet manifest, or s3://..."
)


def read_choices(config: Path | None, assignments: Sequence[str]) -> tuple[dict[str, dict[str, Any]], dict[str, Any]]:
    """Settings by section from a TOML file and `--set`, and what stands outside the sections: preset and seed."""
    from unlike.config import parse_assignment, read_toml

    choices = read_toml(config) if config is not None else {}
    if "format" in choices:  # a detector's own file, or a classifier's: do the same again
        choices = {
            name: value
            for name, value in choices.items()
            if name not in ("format", "fitted", "versions", "history", "detector", "origin")
        }
    outside: dict[str, Any] = {name: choices.pop(name) for name in ("preset", "seed") if name in choices}
    overrides: dict[str, dict[str, Any]] = {}
    for section, values in choices.items():
        if not isinstance(values, dict):
            raise ConfigError(
                f"{config}: expected sections such as [training], came {section} = {values!r} outside of them"
            )
        overrides[section] = dict(values)
    for text in assignments:
        section, key, value = parse_assignment(text)
        overrides.setdefault(section, {})[key] = value
    return overrides, outside


@contextlib.contextmanager
def resumable(output: Path, resume: bool, console: Console) -> Iterator[Path]:
    """The file beside `output` in which a training keeps its state: it stays when that is stopped, and goes when all is done."""
    unfinished = output.absolute().with_name(f".{output.name}.unfinished")
    if resume and not unfinished.exists():
        console.say("Nothing to resume: fitting from the start.")
    try:
        yield unfinished
    except KeyboardInterrupt:
        if unfinished.exists():
            console.say("The same command with --resume goes on from the last epoch that was kept.")
        raise
    if is_first_process():
        unfinished.unlink(missing_ok=True)


def load_detectors(folders: Sequence[Path], device: str) -> dict[str, Detector]:
    """Every detector by a name to show: that of its folder, or the whole path where two have the same."""
    from unlike.detector.detector import Detector

    names = [name_of(folder) for folder in folders]
    names = [str(folder) if names.count(name) > 1 else name for name, folder in zip(names, folders, strict=True)]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise ConfigError(f"--beside: {twice} is named twice; name each detector once")
    return {name: Detector.load(folder, device) for name, folder in zip(names, folders, strict=True)}


def name_of(folder: Path) -> str:
    """What to call a detector.

    >>> name_of(Path("line3/bottle.unlike"))
    'bottle'
    """
    return folder.absolute().name.removesuffix(".unlike")


def finish(console: Console, unreadable: Sequence[Unreadable]) -> None:
    """Name what could not be read, and leave with the exit code that says so."""
    if unreadable:
        console.say_unreadable(unreadable)
        raise typer.Exit(DONE_IN_PART if is_first_process() else DONE)  # torchrun takes anything else for a failure
