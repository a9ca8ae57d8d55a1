"""Where an image lies: in a file, on a page of one, or in a zip archive that is read without being unpacked."""

from __future__ import annotations

import functools
import os
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path

from unlike.data.readers.remote import fetch, state_of, url_of
from unlike.errors import ImageError

ALL_PAGES = 0  # as the page of an address: all of them, as channels
ARCHIVES = (".zip",)
ZIP_REFUSES = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, ValueError)


@dataclass(frozen=True, slots=True)
class Address:
    """An image file, `x.tif`, a page of it, `x.tif#3`, or all its pages, `x.tif#all`; each may lie in an archive, `x.zip/a/b.tif`,
    or in a store, `s3://bucket/x.tif`.

    >>> Address(Path("scans/x.tif"), page=3).extension
    'tif'
    """

    file: Path  # on disk
    member: str = ""  # its name in the archive that the file is
    page: int = 1  # or ALL_PAGES

    @classmethod
    def of(cls, path: Path) -> Address:
        """What a path means: a file of exactly that name comes first."""
        if url_of(path):
            file, page = split_page(path)
            return cls(file, "", page)
        if os.path.exists(path):  # noqa: PTH110 - Path.exists raises where a folder above may not be seen
            return cls(path)
        file, page = split_page(path)
        archive = _find_archive(path)
        if archive is None:
            return cls(file, "", page) if os.path.exists(file) else cls(path)  # noqa: PTH110
        whole = path.relative_to(archive).as_posix()
        try:
            named_so = page == 1 or whole in open_archive(archive).NameToInfo
        except (OSError, *ZIP_REFUSES):  # which reading it will say
            named_so = True
        return cls(archive, whole) if named_so else cls(archive, file.relative_to(archive).as_posix(), page)

    @property
    def extension(self) -> str:
        return extension_of(Path(self.member) if self.member else self.file)

    def read(self) -> bytes:
        """Its whole content; an ImageError says why there is none."""
        try:
            if url := url_of(self.file):
                return fetch(url)
            if not self.member:
                return self.file.read_bytes()
            return open_archive(self.file).read(self.member)
        except OSError as error:
            raise ImageError(f"cannot be opened ({error.strerror or error})") from None
        except KeyError:
            raise ImageError(f"cannot be opened (it is not in {self.file.name})") from None
        except ZIP_REFUSES as error:
            raise ImageError(f"cannot be read from {self.file.name} ({error})") from None

    def state(self) -> str:
        """Another text whenever the content may be another; an OSError where there is none."""
        if url := url_of(self.file):
            return state_of(url)
        stat = self.file.stat()
        return f"{stat.st_size}\0{stat.st_mtime_ns}"


def read_address(path: Path) -> tuple[Address, bytes]:
    """What a path means, and its whole content; an ImageError says why there is none."""
    try:
        return Address(path), path.read_bytes()  # a file, as nearly always, is opened once and asked nothing else
    except OSError:
        address = Address.of(path)
        return address, address.read()


def split_page(path: Path) -> tuple[Path, int]:
    """A path without the page that it names, and the page.

    >>> split_page(Path("x.tif#3"))[1], split_page(Path("x.tif#all"))[1], split_page(Path("a#b.tif"))[1]
    (3, 0, 1)
    """
    name, mark, page = path.name.rpartition("#")
    if mark and name and page == "all":
        return path.with_name(name), ALL_PAGES
    if mark and name and page.isascii() and page.isdigit() and int(page) > 0:
        return path.with_name(name), int(page)
    return path, 1


def name_page(path: Path, page: int) -> Path:
    """The path of a page.

    >>> name_page(Path("a/x.tif"), 3).name, name_page(Path("x.tif"), ALL_PAGES).name
    ('x.tif#3', 'x.tif#all')
    """
    return path.with_name(f"{path.name}#{page or 'all'}")


def extension_of(path: Path) -> str:
    """In lower case, without its dot.

    >>> extension_of(Path("A.TIFF")), extension_of(Path("x.tif#3"))
    ('tiff', 'tif')
    """
    return (split_page(path)[0] if "#" in path.name else path).suffix.lower().removeprefix(".")


def open_archive(path: Path) -> zipfile.ZipFile:
    """The archive at that path, opened once in this process for as long as it stays the same."""
    stat = path.stat()
    return _open_archive(path, stat.st_size, stat.st_mtime_ns, os.getpid())


@functools.lru_cache(maxsize=4)
def _open_archive(path: Path, size: int, time: int, process: int) -> zipfile.ZipFile:  # noqa: ARG001 - they tell it from others
    return zipfile.ZipFile(path)


def _find_archive(path: Path) -> Path | None:
    """The archive that a path leads into, if any."""
    return next((parent for parent in path.parents if parent.suffix.lower() in ARCHIVES and parent.is_file()), None)
