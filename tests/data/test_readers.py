"""Decoding keeps every value or says why not."""

import io
import os
import struct
import zlib
from importlib.metadata import EntryPoint
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile
from PIL import Image, ImageOps

from conftest import write_png
from unlike import registry
from unlike.data.input_spec import InputSpec, conform
from unlike.data.readers import MAX_PIXELS, READERS, decode, decode_bytes, decode_mask, is_image
from unlike.data.source import open_source
from unlike.errors import ImageError

RANDOM = np.random.default_rng(3)
GREY, COLOUR, ALPHA = (RANDOM.integers(0, 256, (9, 7, channels), np.uint8) for channels in (1, 3, 4))
ALPHA[0, 0, 3] = 17
PALETTE = Image.fromarray(COLOUR).quantize(16)
BITS = (GREY > 100).astype(np.uint8) * 255


def as_file(image: Image.Image, kind: str, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def pillow(pixels: np.ndarray) -> Image.Image:
    return Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)


def opencv(pixels: np.ndarray, ending: str) -> bytes:
    order = {1: [0], 3: [2, 1, 0], 4: [2, 1, 0, 3]}[pixels.shape[2]]
    written, content = cv2.imencode(ending, pixels[..., order])
    assert written
    return content.tobytes()


def wide(pixels: np.ndarray) -> np.ndarray:
    return pixels.astype(np.uint16) * 257 - np.arange(7, dtype=np.uint16)[:, None] * (pixels > 0)


def tiff(pixels: np.ndarray, **options) -> bytes:
    tifffile.imwrite(buffer := io.BytesIO(), pixels, **options)
    return buffer.getvalue()


def floats(channels: int) -> np.ndarray:
    return RANDOM.normal(0, 1000, (9, 7, channels)).astype(np.float32)


OPAQUE = np.dstack([COLOUR, np.full((9, 7), 255, np.uint8)])
FLOATS = {channels: floats(channels) for channels in (1, 3, 4)}
LOSSLESS = {
    **{f"{kind} grey": (as_file(pillow(GREY), kind), GREY) for kind in ("PNG", "BMP", "TIFF", "PPM", "JPEG2000")},
    **{f"{kind} colour": (as_file(pillow(COLOUR), kind), COLOUR) for kind in ("PNG", "BMP", "TIFF", "PPM", "JPEG2000")},
    "TIFF lzw": (as_file(pillow(COLOUR), "TIFF", compression="tiff_lzw"), COLOUR),
    "WEBP colour": (as_file(pillow(COLOUR), "WEBP", lossless=True), COLOUR),
    "PNG opaque alpha": (as_file(pillow(OPAQUE), "PNG"), COLOUR),
    "PNG alpha": (as_file(pillow(ALPHA), "PNG"), ALPHA),
    "WEBP alpha": (as_file(pillow(ALPHA), "WEBP", lossless=True, exact=True), ALPHA),
    "TIFF alpha beside colours": (as_file(pillow(ALPHA), "TIFF"), ALPHA),
    "TIFF alpha of no kind": (opencv(ALPHA, ".tiff"), ALPHA),
    "PNG palette": (as_file(PALETTE, "PNG"), np.asarray(PALETTE.convert("RGB"))),
    "GIF palette": (as_file(PALETTE, "GIF"), np.asarray(PALETTE.convert("RGB"))),
    "PNG palette with a clear colour": (
        as_file(PALETTE, "PNG", transparency=3),
        np.dstack([np.asarray(PALETTE.convert("RGB")), np.where(np.asarray(PALETTE) == 3, 0, 255).astype(np.uint8)]),
    ),
    "PNG 1 bit": (as_file(pillow(BITS).convert("1"), "PNG"), BITS),
    "PNG 16 bit grey": (opencv(wide(GREY), ".png"), wide(GREY)),
    "PNG 16 bit colour": (opencv(wide(COLOUR), ".png"), wide(COLOUR)),
    "PNG 16 bit alpha": (opencv(wide(ALPHA), ".png"), wide(ALPHA)),
    "PNG 16 bit opaque": (opencv(OPAQUE.astype(np.uint16) * 257, ".png"), COLOUR.astype(np.uint16) * 257),
    "TIFF 16 bit": (opencv(wide(COLOUR), ".tiff"), wide(COLOUR)),
    "TIFF 16 bit alpha": (opencv(wide(ALPHA), ".tiff"), wide(ALPHA)),
    "TIFF float grey": (as_file(pillow(FLOATS[1]), "TIFF"), FLOATS[1]),
    "TIFF float colour": (opencv(FLOATS[3], ".tiff"), FLOATS[3]),
    "TIFF float, 4 channels": (opencv(FLOATS[4], ".tiff"), FLOATS[4]),
    "TIFF 64-bit float": (opencv(FLOATS[3].astype(np.float64), ".tiff"), FLOATS[3]),
}


