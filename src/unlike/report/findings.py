"""What an inspection found, in sentences."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, replace

import numpy as np

from unlike.artifacts import printable
from unlike.calibration.thresholds import AUTO_FALSE_ALARMS, normals_needed
from unlike.detector.inspection import THIN, Inspection, advise_size
from unlike.records import Rows, Sample
from unlike.report.wording import count, exact_percent, number, percent

MOST_NAMED = 8  # images that a sentence or a list names
MOST_ROWS = 30  # of the table of counts
FEWER = 0.9  # of the images, that are independent: said
FIT_HEEDS = "fit counts groups where they are given, or follow each other by name, and says so."
DOUBTFUL = 1.5  # times the usual score: worth a look


@dataclass(frozen=True, slots=True)
class Finding:
    """A heading, what was found in sentences, and images that it is about."""

    title: str
    lines: tuple[str, ...]
    names: tuple[str, ...] = ()
    grave: bool = False  # something to mend, or to know, before fitting


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
    whole = "" if all_looked_at(inspection) else f", some of {distinct:,},"
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
    about = "" if all_looked_at(inspection) else "about "
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
            f"The thinnest labelled defect, {pixels_across(smallest.original)} across in {shape[0]} x {shape[1]}, is "
            f"{pixels_across(smallest.width)} across at {spec.height} x {spec.width} ({sample.id}); the median one is "
            f"{pixels_across(float(np.median(widths)))}."
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
        lines.append(f"To see it about {pixels_across(advice.pixels)} across: {advice.options}")
    elif thin:
        lines.append("No size shows more: the images themselves have no more pixels.")
    return Finding("The smallest defect", tuple(lines), grave=advice is not None)


def pixels_across(width: float) -> str:
    """A width in words that one can picture.

    >>> pixels_across(0.256), pixels_across(1.0), pixels_across(7.3)
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


def all_looked_at(inspection: Inspection) -> bool:
    """Whether the features of all different images that `fit` would take were looked at, not of some."""
    return inspection.look is not None and len(inspection.look.rows) >= inspection.distinct


def _plain(line: str) -> str:
    """Without spaces that do not break, which not every terminal shows, and without what a file's name could do to one.

    >>> _plain("1\u00a0%")
    '1 %'
    """
    return printable(line.replace("\u00a0", " "))
