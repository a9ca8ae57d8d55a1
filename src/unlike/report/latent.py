"""The code space: some images as detectors see them, and the file that a picture of them becomes.

The pictures themselves are figures of `projection`, `edits`, `extremes` and `histograms`; each takes arrays and records.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure

from unlike.artifacts import check_writable, write_file
from unlike.data.batches import stream
from unlike.data.images import Frame
from unlike.data.index import Index
from unlike.errors import ConfigError, DataError, OutputError
from unlike.records import Codes, Explanation, Floats, Pixels, Sample, ScoredBatch, Unreadable
from unlike.report.figures import styled, svg
from unlike.report.tiles import SMALL_SIDE

FORMATS = (".png", ".svg", ".html")
DOTS_PER_INCH = 160  # of a PNG
MOST = 2000  # images of a picture: more dots say no more, and t-SNE takes a minute
PART = 256  # images encoded at a time
MOST_NUMBERS = 16_384  # of a code that is kept whole; a larger grid is averaged over its positions
Rows = npt.NDArray[np.intp]
Notify = Callable[[int, int], None]  # images done, of all


@runtime_checkable
class Encoder(Protocol):
    """What a picture of the code space asks of a fitted detector."""

    @property
    def frame_(self) -> Frame: ...
    def encode(self, images: Index) -> Codes: ...
    def stream(self, images: Index) -> Iterator[ScoredBatch]: ...
    def explain(self, images: Index, samples: Sequence[Sample]) -> Sequence[Explanation]: ...


@dataclass(frozen=True, slots=True, eq=False)
class Seen:
    """What one detector says of images, a number each."""

    samples: tuple[Sample, ...]  # N
    scores: Floats  # (N,)
    unreadable: tuple[Unreadable, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class View:
    """Where images lie in one space: that of a detector's codes, or that of the pixels.

    >>> view = View("conv", (Sample("a"), Sample("b")), np.array([0.1, 0.9]), np.zeros((2, 32)))
    >>> view.take(np.array([1])).scores
    array([0.9])
    """

    name: str
    samples: tuple[Sample, ...]  # N
    scores: Floats  # (N,)
    points: Floats  # (N, D)

    def take(self, rows: Rows) -> View:
        """The images in these rows, in this order."""
        return View(self.name, tuple(self.samples[row] for row in rows), self.scores[rows], self.points[rows])


def draw_rows(count: int, most: int, seed: int) -> Rows:
    """At most `most` of `count` rows, drawn at random and kept in order: the same for the same seed.

    >>> draw_rows(5, most=9, seed=0)
    array([0, 1, 2, 3, 4])
    """
    if count <= most:
        return np.arange(count)
    return np.sort(np.random.default_rng(seed).choice(count, most, replace=False)).astype(np.intp)


def rate(detector: Encoder, index: Index, notify: Notify | None = None) -> Seen:
    """The score of every image that can be read; a DataError where there is none."""
    samples: list[Sample] = []
    scores: list[Floats] = []
    unreadable: list[Unreadable] = []
    for batch in detector.stream(index):
        samples += batch.samples
        scores.append(batch.image)
        unreadable += batch.unreadable
        if notify:
            notify(len(samples) + len(unreadable), len(index))
    if not samples:
        raise DataError(
            f"{index.source}: none of its {len(index):,} images can be scored: {unreadable[0].id} {unreadable[0].reason}"
        )
    return Seen(tuple(samples), np.concatenate(scores), tuple(unreadable))


def view_codes(detector: Encoder, name: str, index: Index, seen: Seen) -> View:
    """Where the images lie in the space of a detector's codes."""
    starts = range(0, len(seen.samples), PART)
    parts = [detector.encode(replace(index, samples=list(seen.samples[start : start + PART]))) for start in starts]
    known = dict(zip((sample.id for sample in seen.samples), seen.scores, strict=True))
    samples = tuple(sample for part in parts for sample in part.samples)  # one may have gone since it was scored
    points = np.concatenate([flatten(part.grids) for part in parts])
    return View(name, samples, np.array([known[sample.id] for sample in samples]), points)


