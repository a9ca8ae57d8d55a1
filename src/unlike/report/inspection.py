"""An inspection as one page with pictures."""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np

from unlike.artifacts import printable, write_file
from unlike.data.facts import Defect
from unlike.data.input_spec import InputSpec, conform
from unlike.data.pixels import to_uint8
from unlike.data.readers import decode_mask
from unlike.data.source import read_original
from unlike.detector.inspection import Inspection
from unlike.errors import ImageError
from unlike.records import Bools, Floats, Pixels, Sample
from unlike.report import gallery
from unlike.report.findings import MOST_NAMED, MOST_ROWS, all_looked_at, count_rows, findings, pixels_across
from unlike.report.page import environment, signature
from unlike.report.wording import count, exact_percent, number

MOST_SERIES = 6  # that are shown,
MOST_OF_SERIES = 6  # and of each
TYPICAL = 8  # normal images that are shown
SMALLEST = 4  # defects that are shown
MARGIN = 2.0  # of a defect, round it
LEAST_CROP = 24  # pixels a side, as the detector sees it
BINS = 24
TALL = 100  # of a chart's bars


def write_inspection(inspection: Inspection, path: str | os.PathLike[str]) -> Path:
    """Write one self-contained HTML page: the file of that name, or `inspection.html` in a folder of that name.

    An OutputError says why it could not be written.
    """
    target = page_path(Path(path))
    write_file(target, render_inspection(inspection).encode())
    return target


def page_path(path: Path) -> Path:
    """Where the page goes.

    >>> page_path(Path("look.html")).name, page_path(Path("look")).as_posix()
    ('look.html', 'look/inspection.html')
    """
    return path if path.suffix.lower() in (".html", ".htm") else path / "inspection.html"


def render_inspection(inspection: Inspection) -> str:
    """The page as HTML; whatever comes from a file name is escaped."""
    found = findings(inspection)
    return (
        environment()
        .get_template("inspection.html.j2")
        .render(
            inspection=inspection,
            title=printable(inspection.name),
            verdict=_verdict(inspection),
            tiles=list(_tiles(inspection)),
            grave=[finding for finding in found if finding.grave],
            calm=[finding for finding in found if not finding.grave],
            counts=count_rows(inspection)[:MOST_ROWS],
            more_counts=max(0, len(count_rows(inspection)) - MOST_ROWS),
            categories=any(category for category, *_ in count_rows(inspection)),
            sizes=_size_rows(inspection),
            brightness=_bars(inspection.facts.means[inspection.taken]),
            typical=_typical(inspection),
            shades=_shades_note(inspection),
            series=list(_series(inspection)),
            strangest=list(_cards(inspection)),
            defects=list(_defect_cards(inspection)),
            most_named=MOST_NAMED,
            **signature(),
        )
    )


def _verdict(inspection: Inspection) -> str:
    if inspection.refusal:
        return f"fit would take none of these images: {inspection.refusal}."
    taken, of = len(inspection.taken), len(inspection.samples)
    return (
        f"fit would take {taken:,} of {count(of, 'image')}, and promise at most "
        f"{exact_percent(inspection.promise)} false alarms{_if_in_series(inspection)}."
        + " Nothing says that they are normal."
        * all(inspection.sample(row).anomalous is None for row in inspection.taken)
    )


def _if_in_series(inspection: Inspection) -> str:
    if inspection.promise_of_groups <= inspection.promise:
        return ""
    return f"; {exact_percent(inspection.promise_of_groups)}, if new images come in series as these do"


def _tiles(inspection: Inspection) -> Iterator[tuple[str, str, str]]:
    """Label, value and what to know of it."""
    yield "Images found", f"{len(inspection.samples):,}", _broken_words(len(inspection.facts.unreadable))
    yield "fit would take", f"{len(inspection.taken):,}", f"{inspection.distinct:,} different"
    if len(inspection.taken):
        about = "about " * (not all_looked_at(inspection))
        looked = "series count once" if inspection.look else "by small pictures alone"
        yield "Independent", f"{about}{inspection.groups:,}", looked
        yield "The promise", exact_percent(inspection.promise), "false alarms among normal images"


