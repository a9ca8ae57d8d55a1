"""Images in files: folders, single ones, globs and manifests, found in a stable order and read when they are needed."""

from __future__ import annotations

import glob as globbing
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from unlike.cache import Cache
from unlike.data.archives import is_archive, read_archive
from unlike.data.batches import Batch, ImageSet, Notify
from unlike.data.input_spec import InputSpec
from unlike.data.layouts.doubts import doubt_list
from unlike.data.layouts.folders import Layout, arrange, choose, read_folder
from unlike.data.layouts.manifests import read_manifest
from unlike.data.layouts.notes import contents
from unlike.data.layouts.patterns import matcher
from unlike.data.layouts.walk import sift
from unlike.data.layouts.wording import plural
from unlike.data.loading import load_files, stream_files
from unlike.data.readers import decode, is_image
from unlike.data.readers.addresses import extension_of
from unlike.data.readers.remote import find_remote, url_of
from unlike.data.samples import find_positions, take_samples
from unlike.errors import DataError
from unlike.records import Pixels, Rows, Sample

MANIFESTS = (".csv", ".tsv", ".parquet")
ARRAYS = ("npy", "npz")  # extensions


@dataclass(frozen=True, slots=True, eq=False)
class FileSource:
    """Image files as a source: decoded on several threads, or once into the cache."""

    name: str
    samples: Sequence[Sample]
    notes: tuple[str, ...] = ()  # what was understood of the files, and what was left aside, in sentences
    doubt: str = ""  # why none of the images without a label may be taken for normal

    def __len__(self) -> int:
        return len(self.samples)

    @property
    def natural_size(self) -> None:
        """Files may each have a size of their own."""

    def with_samples(self, samples: Sequence[Sample]) -> FileSource:
        return replace(self, samples=samples)

    def with_note(self, note: str) -> FileSource:
        return replace(self, notes=(*self.notes, note))

    def take(self, positions: Rows) -> FileSource:
        return self.with_samples(take_samples(self.samples, positions))

    def where(self, wanted: Callable[[Sample], bool]) -> FileSource:
        return self.take(find_positions(self.samples, wanted))

    def read(self, sample: Sample) -> Pixels:
        if sample.path is None:
            raise DataError(f"{sample.id}: has neither a file nor a row in {self.name}")
        return decode(sample.path)

    def stream(self, spec: InputSpec, batch_size: int | None = None) -> Iterator[Batch]:
        return stream_files(self.samples, spec, batch_size)

    def load(self, spec: InputSpec, cache: Cache | None, notify: Notify | None = None) -> ImageSet:
        return load_files(self.samples, self.name, spec, cache, notify)


def find_files(path: Path, good: Sequence[str] = ()) -> FileSource:
    """The images of a folder, a manifest or a glob, or the one image at that path; with `good`, those that it matches.

    A path that exists is what it says, whatever brackets are in its name.
    """
    wanted = matcher(good) if good else None
    if url := url_of(path):
        layout = _read_remote(url, wanted)
        return FileSource(url, layout.samples, layout.notes, layout.doubt)
    if path.is_dir():
        layout = drop_strays(read_folder(path, wanted))
    elif path.is_file() and is_archive(path):
        layout = drop_strays(read_archive(path, lambda folder: read_folder(folder, wanted)))
    elif path.is_file():
        layout = _read_file(path, wanted)
    elif globbing.has_magic(str(path)):
        layout = _read_glob(path, wanted)
    else:
        parent = next(parent for parent in path.absolute().parents if parent.exists())
        raise DataError(f"{path}: no such file or folder; {parent} is as far as the path exists")
    return FileSource(str(path), layout.samples, layout.notes, layout.doubt)


def find_array(path: Path, good: Sequence[str] = ()) -> FileSource:
    """One array in a file as one image."""
    source = find_files(path, good)
    return replace(source, notes=())


def join_files(sources: Sequence[FileSource]) -> FileSource:
    """Several sources of files as one, in the order given; an id is the whole path where ids would clash."""
    more = f" and {len(sources) - 3:,} more" if len(sources) > 3 else ""
    name = ", ".join(source.name for source in sources[:3]) + more
    samples = [sample for source in sources for sample in source.samples]
    if len({sample.id for sample in samples}) < len(samples):
        paths = [(sample, sample.path) for sample in samples if sample.path is not None]
        samples = [replace(sample, id=url_of(path) or path.as_posix()) for sample, path in paths]
    if len({sample.id for sample in samples}) < len(samples):
        raise DataError(f"{name}: the same image is named twice; name each once")
    notes = tuple(f"{source.name}: {note}" for source in sources for note in source.notes)
    return FileSource(name, samples, notes, next((source.doubt for source in sources if source.doubt), ""))


