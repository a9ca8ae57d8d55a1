"""Figures with captions: each picture of the code space, from detectors and images to what is shown and how to read it.

The command line writes one of them to a file; a report shows several.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure

from unlike.data.source import Source
from unlike.records import Codes, Floats, Pixels, Sample, Unreadable
from unlike.report.clusters import FACTORS, Alpha, alpha_sweep
from unlike.report.edits import Edit, ElementEdit, Strip, check_elements, edit_strips, principal_edits
from unlike.report.extremes import Shown, score_extremes
from unlike.report.gallery import both_ends, displayable, shades, tell_ties
from unlike.report.histograms import Spread, group_scores, score_spreads
from unlike.report.latent import MOST, Seen, View, draw_rows, keep_shared, kinds_of, small_spec, view_pixels
from unlike.report.projection import (
    NAMES,
    UNLABELLED,
    Panel,
    check_finite,
    condense,
    outermost,
    project,
    projections,
)
from unlike.report.subject import Subject
from unlike.report.wording import count

MOST_VALUES = 32_000_000  # numbers of the codes whose directions are sought: 128 MB
POSITION_CAPTION = (
    "Each dot is an image, the same in every panel: first the images themselves, pixel by pixel, then the codes of each detector. "
    "Pictures round a panel show the outermost images; a line leads to the dot. A good space keeps apart what is different."
)
SCORE_COLOUR_CAPTION = (
    " Where the anomalous images lie apart by label, but are not bright by score, the code knows more than the score tells: "
    "another scorer may find them."
)
EDIT_CAPTION = (
    "Each row is an image: as it is, its reconstruction by the model, and what the model makes of the code after each edit. Elements of the code are "
    "numbered from 0; sd is the standard deviation of the codes along a direction. Below each edit stands by how much it moves "
    "the pixels, on average, where 100 % is from black to white."
)
EXTREME_CAPTION = (
    "For each detector the images with the largest and the smallest scores, each beside what the model made of it, or beside the "
    "map of strangeness where the model reconstructs no image. Higher is stranger; scores of different detectors have different scales."
)
SCORE_CAPTION = (
    "One panel for each detector, 50 bins over the range of its scores. The further right of the normal images the anomalous ones lie, the better; AUROC is the "
    "chance that an anomalous image scores higher than a normal one. Dashed: the threshold, drawn from normal images alone."
)
CLUSTER_CAPTION = (
    "Each dot is the code of an image. Equilibrium k-means keeps a small group apart from a large one, of which k-means cuts a "
    "piece; how well depends on alpha: with a small one centres fall together, with a large one it is k-means. Sizes of the "
    "clusters stand below each panel, the largest first."
)


@dataclass(frozen=True, slots=True, eq=False)
class CaptionedFigure:
    """A figure, and what to say of it."""

    figure: Figure
    title: str  # of what it shows, also for whom cannot see it
    caption: str  # how to read it
    unreadable: tuple[Unreadable, ...] = ()  # images that were to be shown
    photographs: bool = False  # what most of the figure is made of


def show_positions(
    first: Seen, views: Sequence[View], colours: Sequence[str] = ("label",), method: str = "pca", seed: int = 0
) -> CaptionedFigure:
    """Where images lie: the images themselves, as the first detector gets them, then the codes of each detector.

    `colours` are "label", "score" or both, which gives the codes of each detector a panel for each.
    """
    views = keep_shared([view_pixels(first), *views])
    small = small_spec(first.detector.fitted_.spec)
    pixels = views[0].points.reshape(-1, *small.size, small.channels)
    kinds = kinds_of(views[0].samples)
    panels = []
    for number, view in enumerate(views):
        found = project(view.points, method, seed)
        for colour in colours if number else colours[:1]:
            title = view.name if colour == colours[0] else f"{view.name}, by {colour}"
            note = f"{view.points.shape[1]:,} numbers" if colour == colours[0] else ""
            panels.append(Panel(title, found, kinds if colour == "label" else None, view.scores, note))
    title = f"{NAMES[method]} of {count(len(pixels), 'image')}"
    caption = POSITION_CAPTION + SCORE_COLOUR_CAPTION * (len(colours) > 1)
    return CaptionedFigure(projections(panels, _frame_outermost(panels, pixels), title), title, caption)


def _frame_outermost(panels: Sequence[Panel], pixels: Pixels) -> dict[int, Pixels]:
    """The pictures that stand round the panels, by row."""
    low, high, _ = shades(list(pixels))
    rows = {row for panel in panels for row in outermost(panel.projection.positions).values()}
    return {row: displayable(pixels[row], low, high) for row in rows}


def show_edits(
    name: str,
    detector: Subject,
    source: Source,
    changes: Sequence[ElementEdit] = (),
    directions: int | None = None,
    *,
    most: int = 8,
    sample: int = MOST,
    seed: int = 0,
    shown: Source | None = None,
) -> CaptionedFigure:
    """What images become when their codes are changed: by `changes`, and along directions of largest variance.

    `most` images are shown, drawn at random, or those that are `shown`; directions are of the codes of at least as many, of `sample` if there are. Without
    changes, and unless told how many, there are two directions. A ConfigError where the model has no decoder of images.
    """
    shown = source.take(draw_rows(len(source), most, seed)) if shown is None else shown
    codes = detector.encode(shown)
    numbers = codes.vectors.shape[1]
    check_elements(changes, numbers)
    check_finite(codes.vectors)
    reconstructions = detector.decode(codes.grids)  # says at once where a model cannot
    edits: list[Edit] = [*changes]
    unreadable = codes.unreadable
    if directions or not changes:
        enough = min(sample, max(most, MOST_VALUES // numbers))
        others = detector.encode(source.take(draw_rows(len(source), enough, seed)))
        edits += principal_edits(others.vectors, directions, seed)
        unreadable += others.unreadable
    strips = [Strip(edit.label, _decode_edited(detector, codes, edit), edit.group) for edit in edits]
    originals = np.stack([item.image for item in detector.explain(shown, codes.samples)])
    title = f"Edits of the code of {name}, which has {numbers:,} elements"
    return CaptionedFigure(
        edit_strips(codes.ids, originals, reconstructions, strips, title),
        title,
        EDIT_CAPTION,
        unreadable,
        photographs=True,
    )


def _decode_edited(detector: Subject, codes: Codes, edit: Edit) -> Pixels:
    return detector.decode(edit.apply(codes.vectors).reshape(codes.grids.shape))


def show_extremes(seen: Sequence[Seen], most: int = 2) -> CaptionedFigure:
    """The images with the `most` largest and as many smallest scores of each detector."""
    blocks, ties = [], ""
    for one in seen:
        rows_of = both_ends(one.scores, most)
        ends = [[one.samples[row] for row in rows] for rows in rows_of]
        for which, rows in zip(("largest", "smallest"), rows_of, strict=True):
            if said := tell_ties(one.scores, rows.tolist()):
                ties += f" {one.name}, {which} scores: {said}"
        largest, smallest = (one.detector.explain(one.source, samples) for samples in ends)
        blocks.append(Shown(one.name, largest, smallest, one.note))
    title = f"Largest and smallest scores of {count(len(seen[0].samples), 'image')}"
    return CaptionedFigure(score_extremes(blocks, title), title, EXTREME_CAPTION + ties, photographs=True)


def show_scores(seen: Sequence[Seen]) -> CaptionedFigure:
    """How the scores of each detector are spread."""
    spreads = [Spread(one.name, group_scores(one.samples, one.scores), one.threshold, one.note) for one in seen]
    title = f"Scores of {count(len(seen[0].samples), 'image')} by {count(len(seen), 'detector')}"
    return CaptionedFigure(score_spreads(spreads, title), title, SCORE_CAPTION)


def show_clusters(
    view: View, clusters: int, seed: int = 0, *, alpha: Alpha = "dvariance", factors: Sequence[float] = FACTORS
) -> CaptionedFigure:
    """What k-means and equilibrium k-means make of the codes, compared with the labels where there are some."""
    title = f"The codes of {count(len(view.samples), 'image')} in {count(clusters, 'cluster')}"
    labels = kinds_of(view.samples) if labelled(view.samples) else None
    return CaptionedFigure(
        alpha_sweep(condense(view.points, seed), clusters, labels, alpha=alpha, factors=factors, seed=seed),
        title,
        CLUSTER_CAPTION,
    )


def show_points(
    name: str,
    points: Floats,
    clusters: int,
    seed: int = 0,
    *,
    alpha: Alpha = "dvariance",
    factors: Sequence[float] = FACTORS,
) -> CaptionedFigure:
    """What k-means and equilibrium k-means make of points (N, D) that come from anywhere."""
    title = f"{name}: {count(len(points), 'point')} in {count(clusters, 'cluster')}"
    figure = alpha_sweep(points, clusters, alpha=alpha, factors=factors, seed=seed)
    return CaptionedFigure(figure, title, CLUSTER_CAPTION)


def labelled(samples: Sequence[Sample]) -> bool:
    """Whether something is known of any of the images.

    >>> labelled([Sample("a"), Sample("b")]), labelled([Sample("a"), Sample("b", anomalous=True)])
    (False, True)
    """
    return set(kinds_of(samples)) != {UNLABELLED}