def _broken_words(many: int) -> str:
    return f"{many:,} cannot be used" if many else "all can be read"


def _size_rows(inspection: Inspection) -> list[tuple[str, int]]:
    """The commonest forms and how many images have each."""
    forms = Counter(map(tuple, inspection.facts.shapes.tolist()))
    rows = [(" x ".join(map(str, form)), many) for form, many in forms.most_common(MOST_NAMED)]
    others = forms.total() - sum(many for _, many in rows)
    return rows + ([(f"{len(forms) - len(rows):,} other forms", others)] if others else [])


@dataclass(frozen=True, slots=True)
class Bars:
    """A histogram for the page: heights of bars from 0 to TALL, and what lies at both ends."""

    heights: tuple[float, ...]
    low: str
    high: str


def _bars(values: Floats) -> Bars | None:
    if len(values) < 2 or values.min() == values.max():
        return None
    counts, edges = np.histogram(values, BINS)
    heights = tuple(round(TALL * many / counts.max(), 1) for many in counts.tolist())
    return Bars(heights, number(float(edges[0]), 3), number(float(edges[-1]), 3))


@dataclass(frozen=True, slots=True)
class Shown:
    """An image on the page, and what is written under it."""

    id: str
    image: str
    beside: str = ""  # another picture of it
    text: str = ""
    small: bool = False


def _typical(inspection: Inspection) -> list[Shown]:
    """Some of the images that `fit` would take, from all over."""
    rows = inspection.taken
    some = rows[np.linspace(0, len(rows) - 1, min(TYPICAL, len(rows))).astype(np.intp)] if len(rows) else rows
    return list(_show(inspection, [inspection.sample(row) for row in some]))


def _shades_note(inspection: Inspection) -> str:
    """What the pictures do not show of images of many channels."""
    channels = inspection.facts.shapes[inspection.taken, 2]
    return gallery.channel_note(int(channels[0])) if len(channels) else ""


def _series(inspection: Inspection) -> Iterator[tuple[int, list[Shown]]]:
    """Of the largest groups, how many images each has, and some of them."""
    if inspection.look is None:
        return
    for part in inspection.look.series.larger[:MOST_SERIES]:
        samples = [inspection.sample(int(inspection.look.rows[row])) for row in part[:MOST_OF_SERIES]]
        yield len(part), list(_show(inspection, samples))


def _show(inspection: Inspection, samples: Iterable[Sample]) -> Iterator[Shown]:
    """Images as they are; one that has gone meanwhile is left out."""
    read = []
    for sample in samples:
        try:
            read.append((sample, _read(inspection, sample)))
        except ImageError:
            continue
    low, high, _ = gallery.shades([image for _, image in read if image.dtype != np.uint8])
    for sample, image in read:
        shown = gallery.thumbnail(gallery.displayable(image, *_range_of(image, low, high)))
        yield Shown(sample.id, gallery.data_uri(shown), small=max(shown.shape) <= gallery.SMALL)


def _read(inspection: Inspection, sample: Sample) -> Pixels:
    """The original, up to the size that the settings allow."""
    return read_original(inspection.source, sample, inspection.spec.most_pixels)


def _range_of(image: Pixels, low: float, high: float) -> tuple[float, float]:
    """Black and white of an image among others that may be of another type."""
    return (0.0, 255.0) if image.dtype == np.uint8 else (low, high)


def _as_seen(image: Pixels, spec: InputSpec) -> Pixels:
    """An original image with the values that the detector sees: of few bits in uint16, spread over all."""
    if image.dtype != np.uint16 or spec.bits == 16:
        return image
    return conform(
        image, replace(spec, height=image.shape[0], width=image.shape[1], convert=False, channels=image.shape[2])
    )


