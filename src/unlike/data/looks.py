"""A look at images before they are read: what most of them are, so that the input spec suits them all."""

from __future__ import annotations

import contextlib
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from unlike.data.input_spec import DEPTHS, depth_of
from unlike.data.readers import peek, peek_size
from unlike.errors import ImageError, none_usable
from unlike.records import Pixels, Sample, Unreadable

LOOKS = 300  # images that are looked at, spread over all: by their headers where those say enough,
DECODED = 60  # and so many by decoding
THREADS = 4
DEEP = 2 ** DEPTHS[-2]  # from this value on, uint16 is used to the full
PICTURES = {1, 3, 4}  # channels that can be turned into each other
NAMES = {1: "grey", 3: "colour", 4: "with transparency"}


class Readable(Protocol):
    """What of a source is needed here."""

    @property
    def name(self) -> str: ...
    @property
    def samples(self) -> Sequence[Sample]: ...
    @property
    def natural_size(self) -> tuple[int, int] | None: ...
    def read(self, sample: Sample) -> Pixels: ...


@dataclass(frozen=True, slots=True)
class Form:
    """What an image is made of."""

    channels: int
    kind: str  # "uint8", "uint16" or "float32"

    @property
    def floating(self) -> bool:
        return self.kind.startswith("float")


@dataclass(frozen=True, slots=True)
class Looked:
    """What most images are, and what is to be said of the others."""

    channels: int
    floating: bool
    mixed: bool  # some must be turned into that
    deep: bool  # some are uint16
    notes: tuple[str, ...] = ()


def look(source: Readable) -> Looked:
    """What the images of a source are: colour beside grey is colour, and for the rest the majority decides.

    A few hundred images, spread over all, are looked at; where all have one size, as the rows of an array, one. A DataError
    says that none can be read.
    """
    forms = list(_look_at(source))
    if not forms:
        return _decide([_form(_first_readable(source))], len(source.samples))
    return _decide(forms, len(source.samples))


def usual_side(source: Readable) -> int:
    """The longer side of images as they come, in pixels: the median of a few hundred, spread over all.

    A DataError says that none can be read.
    """
    if source.natural_size is not None:
        return max(source.natural_size)
    sides, unknown = [], []
    for position in _spread(len(source.samples), LOOKS):
        sample = source.samples[position]
        size = peek_size(sample.path) if sample.path is not None else None
        if size is None:
            unknown.append(sample)
        else:
            sides.append(max(size))
    for position in _spread(len(unknown), DECODED):
        with contextlib.suppress(ImageError):  # which the reading of all will say
            sides.append(max(source.read(unknown[position]).shape[:2]))
    return int(np.median(sides)) if sides else max(_first_readable(source).shape[:2])


def _spread(count: int, most: int) -> list[int]:
    """At most so many of `count` positions, from the first to the last."""
    return np.unique(np.linspace(0, count - 1, min(count, most)).astype(int)).tolist() if count else []


def find_depth(source: Readable) -> int:
    """The bits that the values of all uint16 images of a source use: 8, 10, 12, 14 or 16.

    All are read, unless one of the first uses all 16.
    """
    highest, found = 0, threading.Event()

    def read(sample: Sample) -> int:
        if found.is_set() or (sample.path is not None and (form := peek(sample.path)) and form[1] != "uint16"):
            return 0
        try:
            image = source.read(sample)
        except ImageError:  # which the reading of all will say
            return 0
        high = int(image.max()) if image.dtype == np.uint16 else 0
        if high >= DEEP:
            found.set()
        return high

    with ThreadPoolExecutor(THREADS if source.natural_size is None else 1) as pool:
        highest = max(pool.map(read, source.samples), default=0)
    return depth_of(highest)


def count_beyond(source: Readable, bits: int) -> int:
    """How many uint16 images of a source have values beyond so many bits."""

    def is_beyond(sample: Sample) -> bool:
        try:
            image = source.read(sample)
        except ImageError:  # which the reading of all will say
            return False
        return image.dtype == np.uint16 and int(image.max()) >= 2**bits

    with ThreadPoolExecutor(THREADS if source.natural_size is None else 1) as pool:
        return sum(pool.map(is_beyond, source.samples))


def _look_at(source: Readable) -> Iterator[Form]:
    unknown = []
    for position in _spread(len(source.samples), 1 if source.natural_size is not None else LOOKS):
        sample = source.samples[position]
        form = peek(sample.path) if sample.path is not None else None
        if form is None:
            unknown.append(sample)
        else:
            yield Form(*form)
    for position in _spread(len(unknown), DECODED):
        try:
            yield _form(source.read(unknown[position]))
        except ImageError:  # which the reading of all will say
            continue


def _form(image: Pixels) -> Form:
    return Form(image.shape[2], str(image.dtype))


def _decide(forms: Sequence[Form], total: int) -> Looked:
    floating = 2 * sum(form.floating for form in forms) > len(forms)
    alike = [form for form in forms if form.floating == floating]
    counts = Counter(form.channels for form in alike)
    pictures = {channels: count for channels, count in counts.items() if channels in PICTURES}
    bands, most = counts.most_common(1)[0]
    if not pictures or (bands not in PICTURES and most > sum(pictures.values())):
        channels = bands
    elif set(pictures) == {1}:
        channels = 1
    else:
        channels = 4 if 2 * pictures.get(4, 0) > sum(pictures.values()) else 3
    notes = _say(counts, channels, len(forms), total) + _say_numbers(len(forms) - len(alike), floating, len(forms))
    mixed = len({*pictures, channels} & PICTURES) > 1
    return Looked(channels, floating, mixed, any(form.kind == "uint16" for form in alike), notes)


def _say(counts: Counter[int], channels: int, looked: int, total: int) -> tuple[str, ...]:
    others = {count: number for count, number in counts.items() if count != channels}
    if not others:
        return ()
    found = ", ".join(f"{number:,} {_name(count)}" for count, number in counts.most_common())
    of = f"Of {looked:,} images" + (f" looked at, of {total:,}," if looked < total else "")
    what = {3: "all are taken as colour", 4: "all are taken with transparency"}.get(
        channels, f"those with {channels} channels are taken"
    )
    ways = [
        words
        for count, words in ((1, "grey ones get three equal channels"), (4, "transparent ones lie on white"))
        if count in others
    ]
    lost = [count for count in others if not {count, channels} <= PICTURES]
    ways += [f"those with {_list(lost)} channels are refused"] if lost else []
    how = f" ({'; '.join(ways)})" if (ways and channels != 4) or lost else ""
    also = "" if lost else "; --set data.channels=1 or 3 decides otherwise"
    return (f"{of} {found}: {what}{how}{also}.",)


def _say_numbers(others: int, floating: bool, looked: int) -> tuple[str, ...]:
    if not others:
        return ()
    which = ("whole numbers", "floats") if floating else ("floats", "whole numbers")
    return (f"Of {looked:,} images {others:,} hold {which[0]} where most hold {which[1]}: they are refused.",)


def _name(channels: int) -> str:
    return NAMES.get(channels, f"of {channels} channels")


def _list(numbers: Sequence[int]) -> str:
    return " or ".join(map(str, sorted(numbers)))


def _first_readable(source: Readable) -> Pixels:
    failures: list[Unreadable] = []
    for sample in source.samples:
        try:
            return source.read(sample)
        except ImageError as error:
            failures.append(Unreadable(sample.id, str(error)))
    raise none_usable(f"{source.name}: no image", "read", failures)
