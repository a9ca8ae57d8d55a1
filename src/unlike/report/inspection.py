"""What an inspection found, in sentences: for a terminal, and as one page with pictures."""

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
from unlike.calibration.thresholds import AUTO_FALSE_ALARMS, normals_needed
from unlike.data.facts import Defect
from unlike.data.input_spec import InputSpec, conform
from unlike.data.pixels import to_uint8
from unlike.data.readers import decode_mask
from unlike.data.source import read_original
from unlike.detector.inspection import THIN, Inspection, advise_size
from unlike.errors import ImageError
from unlike.records import Bools, Floats, Pixels, Rows, Sample
from unlike.report import gallery
from unlike.report.page import environment, signature
from unlike.report.wording import count, exact_percent, number, percent

MOST_NAMED = 8  # images that a sentence or a list names
MOST_ROWS = 30  # of the table of counts
MOST_SERIES = 6  # that are shown,
MOST_OF_SERIES = 6  # and of each
TYPICAL = 8  # normal images that are shown
SMALLEST = 4  # defects that are shown
MARGIN = 2.0  # of a defect, round it
LEAST_CROP = 24  # pixels a side, as the detector sees it
BINS = 24
FEWER = 0.9  # of the images, that are independent: said
TALL = 100  # of a chart's bars
FIT_HEEDS = "fit counts groups where they are given, or follow each other by name, and says so."
DOUBTFUL = 1.5  # times the usual score: worth a look


@dataclass(frozen=True, slots=True)
class Finding:
    """A heading, what was found in sentences, and images that it is about."""

    title: str
    lines: tuple[str, ...]
    names: tuple[str, ...] = ()
    grave: bool = False  # something to mend, or to know, before fitting


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


def inspection_text(inspection: Inspection) -> str:
    """The findings as lines for a terminal."""
    lines = [printable(inspection.name)]
    for finding in findings(inspection):
        lines += ["", f"{finding.title}{' (!)' * finding.grave}", *(f"  {line}" for line in finding.lines)]
        lines += [f"    {printable(name)}" for name in finding.names[:MOST_NAMED]]
        if len(finding.names) > MOST_NAMED:
            lines.append(f"    and {len(finding.names) - MOST_NAMED:,} more")
    return "\n".join(lines)


def findings(inspection: Inspection) -> list[Finding]:
    """Everything that an inspection found, in the order in which a person wants to know."""
    parts = [_taken(inspection), _form(inspection), _unreadable(inspection), _bad_masks(inspection)]
    parts += [_conflicts(inspection), _leaked(inspection), _copies(inspection), _promise(inspection)]
    parts += [_defects(inspection), _strangest(inspection)]
    return [replace(part, lines=tuple(map(_plain, part.lines))) for part in parts if part is not None]


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
        about = "about " * (not _all_looked_at(inspection))
        looked = "series count once" if inspection.look else "by small pictures alone"
        yield "Independent", f"{about}{inspection.groups:,}", looked
        yield "The promise", exact_percent(inspection.promise), "false alarms among normal images"


def _broken_words(many: int) -> str:
    return f"{many:,} cannot be used" if many else "all can be read"


def _taken(inspection: Inspection) -> Finding:
    """The layout, and which images `fit` would take."""
    lines = list(inspection.notes)
    if inspection.refusal:
        lines.append(f"fit would take none: {inspection.refusal}.")
        return Finding("What fit would take", tuple(lines), grave=True)
    taken = [inspection.sample(row) for row in inspection.taken]
    splits = {sample.split for sample in taken} - {""}
    labelled = sum(sample.anomalous is False for sample in taken)
    which = f"labelled normal{', of the train split' * (splits == {'train'})}" if labelled else "without a label"
    lines.append(f"fit would take {len(taken):,} of {count(len(inspection.samples), 'image')}: those {which}.")
    if not labelled:
        lines.append("Nothing says that they are normal: what is defective among them would be learned as normal.")
    lines += [_count_line(row) for row in count_rows(inspection)[:MOST_ROWS]]
    return Finding("What fit would take", tuple(lines))


