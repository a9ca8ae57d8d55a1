"""The command line. Heavy imports happen inside the commands, so that `unlike --help` is there at once."""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import sys
from collections.abc import Iterator, Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from unlike.artifacts import is_first_process
from unlike.cli.console import Console, fail
from unlike.errors import ConfigError, UnlikeError, none_usable

if TYPE_CHECKING:
    from unlike.detector.detector import Detector
    from unlike.records import Unreadable

DONE, DONE_IN_PART, WRONG_USE, INTERRUPTED = 0, 1, 2, 130

# what typer raises for arguments it does not understand: click's, or in newer releases its own copy of click's
WrongArguments: Any = next(kind for kind in typer.BadParameter.__mro__ if kind.__name__ == "ClickException")

app = typer.Typer(
    name="unlike",
    help="Show it what normal looks like; it finds the images that are unlike it.",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


class Format(StrEnum):
    """How `score` writes its results."""

    TABLE = "table"
    CSV = "csv"
    JSONL = "jsonl"
    SUBMISSION = "submission"


DetectorPath = Annotated[Path, typer.Argument(metavar="DETECTOR", help="A detector that `unlike fit` wrote.")]
Beside = Annotated[
    list[Path] | None,
    typer.Option("--beside", metavar="DETECTOR", help="Another detector to show beside it; may be repeated."),
]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, mps.")]
IMAGES_HELP = "A folder (any depth), an image, a quoted glob, a .npy or .npz, or a .csv manifest."


@app.callback(invoke_without_command=True)
def root(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version and stop.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
) -> None:
    """Show it what normal looks like; it finds the images that are unlike it.

    Example: unlike fit good/ -o cells.unlike && unlike score cells.unlike new/
    """
    del debug  # read by `main`, which catches the error
    if version:
        import unlike

        typer.echo(f"unlike {unlike.__version__}")
        raise typer.Exit
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


@app.command()
def fit(
    images: Annotated[str, typer.Argument(metavar="IMAGES", help=f"Normal images. {IMAGES_HELP}")],
    output: Annotated[
        Path,
        typer.Option(
            "-o", "--output", metavar="DETECTOR", help="The folder to write; an older detector there is replaced."
        ),
    ],
    preset: Annotated[
        str | None, typer.Option(help="A proven pair of model and scorer: `unlike list presets`.")
    ] = None,
    model: Annotated[str | None, typer.Option(help="What turns images to a code: `unlike list models`.")] = None,
    scorer: Annotated[str | None, typer.Option(help="What measures the distance from normal.")] = None,
    size: Annotated[
        str | None,
        typer.Option(
            help="Pixels a side, or HEIGHTxWIDTH, or auto: arrays as they are, files 256. The default and most presets: 256."
        ),
    ] = None,
    epochs: Annotated[
        int | None,
        typer.Option(
            help="Passes over the images of what is trained: an autoencoder, unless a preset or model is named. Usually some 1,500 steps."
        ),
    ] = None,
    false_alarms: Annotated[
        str | None,
        typer.Option(
            help="Share of normal images that may be called anomalous; auto, as usual: 1 %, or the least possible."
        ),
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Of every random choice; 0 unless given.")] = None,
    device: Device = "auto",
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="SECTION.KEY=VALUE", help="Any other setting; may be repeated.")
    ] = None,
    config: Annotated[Path | None, typer.Option(metavar="FILE.toml", help="Settings by section.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with a fit that was stopped.")] = False,
    cache: Annotated[
        bool, typer.Option("--cache/--no-cache", help="Keep decoded images and compiled networks in the cache folder.")
    ] = True,
) -> None:
    """Learn what normal images look like, and write a detector.

    Example: unlike fit bottle/train/good -o bottle.unlike --model conv --size 64 --set training.schedule=cosine
    """
    from unlike.artifacts import check_replaceable
    from unlike.detector.detector import Detector
    from unlike.detector.fitting import idle_settings

    overrides, choices = read_choices(config, settings or [])
    if size is not None:
        overrides.setdefault("data", {})["size"] = parse_size(size)
    detector = Detector(
        model,
        scorer,
        preset=preset or choices.get("preset"),
        epochs=epochs,
        false_alarms=None if false_alarms is None else parse_share(false_alarms),
        seed=seed if seed is not None else choices.get("seed", 0),
        device=device,
        cache=cache,
        settings=overrides,
    )
    check_replaceable(output)
    console = Console()
    if (model, preset or choices.get("preset")) == (None, None) and "name" not in overrides.get("model", {}):
        console.say_choice(detector)
    with resumable(output, resume, console) as unfinished:
        with console.progress() as notify:
            detector.fit(images, checkpoint=unfinished, resume=resume, notify=notify)
        detector.save(output)
    console.say_fit(detector, output)
    if not detector.history_ and (idle := idle_settings(detector.settings)):
        console.say(f"Without effect, because {detector.settings.model_name} is not trained: {', '.join(idle)}.")
    finish(console, detector.unreadable_)


