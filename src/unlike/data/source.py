"""The door: what a user names (a folder, files, a glob, a manifest, an array) becomes one Source of images.

Nobody behind it asks again which of these it was.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from unlike.cache import Cache
from unlike.data import layouts
from unlike.data.arrays import open_rows
from unlike.data.batches import Batch, ImageSet, Notify
from unlike.data.files import FileSource, find_files, join_files
from unlike.data.input_spec import InputSpec, Missing
from unlike.data.looks import find_depth, look
from unlike.data.readers import MAX_PIXELS, decode
from unlike.data.samples import RowSamples, column
from unlike.errors import DataError
from unlike.records import Pixels, Rows, Sample


@runtime_checkable
class Source(Protocol):
    """Which images there are, in a stable order, and how to read them. Nothing is read before it is asked for.

    Files and the rows of an array are sources; a class of your own with these members is one too, wherever images are taken.
    """

    @property
    def name(self) -> str: ...  # what the user named, for messages
    @property
    def samples(self) -> Sequence[Sample]: ...  # N, each with an id of its own
    @property
    def natural_size(self) -> tuple[int, int] | None: ...  # height and width of every image, if all have the same
    def __len__(self) -> int: ...

    def take(self, positions: Rows) -> Source:
        """The samples at these positions, in this order."""
        ...

    def where(self, wanted: Callable[[Sample], bool], /) -> Source:
        """The samples that are wanted, in the same order."""
        ...

    def with_samples(self, samples: Sequence[Sample]) -> Source:
        """Other samples of the same images: some of them, in another order, or with other labels."""
        ...

    def read(self, sample: Sample) -> Pixels:
        """One image as it is, (H, W, C), before any input spec; an ImageError says why it cannot be read."""
        ...

    def stream(self, spec: InputSpec, batch_size: int | None = None) -> Iterator[Batch]:
        """Read all images once, in order, a batch at a time; what cannot be read is named and left out.

        Few batches are in memory, however many images there are.
        """
        ...

    def load(self, spec: InputSpec, cache: Cache | None, notify: Notify | None = None) -> ImageSet:
        """Read every image once, so that all can be taken in any order. `cache=None` keeps nothing on disk.

        `notify(done, total)` is called as images are read. A DataError says that none can be.
        """
        ...


Images = str | os.PathLike[str] | npt.NDArray[Any] | Sequence[str | os.PathLike[str]] | Source


def open_source(images: Images, labels: Any = None) -> Source:
    """Find the images a user names.

    `images` is a folder (any depth; MVTec AD layout is recognised), one image, a glob, a `.npy` or `.npz`, a `.csv`
    manifest, an array (N, H, W) or (N, H, W, C), or a list of paths; a Source is taken as it is. `labels`, for arrays only, is
    a `.csv`, a `.npy` or an array with one value a row: zero is normal.

    >>> source = open_source(np.zeros((3, 8, 8), np.uint8), labels=[0, 0, 1])
    >>> [(sample.id, sample.anomalous) for sample in source.samples]
    [('0', False), ('1', False), ('2', True)]
    """
    if isinstance(images, Source):
        return images
    rows = open_rows(images, labels, _judged_rows)
    if rows is not None:
        return rows
    if isinstance(images, str | os.PathLike):
        files = find_files(Path(images))
        if labels is not None:
            raise DataError(
                f"{files.name}: labels apart from the images go with an array (.npy or .npz) only; "
                "label files by folder or by a manifest"
            )
        return files
    if not isinstance(images, Iterable):
        raise DataError(f"expected a path, a list of paths or an array, came {type(images).__name__}")
    return _join([open_source(item, labels) for item in images])


def training(source: Source) -> Source:
    """The normal images to fit on: of the train split where there is one, never of a test split.

    None that is labelled anomalous, and where some are labelled normal, none without a label.
    """
    splits, anomalous = column(source.samples, "split"), column(source.samples, "anomalous")
    outside = splits == "train" if (splits == "train").any() else splits != "test"
    candidates = outside & ~np.equal(anomalous, True)
    normal = candidates & np.equal(anomalous, False)
    chosen = normal if normal.any() else candidates
    if not chosen.any():
        raise DataError(
            f"{source.name}: no image of {len(source):,} is normal and outside a test split; fit needs normal images"
        )
    return source if chosen.all() else source.take(np.flatnonzero(chosen))


def labelled(source: Source) -> Source:
    """The images to evaluate on: of the test split where there is one, and with a label."""
    splits, anomalous = column(source.samples, "split"), column(source.samples, "anomalous")
    test = splits == "test"
    known = np.equal(anomalous, True) | np.equal(anomalous, False)
    chosen = known & test if test.any() else known
    if not chosen.any():
        raise DataError(
            f"{source.name}: no image of {len(source):,} has a label; expected a folder with subfolders "
            "`good` and one for each kind of defect, a manifest with a label column, or an array with --labels"
        )
    return source if chosen.all() else source.take(np.flatnonzero(chosen))


def choose_spec(
    source: Source,
    size: tuple[int, int] | None,
    channels: int | None,
    aspect: str,
    fallback: tuple[int, int],
    *,
    bits: int | None = None,
    missing: Missing = None,
    most_pixels: int = MAX_PIXELS,
) -> InputSpec:
    """The input spec to fit in: what was asked for, and for the rest what most images are."""
    return choose_form(source, size, channels, aspect, fallback, bits=bits, missing=missing, most_pixels=most_pixels)[0]


def choose_form(
    source: Source,
    size: tuple[int, int] | None,
    channels: int | None,
    aspect: str,
    fallback: tuple[int, int],
    *,
    bits: int | None = None,
    missing: Missing = None,
    most_pixels: int = MAX_PIXELS,
) -> tuple[InputSpec, tuple[str, ...]]:
    """The input spec to fit in, and in sentences what that does to images that are not like most.

    Images that are all of one size keep it unless another is asked for; others get `fallback`. `channels`, `bits` and the rest
    are what was asked for; None leaves them to the images.
    """
    looked = look(_Limited(source, most_pixels))
    height, width = size or source.natural_size or fallback
    notes = looked.notes if channels is None else ()
    depth = bits or (find_depth(_Limited(source, most_pixels)) if looked.deep and not looked.floating else 16)
    if bits is None and depth < 16:
        notes += (f"Images of 16 bits use {depth}: white is {2**depth - 1:,}; --set data.bits=16 decides otherwise.",)
    spec = InputSpec(
        height,
        width,
        channels or looked.channels,
        floating=looked.floating,
        aspect="pad" if aspect == "pad" else "stretch",
        convert=channels is not None or looked.mixed,
        bits=depth,
        missing=missing,
        most_pixels=most_pixels,
    )
    return spec, notes


@dataclass(frozen=True, slots=True)
class _Limited:
    """A source whose files are read up to another size."""

    source: Source
    most_pixels: int

    @property
    def name(self) -> str:
        return self.source.name

    @property
    def samples(self) -> Sequence[Sample]:
        return self.source.samples

    @property
    def natural_size(self) -> tuple[int, int] | None:
        return self.source.natural_size

    def read(self, sample: Sample) -> Pixels:
        if sample.path is None or self.most_pixels == MAX_PIXELS:
            return self.source.read(sample)
        return decode(sample.path, self.most_pixels)


def _judged_rows(labels: Any, count: int, name: str) -> RowSamples:
    return RowSamples(range(count), None if labels is None else layouts.read_labels(labels, count, name))


def _join(sources: list[Source]) -> Source:
    if not sources:
        raise DataError("expected at least one path, came an empty list")
    if len(sources) == 1:
        return sources[0]
    files = [source for source in sources if isinstance(source, FileSource)]
    if len(files) < len(sources):
        raise DataError("several sources must be files or folders; give one array at a time")
    return join_files(files)
