"""`unlike latent`: pictures of the code space, where a detector sees images."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from unlike.cli.arguments import (
    IMAGES_HELP,
    MOST_SEED,
    Beside,
    DetectorPath,
    Device,
    Labels,
    finish,
    load_detectors,
    name_of,
)
from unlike.cli.console import Console
from unlike.errors import ConfigError

if TYPE_CHECKING:
    from unlike.data.source import Source
    from unlike.detector.detector import Detector
    from unlike.records import Sample
    from unlike.report.captioned import CaptionedFigure
    from unlike.report.latent import Seen


class Method(StrEnum):
    """How `project` lays codes on a plane."""

    PCA = "pca"
    TSNE = "tsne"
    UMAP = "umap"


class Colour(StrEnum):
    """What the colour of a dot says."""

    LABEL = "label"
    SCORE = "score"


ImagesArgument = Annotated[list[str], typer.Argument(metavar="IMAGES...", help=IMAGES_HELP)]
Output = Annotated[
    Path, typer.Option("-o", "--output", metavar="FILE", help="The picture to write: .png, .svg, or .html, a page.")
]
Seed = Annotated[
    int, typer.Option(min=0, max=MOST_SEED, help="Of the images that are drawn, and of every random choice.")
]
Most = Annotated[int, typer.Option(min=1, help="Of more images than this, as many are drawn at random.")]
MOST_FACTORS = 9  # panels
Alpha = Annotated[
    float | None, typer.Option(min=1e-30, help="Of equilibrium k-means; unless given, by the spread of the points.")
]
Times = Annotated[str, typer.Option(metavar="FACTOR,...", help="What alpha is multiplied by, a panel each.")]
WhichRows = Annotated[
    str | None,
    typer.Option(metavar="ROW|ID,...", help="These images alone: rows from 0, or ids, separated by commas."),
]


def show_help(context: typer.Context) -> None:
    """Pictures of the code space: where a detector sees images, and what its numbers stand for."""
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


def project(
    detector: DetectorPath,
    images: ImagesArgument,
    output: Output,
    beside: Beside = None,
    labels: Labels = None,
    method: Annotated[
        Method, typer.Option(help="pca: far apart stays apart; tsne, umap: neighbours stay neighbours.")
    ] = Method.PCA,
    colour: Annotated[
        Colour | None, typer.Option(help="What a dot's colour says: its label where there are some, or its score.")
    ] = None,
    rows: WhichRows = None,
    most: Most = 2000,
    seed: Seed = 0,
    device: Device = "auto",
) -> None:
    """Lay images on a plane, as they are and as each detector sees them, with the outermost shown.

    Example: unlike latent project bottle.unlike bottle/test -o bottle.png --method tsne --beside other.unlike
    """
    from unlike.report.captioned import show_positions
    from unlike.report.latent import view_codes
    from unlike.report.pictures import check_picture

    check_picture(output)
    seen = _rate_all([detector, *(beside or [])], images, labels, device, rows, most, seed)
    chosen = _choose_colour(seen[0].samples, colour)
    views = [view_codes(one) for one in seen]
    _finish(show_positions(seen[0], views, (chosen,), method.value, seed), output, seen)


def edit(
    detector: DetectorPath,
    images: ImagesArgument,
    output: Output,
    changes: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="ELEMENT=CHANGE",
            help="2=x3 multiplies element 2, 7=+1.5 and 7=-1.5 add, 4=0 sets; several with commas change together; may be repeated.",
        ),
    ] = None,
    directions: Annotated[
        int | None,
        typer.Option(
            min=1, help="Move along this many directions of largest variance of the codes; 2 where nothing is --set."
        ),
    ] = None,
    rows: WhichRows = None,
    most: Annotated[int, typer.Option(min=1, help="Images that are shown; of more, as many are drawn at random.")] = 8,
    seed: Seed = 0,
    device: Device = "auto",
) -> None:
    """Change images' codes and decode them: original, reconstruction and every edit side by side.

    Example: unlike latent edit faces.unlike new/ -o edits.png --set 2=x3 --set 7=+1.5,4=0 --directions 2
    """
    from unlike.detector.detector import Detector
    from unlike.report.captioned import show_edits
    from unlike.report.edits import parse_edit
    from unlike.report.pictures import check_picture
    from unlike.report.subject import subject_of

    check_picture(output)
    edits = [parse_edit(text) for text in changes or []]
    loaded = Detector.load(detector, device)
    subject, everything = subject_of(loaded), _find(images, loaded)
    shown = None if rows is None else choose_rows(everything, rows)
    found = show_edits(name_of(detector), subject, everything, edits, directions, most=most, seed=seed, shown=shown)
    _finish(found, output)


def gallery(
    detector: DetectorPath,
    images: ImagesArgument,
    output: Output,
    beside: Beside = None,
    labels: Labels = None,
    rows: WhichRows = None,
    most: Annotated[int, typer.Option(min=1, help="Of the largest scores, and of the smallest.")] = 2,
    device: Device = "auto",
) -> None:
    """Show the images with the largest and the smallest scores of each detector: original beside reconstruction.

    Example: unlike latent gallery conv.unlike test.npy --labels y.csv -o gallery.png --beside vae.unlike
    """
    from unlike.report.captioned import show_extremes
    from unlike.report.pictures import check_picture

    check_picture(output)
    seen = _rate_all([detector, *(beside or [])], images, labels, device, rows)
    _finish(show_extremes(seen, most), output, seen)


def histograms(
    detector: DetectorPath,
    images: ImagesArgument,
    output: Output,
    beside: Beside = None,
    labels: Labels = None,
    device: Device = "auto",
) -> None:
    """Show how the scores of each detector are spread, in 50 bins, by what is known of the images: all on one page.

    Example: unlike latent histograms conv.unlike test.npy --labels y.csv -o scores.png --beside vae.unlike
    """
    from unlike.report.captioned import show_scores
    from unlike.report.pictures import check_picture

    check_picture(output)
    seen = _rate_all([detector, *(beside or [])], images, labels, device)
    _finish(show_scores(seen), output, seen)


def clusters(
    detector: DetectorPath,
    images: ImagesArgument,
    output: Output,
    count: Annotated[int, typer.Option("--clusters", min=1, help="How many groups to look for.")] = 3,
    alpha: Alpha = None,
    times: Times = "0.1,1,10",
    labels: Labels = None,
    most: Most = 2000,
    seed: Seed = 0,
    device: Device = "auto",
) -> None:
    """Divide the codes by k-means and by equilibrium k-means at a tenth of alpha, alpha, and ten times alpha.

    Example: unlike latent clusters conv.unlike new/ -o clusters.png --clusters 3 --alpha 0.5 --times 0.1,1,10
    """
    from unlike.report.captioned import show_clusters
    from unlike.report.latent import view_codes
    from unlike.report.pictures import check_picture

    check_picture(output)
    factors = parse_factors(times)
    seen = _rate_all([detector], images, labels, device, most=most, seed=seed)
    shown = show_clusters(
        view_codes(seen[0]), count, seed, alpha="dvariance" if alpha is None else alpha, factors=factors
    )
    _finish(shown, output, seen)


def points(
    table: Annotated[
        Path,
        typer.Argument(
            metavar="POINTS.csv", help="A point a row, a coordinate a column; a first row of names is skipped."
        ),
    ],
    output: Output,
    count: Annotated[int, typer.Option("--clusters", min=1, help="How many groups to look for.")] = 3,
    alpha: Alpha = None,
    times: Times = "0.1,1,10",
    seed: Seed = 0,
) -> None:
    """Divide points of a table as `clusters` does codes: k-means beside equilibrium k-means, with the sizes.

    Example: unlike latent points points.csv -o clusters.png --clusters 3 --alpha 2 --times 0.1,1,10
    """
    from unlike.report.captioned import show_points
    from unlike.report.clusters import read_points
    from unlike.report.pictures import check_picture

    check_picture(output)
    factors = parse_factors(times)
    found = show_points(
        table.stem, read_points(table), count, seed, alpha="dvariance" if alpha is None else alpha, factors=factors
    )
    _finish(found, output)


def parse_factors(text: str) -> tuple[float, ...]:
    """What alpha is multiplied by, panel by panel.

    >>> parse_factors("10,1,0.1")
    (10.0, 1.0, 0.1)
    """
    try:
        factors = tuple(float(part) for part in text.split(","))
    except ValueError:
        factors = ()
    if not factors or not all(0 < factor < float("inf") for factor in factors) or len(factors) > MOST_FACTORS:
        raise ConfigError(f"--times: expected up to {MOST_FACTORS} numbers above 0, such as 0.1,1,10, came {text!r}")
    return factors


def choose_rows(source: Source, text: str) -> Source:
    """The images of these rows from 0, or of these ids, in the order in which they are named."""
    import numpy as np

    known = {sample.id: row for row, sample in enumerate(source.samples)}
    found = []
    for word in (part.strip() for part in text.split(",")):
        row = known.get(word, int(word) if word.isdecimal() else None)
        if row is None or row >= len(source):
            raise ConfigError(
                f"--rows: {word!r} is no id of {source.name}, and no row from 0 to {len(source) - 1:,}; ids are those that "
                "`unlike score` prints"
            )
        found.append(row)
    return source.take(np.array(found))


def _find(images: Sequence[str], detector: Detector, labels: Path | None = None) -> Source:
    """The images, by pages as the detector takes them; of a set with splits those of the test split, for the others taught it."""
    from unlike.data.source import open_source

    source = open_source(images, labels, pages=detector.pages)
    test = source.where(lambda sample: sample.split == "test")
    return test if len(test) else source


def _rate_all(
    folders: Sequence[Path],
    images: Sequence[str],
    labels: Path | None,
    device: str,
    rows: str | None = None,
    most: int | None = None,
    seed: int = 0,
) -> list[Seen]:
    """What each detector says of the images, those that all can read; at most `most`, drawn by the seed."""
    from unlike.report.latent import draw_rows, keep_shared

    detectors = load_detectors(folders, device)
    source = _find(images, next(iter(detectors.values())), labels)
    if rows is not None:
        source = choose_rows(source, rows)
    if most is not None:
        source = source.take(draw_rows(len(source), most, seed))
    return keep_shared([_rate(loaded, name, source) for name, loaded in detectors.items()])


def _rate(detector: Detector, name: str, source: Source) -> Seen:
    from unlike.report.latent import rate
    from unlike.report.subject import subject_of

    with Console().progress() as notify:
        return rate(subject_of(detector), name, source, lambda done, total: notify("score", done, total, {}))


def _choose_colour(samples: Sequence[Sample], colour: Colour | None) -> str:
    """What the colour of a dot says: what was asked for, or else the label where there are some."""
    from unlike.report.captioned import labelled

    if colour is Colour.LABEL and not labelled(samples):
        raise ConfigError("--colour label: these images have no label; give an array --labels, or take --colour score")
    return colour.value if colour else "label" if labelled(samples) else "score"


def _finish(shown: CaptionedFigure, output: Path, seen: Sequence[Seen] = ()) -> None:
    """Write the picture, and name what could not be read, each once though several detectors could not."""
    from unlike.report.pictures import write_picture

    write_picture(shown.figure, output, shown.title, shown.caption)
    console = Console()
    console.say(f"{shown.title}: {output}")
    lost = [*shown.unreadable, *(item for one in seen for item in one.unreadable)]
    finish(console, list(dict.fromkeys(lost)))
