"""TIFF: what a page is by its tags, which page is meant, and the kinds that OpenCV reads wrongly or not at all."""

from __future__ import annotations

import importlib.util
import io
import logging
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from mmap import mmap

import numpy as np

from unlike.data.pixels import as_pixels
from unlike.errors import ImageError
from unlike.records import Pixels

logging.getLogger("tifffile").setLevel(
    logging.CRITICAL
)  # what it would print of a broken file, we say in an ImageError

MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
SUBFILE, WIDTH, HEIGHT, BITS, COMPRESSION, PHOTOMETRIC, STRIPS, ORIENTATION = 254, 256, 257, 258, 259, 262, 273, 274
SAMPLES, STRIP_SIZES, HIGHEST, PLANES, TILES, TILE_SIZES, EXTRA, FORMAT, NO_DATA = (
    *(277, 279, 281, 284, 324, 325, 338, 339),
    42113,
)
WANTED = {SUBFILE, WIDTH, HEIGHT, BITS, COMPRESSION, PHOTOMETRIC, STRIPS, ORIENTATION, SAMPLES, STRIP_SIZES, HIGHEST}
WANTED |= {PLANES, TILES, TILE_SIZES, EXTRA, FORMAT, NO_DATA}
TYPES = {1: "B", 2: "s", 3: "H", 4: "I", 8: "h", 9: "i", 13: "I", 16: "Q", 18: "Q"}  # that those tags have
REDUCED, MASK = 1, 4  # what a page is of another one
WHITE_IS_ZERO, PALETTE, YCBCR = 0, 3, 6
UNSIGNED, SIGNED, FLOAT = 1, 2, 3
OPENCV_UNPACKS = {1, 2, 3, 4, 5, 7, 8, 32773, 32946}  # none, fax, LZW, JPEG, deflate, PackBits
COMPRESSIONS = {34925: "LZMA", 50000: "zstd", 50001: "WebP", 34712: "JPEG 2000", 50002: "JPEG XL", 52546: "JPEG XL"}
COMPRESSIONS |= {34887: "LERC", 33005: "JPEG 2000", 33003: "JPEG 2000", 6: "old JPEG"}
PACKED = (10, 12, 14)  # bits a value, side by side
MOST_TAGS, MOST_PAGES = 4_000, 100_000
MOST_VALUES = 4_000_000  # of a tag: more rows or tiles than any image that is read here has
Values = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Page:
    """One page by its tags."""

    offset: int  # of its directory
    tags: dict[int, Values | bytes]

    def numbers(self, tag: int, default: Values) -> Values:
        values = self.tags.get(tag, default)
        return default if isinstance(values, bytes) else values

    def number(self, tag: int, default: int) -> int:
        return (self.numbers(tag, (default,)) or (default,))[0]

    @property
    def form(self) -> tuple[int, ...]:
        """What pages that are images of one kind have in common."""
        return (self.number(WIDTH, 0), self.number(HEIGHT, 0), self.channels, self.bits)

    @property
    def channels(self) -> int:
        return self.number(SAMPLES, 1)

    @property
    def bits(self) -> int:
        return self.number(BITS, 1)

    @property
    def no_data(self) -> float | None:
        """The value that stands for none, where the file declares one (as GDAL does)."""
        text = self.tags.get(NO_DATA, b"")
        try:
            return float(text.strip(b"\0 ").decode("ascii")) if isinstance(text, bytes) and text else None
        except ValueError:
            return None

    def ends(self) -> int:
        """Where its last piece of pixels ends."""
        starts, sizes = self.numbers(TILES, ()), self.numbers(TILE_SIZES, ())
        if not starts:
            starts, sizes = self.numbers(STRIPS, ()), self.numbers(STRIP_SIZES, ())
        return max((start + size for start, size in zip(starts, sizes, strict=False)), default=0)


def is_tiff(content: bytes) -> bool:
    """By its first bytes."""
    return content[:4] in MAGIC


def find_pages(content: bytes | mmap) -> list[Page]:
    """The pages that are images: as large as the first, and no thumbnail or mask of another. None of a damaged file."""
    try:
        pages = list(_walk(content))
    except (struct.error, IndexError, ValueError):
        return []
    kept = [page for page in pages if not page.number(SUBFILE, 0) & (REDUCED | MASK)] or pages[:1]
    return [page for page in kept if page.form == kept[0].form]


def is_cut_short(content: bytes) -> bool:
    """Whether the file ends before its directory or its pixels do."""
    pages = find_pages(content)
    return not pages or any(page.ends() > len(content) for page in pages)


def turn_to(content: bytes, page: Page) -> bytes:
    """The same file with that page as its first, for decoders that know no other."""
    order = "<" if content[:2] == b"II" else ">"
    big = 43 in content[2:4]
    start, kind = (8, "Q") if big else (4, "I")
    if struct.unpack_from(order + kind, content, start)[0] == page.offset:
        return content
    head = content[:start] + struct.pack(order + kind, page.offset)
    return head + content[len(head) :]


