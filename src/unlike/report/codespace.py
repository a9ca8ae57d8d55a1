"""What a report shows of the space of a detector's codes, and of other detectors beside it, on the images of an evaluation."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from unlike.errors import ConfigError, UnlikeError
from unlike.evaluation.metrics import measure_images
from unlike.records import Evaluation, Metrics
from unlike.report.captioned import (
    CaptionedFigure,
    show_clusters,
    show_edits,
    show_extremes,
    show_positions,
    show_scores,
)
from unlike.report.figures import jpeg, svg
from unlike.report.latent import MOST, Notify, Seen, View, draw_rows, keep_shared, rate, view_codes
from unlike.report.projection import check_spread
from unlike.report.subject import Subject
from unlike.report.wording import count

THIS = "this detector"
POSITIONS, DIRECTIONS, GROUPS = "Where images lie", "What directions of the code stand for", "Groups among the codes"
SCORES, EXTREMES = "Scores", "Largest and smallest scores"
FEWEST = 100  # images, however large they are
MOST_PIXELS = 8_192_000  # that are encoded again: 2,000 images of 64 x 64, 125 of 256 x 256
EDITED, ENCODED = 4, 128  # images whose edits are shown, and whose codes give the directions
CLUSTERS, CLUSTERED = 3, 1000  # groups that are sought, among as many images
PIXELS_PER_INCH = 96  # of a page
# what may go wrong with a picture, and may not cost the report
FAILURES = (UnlikeError, ValueError, RuntimeError, MemoryError, OSError)


@dataclass(frozen=True, slots=True)
class PageFigure:
    """A figure of a section with its caption, or why there is none."""

    heading: str
    source: str = ""  # a data URI
    alt: str = ""
    caption: str = ""
    reasons: tuple[str, ...] = ()  # why it is not there, or which detectors are not in it
    width: int = 0  # pixels on the page


@dataclass(frozen=True, slots=True, eq=False)
class Comparison:
    """Several detectors on the same images."""

    rows: Sequence[tuple[Seen, Metrics]]  # the detector of the report first
    figures: Sequence[PageFigure]
    reasons: tuple[str, ...]  # why others are not among them


def rate_all(
    detector: Subject, evaluation: Evaluation, beside: Mapping[str, Subject], notify: Notify | None = None
) -> tuple[list[Seen], tuple[str, ...]]:
    """What the detector and those beside it say of the images that all can score, and which of them can say nothing.

    Nothing where the evaluation no longer knows its images.
    """
    source = evaluation.source
    if source is None:
        return [], ()
    seen, reasons = [Seen(THIS, detector, source, evaluation.samples, evaluation.scores.image)], []
    everything = seen[0].images
    for name, other in beside.items():
        try:
            rated = rate(other, name, everything, notify)
            seen = keep_shared([*seen, rated])
        except FAILURES as error:
            reasons.append(f"{name}: {error}")
            continue
        if lost := rated.unreadable:
            reasons.append(
                f"{count(len(lost), 'image')} that {name} cannot score, such as {lost[0].id}: {lost[0].reason}"
            )
    return seen, tuple(reasons)


def compare(seen: Sequence[Seen], reasons: tuple[str, ...]) -> Comparison | None:
    """The detectors beside each other; None where there is only one."""
    if len(seen) < 2:
        return Comparison([], [], reasons) if reasons else None
    anomalous = np.array([bool(sample.anomalous) for sample in seen[0].samples])
    rows = [(one, measure_images(one.scores, anomalous, one.thresholds)) for one in seen]
    figures = [*_draw(SCORES, lambda: show_scores(seen)), *_draw(EXTREMES, lambda: show_extremes(seen))]
    return Comparison(rows, figures, reasons)


def explore(seen: Sequence[Seen]) -> Iterator[PageFigure]:
    """Where images lie in the space of the codes; of the first detector also what directions stand for, and groups.

    Takes 2,000 images at most, fewer large ones, so that a report is not kept waiting.
    """
    if not seen:
        return
    pixels = max(int(np.prod(one.detector.fitted_.spec.size)) for one in seen)
    rows = draw_rows(len(seen[0].samples), int(np.clip(MOST_PIXELS // pixels, FEWEST, MOST)), seed=0)
    first, *others = drawn = [one.take(rows) for one in seen]
    views, reasons = _view_all(drawn)
    if not views:
        yield PageFigure(POSITIONS, reasons=reasons)
        return
    colours = ("label",) if others else ("label", "score")
    yield from _draw(POSITIONS, lambda: show_positions(first, views, colours), reasons)
    if views[0].name == THIS:
        codes = views[0].take(draw_rows(len(views[0].samples), CLUSTERED, seed=0))
        yield from _draw(
            DIRECTIONS, lambda: show_edits(THIS, first.detector, first.images, most=EDITED, sample=ENCODED)
        )
        yield from _draw(GROUPS, lambda: show_clusters(codes, CLUSTERS))


def _view_all(seen: Sequence[Seen]) -> tuple[list[View], tuple[str, ...]]:
    views, reasons = [], []
    for one in seen:
        try:
            view = view_codes(one)
            check_spread(view.points)
            views.append(view)
        except FAILURES as error:
            reasons.append(str(error) if len(seen) == 1 else f"{one.name}: {error}")
    return views, tuple(reasons)


def _draw(heading: str, show: Callable[[], CaptionedFigure], reasons: tuple[str, ...] = ()) -> Iterator[PageFigure]:
    """Nothing where the model has nothing of the kind, as one that does not decode has no edits."""
    try:
        shown = show()
        source = jpeg(shown.figure) if shown.photographs else svg(shown.figure)
    except ConfigError:
        return
    except FAILURES as error:
        yield PageFigure(heading, reasons=(*reasons, str(error)))
    else:
        width = round(PIXELS_PER_INCH * shown.figure.get_figwidth())
        yield PageFigure(heading, source, shown.title, shown.caption, reasons, width)
