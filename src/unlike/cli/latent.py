"""`unlike latent`: pictures of the code space, where a detector sees images."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from unlike.cli.app import IMAGES_HELP, DetectorPath, Device, app, finish
from unlike.cli.console import Console, plural
from unlike.errors import ConfigError

if TYPE_CHECKING:
    from unlike.data.index import Index
    from unlike.detector import Detector
    from unlike.records import Unreadable
    from unlike.report.latent import Seen, View

latent = typer.Typer(
    help="Pictures of the code space: where a detector sees images, and what its numbers stand for.",
    rich_markup_mode=None,
)
app.add_typer(latent, name="latent")
MOST_VALUES = 32_000_000  # numbers of the codes whose directions are sought: 128 MB
PROJECT_WORDS = (
    "Each dot is an image, the same in every panel: first the images themselves, pixel by pixel, then the codes of each detector. "
    "Pictures round a panel show the outermost images; a line leads to the dot. A good space keeps apart what is different."
)
EDIT_WORDS = (
    "Each row is an image: as it is, as the model rebuilds it, and as it rebuilds the code after each edit. Elements of the code are "
    "numbered from 0; sd is the standard deviation of the codes along a direction. Below each edit stands by how much it moves "
    "the pixels, on average, where 100 % is from black to white."
)
GALLERY_WORDS = (
    "For each detector the images with the largest and the smallest scores, each beside what the model made of it, or beside the "
    "map of strangeness where the model rebuilds no image. Higher is stranger; scores of different detectors have different scales."
)
HISTOGRAM_WORDS = (
    "One panel for each detector, 50 bins over the range of its scores. The less the groups overlap, the better; AUROC is the "
    "chance that an anomalous image scores higher than a normal one. Dashed: the threshold, drawn from normal images alone."
)
CLUSTER_WORDS = (
    "Each dot is the code of an image. Equilibrium k-means keeps a small group apart from a large one, of which k-means cuts a "
    "piece; how well depends on alpha: with a small one centres fall together, with a large one it is k-means. Sizes of the "
    "clusters stand below each panel, the largest first."
)


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
Beside = Annotated[
    list[Path] | None,
    typer.Option("--beside", metavar="DETECTOR", help="Another detector to show beside it; may be repeated."),
]
Labels = Annotated[Path | None, typer.Option(metavar="Y.csv|Y.npy", help="One label a row of an array; 0 is normal.")]
Seed = Annotated[int, typer.Option(help="Of the images that are drawn, and of every random choice.")]
Most = Annotated[int, typer.Option(min=1, help="Of more images than this, as many are drawn at random.")]


@latent.callback(invoke_without_command=True)
def show_help(context: typer.Context) -> None:
    """Pictures of the code space: where a detector sees images, and what its numbers stand for."""
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


@latent.command()
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
    from unlike.report import projection
    from unlike.report.gallery import displayable, shades
    from unlike.report.latent import (
        check_picture,
        draw_rows,
        kinds_of,
        share_rows,
        view_codes,
        view_pixels,
        write_picture,
    )

    check_picture(output)
    detectors = _load([detector, *(beside or [])], device)
    everything = _find(images, labels)
    index = everything.take(draw_rows(len(everything), most, seed))
    console = Console()
    views: list[View] = []
    unreadable: list[Unreadable] = []
    for name, loaded in detectors.items():
        seen = _rate(loaded, index, console)
        unreadable += seen.unreadable
        if not views:
            view, pixels = view_pixels(loaded, index, seen)
            views.append(view)
        views.append(view_codes(loaded, name, index, seen))
    rows = share_rows(views)
    pixels = pixels[rows[0]]
    views = [view.take(chosen) for view, chosen in zip(views, rows, strict=True)]
    kinds = _choose_kinds(kinds_of(views[0].samples), colour)
    placed = [projection.project(view.points, method.value, seed) for view in views]
    panels = [
        projection.Panel(view.name, found, kinds, view.scores, note=f"{view.points.shape[1]:,} numbers")
        for view, found in zip(views, placed, strict=True)
    ]
    low, high, _ = shades(list(pixels))
    shown = {
        row: displayable(pixels[row], low, high)
        for found in placed
        for row in projection.outermost(found.places).values()
    }
    title = f"{projection.NAMES[method.value]} of {plural(len(pixels), 'image')}"
    write_picture(projection.projections(panels, shown, title), output, title, PROJECT_WORDS)
    console.say(f"{title} in {plural(len(panels), 'panel')}: {output}")
    finish(console, _distinct(unreadable))


@latent.command()
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
    import numpy as np

    from unlike.detector import Detector
    from unlike.report.edits import Edit, Strip, check_elements, edit_strips, parse_edit, principal_edits
    from unlike.report.latent import MOST, check_picture, draw_rows, write_picture
    from unlike.report.projection import check_finite

    check_picture(output)
    chosen = [parse_edit(text) for text in changes or []]
    loaded = Detector.load(detector, device)
    everything = _find(images)
    codes = loaded.encode(everything.take(draw_rows(len(everything), most, seed)))
    numbers = codes.vectors.shape[1]
    check_elements(chosen, numbers)
    check_finite(codes.vectors)
    rebuilt = loaded.decode(codes.grids)  # says at once where a model cannot
    edits: list[Edit] = [*chosen]
    unreadable = list(codes.unreadable)
    if directions or not chosen:
        sample = min(MOST, max(most, MOST_VALUES // numbers))
        others = loaded.encode(everything.take(draw_rows(len(everything), sample, seed)))
        edits += principal_edits(others.vectors, directions, seed)
        unreadable += others.unreadable
    found = ((each, each.apply(codes.vectors).reshape(codes.grids.shape)) for each in edits)
    strips = [Strip(each.label, loaded.decode(grids), each.group) for each, grids in found]
    originals = np.stack([item.image for item in loaded.explain(everything, codes.samples)])
    title = f"Edits of the code of {_name(detector)}, which has {numbers:,} elements"
    write_picture(edit_strips(codes.ids, originals, rebuilt, strips, title), output, title, EDIT_WORDS)
    console = Console()
    console.say(f"{plural(len(strips), 'edit')} of {plural(len(originals), 'image')}: {output}")
    finish(console, _distinct(unreadable))


@latent.command()
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
    from unlike.report.extremes import Shown, both_ends, score_extremes
    from unlike.report.latent import check_picture, write_picture

    check_picture(output)
    detectors = _load([detector, *(beside or [])], device)
    index = _find(images, labels)
    console = Console()
    blocks = []
    unreadable: list[Unreadable] = []
    for name, loaded in detectors.items():
        seen = _rate(loaded, index, console)
        unreadable += seen.unreadable
        ends = [[seen.samples[row] for row in rows] for rows in both_ends(seen.scores, most)]
        largest, smallest = (loaded.explain(index, samples) for samples in ends)
        blocks.append(Shown(name, largest, smallest, _describe(loaded)))
    title = f"Largest and smallest scores of {plural(len(seen.samples), 'image')}"
    write_picture(score_extremes(blocks, title), output, title, GALLERY_WORDS)
    console.say(f"{title}: {output}")
    finish(console, _distinct(unreadable))


@latent.command()
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
    from unlike.report.histograms import Spread, group_scores, score_spreads
    from unlike.report.latent import check_picture, write_picture

    check_picture(output)
    detectors = _load([detector, *(beside or [])], device)
    index = _find(images, labels)
    console = Console()
    panels = []
    unreadable: list[Unreadable] = []
    for name, loaded in detectors.items():
        seen = _rate(loaded, index, console)
        unreadable += seen.unreadable
        panels.append(Spread(name, group_scores(seen.samples, seen.scores), loaded.threshold_, _describe(loaded)))
    title = f"Scores of {plural(len(seen.samples), 'image')}"
    write_picture(score_spreads(panels, title), output, title, HISTOGRAM_WORDS)
    console.say(f"{title} by {plural(len(panels), 'detector')}: {output}")
    finish(console, _distinct(unreadable))


@latent.command()
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
    from unlike.detector import Detector
    from unlike.report.clusters import alpha_sweep
    from unlike.report.latent import check_picture, draw_rows, kinds_of, view_codes, write_picture
    from unlike.report.projection import condense

    check_picture(output)
    loaded = Detector.load(detector, device)
    everything = _find(images, labels)
    index = everything.take(draw_rows(len(everything), most, seed))
    console = Console()
    seen = _rate(loaded, index, console)
    view = view_codes(loaded, _name(detector), index, seen)
    kinds = _choose_kinds(kinds_of(view.samples), None)
    title = f"The codes of {plural(len(view.samples), 'image')} in {plural(count, 'cluster')}"
    figure = alpha_sweep(condense(view.points, seed), count, kinds, seed=seed)
    write_picture(figure, output, title, CLUSTER_WORDS)
    console.say(f"{title}: {output}")
    finish(console, seen.unreadable)


def _find(images: Sequence[str], labels: Path | None = None) -> Index:
    """The images; of a set with splits those of the test split, for the others taught the detector."""
    from unlike.data.index import find_images

    index = find_images(images if len(images) > 1 else images[0], labels)
    split = index.array is None and any(sample.split == "test" for sample in index.samples)
    return index.where(lambda sample: sample.split == "test") if split else index


def _load(folders: Sequence[Path], device: str) -> dict[str, Detector]:
    """Every detector by a name for its panel: that of its folder, or the whole path where two have the same."""
    from unlike.detector import Detector

    names = [_name(folder) for folder in folders]
    names = [str(folder) if names.count(name) > 1 else name for name, folder in zip(names, folders, strict=True)]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise ConfigError(f"--beside: {twice} is named twice; name each detector once")
    return {name: Detector.load(folder, device) for name, folder in zip(names, folders, strict=True)}


def _name(folder: Path) -> str:
    return folder.absolute().name.removesuffix(".unlike")


def _describe(detector: Detector) -> str:
    return f"{detector.settings.model_name} by {detector.settings.scorer_name}"


def _rate(detector: Detector, index: Index, console: Console) -> Seen:
    from unlike.report.latent import rate

    with console.progress() as notify:
        return rate(detector, index, lambda done, total: notify("score", done, total, {}))


def _choose_kinds(kinds: list[str], colour: Colour | None) -> list[str] | None:
    """What colours the dots, or None where it is the score."""
    labelled = set(kinds) != {"no label"}
    if colour is Colour.LABEL and not labelled:
        raise ConfigError("--colour label: these images have no label; give an array --labels, or take --colour score")
    return kinds if labelled and colour is not Colour.SCORE else None


def _distinct(unreadable: Sequence[Unreadable]) -> list[Unreadable]:
    """Each once, though several detectors could not read it."""
    return list(dict.fromkeys(unreadable))