def count_rows(inspection: Inspection) -> list[tuple[str, str, str, int]]:
    """Category, split, label, and how many images have them."""
    counts: Counter[tuple[str, str, str]] = Counter()
    for sample in inspection.samples:
        counts[sample.category, sample.split, _label(sample)] += 1
    order = {"train": 0, "": 1, "test": 2}
    return sorted(
        ((*key, many) for key, many in counts.items()),
        key=lambda row: (row[0], order.get(row[1], 3), not row[2].startswith("normal"), row[2]),
    )


def _label(sample: Sample) -> str:
    if sample.anomalous is None:
        return "no label"
    if not sample.anomalous:
        return "normal"
    return f"anomalous: {sample.kind}" if sample.kind not in ("", "anomalous") else "anomalous"


def _count_line(row: tuple[str, str, str, int]) -> str:
    category, split, label, many = row
    where = ", ".join(part for part in (category, split) if part)
    return f"{many:>7,}  {label}{f' ({where})' if where else ''}"


def _form(inspection: Inspection) -> Finding:
    """Sizes, channels and values, and what the detector makes of them."""
    facts, spec = inspection.facts, inspection.spec
    sizes = Counter(map(tuple, facts.shapes[:, :2].tolist()))
    lines = [_size_line(sizes)]
    channels = Counter(facts.shapes[:, 2].tolist())
    kinds = Counter(facts.kinds)
    forms = [f"{count(many, 'image')} of {count(width, 'channel')}" for width, many in channels.most_common()]
    lines.append(
        f"Channels: {forms[0].rpartition(' of ')[2] if len(forms) == 1 else ', '.join(forms)}; values: "
        + ", ".join(_depth_words(inspection, kind, many, len(kinds)) for kind, many in kinds.most_common())
        + "."
    )
    if len(inspection.taken):
        means = facts.means[inspection.taken]
        lines.append(
            f"Mean brightness of those fit would take: {number(float(means.min()), 3)} to {number(float(means.max()), 3)}, "
            f"half of them {number(float(np.quantile(means, 0.25)), 3)} to {number(float(np.quantile(means, 0.75)), 3)}."
        )
    lines.append(f"The detector would see {spec.height} x {spec.width} pixels of {count(spec.channels, 'channel')}.")
    return Finding("Sizes and values", tuple(lines))


def _size_line(sizes: Counter[tuple[int, ...]]) -> str:
    (common, many), total = sizes.most_common(1)[0], sizes.total()
    if len(sizes) == 1:
        return f"All are {common[0]} x {common[1]} pixels (height x width)."
    heights, widths = zip(*sizes, strict=True)
    return (
        f"{len(sizes):,} different sizes (height x width): {min(heights)} to {max(heights)} high, {min(widths)} to {max(widths)} "
        f"wide; the commonest is {common[0]} x {common[1]} ({percent(many / total)})."
    )


def _depth_words(inspection: Inspection, kind: str, many: int, kinds: int) -> str:
    facts = inspection.facts
    own = facts.extremes[np.array(facts.kinds) == kind]
    low, high = float(own[:, 0].min()), float(own[:, 1].max())
    how_many = f" ({count(many, 'image')})" if kinds > 1 else ""
    if kind.startswith("float"):
        return f"float from {number(low)} to {number(high)}{how_many}"
    full = np.iinfo(kind).max
    bits = max(1, math.ceil(math.log2(high + 1)))
    used = f", {bits} of {np.iinfo(kind).bits} bits" if high < full / 2 else ""
    return f"{kind} from {low:,.0f} to {high:,.0f} of {full:,}{used}{how_many}"


def _unreadable(inspection: Inspection) -> Finding | None:
    broken = inspection.facts.unreadable
    if not broken:
        return None
    lines = (f"{count(len(broken), 'image')} would be left out: broken, or of another form than most.",)
    return Finding("Cannot be used", lines, tuple(map(str, broken)), grave=True)