@app.command()
def score(
    detector: DetectorPath,
    images: Annotated[list[str], typer.Argument(metavar="IMAGES...", help=IMAGES_HELP)],
    output: Annotated[
        Path | None, typer.Option("-o", "--output", metavar="FILE", help="Write here, not to the terminal.")
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
    device: Device = "auto",
) -> None:
    """Say how unusual each image is: its score, its p-value, and whether it is anomalous.

    Example: unlike score bottle.unlike new/ -o scores.csv --maps maps/
    """
    from unlike.cli.tables import Submission, open_table
    from unlike.data.source import open_source
    from unlike.detector.detector import Detector

    loaded = Detector.load(detector, device)
    source = open_source(images if len(images) > 1 else images[0])
    console = Console()
    form = form or (Format.TABLE if output is None and sys.stdout.isatty() else Format.CSV)
    unreadable: list[Unreadable] = []
    with (
        open_table(output, form.value, Submission(id_column, score_column, first_id)) as table,
        console.progress() as notify,
    ):
        for batch in loaded.stream(source):
            verdicts = loaded.judge_batch(batch, regions=form is Format.JSONL)
            table.write(batch.samples, verdicts)
            if maps is not None:
                from unlike.report.maps import write_maps  # which loads what draws, for seconds

                write_maps(maps, loaded.fitted_, source, batch)
            unreadable += batch.unreadable
            notify("score", table.rows + len(unreadable), len(source), {})
    if not table.rows:
        raise none_usable(f"{source.name}: no image", "scored", unreadable)
    console.say_scores(loaded, table.rows, table.anomalous, output)
    finish(console, unreadable)


@app.command()
def evaluate(
    detector: DetectorPath,
    labelled: Annotated[
        str,
        typer.Argument(metavar="LABELLED", help="MVTec AD layout (one category or several), a manifest, or an array."),
    ],
    output: Annotated[
        Path, typer.Option("-o", "--output", metavar="DIR", help="For metrics.json, scores.csv, report.html.")
    ],
    labels: Annotated[
        Path | None, typer.Option(metavar="Y.csv|Y.npy", help="One label a row of an array; 0 is normal.")
    ] = None,
    synthetic: Annotated[
        bool, typer.Option("--synthetic", help="Without defective images: make defects on copies of the normal ones.")
    ] = False,
    beside: Beside = None,
    device: Device = "auto",
) -> None:
    """Measure a detector on labelled images, and write a report.

    Example: unlike evaluate bottle.unlike bottle/ -o bottle-report --beside other.unlike
    """
    from unlike.artifacts import check_writable
    from unlike.evaluation import evaluate as measure
    from unlike.report import write_evaluation

    check_writable(output / "report.html")
    others = load_detectors([detector, *(beside or [])], device)
    loaded = others.pop(next(iter(others)))
    console = Console()
    with console.progress() as notify:

        def tell(done: int, total: int) -> None:
            notify("score", done, total, {})

        found = measure(loaded, labelled, labels, synthetic=synthetic, notify=tell)
        write_evaluation(loaded, found, output, beside=others, notify=tell)
    console.say_evaluation(found, output)
    finish(console, found.scores.unreadable)


@app.command()
def demo(
    output: Annotated[Path, typer.Option("-o", "--output", metavar="DIR", help="Where everything goes.")] = Path(
        "unlike-demo"
    ),
    seed: Annotated[int, typer.Option(help="Of every random choice.")] = 0,
) -> None:
    """Find the broken ones among real solar cells: fit, evaluate, report. No network, no GPU, a few minutes.

    Example: unlike demo -o cells
    """
    from unlike.demo import run_demo

    run_demo(output, seed, Console())


class Listed(StrEnum):
    """What `unlike list` can list."""

    MODELS = "models"
    SCORERS = "scorers"
    PRESETS = "presets"
    BACKBONES = "backbones"
    THRESHOLDS = "thresholds"
    RECIPES = "recipes"


@app.command(name="list")
def list_names(what: Annotated[Listed, typer.Argument(help="Which names to list.")]) -> None:
    """Name the parts that can be chosen, with their settings and defaults.

    Example: unlike list models
    """
    from unlike.cli.catalogue import UNBROKEN, describe

    columns = shutil.get_terminal_size((UNBROKEN, 1)).columns
    typer.echo("\n".join(describe(what.value, columns)))


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


def parse_size(text: str) -> int | tuple[int, int] | Literal["auto"]:
    """The side, or height and width, in pixels; auto leaves it to the images.

    >>> parse_size("256"), parse_size("240x320"), parse_size("auto")
    (256, (240, 320), 'auto')
    """
    if text == "auto":
        return "auto"
    try:
        sides = [int(side) for side in text.lower().split("x")]
    except ValueError:
        sides = []
    if len(sides) not in (1, 2):
        raise ConfigError(f"--size: expected pixels a side, HEIGHTxWIDTH, or auto, came {text!r}")
    return sides[0] if len(sides) == 1 else (sides[0], sides[1])


def parse_share(text: str) -> float | Literal["auto"]:
    """A share of one, or auto.

    >>> parse_share("0.05"), parse_share("5%"), parse_share("auto")
    (0.05, 0.05, 'auto')
    """
    if text == "auto":
        return "auto"
    try:
        return float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError:
        raise ConfigError(f"--false-alarms: expected auto or a share such as 0.01, came {text!r}") from None


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


def main() -> None:
    """Run the command line; every error on purpose is one line and exit code 2."""
    for stream in (sys.stdout, sys.stderr):  # file names that are no UTF-8 come out as they are
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="surrogateescape")
    sys.exit(run(sys.argv[1:]))


def _command_of(error: WrongArguments) -> str:
    """Which command did not understand."""
    context = getattr(error, "ctx", None)
    return context.command_path if context is not None else "unlike"


def run(arguments: Sequence[str]) -> int:
    """Run the command line with these arguments and return its exit code."""
    try:
        code = typer.main.get_command(app).main(list(arguments), prog_name="unlike", standalone_mode=False)
    except UnlikeError as error:
        if "--debug" in arguments:
            raise
        return fail(str(error), WRONG_USE)
    except WrongArguments as error:
        words = " ".join(error.format_message().replace("Value error, ", "").split())
        return fail(f"{words} (see `{_command_of(error)} --help`)", WRONG_USE)
    except OSError as error:
        if "--debug" in arguments:
            raise
        return fail(f"{error.filename or 'a file'}: {error.strerror or error}", WRONG_USE)
    except SystemExit:  # the reader of a pipe, `head` say, has enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return DONE
    if code == INTERRUPTED:
        fail("stopped", INTERRUPTED)
    return int(code or DONE)