def view_pixels(detector: Encoder, index: Index, seen: Seen) -> tuple[View, Pixels]:
    """Where the images themselves lie, pixel by pixel, and the small images (N, h, w, C) that were compared."""
    frame = small_frame(detector.frame_)
    batches = [batch for batch in stream(replace(index, samples=list(seen.samples)), frame) if len(batch.samples)]
    known = dict(zip((sample.id for sample in seen.samples), seen.scores, strict=True))
    samples = tuple(sample for batch in batches for sample in batch.samples)
    pixels = np.concatenate([batch.pixels for batch in batches])
    scores = np.array([known[sample.id] for sample in samples])
    return View("images", samples, scores, pixels.reshape(len(pixels), -1)), pixels


def share_rows(views: Sequence[View]) -> list[Rows]:
    """The rows of each view that show the images which all views have, in the order of the first.

    >>> a = View("a", (Sample("x"), Sample("y")), np.zeros(2), np.zeros((2, 1)))
    >>> b = View("b", (Sample("y"), Sample("z")), np.zeros(2), np.zeros((2, 1)))
    >>> share_rows([a, b])
    [array([1]), array([0])]
    """
    places = [{sample.id: row for row, sample in enumerate(view.samples)} for view in views]
    names = [name for name in places[0] if all(name in place for place in places)]
    if not names:
        raise DataError("no image can be read by all of these detectors; take detectors of the same kind of images")
    return [np.array([place[name] for name in names], np.intp) for place in places]


def flatten(grids: Floats) -> Floats:
    """Codes (N, D, h, w) as rows of numbers; a grid of more than 16,384 is averaged over its positions, (N, D).

    >>> flatten(np.zeros((2, 32, 4, 4))).shape, flatten(np.zeros((2, 32, 64, 64))).shape
    ((2, 512), (2, 32))
    """
    if grids[0].size > MOST_NUMBERS:
        return np.asarray(grids.mean(axis=(2, 3)))
    return grids.reshape(len(grids), -1)


def small_frame(frame: Frame) -> Frame:
    """The same form of images, at most 64 pixels a side.

    >>> small_frame(Frame(128, 256, 3)).size
    (32, 64)
    """
    factor = min(1.0, SMALL_SIDE / max(frame.size))
    height, width = (max(1, round(side * factor)) for side in frame.size)
    return replace(frame, height=height, width=width)


def kinds_of(samples: Sequence[Sample]) -> list[str]:
    """What is known of each image, in a word: its kind of defect, where that has a name.

    >>> kinds_of([Sample("a", anomalous=False), Sample("b", anomalous=True, kind="bent"), Sample("c")])
    ['normal', 'bent', 'no label']
    """
    return [_kind_of(sample) for sample in samples]


def _kind_of(sample: Sample) -> str:
    if sample.anomalous is None:
        return sample.kind or "no label"
    if not sample.anomalous:
        return "normal"
    return sample.kind or "anomalous"


def check_picture(path: Path) -> None:
    """Raise ConfigError or OutputError, before the work, unless a picture can be written as `path`."""
    if path.suffix.lower() not in FORMATS:
        raise ConfigError(f"{path}: expected a name that ends in {', '.join(FORMATS[:-1])} or {FORMATS[-1]} (-o)")
    if path.is_dir():
        raise OutputError(f"{path}: is a folder; choose another name with -o")
    check_writable(path)


def write_picture(figure: Figure, path: Path, title: str, words: str) -> None:
    """Write a figure as a PNG, an SVG or a page, by the name's ending; a page also says what it shows, in `words`."""
    suffix = path.suffix.lower()
    write_file(path, _render_page(figure, title, words) if suffix == ".html" else _draw(figure, suffix[1:]))


@styled
def _draw(figure: Figure, form: str) -> bytes:
    content = io.BytesIO()
    metadata = {"Software": None} if form == "png" else {"Creator": None, "Date": None, "Format": None, "Type": None}
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing")  # of an image's name: a box stands for it
        figure.savefig(content, format=form, dpi=DOTS_PER_INCH, facecolor="white", metadata=metadata)
    return content.getvalue()


def _render_page(figure: Figure, title: str, words: str) -> bytes:
    from unlike.report.page import Picture, environment, signature

    template = environment().get_template("picture.html.j2")
    page: str = template.render(title=title, words=words, picture=Picture(svg(figure), title), **signature())
    return page.encode()