def _bad_masks(inspection: Inspection) -> Finding | None:
    bad = inspection.facts.bad_masks
    bare = [s.id for s in inspection.samples if s.anomalous and s.mask is None]
    masked = len(inspection.facts.defects)
    names = [*map(str, bad), *(f"{name} has no mask" for name in bare * bool(masked))]
    if not names:
        return None
    lines = (f"{count(len(names), 'anomalous image')} without a mask that can be used, where others have one.",)
    return Finding("Masks", lines, tuple(names), grave=True)


def _conflicts(inspection: Inspection) -> Finding | None:
    """The same pixels, called normal and anomalous."""
    said: dict[int, tuple[bool, int]] = {}  # of each group, the first label
    names = []
    for row, group in enumerate(inspection.copies.numbers.tolist()):
        label = inspection.sample(row).anomalous
        if label is None:
            continue
        before, first = said.setdefault(group, (label, row))
        if label != before:
            names.append(f"{inspection.sample(row).id} is {inspection.sample(first).id}")
    if not names:
        return None
    lines = ("The same image is called normal and anomalous: one of its labels is wrong.",)
    return Finding("Labels that contradict each other", lines, tuple(names), grave=True)


def _leaked(inspection: Inspection) -> Finding | None:
    if not inspection.leaked:
        return None
    names = tuple(f"{inspection.sample(b).id} is {inspection.sample(a).id}" for a, b in inspection.leaked)
    are = "test image is" if len(names) == 1 else "test images are"
    lines = (
        (
            f"{len(names):,} {are} the same picture as a training image, pixel by pixel or nearly: figures measured on them flatter. "
            "Remove them from one side."
        ),
    )
    return Finding("Copies between train and test", lines, names, grave=True)


def _copies(inspection: Inspection) -> Finding:
    """Copies, near-copies and series among what `fit` would take."""
    taken, copies, distinct = inspection.taken, inspection.copies, inspection.distinct
    exact = len(taken) - distinct
    pictures = len(np.unique(inspection.same.numbers[taken]))
    lines = [
        f"{exact:,} exact {'copy' if exact == 1 else 'copies'} among them, left out by fit."
        if exact
        else "No exact copies among them."
    ]
    if distinct > pictures:
        more = distinct - pictures
        lines.append(
            f"{more:,} more {'is' if more == 1 else 'are'} the same picture as another, but for light or compression."
        )
    own = set(taken.tolist())
    names = [_list_ids(inspection, part, 3) for part in copies.larger if own & set(part.tolist())]
    aside = [_list_ids(inspection, part, 3) for part in copies.larger if not own & set(part.tolist())]
    if aside:
        lines.append(f"Exact copies among the other images: {count(len(aside), 'group')}, such as {aside[0]}.")
    if inspection.look is None:
        why = f": {inspection.not_looked}" if inspection.not_looked else ""
        lines.append(f"Series of one part or scene were not looked for{why}.")
        return Finding("Copies and series", tuple(lines), tuple(names))
    series, rows = inspection.look.series, inspection.look.rows
    whole = "" if _all_looked_at(inspection) else f", some of {distinct:,},"
    found = f"{count(len(rows), 'image')}{whole} in {count(len(series), 'group')}"
    if larger := series.larger:
        first = larger[0]
        ids = [inspection.sample(int(rows[row])).id for row in first]
        lines.append(
            f"{found}, {_what_groups_are(inspection)}; the largest: {count(len(first), 'image')} "
            f"({', '.join(ids[:3])}{', ...' * (len(ids) > 3)}); {count(sum(map(len, larger)), 'image')} in groups of two or more."
        )
        names = [_list_ids(inspection, rows[part], 4) for part in larger]
    else:
        lines.append(f"{found}: no series of one part or scene was found.")
    lines += [f"fit would say: {words}" for words in inspection.look.words]
    return Finding("Copies and series", tuple(lines), tuple(names))


def _what_groups_are(inspection: Inspection) -> str:
    given = inspection.look is not None and inspection.look.given
    return "as given" if given else "of images that show one part or scene, or nearly"


def _list_ids(inspection: Inspection, rows: Rows, most: int) -> str:
    more = f" and {len(rows) - most:,} more" * (len(rows) > most)
    return ", ".join(inspection.sample(int(row)).id for row in rows[:most]) + more


