"""`unlike fit`: learn what normal images look like."""

from __future__ import annotations

import contextlib
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from unlike.artifacts import is_first_process
from unlike.cli.arguments import (
    IMAGES_HELP,
    AnyOther,
    Cached,
    Config,
    Device,
    FitSeed,
    Good,
    GroupBy,
    finish,
    read_choices,
    resumable,
)
from unlike.cli.console import Console
from unlike.errors import ConfigError

if TYPE_CHECKING:
    from unlike.data.source import Source
    from unlike.detector.detector import Detector

MEASURED = 15  # images, whose median size is said


def fit(
    images: Annotated[str, typer.Argument(metavar="IMAGES", help=f"Normal images. {IMAGES_HELP}")],
    output: Annotated[
        Path,
        typer.Option(
            "-o", "--output", metavar="DETECTOR", help="The folder to write; an older detector there is replaced."
        ),
    ],
    good: Good = None,
    preset: Annotated[
        str | None, typer.Option(help="A proven pair of model and scorer: `unlike list presets`.")
    ] = None,
    model: Annotated[str | None, typer.Option(help="What turns images to a code: `unlike list models`.")] = None,
    scorer: Annotated[
        str | None,
        typer.Option(
            help="What measures the distance from normal; `unlike evaluate --scorers` tries others on the same model."
        ),
    ] = None,
    size: Annotated[
        str | None,
        typer.Option(
            help="Pixels a side, or HEIGHTxWIDTH, or auto: arrays as they are, files 256; or native, as the default has it: near "
            "the images' own size. Most presets: 256."
        ),
    ] = None,
    pages: Annotated[
        str | None,
        typer.Option(
            help="Of a TIFF or DICOM file of several pages: all, each an image; first; or stack, as channels."
        ),
    ] = None,
    epochs: Annotated[
        int | None,
        typer.Option(
            help="Passes over the images, for a --model or --preset that is trained; usually some 1,500 steps."
        ),
    ] = None,
    false_alarms: Annotated[
        str | None,
        typer.Option(
            help="Share of normal images that may be called anomalous; auto, as usual: 1 %, or what rests on three images."
        ),
    ] = None,
    contamination: Annotated[
        str | None,
        typer.Option(
            metavar="auto|SHARE",
            help="Some of the images may not be normal: leave out those that the others find strange, or that share. Usual: none.",
        ),
    ] = None,
    group_by: GroupBy = None,
    keep_pictures: Annotated[
        bool,
        typer.Option(
            "--keep-pictures",
            help="Keep small pictures of normal images, for reports to show beside what is like them.",
        ),
    ] = False,
    seed: FitSeed = None,
    device: Device = "auto",
    settings: AnyOther = None,
    config: Config = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with a fit that was stopped.")] = False,
    cache: Cached = True,
) -> None:
    """Learn what normal images look like, and write a detector.

    Example: unlike fit bottle/train/good -o bottle.unlike --model conv --size 64 --set training.schedule=cosine
    """
    from unlike.artifacts import check_replaceable
    from unlike.data.source import open_source, training
    from unlike.detector.detector import Detector
    from unlike.detector.settings import idle_settings

    overrides, choices = read_choices(config, settings or [])
    if size is not None:
        overrides.setdefault("data", {})["size"] = parse_size(size)
    if pages is not None:
        overrides.setdefault("data", {})["pages"] = pages
    if contamination is not None:
        overrides.setdefault("decision", {})["contamination"] = parse_contamination(contamination)
    if group_by is not None:
        overrides.setdefault("decision", {})["group_by"] = group_by
    if keep_pictures:
        overrides.setdefault("decision", {})["keep_pictures"] = True
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
    normal = training(open_source(images, good=good, pages=detector.settings.data.pages))
    console.say_notes(normal.notes)
    with resumable(output, resume, console) as unfinished:
        with console.progress() as notify:
            detector.fit(normal, checkpoint=unfinished, resume=resume, notify=notify)
        if is_first_process():
            detector.save(output)
    console.say_fit(detector, output)
    for line in advise(detector, normal):
        console.say(line)
    if not detector.fitted_.history and (idle := idle_settings(detector.settings)):
        console.say(f"Without effect, because {detector.settings.model_name} is not trained: {', '.join(idle)}.")
    finish(console, detector.fitted_.unreadable)


def advise(detector: Detector, normal: Source) -> list[str]:
    """The lines of an inspection that matter after a fit; none where no image of those that are looked at can be read."""
    from unlike.data.source import read_original
    from unlike.detector.inspection import fit_lines
    from unlike.errors import ImageError

    fitted, shapes = detector.fitted_, []
    for row in range(0, len(normal.samples), -(-len(normal.samples) // MEASURED)):
        with contextlib.suppress(ImageError):
            shapes.append(read_original(normal, normal.samples[row], fitted.spec.most_pixels).shape[:2])
    if not shapes:
        return []
    height, width = (int(median(sides)) for sides in zip(*shapes, strict=True))
    promised = fitted.decision.false_alarms if detector.settings.decision.false_alarms == "auto" else None
    native = detector.settings.data.size == "native"
    return fit_lines((height, width), fitted.spec, fitted.counts["calibration"], promised, native=native)


def parse_size(text: str) -> int | tuple[int, int] | Literal["auto", "native"]:
    """The side, or height and width, in pixels; auto and native leave it to the images.

    >>> parse_size("256"), parse_size("240x320"), parse_size("native")
    (256, (240, 320), 'native')
    """
    if text == "auto":
        return "auto"
    if text == "native":
        return "native"
    try:
        sides = [int(side) for side in text.lower().split("x")]
    except ValueError:
        sides = []
    if len(sides) not in (1, 2):
        raise ConfigError(f"--size: expected pixels a side, HEIGHTxWIDTH, auto or native, came {text!r}")
    return sides[0] if len(sides) == 1 else (sides[0], sides[1])


def parse_contamination(text: str) -> float | Literal["none", "auto"]:
    """The share of the images that may not be normal; auto finds it, none is not to look.

    >>> parse_contamination("5%"), parse_contamination("auto"), parse_contamination("none")
    (0.05, 'auto', 'none')
    """
    return "none" if text == "none" else parse_share(text, "--contamination", "none, auto")


def parse_share(text: str, option: str = "--false-alarms", words: str = "auto") -> float | Literal["auto"]:
    """A share of one, or auto.

    >>> parse_share("0.05"), parse_share("5%"), parse_share("auto")
    (0.05, 0.05, 'auto')
    """
    if text == "auto":
        return "auto"
    try:
        return float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError:
        raise ConfigError(f"{option}: expected {words} or a share such as 0.01, came {text!r}") from None
