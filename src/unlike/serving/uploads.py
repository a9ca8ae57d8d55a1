"""What a stranger sends, held against limits before anything is decoded or written; each refusal is a sentence.

An image is told by its first bytes, never by its name or by what the sender says of it. A header that claims more than the
limits is refused before a pixel is decoded, and of an archive nothing is read that its directory does not account for.
"""

from __future__ import annotations

import io
import re
import stat
import struct
import unicodedata
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO

from unlike.artifacts import printable
from unlike.data.readers import tiff
from unlike.data.readers.common import HEIF, JXL, PILLOW_REFUSES, Reading, decode_bytes, size_at
from unlike.errors import ImageError, ServiceError
from unlike.records import Pixels

TOO_LARGE, NOT_AN_IMAGE, UNUSABLE = 413, 415, 422  # HTTP
MARKS: dict[bytes, str] = {
    b"\x89PNG\r\n\x1a\n": "PNG",
    b"\xff\xd8\xff": "JPEG",
    b"GIF87a": "GIF",
    b"GIF89a": "GIF",
    b"BM": "BMP",
    b"\xff\x4f\xff\x51": "JPEG 2000",
    b"\0\0\0\x0cjP  ": "JPEG 2000",
    **dict.fromkeys(tiff.MAGIC, "TIFF"),
    **{b"P%d" % number: "PNM" for number in range(1, 7)},
}
FOREIGN: dict[bytes, str] = {  # that people send, or that hide behind the name of an image
    b"PK": "a zip archive",
    b"%PDF": "a PDF",
    b"\x1f\x8b": "a gzip archive",
    b"7z\xbc\xaf": "a 7z archive",
    b"Rar!": "a RAR archive",
    b"\x7fELF": "a program",
    b"MZ": "a program",
    b"#!": "a script",
    b"\x93NUMPY": "a numpy array",
    b"\x80\x04": "a Python pickle",
    b"\x80\x05": "a Python pickle",
    b"\0\0\1\0": "an icon",
    b"8BPS": "a Photoshop file",
    b"\x1aE\xdf\xa3": "a video",
    **dict.fromkeys(JXL, "a JPEG XL image"),
}
BRANDS = {b"avif": "AVIF", b"avis": "AVIF", **dict.fromkeys(HEIF, "HEIC")}  # after "ftyp"
SVG, HTML = re.compile(rb"<svg[\s>/:]", re.IGNORECASE), re.compile(rb"<(!doctype|html|script|body|head)", re.IGNORECASE)
HEAD = 65_536  # bytes in which markup is looked for
MARKUP_HEAD = 1_024
SMALL = 10_000_000  # bytes unpacked, up to which nobody asks how well they were packed
ZIP_REFUSES = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, ValueError, struct.error)
UNASKED = ("__MACOSX", "Thumbs.db", "desktop.ini")  # what systems add
LONGEST_NAME = 400  # characters, folders counted


@dataclass(frozen=True, slots=True)
class Limits:
    """How much one request may bring."""

    request_bytes: int = 2_000_000_000
    file_bytes: int = 64_000_000  # of one image, unpacked
    files: int = 20_000  # of one request, those in a zip counted
    unpacked_bytes: int = 8_000_000_000  # of all images in a zip together
    ratio: float = 200.0  # unpacked to packed, of a file in a zip of more than 10 MB
    pixels: int = 100_000_000  # that one image may claim
    pages: int = 64  # of a TIFF, frames of an animation


@dataclass(frozen=True, slots=True)
class Checked:
    """What the first bytes of an upload say."""

    name: str
    kind: str  # PNG, JPEG, ...
    width: int  # pixels; 0 where only decoding tells
    height: int
    pages: int = 1


