"""Images in files: folders, single ones, globs and manifests, found in a stable order and read when they are needed."""

from __future__ import annotations

import glob as globbing
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from unlike.cache import Cache
from unlike.data import layouts
from unlike.data.archives import is_archive, list_archive
from unlike.data.batches import Batch, ImageSet, Notify
from unlike.data.input_spec import InputSpec
from unlike.data.loading import load_files, stream_files
from unlike.data.readers import decode, is_image
from unlike.data.readers.addresses import extension_of
from unlike.data.samples import find_positions, take_samples
from unlike.errors import DataError
from unlike.records import Pixels, Rows, Sample

ARRAYS = ("npy", "npz")  # extensions


@dataclass(frozen=True, slots=True, eq=False)
class FileSource:
    """Image files as a source: decoded on several threads, or once into the cache."""

    name: str
    samples: Sequence[Sample]

    def __len__(self) -> int:
        return len(self.samples)

    @property
    def natural_size(self) -> None:
        """Files may each have a size of their own."""

    def with_samples(self, samples: Sequence[Sample]) -> FileSource:
        return replace(self, samples=samples)

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


def find_files(path: Path) -> FileSource:
    """The images of a folder, a manifest or a glob, or the one image at that path."""
    return FileSource(str(path), _list_files(path))


def join_files(sources: Sequence[FileSource]) -> FileSource:
    """Several sources of files as one, in the order given; an id is the whole path where ids would clash."""
    more = f" and {len(sources) - 3:,} more" if len(sources) > 3 else ""
    name = ", ".join(source.name for source in sources[:3]) + more
    samples = [sample for source in sources for sample in source.samples]
    if len({sample.id for sample in samples}) < len(samples):
        samples = [replace(sample, id=sample.path.as_posix()) for sample in samples if sample.path is not None]
    if len({sample.id for sample in samples}) < len(samples):
        raise DataError(f"{name}: the same image is named twice; name each once")
    return FileSource(name, samples)


def drop_strays(samples: list[Sample]) -> list[Sample]:
    """Without arrays that lie beside pictures: those are somebody's notes on them, not images.

    >>> [one.id for one in drop_strays([Sample("a.png", Path("a.png")), Sample("a.npy", Path("a.npy")), Sample("x/b.npy", Path("x/b.npy"))])]
    ['a.png', 'x/b.npy']
    """
    pictured = {sample.path.parent for sample in samples if sample.path and extension_of(sample.path) not in ARRAYS}
    return [s for s in samples if s.path and not (extension_of(s.path) in ARRAYS and s.path.parent in pictured)]


def _list_files(path: Path) -> list[Sample]:
    if path.is_dir():
        return drop_strays(layouts.read_folder(path))
    if path.is_file() and is_archive(path):
        return drop_strays(list_archive(path, layouts.read_folder))
    if path.is_file():
        return layouts.read_manifest(path) if path.suffix.lower() == ".csv" else [Sample(path.name, path)]
    if globbing.has_magic(str(path)):
        return _read_glob(path)
    parent = next(parent for parent in path.absolute().parents if parent.exists())
    raise DataError(f"{path}: no such file or folder; {parent} is as far as the path exists")


def _read_glob(pattern: Path) -> list[Sample]:
    base = Path(*pattern.parts[: next(i for i, part in enumerate(pattern.parts) if globbing.has_magic(part))])
    found = sorted(
        Path(name)
        for name in globbing.glob(str(pattern), recursive=True)  # noqa: PTH207 - Path.glob takes no absolute pattern
        if is_image(name)
    )
    if not found:
        raise DataError(f"{pattern}: no image matches; quote the pattern, and use ** for folders at any depth")
    return [Sample(file.relative_to(base).as_posix(), file) for file in found]
