"""The common kinds of image files, told by their content: by OpenCV, and what it cannot read by Pillow and others."""

from __future__ import annotations

import io
import struct
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import cv2
import numpy as np
from PIL import Image, ImageOps

from unlike.data.pixels import as_pixels
from unlike.data.readers import tiff
from unlike.data.readers.addresses import ALL_PAGES
from unlike.errors import ImageError
from unlike.records import Pixels

MAX_PIXELS = 178_956_970  # of one image: half a GB as RGB, the bound at which Pillow too refuses
ORIENTATION = 0x0112  # EXIF tag
TURNS: dict[int, Callable[[Pixels], Pixels]] = {  # by EXIF orientation
    2: np.fliplr,
    3: lambda image: np.rot90(image, 2),
    4: np.flipud,
    5: lambda image: np.swapaxes(image, 0, 1),
    6: lambda image: np.rot90(image, -1),
    7: lambda image: np.rot90(np.swapaxes(image, 0, 1), 2),
    8: np.rot90,
}
PILLOW_REFUSES = (ArithmeticError, LookupError, OSError, SyntaxError, TypeError, ValueError, Warning, struct.error)
PILLOW_KNOWS = ("ICO", "PCX", "TGA", "SGI", "QOI", "DDS")  # and OpenCV does not
HEIF = (b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"mif1", b"msf1")  # brands after "ftyp"
JXL = (b"\xff\x0a", b"\0\0\0\x0cJXL \r\n\x87\n")
HEAD = 65_536  # bytes from which `peek_at` tells a form
FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}  # markers of a JPEG after which its size and channels stand
DICOM_MARK = slice(128, 132)
KINDS = {
    b"\x89PNG": "PNG",
    b"\xff\xd8": "JPEG",
    b"GIF8": "GIF",
    b"BM": "BMP",
    b"RIFF": "WebP",
    b"\xff\x4f\xff\x51": "JPEG 2000",
}
KINDS |= {
    b"\0\0\0\x0cjP": "JPEG 2000",
    **dict.fromkeys(tiff.MAGIC, "TIFF"),
    **dict.fromkeys((b"P4", b"P5", b"P6"), "PNM"),
}

cv2.utils.logging.setLogLevel(
    cv2.utils.logging.LOG_LEVEL_SILENT
)  # what it would print of a broken file, we say in an ImageError
warnings.filterwarnings("ignore", module=r"PIL\.")  # and what Pillow would