def check_name(name: str) -> str:
    r"""A name that can be stored and shown, folders kept; a ServiceError where it is none.

    Windows' separators are read as such. What is refused: control characters and marks that turn the direction of writing,
    paths that lead elsewhere, drives, and names that no disk takes.

    >>> check_name("line 3\\a.png"), check_name("ü.png")
    ('line 3/a.png', 'ü.png')
    >>> check_name("../../etc/passwd")
    Traceback (most recent call last):
    unlike.errors.ServiceError: the name '../../etc/passwd' leads out of its folder; send it under a name within
    """
    shown = printable(name)[:80]
    if not name.strip(" ./\\"):
        raise _unusable(f"the name {shown!r} says nothing; give the file one, such as cell-17.png")
    if len(name) > LONGEST_NAME:
        raise _unusable(f"the name {shown!r}... has {len(name):,} characters; give it at most {LONGEST_NAME}")
    if any(unicodedata.category(letter) in ("Cc", "Cf", "Cs", "Zl", "Zp") for letter in name):
        raise _unusable(f"the name {shown!r} has characters that cannot be shown; rename the file")
    path = PurePosixPath(unicodedata.normalize("NFC", name).replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts or ":" in path.parts[0][1:2]:
        raise _unusable(f"the name {shown!r} leads out of its folder; send it under a name within")
    if any(len(part.encode()) > 255 for part in path.parts):
        raise _unusable(f"the name {shown!r}... is longer than the 255 bytes that disks take; rename the file")
    return str(path)


def check_image(name: str, content: bytes, limits: Limits) -> Checked:
    """Say what kind of image this is by its first bytes, and that its header claims no more than the limits.

    A ServiceError of status 413, 415 or 422 says why not. Nothing is decoded.

    >>> check_image("a.png", b"<svg onload='alert(1)'/>", Limits())
    Traceback (most recent call last):
    unlike.errors.ServiceError: a.png is SVG, which is drawing instructions and no picture; send PNG, JPEG, TIFF, BMP, WebP, ...
    """
    name = check_name(name)
    if not content:
        raise _unusable(f"{name} is empty (0 bytes); send the whole file")
    if len(content) > limits.file_bytes:
        raise _too_large(f"{name} has {len(content):,} bytes, more than {limits.file_bytes:,} of one image")
    kind = kind_of(content)
    if not kind:
        raise ServiceError(f"{name} is {_foreign(content)}; send PNG, JPEG, TIFF, BMP, WebP, ...", status=NOT_AN_IMAGE)
    pages = _count_pages(content, kind, limits.pages)
    if pages > limits.pages:
        raise _too_large(f"{name} is a {kind} of more than {limits.pages} pages; send the pages as images of their own")
    height, width = _claimed_size(content, kind)
    if height * width > limits.pixels:
        raise _too_large(
            f"{name} claims {width:,} x {height:,} pixels, more than {limits.pixels:,} of one image; cut it into tiles"
        )
    return Checked(name, kind, width, height, pages)


def decode_upload(name: str, content: bytes, limits: Limits) -> Pixels:
    """The pixels of an upload, (H, W, C), once it passed `check_image`; a ServiceError says why it cannot be read."""
    checked = check_image(name, content, limits)
    try:
        return decode_bytes(content, Reading(1, limits.pixels))
    except ImageError as error:
        raise _unusable(f"{checked.name} {error}") from None
    except (*PILLOW_REFUSES, MemoryError, RuntimeError) as error:  # decoders fail in ways of their own
        raise _unusable(f"{checked.name} cannot be decoded ({type(error).__name__}); save it again") from None


def kind_of(content: bytes) -> str:
    """The kind of an image by its first bytes; empty where it is none that is taken.

    >>> kind_of(b"GIF89a...."), kind_of(b"<html>")
    ('GIF', '')
    """
    if content[:4] == b"RIFF" and content[8:12] == b"WEBP":
        return "WebP"
    if content[4:8] == b"ftyp":
        return BRANDS.get(content[8:12], "")
    if content[128:132] == b"DICM":
        return "DICOM"
    found = next((kind for mark, kind in MARKS.items() if content.startswith(mark)), "")
    return "" if found == "PNM" and content[2:3] not in (b"\n", b"\r", b" ", b"\t", b"#") else found


def is_zip(content: bytes) -> bool:
    """Whether this is an archive, by its first bytes; an empty archive counts."""
    return content[:4] in (b"PK\3\4", b"PK\5\6")


def read_zip(file: IO[bytes] | Path, limits: Limits) -> Iterator[tuple[str, bytes]]:
    """The images in an archive by name, one at a time; other files are left out.

    The whole archive is refused, before anything of it is read, where its directory claims more than the limits, a name leads
    out of it or comes twice, or something in it is a link, encrypted, an archive itself or packed beyond belief. What a file
    really unpacks to is held against what the directory says.
    """
    try:
        archive = zipfile.ZipFile(file)
    except (OSError, *ZIP_REFUSES) as error:
        raise _unusable(
            f"the archive is damaged or none ({' '.join(str(error).split())[:100]}); pack it again"
        ) from None
    with archive:
        for entry in check_entries(archive.infolist(), limits):
            yield check_name(entry.filename), _read_entry(archive, entry)


def check_entries(entries: Sequence[zipfile.ZipInfo], limits: Limits) -> list[zipfile.ZipInfo]:
    """The images among the entries of an archive; a ServiceError where the archive is not to be trusted."""
    files = [entry for entry in entries if not entry.is_dir()]
    if len(files) > limits.files:
        raise _too_large(f"the archive holds {len(files):,} files, more than {limits.files:,} of one request; split it")
    for entry in files:
        _check_entry(entry, limits)
    total = sum(entry.file_size for entry in files)
    if total > limits.unpacked_bytes:
        raise _too_large(f"the archive unpacks to {total:,} bytes, more than {limits.unpacked_bytes:,}; split it")
    names = [check_name(entry.filename) for entry in files]
    if len(set(names)) < len(names):
        twice = next(name for number, name in enumerate(names) if name in names[:number])
        raise _unusable(f"the archive holds {printable(twice)} twice; pack it again")
    return [entry for entry, name in zip(files, names, strict=True) if _is_wanted(name)]


def _check_entry(entry: zipfile.ZipInfo, limits: Limits) -> None:
    name = printable(entry.filename)[:80]
    mode = entry.external_attr >> 16
    if stat.S_IFMT(mode) not in (0, stat.S_IFREG):
        raise _unusable(f"{name} in the archive is a link or a device; pack the files themselves")
    if entry.flag_bits & 1:
        raise _unusable(f"{name} in the archive is encrypted; pack it without a password")
    if name.lower().endswith((".zip", ".7z", ".rar", ".gz", ".tar", ".xz", ".bz2")):
        raise _unusable(f"{name} in the archive is an archive itself; pack the images alone")
    if entry.file_size > limits.file_bytes:
        raise _too_large(
            f"{name} in the archive unpacks to {entry.file_size:,} bytes, more than {limits.file_bytes:,} of one image"
        )
    if entry.file_size > SMALL and entry.file_size > limits.ratio * max(entry.compress_size, 1):
        raise _too_large(
            f"{name} in the archive unpacks to {entry.file_size // max(entry.compress_size, 1):,} times its size, more than "
            f"{limits.ratio:g} (a zip bomb?); send the image by itself"
        )


def _read_entry(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> bytes:
    name = printable(entry.filename)[:80]
    try:
        with archive.open(entry) as file:
            content = file.read(entry.file_size + 1)
    except (OSError, MemoryError, *ZIP_REFUSES) as error:
        raise _unusable(
            f"{name} in the archive is damaged ({' '.join(str(error).split())[:100]}); pack it again"
        ) from None
    if len(content) != entry.file_size:
        raise _unusable(f"{name} in the archive is not as long as its directory says; pack it again")
    return content


def _is_wanted(name: str) -> bool:
    """By its name: what could be an image; its content is looked at when it is read."""
    from unlike.data.readers import is_image

    path = PurePosixPath(name)
    hidden = any(part.startswith(".") or part in UNASKED for part in path.parts)
    return not hidden and path.suffix.lower() not in (".npy", ".npz") and is_image(path)


def _foreign(content: bytes) -> str:
    """What it is instead of an image."""
    head = content[:HEAD].lstrip(b"\xef\xbb\xbf \t\r\n\0")
    if SVG.search(content[:HEAD]):
        return "SVG, which is drawing instructions and no picture"
    if head.startswith(b"<?xml"):
        return "XML and no picture"
    if HTML.search(head[:MARKUP_HEAD]):
        return "HTML and no picture"
    what = next((kind for mark, kind in FOREIGN.items() if content.startswith(mark)), "")
    if content[4:8] == b"ftyp":
        what = "a video"
    return f"{what} and no image that is taken here" if what else "no image of a kind that is known here"


def _claimed_size(content: bytes, kind: str) -> tuple[int, int]:
    """Height and width by the header; zeros where only decoding tells, which has the same bound."""
    if size := size_at(content[:HEAD]):
        return size
    if kind == "TIFF":
        pages = tiff.find_pages(content)
        sizes = [(page.number(tiff.HEIGHT, 0), page.number(tiff.WIDTH, 0)) for page in pages[:1]]
        return sizes[0] if sizes else (0, 0)
    if kind in ("GIF", "BMP"):
        return _size_in_front(content, kind)
    header = _open_header(content) if kind in ("WebP", "AVIF", "PNM", "JPEG 2000") else None
    return (0, 0) if header is None else (int(header[1]), int(header[0]))


def _size_in_front(content: bytes, kind: str) -> tuple[int, int]:
    try:
        if kind == "GIF":
            width, height = struct.unpack_from("<HH", content, 6)
        else:
            width, height = struct.unpack_from("<ii", content, 18)
    except struct.error:
        return 0, 0
    return abs(height), abs(width)


def _open_header(content: bytes) -> tuple[int, int, int] | None:
    """Width, height and frames as Pillow reads them from the header; None where it cannot."""
    from PIL import Image

    try:
        with Image.open(io.BytesIO(content)) as image:
            return image.width, image.height, int(getattr(image, "n_frames", 1))
    except Image.DecompressionBombError:
        return 2**31, 2**31, 1
    except (*PILLOW_REFUSES, MemoryError, RuntimeError):
        return None


def _count_pages(content: bytes, kind: str, most: int) -> int:
    """Pages of a TIFF and frames of an animation, counted no further than is needed."""
    if kind == "TIFF":
        return _count_directories(content, most)
    if kind == "GIF":
        return _count_frames(content, most)
    if kind == "PNG":
        at = content.find(b"acTL", 0, 4096)
        return int.from_bytes(content[at + 4 : at + 8], "big") if at > 0 else 1
    if kind in ("WebP", "AVIF"):
        header = _open_header(content)
        return 1 if header is None else header[2]
    return 1


def _count_directories(content: bytes, most: int) -> int:
    """How many directories a TIFF chains, at most one more than `most`; reading it later finds what is broken."""
    order = "<" if content[:2] == b"II" else ">"
    big = 43 in content[2:4]
    start, kind, number, size = (8, "Q", "Q", 20) if big else (4, "I", "H", 12)
    count = 0
    try:
        (offset,) = struct.unpack_from(order + kind, content, start)
        while offset and count <= most:
            count += 1
            (tags,) = struct.unpack_from(order + number, content, offset)
            (offset,) = struct.unpack_from(order + kind, content, offset + struct.calcsize(number) + tags * size)
    except (struct.error, OverflowError):
        return count
    return count


def _count_frames(content: bytes, most: int) -> int:
    """How many images a GIF holds, at most one more than `most`, by its blocks (GIF89a, appendix A)."""
    frames, at = 0, 13 + _table(content, 10)
    while at < len(content) and frames <= most:
        block = content[at]
        if block == 0x2C:  # an image: its place, perhaps colours, the size of its codes, then its data
            frames += 1
            at = _skip(content, at + 11 + _table(content, at + 9))
        elif block == 0x21:  # an extension
            at = _skip(content, at + 2)
        else:
            break
    return max(frames, 1)


def _table(content: bytes, at: int) -> int:
    """Bytes of the colour table that the flags there announce."""
    flags = content[at] if at < len(content) else 0
    return 3 * 2 ** ((flags & 7) + 1) if flags & 0x80 else 0


def _skip(content: bytes, at: int) -> int:
    """Where the data blocks that begin there end."""
    while at < len(content) and content[at]:
        at += content[at] + 1
    return at + 1


def _too_large(message: str) -> ServiceError:
    return ServiceError(message, status=TOO_LARGE)


def _unusable(message: str) -> ServiceError:
    return ServiceError(message, status=UNUSABLE)