@pytest.mark.parametrize("name", LOSSLESS)
def test_every_value_of_a_lossless_file_survives(name):
    content, expected = LOSSLESS[name]
    image = decode_bytes(content)
    assert image.dtype == expected.dtype
    assert image.flags.c_contiguous
    np.testing.assert_array_equal(image, expected)


def test_jpeg_is_nearly_what_was_saved():
    smooth = cv2.resize(COLOUR, (70, 90), interpolation=cv2.INTER_CUBIC)
    image = decode_bytes(as_file(pillow(smooth), "JPEG", quality=98, subsampling=0))
    assert np.abs(image.astype(int) - smooth).mean() < 2
    assert decode_bytes(as_file(pillow(GREY), "JPEG")).shape == (9, 7, 1)


def test_of_an_animation_the_first_frame_is_read():
    second = Image.fromarray(255 - COLOUR)
    content = as_file(Image.fromarray(COLOUR), "WEBP", lossless=True, save_all=True, append_images=[second])
    np.testing.assert_array_equal(decode_bytes(content), COLOUR)


def oriented(kind: str, orientation: int, pixels: np.ndarray) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"JPEG": {"quality": 100, "subsampling": 0}, "WEBP": {"lossless": True}}.get(kind, {})
    return as_file(pillow(pixels), kind, exif=exif, **options)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP"])
def test_orientation_is_applied_as_pillow_does(kind, orientation):
    pixels = np.repeat(cv2.resize(GREY, (14, 18))[..., None], 3, axis=2)  # grey, so that JPEG decoders agree
    content = oriented(kind, orientation, pixels)
    upright = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(content))))
    assert upright.shape == ((14, 18, 3) if orientation >= 5 else (18, 14, 3))
    np.testing.assert_array_equal(decode_bytes(content), upright)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("pixels", [wide(GREY), FLOATS[1], ALPHA], ids=["16 bit", "float", "alpha"])
def test_orientation_of_every_type_of_tiff(pixels, orientation):
    content = as_file(pillow(pixels), "TIFF", tiffinfo={274: orientation})
    upright = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(content))))
    np.testing.assert_array_equal(decode_bytes(content), upright.reshape(*upright.shape[:2], -1))


def exif_field(kind: int, count: int, value: bytes) -> bytes:
    return b"Exif\0\0II*\0\x08\0\0\0" + struct.pack("<HHHI", 1, 0x0112, kind, count) + value + b"\0\0\0\0"


@pytest.mark.parametrize(
    "exif",
    [
        b"Exif\0\0garbagegarbage",
        b"Exif\0\0II*\0\x08\0\0\0\xff\xff\x12\x01",
        exif_field(2, 4, b"six\0"),
        exif_field(11, 1, struct.pack("<f", float("nan"))),
        exif_field(5, 1, struct.pack("<I", 8)),
        exif_field(3, 1, struct.pack("<HH", 9, 0)),
    ],
    ids=["garbage", "cut short", "a word", "not a number", "a fraction", "unknown"],
)
def test_damaged_orientation_leaves_the_image_as_it_lies(exif):
    pixels = np.repeat(GREY, 3, axis=2)
    plain = decode_bytes(as_file(pillow(pixels), "JPEG"))
    np.testing.assert_array_equal(decode_bytes(as_file(pillow(pixels), "JPEG", exif=exif)), plain)