Reader = Callable[..., Pixels]  # a file's content -> (H, W, C) of uint8, uint16 or float32; an ImageError says why not
Function = TypeVar("Function", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class Reading:
    """What a reader that `reads_pages` is told beside the content."""

    page: int = 1  # or ALL_PAGES, for all of them as channels
    most_pixels: int = MAX_PIXELS  # of one image


FIRST = Reading()


def reads_pages(reader: Function) -> Function:
    """Declare that a reader takes a Reading after the content; others, as those of other packages, take the content alone."""
    reader.takes_reading = True  # type: ignore[attr-defined]
    return reader


def takes_reading(reader: Reader) -> bool:
    """Whether it is to be given a Reading after the content."""
    return bool(getattr(reader, "takes_reading", False))


def pages_of_reading(reading: Reading, count: int) -> list[int]:
    """The numbers of the pages that are meant, from 1; an ImageError where a file of `count` has no such page."""
    if reading.page > count:
        raise ImageError(f"has no page {reading.page}; it has {count}")
    return list(range(1, count + 1)) if reading.page == ALL_PAGES else [reading.page]


def check_pixels(pixels: int, most_pixels: int) -> None:
    """Refuse an image that claims to be enormous, before a byte of it is decoded."""
    if pixels > most_pixels:
        raise ImageError(
            f"claims {pixels:,} pixels, more than {most_pixels:,} (a decompression bomb?); cut it into tiles, or, if it is to "
            f"be trusted, allow so many: --set data.most_pixels={pixels}"
        )


@reads_pages
def decode_bytes(content: bytes, reading: Reading = FIRST) -> Pixels:
    """The reader of the common kinds of files, told by their content.

    EXIF and TIFF rotation are applied, palettes resolved, and an alpha channel is kept unless it is opaque everywhere. Of
    several pages of a TIFF the one that is meant is read; of an animation the first frame.
    """
    if content[DICOM_MARK] == b"DICM":
        from unlike.data.readers.dicom import decode_dicom

        return decode_dicom(content, reading)
    if not tiff.is_tiff(content):
        pages_of_reading(reading, 1)
        return _finish(_decode_one(content, reading.most_pixels))
    pages = tiff.find_pages(content)
    if not pages:
        raise ImageError("is cut short")
    chosen = [pages[number - 1] for number in pages_of_reading(reading, len(pages))]
    images = [_decode_page(tiff.turn_to(content, page), page, reading.most_pixels) for page in chosen]
    return _finish(images[0] if len(images) == 1 else np.concatenate(images, axis=2))


def peek_at(head: bytes) -> tuple[int, str] | None:
    """The channels and the number type of a PNG or JPEG by its first bytes; None where they do not say."""
    if head.startswith(b"\x89PNG") and len(head) > 33:
        depth, colours = head[24], head[25]
        data = head.find(b"IDAT")
        if colours in (0, 2, 3) and data > 0 and head.find(b"tRNS", 0, data) < 0:  # else alpha, opaque or not
            return 1 if colours == 0 else 3, "uint16" if depth == 16 else "uint8"
    if frame := _find_frame(head):
        return (1 if head[frame + 9] == 1 else 3), "uint8"
    return None


def size_at(head: bytes) -> tuple[int, int] | None:
    """The height and width of a PNG or JPEG by its first bytes; None where they do not say."""
    if head.startswith(b"\x89PNG") and len(head) > 24:
        width, height = struct.unpack_from(">II", head, 16)
        return height, width
    if frame := _find_frame(head):
        height, width = struct.unpack_from(">HH", head, frame + 5)
        return height, width
    return None


def _find_frame(content: bytes) -> int:
    """Where in a JPEG its size and channels stand; 0 where they do not, or it is none."""
    at = 2 if content.startswith(b"\xff\xd8") else len(content)
    while at + 10 <= len(content) and content[at] == 0xFF:
        if content[at + 1] in FRAMES:
            return at
        at += 2 + int.from_bytes(content[at + 2 : at + 4], "big")
    return 0


def _finish(image: Pixels) -> Pixels:
    if image.shape[2] == 4 and image.dtype.kind == "u" and (image[..., 3] == np.iinfo(image.dtype).max).all():
        image = image[..., :3]
    return np.ascontiguousarray(image)


def _decode_one(content: bytes, most_pixels: int) -> Pixels:
    if content.startswith(b"\x89PNG") and not 0 <= content.rfind(b"IEND") <= len(content) - 8:
        raise ImageError("is cut short")  # libpng would complain on the terminal
    if content[4:8] == b"ftyp" and content[8:12] in HEIF:
        return _decode_heif(content, most_pixels)
    if content.startswith(JXL):
        return _decode_jxl(content, most_pixels)
    header = None
    if size := size_at(content):
        check_pixels(size[0] * size[1], most_pixels)
    else:
        header = _read_header(content, most_pixels)
    image = _by_opencv(content)
    if image is None and header is not None and header.format in PILLOW_KNOWS:
        return _by_pillow(header)
    if image is None:
        raise ImageError(_say_undecodable(content))
    return image


def _decode_page(content: bytes, page: tiff.Page, most_pixels: int) -> Pixels:
    """A TIFF's first page."""
    check_pixels(page.number(tiff.WIDTH, 0) * page.number(tiff.HEIGHT, 0), most_pixels)
    why = tiff.why_not_opencv(page)
    if not why:
        header = _read_header(content, most_pixels) if page.channels == 4 else None
        if header is not None and header.mode == "RGBA" and page.bits == 8:
            return _by_pillow(header)  # OpenCV multiplies the colours of such an image by its alpha, and they are lost
        image = _by_opencv(content)
        if image is not None:
            return tiff.finish(image, page)
        if page.ends() > len(content):
            raise ImageError("is cut short")
        why = "a form that OpenCV does not read"
    image = tiff.finish(tiff.read_by_tifffile(content, page, why), page)
    return np.asarray(TURNS.get(page.number(tiff.ORIENTATION, 1), np.asarray)(image))


def _read_header(content: bytes, most_pixels: int) -> Image.Image | None:
    try:
        header = Image.open(io.BytesIO(content))
    except Image.DecompressionBombError as error:
        check_pixels(
            int("".join(filter(str.isdigit, str(error).partition("pixels")[0])) or MAX_PIXELS + 1), most_pixels
        )
        return None
    except PILLOW_REFUSES:
        return None  # not a format that Pillow knows: OpenCV, which has a bound of its own, may
    check_pixels(header.width * header.height, most_pixels)
    return header


def _by_pillow(header: Image.Image) -> Pixels:
    try:
        image = np.asarray(ImageOps.exif_transpose(header))
    except PILLOW_REFUSES as error:
        raise ImageError(f"cannot be decoded ({error})") from None
    return as_pixels(image.reshape(*image.shape[:2], -1))


def _by_opencv(content: bytes) -> Pixels | None:
    """(H, W, C), upright and in RGB order, with any alpha; None where it cannot be decoded."""
    try:
        image, kinds, metadata = cv2.imdecodeWithMetadata(np.frombuffer(content, np.uint8), flags=cv2.IMREAD_UNCHANGED)
    except cv2.error as error:
        raise ImageError(f"cannot be decoded ({error.err})") from None
    if image is None or image.size == 0:
        return None
    image = _rgb(as_pixels(image))
    for kind, chunk in zip(kinds, metadata, strict=True):
        if kind == cv2.IMAGE_METADATA_EXIF:
            image = TURNS.get(_orientation(np.asarray(chunk).tobytes()), np.asarray)(image)
    return image


def _decode_heif(content: bytes, most_pixels: int) -> Pixels:
    try:
        import pillow_heif
    except ImportError:
        raise ImageError("is a HEIC image, which needs pillow-heif: pip install 'unlike[formats]'") from None
    try:
        file = pillow_heif.open_heif(io.BytesIO(content), convert_hdr_to_8bit=False)
        check_pixels(file.size[0] * file.size[1], most_pixels)
        image = np.asarray(file)
    except ImageError:
        raise
    except Exception as error:
        raise ImageError(_say_undecodable(content, "HEIC", str(error))) from error
    return as_pixels(image.reshape(*image.shape[:2], -1))


def _decode_jxl(content: bytes, most_pixels: int) -> Pixels:
    try:
        import imagecodecs
    except ImportError:
        raise ImageError("is a JPEG XL image, which needs imagecodecs: pip install 'unlike[formats]'") from None
    try:
        image = np.asarray(imagecodecs.jpegxl_decode(content))
    except Exception as error:
        raise ImageError(_say_undecodable(content, "JPEG XL", str(error))) from error
    check_pixels(image.shape[0] * image.shape[1], most_pixels)
    image = image.reshape(*image.shape[:2], -1)
    return (
        np.concatenate([np.repeat(image[..., :1], 3, axis=2), image[..., 1:]], axis=2)
        if image.shape[2] == 2
        else as_pixels(image)
    )


def _say_undecodable(content: bytes, kind: str = "", why: str = "") -> str:
    """Why nobody could decode it: it is cut short, or damaged, or no image."""
    kind = kind or next((name for mark, name in KINDS.items() if content.startswith(mark)), "")
    if content[4:8] == b"ftyp":
        kind = kind or "AVIF"
    if not kind:
        return "is no image of a kind that is known here"
    if _is_cut_short(content):
        return "is cut short"
    return f"begins as {kind} but cannot be decoded ({' '.join(why.split()) or 'it is damaged'})"


def _is_cut_short(content: bytes) -> bool:
    """Whether a file of a known kind ends before its image does."""
    if content.startswith(b"\xff\xd8"):
        return content.rfind(b"\xff\xd9") <= content.rfind(b"\xff\xda")
    if content.startswith(b"GIF8"):
        return not content.rstrip(b"\0").endswith(b";")
    if content.startswith(b"RIFF"):
        return len(content) < 12 or len(content) < 8 + int.from_bytes(content[4:8], "little")
    if content.startswith(b"BM"):
        return len(content) < 54 or len(content) < int.from_bytes(content[2:6], "little")
    if content.startswith((b"\xff\x4f\xff\x51", b"\0\0\0\x0cjP")):
        return b"\xff\xd9" not in content[-64:]
    if content[4:8] == b"ftyp" or content.startswith(JXL[1]):
        return _boxes_end(content) > len(content)
    if content.startswith((b"P4", b"P5", b"P6")):
        return True  # nothing else is wrong with pixels that follow a header as they are
    return content.startswith(b"\x89PNG") and b"IEND" not in content[-16:]


def _boxes_end(content: bytes) -> int:
    """Where the last box of a file of boxes says that it ends."""
    at = 0
    while at + 8 <= len(content):
        size = int.from_bytes(content[at : at + 4], "big")
        if size == 1:
            size = int.from_bytes(content[at + 8 : at + 16], "big")
        if size < 8:
            return len(content)  # to the end
        at += size
    return at


def _rgb(image: Pixels) -> Pixels:
    if image.ndim == 2:
        return image[..., None]
    orders = {3: cv2.COLOR_BGR2RGB, 4: cv2.COLOR_BGRA2RGBA}
    return np.asarray(cv2.cvtColor(image, orders[image.shape[2]])) if image.shape[2] in orders else image


def _orientation(exif_bytes: bytes) -> int:
    """1, upright, where the metadata is damaged: viewers show such an image as it lies."""
    exif = Image.Exif()
    try:
        exif.load(exif_bytes)
        return int(exif.get(ORIENTATION, 1))
    except PILLOW_REFUSES:
        return 1
