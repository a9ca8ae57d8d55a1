"""Decoding keeps every value or says why not; the way into a spec and back again."""

import io
import os
import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from conftest import write_png
from unlike.data.images import (
    MAX_PIXELS,
    InputSpec,
    decode,
    decode_bytes,
    decode_mask,
    is_image,
    promote,
    restore_map,
    to_spec,
    to_uint8,
)
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
    "empty": (b"", "is empty (0 bytes)"),
    "text": (b"this is a shopping list\n" * 20, "is no image that can be decoded, or is cut short"),
    "bomb": (png_header(60_000, 60_000), f"claims more than {MAX_PIXELS:,} pixels (a decompression bomb?)"),
    "int32": (as_file(Image.fromarray(GREY[..., 0].astype(np.int32)), "TIFF"), "holds int32 values; expected uint8"),
    "int16": (opencv(GREY.astype(np.int16), ".tiff"), "holds int16 values; expected uint8, uint16 or float"),
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


@pytest.mark.parametrize("kind", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("size", [(16, 16), (8, 16), (20, 12)])
def test_shrinking_a_fine_pattern_gives_its_mean(kind, size):
    y, x = np.mgrid[:160, :160]
    high = 1 if kind == np.float32 else np.iinfo(kind).max
    board = ((x + y) % 2 * high).astype(kind)[..., None]
    framed = to_spec(board, InputSpec(*size, 1, floating=kind == np.float32))
    assert framed.shape == (*size, 1)
    assert framed.dtype == kind
    np.testing.assert_allclose(framed / high, 0.5, atol=0.12 if size == (20, 12) else 0.01)  # 160 / 12 is not whole


def test_enlarging_keeps_the_range_and_the_mean():
    framed = to_spec(GREY, InputSpec(36, 28, 1))
    assert framed.shape == (36, 28, 1)
    assert framed.min() >= GREY.min()
    assert framed.max() <= GREY.max()
    assert abs(framed.mean() - GREY.mean()) < 5


def test_one_axis_shrinks_while_the_other_grows():
    stripes = np.zeros((100, 4, 1), np.uint8)
    stripes[::2] = 200
    np.testing.assert_array_equal(to_spec(stripes, InputSpec(10, 16, 1)), np.full((10, 16, 1), 100))


def test_an_image_of_the_right_size_is_not_touched():
    np.testing.assert_array_equal(to_spec(COLOUR, InputSpec(9, 7, 3)), COLOUR)


def test_padding_keeps_the_proportions_and_the_edge():
    wide_image = np.full((10, 40, 3), 50, np.uint8)
    wide_image[0], wide_image[-1] = 10, 90
    framed = to_spec(wide_image, InputSpec(40, 40, 3, aspect="pad"))
    np.testing.assert_array_equal(framed[15:25], wide_image)
    assert (framed[:15] == 10).all()
    assert (framed[25:] == 90).all()


@pytest.mark.parametrize("channels", [2, 5, 9])
def test_any_number_of_channels_is_resized_apart(channels):
    image = np.broadcast_to(np.arange(channels, dtype=np.uint8) * 20, (30, 40, channels))
    framed = to_spec(image, InputSpec(12, 50, channels))
    assert framed.shape == (12, 50, channels)
    np.testing.assert_array_equal(framed[3, 3], np.arange(channels) * 20)


@pytest.mark.parametrize(
    ("image", "channels", "message"),
    [
        (GREY, 3, "has 1 channel where the detector takes 3; fit with --set data.channels=3 to convert such images"),
        (COLOUR, 1, "has 3 channels where the detector takes 1; fit with --set data.channels=1 to convert such images"),
        (ALPHA, 3, "has 4 channels where the detector takes 3; fit with --set data.channels=3 to convert such images"),
    ],
)
def test_other_channels_are_refused_unless_asked_for(image, channels, message):
    with pytest.raises(ImageError) as caught:
        to_spec(image, InputSpec(9, 7, channels))
    assert str(caught.value) == message


def test_channels_are_converted_when_asked_for():
    np.testing.assert_array_equal(to_spec(GREY, InputSpec(9, 7, 3, convert=True)), np.repeat(GREY, 3, axis=2))
    np.testing.assert_array_equal(to_spec(ALPHA, InputSpec(9, 7, 3, convert=True)), ALPHA[..., :3])
    weights = [0.299, 0.587, 0.114]
    for image in (COLOUR, ALPHA):
        grey = to_spec(image, InputSpec(9, 7, 1, convert=True))
        np.testing.assert_allclose(grey[..., 0], image[..., :3] @ weights, atol=1)


@pytest.mark.parametrize(("channels", "wanted"), [(5, 3), (1, 4), (3, 4), (2, 1)])
def test_conversions_that_mean_nothing_are_refused(channels, wanted):
    with pytest.raises(ImageError, match=f"has {channels} channels?, which cannot be turned into {wanted}"):
        to_spec(np.zeros((9, 7, channels), np.uint8), InputSpec(9, 7, wanted, convert=True))


def test_floats_and_integers_do_not_mix():
    with pytest.raises(ImageError, match="holds integer values where the detector takes float ones; convert the image"):
        to_spec(GREY, InputSpec(9, 7, 1, floating=True))
    with pytest.raises(ImageError, match="holds float values where the detector takes integer ones; convert the image"):
        to_spec(FLOATS[1], InputSpec(9, 7, 1))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_are_refused(value):
    image = FLOATS[1].copy()
    image[4, 4] = value
    with pytest.raises(ImageError, match=r"^holds values that are not finite \(NaN or infinity\)$"):
        to_spec(image, InputSpec(4, 4, 1, floating=True))


def test_a_64_bit_value_too_large_is_refused_not_clipped():
    content = opencv(np.full((9, 7, 1), 1e300), ".tiff")
    with pytest.raises(ImageError, match="not finite"):
        to_spec(decode_bytes(content), InputSpec(4, 4, 1, floating=True))


sides = st.integers(12, 90)


@settings(max_examples=60, deadline=None)
@given(
    height=sides, width=sides, place=st.tuples(*[st.floats(0.15, 0.85)] * 2), aspect=st.sampled_from(["stretch", "pad"])
)
@example(height=90, width=12, place=(0.5, 0.5), aspect="pad")
@example(height=12, width=90, place=(0.2, 0.8), aspect="stretch")
def test_a_map_comes_back_to_where_the_blob_was(height, width, place, aspect):
    spec = InputSpec(40, 56, 1, floating=True, aspect=aspect)
    y, x = place[0] * (height - 1), place[1] * (width - 1)
    rows, columns = np.mgrid[:height, :width]
    sigma = max(1.5, min(height, width) / 12)
    blob = np.exp(-((rows - y) ** 2 + (columns - x) ** 2) / (2 * sigma**2)).astype(np.float32)[..., None]
    framed = to_spec(blob, spec)[..., 0]
    small = cv2.resize(framed, (28, 20), interpolation=cv2.INTER_AREA)  # as models give it: half the spec
    restored = restore_map(small, (height, width), spec)
    assert restored.shape == (height, width)
    assert restored.dtype == np.float32
    weights = np.maximum(restored - 0.1 * restored.max(), 0)
    centre = (weights * rows).sum() / weights.sum(), (weights * columns).sum() / weights.sum()
    assert abs(centre[0] - y) < 0.04 * height + 1
    assert abs(centre[1] - x) < 0.04 * width + 1


def test_a_map_that_shrinks_keeps_a_single_bright_pixel():
    map_ = np.zeros((64, 64), np.float32)
    map_[33, 21] = 64.0
    restored = restore_map(map_, (8, 8), InputSpec(64, 64, 1))
    assert restored[4, 2] == 1.0  # the mean over the area, where interpolation would miss it
    assert restored.sum() == 1.0


def test_a_map_of_the_same_size_is_not_touched():
    map_ = np.random.default_rng(0).random((16, 24), np.float32)
    np.testing.assert_array_equal(restore_map(map_, (16, 24), InputSpec(16, 24, 1)), map_)


def test_promote_spans_the_wider_scale():
    image = np.array([0, 1, 255], np.uint8).reshape(1, 3, 1)
    widened = promote(image, np.dtype(np.uint16))
    assert widened.dtype == np.uint16
    assert widened.ravel().tolist() == [0, 257, 65535]
    assert promote(image, np.dtype(np.uint8)) is image
    assert promote(widened, np.dtype(np.uint16)) is widened


def test_to_uint8_is_for_the_eye():
    values = np.array([[-1.0, 0.0, 0.5, 1.0, 2.0]])
    assert to_uint8(values, 0.0, 1.0).tolist() == [[0, 0, 128, 255, 255]]
    assert to_uint8(np.array([[0, 65535]], np.uint16), 0, 65535).tolist() == [[0, 255]]
    assert to_uint8(np.array([[3.0]]), 3.0, 3.0).tolist() == [[0]]


def test_images_are_told_by_their_names():
    names = ["a.png", "b.JPG", "c.tiff", ".hidden.png", "notes.txt", "noending"]
    assert [name for name in names if is_image(Path("folder") / name)] == ["a.png", "b.JPG", "c.tiff"]


def test_decoding_does_not_depend_on_the_working_folder(tmp_path, monkeypatch):
    write_png(tmp_path / "a.png", GREY)
    monkeypatch.chdir(tmp_path)
    np.testing.assert_array_equal(decode(Path(os.curdir, "a.png")), GREY)
