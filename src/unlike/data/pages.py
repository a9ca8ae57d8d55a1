"""Files of several pages: each page an image, the first alone, or all as the channels of one."""

from __future__ import annotations

import mmap
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal, Protocol, TypeVar

from unlike.data.layouts.wording import plural
from unlike.data.readers import tiff
from unlike.data.readers.addresses import ALL_PAGES, Address, name_page, split_page
from unlike.data.readers.remote import url_of
from unlike.errors import ImageError
from unlike.records import Sample

Pages = Literal["all", "first", "stack"]
TIFF, DICOM = {"tif", "tiff"}, {"dcm", "dicom"}  # extensions of files that may have several


class Paged(Protocol):
    """What of a source is needed here."""

    @property
    def samples(self) -> Sequence[Sample]: ...
    def with_samples(self, samples: Sequence[Sample], /) -> Paged: ...


Kind = TypeVar("Kind", bound=Paged)


def turn_pages(source: Kind, pages: Pages) -> Kind:
    """The source with an image for each page of its files, `x.tif#3`; or, for "stack", with all pages as one image's channels.

    A mask of as many pages is turned with its image. Pages that a path names by itself stay as they are. For "first" nothing
    changes: that is what a file is read as.
    """
    if pages == "first" or not any(_may_have_pages(sample) for sample in source.samples):
        return source
    samples = [turned for sample in source.samples for turned in _turn(sample, pages)]
    return source.with_samples(samples) if len(samples) > len(source.samples) or pages == "stack" else source  # type: ignore[return-value]


def tell_pages(before: Sequence[Sample], after: Sequence[Sample], pages: Pages) -> str:
    """How files of several pages were taken, in a sentence; nothing where there are none."""
    known, found = {sample.path for sample in before}, {sample.path for sample in after}
    files, images = len(known - found), len(found - known)
    if not files:
        return ""
    said = f"{plural(files, 'file')} of several pages"
    if pages == "stack":
        return f"{said}: all pages of each are the channels of one image; --pages all takes each as an image."
    return (
        f"{said}: {plural(images, 'image')}, one a page; --pages first takes the first of each, stack all as channels."
    )


def count_pages(path: Path) -> int:
    """How many images a file holds: pages of a TIFF that are as large as the first, frames of a DICOM file; else 1."""
    address = Address.of(path)
    try:
        if address.extension in DICOM:
            from unlike.data.readers.dicom import count_frames

            return count_frames(address.read())
        if address.extension not in TIFF:
            return 1
        if address.member or url_of(address.file):
            return max(1, len(tiff.find_pages(address.read())))
        with address.file.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            return max(1, len(tiff.find_pages(content))) if content[:4] in tiff.MAGIC else 1
    except (OSError, ValueError, ImageError):  # which reading it will say
        return 1


def _may_have_pages(sample: Sample) -> bool:
    return sample.path is not None and sample.path.suffix.lower().removeprefix(".") in TIFF | DICOM


def _turn(sample: Sample, pages: Pages) -> Iterator[Sample]:
    count = count_pages(sample.path) if sample.path is not None and _may_have_pages(sample) else 1
    if sample.path is None or count == 1:
        yield sample
    elif pages == "stack":
        yield replace(sample, path=name_page(sample.path, ALL_PAGES))
    else:
        mask = sample.mask
        masks = isinstance(mask, Path) and split_page(mask)[1] == 1 and count_pages(mask) == count
        for page in range(1, count + 1):
            turned = replace(sample, id=f"{sample.id}#{page}", path=name_page(sample.path, page))
            yield replace(turned, mask=name_page(mask, page)) if masks and isinstance(mask, Path) else turned