def _promise(inspection: Inspection) -> Finding | None:
    """What so many normal images can promise, and what that takes."""
    held_out, distinct, groups = inspection.held_out, inspection.distinct, inspection.groups
    if not distinct:
        return None
    share, needed = inspection.promise, normals_needed(AUTO_FALSE_ALARMS)
    rests = f"{held_out:,} of them hold the threshold" if held_out < distinct else "all hold the threshold"
    lines = [
        f"{count(distinct, 'different normal image')}, {rests}: fit promises at most {exact_percent(share)} false alarms."
    ]
    if held_out < needed:
        lines.append(
            f"For {exact_percent(AUTO_FALSE_ALARMS)}, {needed - held_out:,} more are needed ({needed} in all), and --false-alarms {AUTO_FALSE_ALARMS:g}."
        )
    about = "" if _all_looked_at(inspection) else "about "
    rest = f"If new images come in series as these do, the promise rests on {about}{groups:,} groups, not {distinct:,} images"
    if inspection.promise_of_groups > share:
        lines.append(
            f"{rest}: {exact_percent(inspection.promise_of_groups)}. More parts help, more shots of the same do not. {FIT_HEEDS}"
        )
    elif groups < FEWER * distinct:
        lines.append(f"{rest}; so many hold it too. {FIT_HEEDS}")
    return Finding("The promise", tuple(lines), grave=inspection.promise_of_groups > 1.25 * share)


def _defects(inspection: Inspection) -> Finding | None:
    """How large the smallest labelled defect is to the detector."""
    found, spec = inspection.facts.defects, inspection.spec
    smallest = inspection.smallest
    if smallest is None:
        return None
    widths = np.array([defect.width for defect in found])
    sample, shape = inspection.sample(smallest.row), inspection.facts.shapes[smallest.row].tolist()
    lines = [
        (
            f"The thinnest labelled defect, {_pixels(smallest.original)} across in {shape[0]} x {shape[1]}, is "
            f"{_pixels(smallest.width)} across at {spec.height} x {spec.width} ({sample.id}); the median one is "
            f"{_pixels(float(np.median(widths)))}."
        )
    ]
    thin = int((widths < THIN).sum())
    advice = advise_size(smallest, (shape[0], shape[1]), spec)
    if thin:
        are = "is" if thin == 1 else "are"
        lines.append(
            f"{thin:,} of {count(len(found), 'defect')} {are} thinner than {THIN:g} pixels there, and may be blurred away."
        )
    if advice is not None:
        lines.append(f"To see it about {_pixels(advice.pixels)} across: {advice.options}")
    elif thin:
        lines.append("No size shows more: the images themselves have no more pixels.")
    return Finding("The smallest defect", tuple(lines), grave=advice is not None)


def _pixels(width: float) -> str:
    """A width in words that one can picture.

    >>> _pixels(0.256), _pixels(1.0), _pixels(7.3)
    ('0.26 pixels', '1 pixel', '7.3 pixels')
    """
    text = number(width, 2)
    return f"{text} pixel{'s' * (text != '1')}"


def _strangest(inspection: Inspection) -> Finding | None:
    look = inspection.look
    if look is None or not look.strangest:
        return None
    names = tuple(f"{item.sample.id}: {item.ratio:.2f} times the usual score" for item in look.strangest)
    doubtful = [item for item in look.strangest if item.ratio >= DOUBTFUL]
    lines = (
        (
            "The normal images that are least like the others, each scored by what the others show. A defect among them would be "
            "learned as normal: look at them."
        ),
    )
    return Finding("The strangest normals", lines, names, grave=bool(doubtful) and doubtful[0].ratio >= 2 * DOUBTFUL)


def _all_looked_at(inspection: Inspection) -> bool:
    return inspection.look is not None and len(inspection.look.rows) >= inspection.distinct


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
    text = f"{_pixels(defect.original)} across; {_pixels(defect.width)} as the detector sees it"
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


def _plain(line: str) -> str:
    """Without spaces that do not break, which not every terminal shows, and without what a file's name could do to one.

    >>> _plain("1\u00a0%")
    '1 %'
    """
    return printable(line.replace("\u00a0", " "))
