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
from unlike.data.arrays import is_array_file, open_rows
from unlike.data.batches import Batch, ImageSet, Notify
from unlike.data.files import FileSource, find_array, find_files, join_files
from unlike.data.input_spec import InputSpec, Missing
from unlike.data.layouts.labels import read_labels
from unlike.data.layouts.wording import listed, plural
from unlike.data.looks import count_beyond, find_depth, look
from unlike.data.pages import Pages, tell_pages, turn_pages
from unlike.data.readers import MAX_PIXELS, decode
from unlike.data.samples import RowSamples, column
from unlike.errors import DataError
from unlike.records import Bools, Pixels, Rows, Sample


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
    @property
    def notes(self) -> tuple[str, ...]: ...  # sentences that say what was taken, and what was left aside
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


@runtime_checkable
class Layered(Protocol):
    """A source that was found by the names of folders and files: it may doubt, and can be told what is left out of it."""

    @property
    def doubt(self) -> str: ...  # why its images without a label may not be taken for normal ones; or nothing
    def with_note(self, note: str) -> Source: ...


Images = str | os.PathLike[str] | npt.NDArray[Any] | Sequence[str | os.PathLike[str]] | Source


def open_source(
    images: Images, labels: Any = None, good: str | Sequence[str] | None = None, pages: Pages = "first"
) -> Source:
    """Find the images a user names.

    `images` is a folder (any depth; the layouts of the field are recognised, and `notes` say which), one image, a glob, a
    `.npy` or `.npz`, a `.csv` manifest, an array (N, H, W) or (N, H, W, C), or a list of paths; a Source is taken as it is.
    `labels`, for arrays only, is a `.csv`, a `.npy` or an array with one value a row: zero is normal. `good`, for files only,
    is a pattern (or several) such as "ok/*": the files it matches are taken, as normal ones, and no others. `pages` says what a
    file of several pages is (`turn_pages`), of a Source too: whoever opens for a detector passes its `data.pages`.

    >>> source = open_source(np.zeros((3, 8, 8), np.uint8), labels=[0, 0, 1])
    >>> [(sample.id, sample.anomalous) for sample in source.samples]
    [('0', False), ('1', False), ('2', True)]
    """
    source = _find(images, labels, [good] if isinstance(good, str) else list(good or ()))
    turned = turn_pages(source, pages)
    if turned is source or not isinstance(turned, Layered):
        return turned
    note = tell_pages(source.samples, turned.samples, pages)
    return turned.with_note(note) if note else turned


def _find(images: Images, labels: Any, patterns: Sequence[str]) -> Source:
    opened = images if isinstance(images, Source) else open_rows(images, labels, _judged_rows)
    if opened is not None:
        if patterns:
            raise DataError(
                f"{opened.name}: good files can be chosen of a folder, a glob or a manifest only, by their paths"
            )
        return opened
    if isinstance(images, str | os.PathLike):
        files = find_files(Path(images), patterns)
        if labels is not None:
            raise DataError(
                f"{files.name}: labels apart from the images go with an array (.npy or .npz) only; "
                "label files by folder or by a manifest"
            )
        return files
    if not isinstance(images, Iterable):
        raise DataError(f"expected a path, a list of paths or an array, came {type(images).__name__}")
    items = list(images)
    if len(items) > 1 and all(isinstance(item, str | os.PathLike) and is_array_file(Path(item)) for item in items):
        several = _join([find_array(Path(item), patterns) for item in items])
        return (
            several.with_note(f"{plural(len(items), 'array')}, each taken as one image.")
            if isinstance(several, Layered)
            else several
        )
    return _join([_find(item, labels, patterns) for item in items])


def training(source: Source) -> Source:
    """The normal images to fit on: of the train split where there is one, never of a test split.

    None that is labelled anomalous, and where some are labelled normal, none without a label. A DataError says that there is
    none, or that names look like labels and none is certain.
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
    if isinstance(source, Layered) and source.doubt and not normal.any():
        raise DataError(source.doubt)
    return _take_part(source, chosen, "To fit on")


def labelled(source: Source) -> Source:
    """The images to evaluate on: of the test split where there is one, else of that for validation, and with a label."""
    splits, anomalous = column(source.samples, "split"), column(source.samples, "anomalous")
    known = np.equal(anomalous, True) | np.equal(anomalous, False)
    held_out = next((splits == name for name in ("test", "validation") if (splits == name).any()), known)
    chosen = known & held_out
    if not chosen.any():
        raise DataError(
            f"{source.name}: no image of {len(source):,} has a label; expected a folder with subfolders "
            "`good` and one for each kind of defect, a manifest with a label column, or an array with --labels"
        )
    return _take_part(source, chosen, "To evaluate on")


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
    if bits is not None and bits < 16 and looked.deep and (beyond := count_beyond(_Limited(source, most_pixels), bits)):
        said = f"Of {plural(len(source), 'image')} {beyond:,} have values beyond {2**bits - 1:,}, white for data.bits={bits}"
        notes += (f"{said}: cut off there, or refused where there are many; --set data.bits=16 keeps them.",)
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


def read_original(source: Source, sample: Sample, most_pixels: int) -> Pixels:
    """One image of a source as it is, (H, W, C), read up to that size."""
    if sample.path is None or most_pixels == MAX_PIXELS:
        return source.read(sample)
    return decode(sample.path, most_pixels)


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
        return read_original(self.source, sample, self.most_pixels)


def _take_part(source: Source, chosen: Bools, purpose: str) -> Source:
    """The chosen images, and where a source tells such things, a sentence on what is taken and what is left aside."""
    if chosen.all():
        return source
    taken = source.take(np.flatnonzero(chosen))
    if not isinstance(taken, Layered):
        return taken
    left = source.take(np.flatnonzero(~chosen))
    folders = f" of {listed(_folders_of(taken.samples))}" if _folders_of(taken.samples) else ""
    aside = _tops_of(left.samples, {name.split("/")[0] for name in _folders_of(taken.samples)})
    where = f" ({listed(aside)})" if aside else ""
    return taken.with_note(f"{purpose}: {plural(len(taken), 'image')}{folders}; {len(left):,} left aside{where}.")


def _folders_of(samples: Sequence[Sample]) -> list[str]:
    """The folders in which samples lie, by their ids."""
    return sorted({sample.id.rpartition("/")[0] for sample in samples} - {""})


def _tops_of(samples: Sequence[Sample], shared: set[str]) -> list[str]:
    """The same, but of a tree with nothing else of interest in it only its top."""
    folders = _folders_of(samples)
    return sorted({name if name.split("/")[0] in shared else f"{name.split('/')[0]}/" for name in folders})


def _judged_rows(labels: Any, count: int, name: str) -> RowSamples:
    return RowSamples(range(count), None if labels is None else read_labels(labels, count, name))


def _join(sources: list[Source]) -> Source:
    if not sources:
        raise DataError("expected at least one path, came an empty list")
    if len(sources) == 1:
        return sources[0]
    files = [source for source in sources if isinstance(source, FileSource)]
    if len(files) < len(sources):
        raise DataError("several sources must be files or folders; give one array at a time")
    return join_files(files)