def _read_file(path: Path, wanted: Callable[[str], bool] | None) -> Layout:
    """A manifest, or one image, which the user names and so means."""
    if path.suffix.lower() not in MANIFESTS:
        notes = (f"{path.name} is taken as one image; several in a file are N x H x W or N x H x W x C.",)
        return Layout([Sample(path.name, path)], notes if extension_of(path) in ARRAYS else ())
    samples = read_manifest(path)
    if wanted is None:
        return Layout(samples, (f"Manifest: {contents(samples)}.",), doubt_list(path, samples))
    chosen = [sample for sample in samples if wanted(sample.id)]
    if not chosen:
        raise DataError(f"{path}: none of {plural(len(samples), 'image')} is chosen as good, such as {samples[0].id}")
    good = [replace(sample, anomalous=False, kind="good", split="", mask=None) for sample in chosen]
    return Layout(good, (f"{plural(len(good), 'image')} of {len(samples):,} called good; the others left aside.",))


def drop_strays(layout: Layout) -> Layout:
    """Without arrays that lie beside pictures: those are somebody's notes on them, not images.

    >>> samples = [Sample(name, Path(name)) for name in ("a.png", "a.npy", "x/b.npy")]
    >>> [sample.id for sample in drop_strays(Layout(samples)).samples]
    ['a.png', 'x/b.npy']
    """
    pictured = {one.path.parent for one in layout.samples if one.path and extension_of(one.path) not in ARRAYS}
    kept = [s for s in layout.samples if s.path and not (extension_of(s.path) in ARRAYS and s.path.parent in pictured)]
    strays = len(layout.samples) - len(kept)
    note = (f"{plural(strays, 'array')} beside pictures left aside.",) if strays else ()
    return replace(layout, samples=kept, notes=(*layout.notes, *note))


def _read_remote(url: str, wanted: Callable[[str], bool] | None) -> Layout:
    """The images at an address of a store, by the same names of folders as on disk; a table of images, or one image."""
    listing = find_remote(url)
    if listing.single:
        path = listing.files[0]
        if path.suffix.lower() in MANIFESTS:
            return _read_file(path, wanted)
        if extension_of(path) in ARRAYS or is_archive(path):
            raise DataError(f"{url}: arrays and archives are read from disk; copy it, and name the copy")
        return Layout([Sample(path.name, path)])
    base = Path(url) if not globbing.has_magic(url) else _above_pattern(Path(url))
    found = sift(base, [path for path in listing.files if is_image(path.name) and not _is_hidden(path, base)])
    if not found.files:
        raise DataError(f"{url}: no image in it ({len(listing.files):,} other files)")
    layout = arrange(base, found.files) if wanted is None else choose(base, found.files, wanted)
    return drop_strays(replace(layout, notes=(*layout.notes, *found.notes())))


def _above_pattern(path: Path) -> Path:
    """The folder above the first part of a path that is a pattern."""
    return next(parent for parent in path.parents if not globbing.has_magic(str(parent)))


def _is_hidden(path: Path, base: Path) -> bool:
    return any(part.startswith(".") for part in path.relative_to(base).parts)


def _read_glob(pattern: Path, wanted: Callable[[str], bool] | None) -> Layout:
    base, rest = _split_glob(pattern)
    whole = os.path.join(globbing.escape(str(base)), rest)  # noqa: PTH118 - it may end in a slash
    names = globbing.glob(whole, recursive=True)  # noqa: PTH207 - Path.glob takes no absolute pattern
    found = sift(base, sorted(Path(name) for name in names if is_image(name)))
    if not found.files:
        raise DataError(f"{pattern}: no image matches; quote the pattern, and use ** for folders at any depth")
    layout = arrange(base, found.files) if wanted is None else choose(base, found.files, wanted)
    return replace(layout, notes=(*layout.notes, *found.notes()))


def _split_glob(pattern: Path) -> tuple[Path, str]:
    """The folder that is there, though its name may have brackets, and the pattern below it."""
    base = Path(pattern.anchor)
    parts = pattern.parts[1:] if pattern.anchor else pattern.parts
    for place, part in enumerate(parts):
        if globbing.has_magic(part) and not (base / part).exists():
            return base, os.path.join(*parts[place:])  # noqa: PTH118
        base /= part
    return base, ""