def png_header(width: int, height: int) -> bytes:
    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    start = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + start + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")


BROKEN = {
    "text": (b"this is a shopping list\n" * 20, "is no image of a kind that is known here"),
    "bomb": (
        png_header(60_000, 60_000),
        f"claims 3,600,000,000 pixels, more than {MAX_PIXELS:,} (a decompression bomb?)",
    ),
    "complex": (tiff(np.zeros((4, 4), np.complex64)), "holds complex64 values; expected whole numbers or floats"),
    "alpha tiff": (as_file(pillow(ALPHA), "TIFF")[:-100], "cannot be decoded"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_content_is_refused_in_a_sentence(name, capfd):
    content, message = BROKEN[name]
    with pytest.raises(ImageError) as caught:
        decode_bytes(content)
    assert str(caught.value).startswith(message)
    assert capfd.readouterr() == ("", "")


def test_the_bound_on_pixels_holds_where_pillow_has_none(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    with pytest.raises(ImageError, match="decompression bomb"):
        decode_bytes(png_header(60_000, 60_000))


def test_an_image_wider_than_opencv_allows_is_refused():
    with pytest.raises(ImageError, match="cannot be decoded"):
        decode_bytes(b"P5\n1048577 1\n255\n" + bytes(1048577))


def test_a_64_bit_value_too_large_is_refused_not_clipped():
    content = opencv(np.full((9, 7, 1), 1e300), ".tiff")
    with pytest.raises(ImageError, match="not finite"):
        conform(decode_bytes(content), InputSpec(4, 4, 1, floating=True))


@pytest.mark.parametrize("share", [0.02, 0.3, 0.7, 0.95, 0.999])
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF", "WEBP", "BMP", "GIF"])
def test_a_file_cut_short_is_refused_quietly(kind, share, capfd):
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8))
    content = as_file(noise, kind)
    with pytest.raises(ImageError, match="cut short"):
        decode_bytes(content[: int(share * len(content))])
    assert capfd.readouterr() == ("", "")


def test_files_that_cannot_be_opened(tmp_path):
    (tmp_path / "x.png").mkdir()
    with pytest.raises(ImageError, match=r"^cannot be opened \(Is a directory\)$"):
        decode(tmp_path / "x.png")
    with pytest.raises(ImageError, match=r"^cannot be opened \(No such file or directory\)$"):
        decode(tmp_path / "missing.png")


def test_decode_reads_a_file(tmp_path):
    np.testing.assert_array_equal(decode(write_png(tmp_path / "a.png", COLOUR)), COLOUR)


@pytest.mark.parametrize("value", [1, 255])
def test_a_mask_is_whatever_is_not_zero(tmp_path, value):
    expected = GREY[..., 0] > 100
    write_png(tmp_path / "mask.png", expected.astype(np.uint8) * value)
    Image.fromarray(expected).save(tmp_path / "bits.png")
    colour = np.zeros((9, 7, 3), np.uint8)
    colour[expected, 2] = value
    write_png(tmp_path / "colour.png", colour)
    for name in ("mask.png", "bits.png", "colour.png"):
        mask = decode_mask(tmp_path / name)
        assert mask.dtype == bool
        np.testing.assert_array_equal(mask, expected)


def test_alpha_is_no_part_of_a_mask(tmp_path):
    write_png(tmp_path / "mask.png", np.dstack([np.zeros((9, 7, 3), np.uint8), GREY]))
    assert not decode_mask(tmp_path / "mask.png").any()


def test_a_mask_that_cannot_be_read_is_named(tmp_path):
    with pytest.raises(ImageError, match=r"^mask m_mask.png cannot be opened \(No such file or directory\)$"):
        decode_mask(tmp_path / "m_mask.png")


def test_images_are_told_by_their_names():
    names = ["a.png", "b.JPG", "c.tiff", ".hidden.png", "notes.txt", "noending"]
    assert [name for name in names if is_image(Path("folder") / name)] == ["a.png", "b.JPG", "c.tiff"]


def test_decoding_does_not_depend_on_the_working_folder(tmp_path, monkeypatch):
    write_png(tmp_path / "a.png", GREY)
    monkeypatch.chdir(tmp_path)
    np.testing.assert_array_equal(decode(Path(os.curdir, "a.png")), GREY)


SENSOR = """
import numpy as np
from unlike.errors import ImageError

def read(content):
    if content == b"broken":
        raise ImageError("is no picture of the sensor")
    return np.frombuffer(content, np.uint8).reshape(2, 2, -1)

def read_flat(content):
    return np.frombuffer(content, np.int8).reshape(2, 2)
"""


@pytest.fixture
def sensor(tmp_path, monkeypatch):
    """Another package reads files that end in .sensor, and reads .flat wrongly."""
    (tmp_path / "site").mkdir()
    (tmp_path / "site/stand_in_sensor.py").write_text(SENSOR)
    monkeypatch.syspath_prepend(tmp_path / "site")
    places = {"sensor": "stand_in_sensor:read", "flat": "stand_in_sensor:read_flat"}
    found = [EntryPoint(extension, place, "unlike.readers") for extension, place in places.items()]
    monkeypatch.setattr(registry, "entry_points", lambda group: [point for point in found if point.group == group])
    registry._find_plug_ins.cache_clear()
    yield tmp_path / "images"
    registry._find_plug_ins.cache_clear()


def test_a_reader_of_another_package_reads_files_of_its_extension(sensor):
    sensor.mkdir()
    (sensor / "a.sensor").write_bytes(bytes(range(12)))
    (sensor / "b.SENSOR").write_bytes(b"broken")
    (sensor / "c.sensor").write_bytes(b"")
    write_png(sensor / "d.png", np.full((2, 2, 3), 7, np.uint8))
    source = open_source(sensor)
    (batch,) = source.stream(InputSpec(2, 2, 3))
    assert [sample.id for sample in batch.samples] == ["a.sensor", "d.png"]
    assert batch.pixels[0].tolist() == np.arange(12).reshape(2, 2, 3).tolist()
    assert [(item.id, item.reason) for item in batch.unreadable] == [
        ("b.SENSOR", "is no picture of the sensor"),
        ("c.sensor", "is empty (0 bytes)"),
    ]


def test_what_a_reader_gives_must_be_an_image(sensor):
    sensor.mkdir()
    (sensor / "a.flat").write_bytes(bytes(4))
    with pytest.raises(
        ImageError, match=r"^was read as 2 x 2 of int8; expected H x W x C of uint8, uint16 or float32 from"
    ):
        decode(sensor / "a.flat")


def test_a_file_whose_name_says_nothing_is_told_by_its_content(tmp_path):
    path = write_png(tmp_path / "a.png", COLOUR)
    np.testing.assert_array_equal(decode(path.rename(tmp_path / "photo")), COLOUR)


def test_every_common_kind_has_the_reader_that_tells_them_by_their_content():
    assert {"png", "jpg", "tiff", "webp"} <= set(READERS)
    assert all(READERS[extension] is decode_bytes for extension in ("png", "jpg", "tiff", "webp"))


def test_an_empty_file_is_named(tmp_path):
    (tmp_path / "a.png").write_bytes(b"")
    with pytest.raises(ImageError, match=r"^is empty \(0 bytes\)$"):
        decode(tmp_path / "a.png")
