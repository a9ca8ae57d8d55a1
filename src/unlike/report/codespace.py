"""The section of a report that shows where its images lie in the space of the detector's codes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure

from unlike.data.index import Index
from unlike.errors import ConfigError, DataError
from unlike.records import Evaluation
from unlike.report.gallery import displayable, shades
from unlike.report.latent import MOST, Encoder, Seen, View, draw_rows, kinds_of, view_codes
from unlike.report.projection import Panel, Projection, outermost, project, projections
from unlike.report.tiles import thumbnail

FEWEST = 100  # images, however large they are
MOST_PIXELS = 8_192_000  # that are encoded again: 2,000 images of 64 x 64, 125 of 256 x 256


@dataclass(frozen=True, slots=True, eq=False)
class Sketch:
    """The picture, of how many images, or why there is none."""

    figure: Figure | None
    shown: int = 0
    numbers: int = 0  # in a code
    reason: str = ""


def sketch(detector: object, evaluation: Evaluation) -> Sketch | None:
    """Codes on a plane by PCA, coloured by label and by score; None of a detector or of images that have no codes.

    Takes 2,000 images at most, fewer large ones, so that a report is not kept waiting.
    """
    source = evaluation.source
    if not (isinstance(detector, Encoder) and isinstance(source, Index)):
        return None
    most = int(np.clip(MOST_PIXELS // np.prod(detector.frame_.size), FEWEST, MOST))
    rows = draw_rows(len(evaluation.samples), most, seed=0)
    seen = Seen(tuple(evaluation.samples[row] for row in rows), evaluation.scores.image[rows])
    try:
        view = view_codes(detector, "codes", source, seen)
        found = project(view.points)
    except (ConfigError, DataError) as error:
        return Sketch(None, reason=str(error))
    return Sketch(_draw(detector, source, view, found), *view.points.shape)


def _draw(detector: Encoder, source: Index, view: View, found: Projection) -> Figure:
    rows = list(outermost(found.places).values())
    images = {item.sample.id: item.image for item in detector.explain(source, [view.samples[row] for row in rows])}
    low, high, _ = shades(list(images.values()))
    names = {row: view.samples[row].id for row in rows}
    pictures = {row: thumbnail(displayable(images[name], low, high)) for row, name in names.items() if name in images}
    panels = [Panel("By label", found, kinds=kinds_of(view.samples)), Panel("By score", found, scores=view.scores)]
    return projections(panels, pictures)
