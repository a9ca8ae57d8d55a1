"""`unlike latent`: pictures of the code space, where a detector sees images."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from unlike.cli.arguments import IMAGES_HELP, Beside, DetectorPath, Device, Labels, finish, load_detectors, name_of
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
Seed = Annotated[int, typer.Option(help="Of the images that are drawn, and of every random choice.")]
Most = Annotated[int, typer.Option(min=1, help="Of more images than this, as many are drawn at random.")]


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
    seen = _rate_all([detector, *(beside or [])], images, labels, device, most, seed)
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
    subject, source = subject_of(Detector.load(detector, device)), _find(images)
    _finish(show_edits(name_of(detector), subject, source, edits, directions, most=most, seed=seed), output)


def gallery(
    detector: DetectorPath,
    images: ImagesArgument,
    output: Output,
    beside: Beside = None,
    labels: Labels = None,
    most: Annotated[int, typer.Option(min=1, help="Of the largest scores, and of the smallest.")] = 2,
    device: Device = "auto",
) -> None:
    """Show the images with the largest and the smallest scores of each detector: original beside reconstruction.

    Example: unlike latent gallery conv.unlike test.npy --labels y.csv -o gallery.png --beside vae.unlike
    """
    from unlike.report.captioned import show_extremes
    from unlike.report.pictures import check_picture

    check_picture(output)
    seen = _rate_all([detector, *(beside or [])], images, labels, device)
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
    labels: Labels = None,
    most: Most = 2000,
    seed: Seed = 0,
    device: Device = "auto",
) -> None:
    """Divide the codes by k-means and by equilibrium k-means at a tenth of alpha, alpha, and ten times alpha.

    Example: unlike latent clusters conv.unlike new/ -o clusters.png --clusters 3
    """
    from unlike.report.captioned import show_clusters
    from unlike.report.latent import view_codes
    from unlike.report.pictures import check_picture

    check_picture(output)
    seen = _rate_all([detector], images, labels, device, most, seed)
    _finish(show_clusters(view_codes(seen[0]), count, seed), output, seen)


def _find(images: Sequence[str], labels: Path | None = None) -> Source:
    """The images; of a set with splits those of the test split, for the others taught the detector."""
    from unlike.data.source import open_source

    source = open_source(images, labels)
    test = source.where(lambda sample: sample.split == "test")
    return test if len(test) else source


def _rate_all(
    folders: Sequence[Path],
    images: Sequence[str],
    labels: Path | None,
    device: str,
    most: int | None = None,
    seed: int = 0,
) -> list[Seen]:
    """What each detector says of the images, those that all can read; at most `most`, drawn by the seed."""
    from unlike.report.latent import draw_rows, keep_shared

    detectors = load_detectors(folders, device)
    source = _find(images, labels)
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