def _cards(inspection: Inspection) -> Iterator[Shown]:
    """The strangest normals, with the map of what is strange, all on one scale."""
    items = () if inspection.look is None else inspection.look.strangest
    limit = gallery.colour_limit([item.map for item in items])
    start = gallery.colour_start([item.map for item in items], limit)
    low, high, _ = gallery.shades([item.image for item in items])
    for item in items:
        try:
            original = _as_seen(_read(inspection, item.sample), inspection.spec)
        except ImageError:
            original = item.image
        image = gallery.thumbnail(gallery.displayable(original, *_range_of(original, low, high)))
        whole = gallery.displayable(item.image, *_range_of(item.image, low, high))
        if inspection.spec.aspect == "stretch":
            whole = np.asarray(cv2.resize(whole, image.shape[1::-1], interpolation=cv2.INTER_AREA))
        painted = gallery.overlay(whole, item.map, limit, start)
        text = f"{item.ratio:.2f} times the usual score"
        small = max(image.shape) <= gallery.SMALL
        yield Shown(item.sample.id, gallery.data_uri(image), gallery.data_uri(painted), text, small)


def _defect_cards(inspection: Inspection) -> Iterator[Shown]:
    """The thinnest defects: in the image, and the same part as the detector sees it."""
    thinnest = sorted(inspection.facts.defects, key=lambda defect: defect.width)[:SMALLEST]
    for defect in thinnest:
        sample = inspection.sample(defect.row)
        try:
            card = _defect_card(inspection, defect, sample)
        except ImageError:
            continue  # gone meanwhile
        yield card


def _defect_card(inspection: Inspection, defect: Defect, sample: Sample) -> Shown:
    spec = inspection.spec
    image = _as_seen(_read(inspection, sample), spec)
    assert sample.mask is not None
    mask = decode_mask(sample.mask) if isinstance(sample.mask, Path) else sample.mask
    box = _crop_box(mask, (spec.height / image.shape[0], spec.width / image.shape[1]))
    low, high, _ = gallery.shades([image])
    crop = gallery.displayable(image[box], low, high)
    seen = conform(image, replace(spec, bits=16))
    rows, columns = (
        slice(int(part.start * f), max(int(part.start * f) + 1, math.ceil(part.stop * f)))
        for part, f in zip(box, (spec.height / image.shape[0], spec.width / image.shape[1]), strict=True)
    )
    small = gallery.displayable(seen[rows, columns] if spec.aspect == "stretch" else seen, low, high)
    text = f"{pixels_across(defect.original)} across; {pixels_across(defect.width)} as the detector sees it"
    return Shown(sample.id, gallery.data_uri(_outlined(crop, mask[box])), gallery.data_uri(small), text, small=True)


def _crop_box(mask: Bools, factors: tuple[float, float]) -> tuple[slice, slice]:
    """Round the largest region, with some margin, and no smaller than can be told where it is."""
    boxes = cv2.connectedComponentsWithStats(np.asarray(mask, np.uint8), connectivity=8)[2]
    largest = 1 + int(boxes[1:, cv2.CC_STAT_AREA].argmax())
    starts = boxes[largest][[cv2.CC_STAT_TOP, cv2.CC_STAT_LEFT]].tolist()
    sizes = boxes[largest][[cv2.CC_STAT_HEIGHT, cv2.CC_STAT_WIDTH]].tolist()
    square = max(max(MARGIN * size, LEAST_CROP / factor) for size, factor in zip(sizes, factors, strict=True))
    slices = []
    for start, size, side in zip(starts, sizes, mask.shape, strict=True):
        wanted = min(side, square)
        first = int(min(max(0, start + size / 2 - wanted / 2), side - wanted))
        slices.append(slice(first, min(side, first + max(1, math.ceil(wanted)))))
    return slices[0], slices[1]


def _outlined(image: Pixels, mask: Bools) -> Pixels:
    """A picture with a line round its defect, at a size to look at."""
    factor = gallery.LONGEST_SIDE / max(image.shape[:2])
    size = (max(1, round(image.shape[1] * factor)), max(1, round(image.shape[0] * factor)))
    how = cv2.INTER_AREA if factor < 1 else cv2.INTER_NEAREST
    shown = np.ascontiguousarray(cv2.resize(image, size, interpolation=how))
    seen = cv2.resize(np.asarray(mask, np.uint8), size, interpolation=cv2.INTER_NEAREST)
    around = cv2.dilate(seen, np.ones((5, 5), np.uint8))
    lines, _ = cv2.findContours(around, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    cv2.drawContours(shown, lines, -1, (230, 159, 0), 1)
    return to_uint8(shown, 0.0, 255.0)