def why_not_opencv(page: Page) -> str:
    """What OpenCV would read wrongly or not at all; nothing where it is right."""
    compression, channels, bits = page.number(COMPRESSION, 1), page.channels, page.bits
    if compression not in OPENCV_UNPACKS:
        return f"{COMPRESSIONS.get(compression, f'an unusual kind ({compression}) of')} compression"
    if channels not in (1, 3, 4):
        return f"{channels} channels"
    if len(set(page.numbers(BITS, (1,)))) > 1:
        return "channels of different depth"
    if page.number(FORMAT, UNSIGNED) == FLOAT and bits not in (32, 64):
        return f"{bits}-bit floats"
    if page.number(FORMAT, UNSIGNED) not in (UNSIGNED, SIGNED, FLOAT, 4):
        return "complex numbers"
    if bits not in (1, 2, 4, 8, 16, 32, 64, *PACKED):
        return f"{bits} bits a value"
    return ""


def read_by_tifffile(content: bytes, page: Page, why: str) -> Pixels:
    """A page with all its channels, (H, W, C), as it lies; by tifffile, which an extra installs."""
    try:
        import tifffile
    except ImportError:
        raise ImageError(f"is a TIFF with {why}, which needs tifffile: pip install 'unlike[formats]'") from None
    try:
        with tifffile.TiffFile(io.BytesIO(content)) as file:
            found = file.pages.first
            image, axes = np.asarray(found.asarray()), str(found.axes)
    except Exception as error:  # codecs fail in ways of their own
        if is_cut_short(content):
            raise ImageError("is cut short") from error
        words = " ".join(str(error).split())
        if importlib.util.find_spec("imagecodecs") is None:
            raise ImageError(f"is a TIFF with {why}, which needs imagecodecs: pip install 'unlike[formats]'") from None
        raise ImageError(f"is a TIFF with {why}, and cannot be decoded ({words})") from error
    if axes.startswith("S") and image.ndim == 3:
        image = np.moveaxis(image, 0, -1)
    if image.ndim not in (2, 3) or axes[:2] not in ("YX", "SY"):
        raise ImageError(f"is a TIFF of {' x '.join(map(str, image.shape))} values ({axes}); expected one image a page")
    image = as_pixels(image.reshape(*image.shape[:2], -1))
    return join_alpha(image, page) if image.shape[2] == 2 else image


def join_alpha(image: Pixels, page: Page) -> Pixels:
    """Grey with an alpha channel as RGBA, as such an image of any other kind is read; other two channels stay."""
    if page.number(EXTRA, 0) not in (1, 2) or image.dtype.kind == "f":
        return image
    return np.concatenate([np.repeat(image[..., :1], 3, axis=2), image[..., 1:]], axis=2)


def finish(image: Pixels, page: Page) -> Pixels:
    """What OpenCV or tifffile read, with white where white is meant, packed bits as numbers, and NaN where nothing was measured."""
    if page.bits in PACKED and image.dtype == np.uint16 and not why_not_opencv(page):
        image = image >> np.uint16(16 - page.bits)  # OpenCV shifts them up
    if image.dtype == np.uint16 and page.number(PHOTOMETRIC, 1) == WHITE_IS_ZERO and page.channels == 1:
        image = np.uint16(min(page.number(HIGHEST, 2**page.bits - 1), 65535)) - image
    elif image.dtype == np.uint8 and page.number(PHOTOMETRIC, 1) == WHITE_IS_ZERO and why_not_opencv(page):
        image = np.uint8(255) - image  # which OpenCV does by itself
    missing = page.no_data
    if missing is not None and image.dtype == np.float32:
        image = np.where(image == np.float32(missing), np.float32(np.nan), image)
    return image


def _walk(content: bytes | mmap) -> Iterator[Page]:
    order = "<" if content[:2] == b"II" else ">"
    big = struct.unpack_from(order + "H", content, 2)[0] == 43
    start, kind, count, size, inline = (8, "Q", "Q", 20, 8) if big else (4, "I", "H", 12, 4)
    seen: set[int] = set()
    (offset,) = struct.unpack_from(order + kind, content, start)
    while offset and offset not in seen and len(seen) < MOST_PAGES:
        seen.add(offset)
        (number,) = struct.unpack_from(order + count, content, offset)
        first, tags = offset + struct.calcsize(count), {}
        for entry in range(min(number, MOST_TAGS)):
            at = first + entry * size
            tag, code, length = struct.unpack_from(f"{order}HH{kind}", content, at)
            if tag in WANTED and code in TYPES:
                tags[tag] = _values(content, order, TYPES[code], length, at + size - inline, inline, kind)
        yield Page(offset, tags)
        (offset,) = struct.unpack_from(order + kind, content, first + number * size)


def _values(
    content: bytes | mmap, order: str, code: str, length: int, at: int, inline: int, kind: str
) -> Values | bytes:
    if length * struct.calcsize(code) > inline:
        (at,) = struct.unpack_from(order + kind, content, at)
    if length > MOST_VALUES:
        raise ValueError("a tag has more values than an image has rows")
    if at + length * struct.calcsize(code) > len(content):
        raise ValueError("the values of a tag lie beyond the end")
    found = struct.unpack_from(f"{order}{length}{code}", content, at)
    return bytes(found[0]) if code == "s" else found
