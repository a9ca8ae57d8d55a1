"""What people hand over, file by file and folder by folder: what comes, and what is expected of it."""

import io
import struct
import sys
import zipfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

from conftest import write_png
from unlike.cli import run
from unlike.data import readers
from unlike.data.input_spec import InputSpec, conform, depth_of, find_missing
from unlike.data.pages import count_pages, turn_pages
from unlike.data.readers import decode, peek, peek_size
from unlike.data.source import choose_form, open_source
from unlike.detector.detector import Detector
from unlike.detector.fitting import spec_for
from unlike.detector.settings import DataConfig
from unlike.errors import DataError, ImageError
from unlike.evaluation.evaluate import evaluate
from unlike.evaluation.synthetic import make_synthetic

tifffile = pytest.importorskip("tifffile", reason="needs tifffile: pip install 'unlike[formats]'")
imagecodecs = pytest.importorskip("imagecodecs", reason="needs imagecodecs: pip install 'unlike[formats]'")
pillow_heif = pytest.importorskip("pillow_heif", reason="needs pillow-heif: pip install 'unlike[formats]'")
pydicom = pytest.importorskip("pydicom", reason="needs pydicom: pip install 'unlike[formats]'")

RANDOM = np.random.default_rng(5)
GREY = RANDOM.integers(0, 256, (18, 14, 1), np.uint8)
COLOUR, ALPHA = (RANDOM.integers(0, 256, (18, 14, channels), np.uint8) for channels in (3, 4))
SMOOTH = np.ascontiguousarray(
    cv2.resize(RANDOM.integers(0, 256, (3, 3, 3), np.uint8), (64, 48), interpolation=cv2.INTER_CUBIC)
)
FULL = RANDOM.integers(0, 65536, (18, 14, 1), np.uint16)
TWELVE = RANDOM.integers(0, 4096, (18, 14, 1), np.uint16)
TWELVE[0, :2, 0] = 0, 4095
SIGNED = RANDOM.integers(-3000, 3000, (18, 14, 1))
FIVE = RANDOM.integers(0, 65536, (18, 14, 5), np.uint16)
PAGES = RANDOM.integers(0, 256, (3, 18, 14), np.uint8)
HOLES = RANDOM.normal(0, 1, (18, 14, 1)).astype(np.float32)
HOLES[3:5, 4] = -9999


@dataclass(frozen=True)
class Input:
    """A file and what is expected of it: pixels, or the sentence that refuses it."""

    name: str
    content: bytes
    expected: Any
    atol: float = 0


def tiff(pixels: np.ndarray, **options) -> bytes:
    pixels = pixels[..., 0] if pixels.ndim == 3 and pixels.shape[2] == 1 else pixels
    tifffile.imwrite(file := io.BytesIO(), pixels, **options)
    return file.getvalue()


def bands(pixels: np.ndarray, **options) -> bytes:
    return tiff(pixels, photometric="minisblack", planarconfig="contig", **options)


def packed(values: np.ndarray, bits: int, white_is_zero: bool = False) -> bytes:
    """A TIFF in which values of 10, 12 or 14 bits lie side by side."""
    ones = (values[..., 0, None] >> np.arange(bits - 1, -1, -1)) & 1
    data = np.packbits(ones.astype(np.uint8).reshape(len(values), -1), axis=1).tobytes()
    height, width = values.shape[:2]
    photometric = 0 if white_is_zero else 1
    tags = [
        (256, width),
        (257, height),
        (258, bits),
        (259, 1),
        (262, photometric),
        (273, 0),
        (277, 1),
        (278, height),
        (279, len(data)),
    ]
    start = 8 + 2 + 12 * len(tags) + 4
    entries = [struct.pack("<HHII", tag, 4, 1, start if tag == 273 else value) for tag, value in tags]
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + b"".join(entries) + bytes(4) + data


def pillow(pixels: np.ndarray, kind: str, **options) -> bytes:
    Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels).save(file := io.BytesIO(), kind, **options)
    return file.getvalue()


def palette() -> bytes:
    Image.fromarray(COLOUR).quantize(16).save(file := io.BytesIO(), "PNG", transparency=3)
    return file.getvalue()


def opencv_png(pixels: np.ndarray) -> bytes:
    return cv2.imencode(".png", pixels)[1].tobytes()


def heic(pixels: np.ndarray) -> bytes:
    pillow_heif.from_pillow(Image.fromarray(pixels)).save(file := io.BytesIO(), quality=95, chroma=444)
    return file.getvalue()


def numbers(array: np.ndarray) -> bytes:
    np.save(file := io.BytesIO(), array, allow_pickle=True)
    return file.getvalue()


def archive(**arrays: np.ndarray) -> bytes:
    np.savez(file := io.BytesIO(), **arrays)
    return file.getvalue()


def dicom(pixels: np.ndarray, photometric: str = "MONOCHROME2", stored: int | None = None, **tags) -> bytes:
    """Pixels (H, W), (H, W, 3) or frames (N, H, W)."""
    meta = pydicom.dataset.FileMetaDataset()
    meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = "1.2.840.10008.5.1.4.1.1.7", "1.2.3"
    data = pydicom.dataset.Dataset()
    data.file_meta = meta
    colour = photometric == "RGB"
    shape = pixels.shape[:2] if colour else pixels.shape[-2:]
    data.Rows, data.Columns = shape
    data.SamplesPerPixel, data.PhotometricInterpretation = (3 if colour else 1), photometric
    data.BitsAllocated = 8 * pixels.itemsize
    data.BitsStored = stored or data.BitsAllocated
    data.HighBit = data.BitsStored - 1
    data.PixelRepresentation = int(pixels.dtype.kind == "i")
    if colour:
        data.PlanarConfiguration = 0
    if pixels.ndim == 3 and not colour:
        data.NumberOfFrames = len(pixels)
    data.PixelData = pixels.tobytes()
    for tag, value in tags.items():
        setattr(data, tag, value)
    data.save_as(file := io.BytesIO(), enforce_file_format=True)
    return file.getvalue()


BIG_LIE = tiff(GREY).replace(struct.pack("<HHII", 256, 4, 1, 14), struct.pack("<HHII", 256, 4, 1, 200_000_000))
CLAIMS = "claims 3,600,000,000 pixels, more than 178,956,970 (a decompression bomb?); cut it into tiles, or, if it is to be trusted"
INPUTS = [
    Input("photo.jfif", pillow(SMOOTH, "JPEG", quality=98, subsampling=0), SMOOTH, 12),
    Input("photo.jpe", pillow(SMOOTH, "JPEG", quality=98, subsampling=0), SMOOTH, 12),
    Input("photo.AVIF", imagecodecs.avif_encode(COLOUR, level=100), COLOUR),
    Input("grey.avif", pillow(GREY, "AVIF", quality=100), GREY, 6),
    Input("photo.heic", heic(SMOOTH), SMOOTH, 16),
    Input("photo.jxl", imagecodecs.jpegxl_encode(COLOUR, lossless=True), COLOUR),
    Input("deep.jxl", imagecodecs.jpegxl_encode(FULL[..., 0], lossless=True), FULL),
    Input("alpha.jxl", imagecodecs.jpegxl_encode(ALPHA, lossless=True), ALPHA),
    Input("photo.jp2", imagecodecs.jpeg2k_encode(COLOUR, level=0), COLOUR),
    Input("zstd.tif", tiff(COLOUR, compression="zstd"), COLOUR),
    Input("lzma.tif", tiff(COLOUR, compression="lzma"), COLOUR),
    Input("webp.tif", tiff(COLOUR, compression="webp"), COLOUR),
    Input("jpegxl.tif", tiff(COLOUR, compression="jpegxl"), COLOUR),
    Input("jpeg2000.tif", tiff(COLOUR, compression="jpeg2000"), COLOUR),
    Input("zstd16.tif", tiff(FULL, compression="zstd", predictor=True), FULL),
    Input("big.tif", tiff(COLOUR, bigtiff=True), COLOUR),
    Input("big-endian.tif", tiff(FULL, byteorder=">"), FULL),
    Input(
        "tiled.tif",
        tiff(np.kron(GREY[..., 0], np.ones((8, 8), np.uint8)), tile=(16, 16)),
        np.kron(GREY[..., 0], np.ones((8, 8), np.uint8)),
    ),
    Input("white-is-zero-8.tif", tiff(GREY, photometric="miniswhite"), 255 - GREY),
    Input("white-is-zero-16.tif", tiff(FULL, photometric="miniswhite"), 65535 - FULL),
    Input("white-is-zero-zstd.tif", tiff(GREY, photometric="miniswhite", compression="zstd"), 255 - GREY),
    Input("white-is-zero-packed.tif", packed(TWELVE, 12, white_is_zero=True), 4095 - TWELVE),
    Input("packed-10.tif", packed(TWELVE >> 2, 10), TWELVE >> 2),
    Input("packed-12.tif", packed(TWELVE, 12), TWELVE),
    Input("packed-14.tif", packed(TWELVE << 2, 14), TWELVE << 2),
    Input("unpacked-12.tif", tiff(TWELVE), TWELVE),
    Input("int8.tif", tiff((SIGNED // 30).astype(np.int8)), (SIGNED // 30).astype(np.float32)),
    Input("int16.tif", tiff(SIGNED.astype(np.int16)), SIGNED.astype(np.float32)),
    Input("int32.tif", tiff(SIGNED.astype(np.int32)), SIGNED.astype(np.float32)),
    Input("uint32.tif", tiff(np.abs(SIGNED).astype(np.uint32)), np.abs(SIGNED).astype(np.float32)),
    Input("int64.tif", tiff(SIGNED), SIGNED.astype(np.float32)),
    Input("float16.tif", tiff(HOLES.astype(np.float16)), HOLES.astype(np.float16).astype(np.float32)),
    Input("float64.tif", tiff(HOLES.astype(np.float64)), HOLES),
    Input(
        "no-data.tif",
        tiff(HOLES, extratags=[(42113, "s", 0, "-9999", True)]),
        np.where(HOLES == -9999, np.float32(np.nan), HOLES),
    ),
    Input("bool.tif", tiff(GREY[..., 0] > 99, photometric="minisblack"), (GREY > 99) * np.uint8(255)),
    Input(
        "complex.tif", tiff(np.zeros((4, 4), np.complex64)), "holds complex64 values; expected whole numbers or floats"
    ),
    Input("2-bands.tif", bands(FIVE[..., :2]), FIVE[..., :2]),
    Input("grey-alpha.tif", bands(ALPHA[..., 2:], extrasamples=["unassalpha"]), ALPHA[..., [2, 2, 2, 3]]),
    Input("5-bands.tif", bands(FIVE), FIVE),
    Input("5-bands-apart.tif", tiff(np.moveaxis(FIVE, 2, 0), photometric="minisblack", planarconfig="separate"), FIVE),
    Input(
        "9-bands.tif",
        bands(np.concatenate([FIVE, FIVE[..., :4]], 2).astype(np.float32)),
        np.concatenate([FIVE, FIVE[..., :4]], 2).astype(np.float32),
    ),
    Input("5-bands-turned.tif", bands(FIVE, extratags=[(274, "H", 1, 6, True)]), np.rot90(FIVE, -1)),
    Input("pages.tif", tiff(PAGES, photometric="minisblack"), PAGES[0]),
    Input("mono.dcm", dicom(GREY[..., 0]), GREY),
    Input("twelve.dcm", dicom(TWELVE[..., 0], stored=12), TWELVE),
    Input("white.dcm", dicom(TWELVE[..., 0], "MONOCHROME1", stored=12), 4095 - TWELVE),
    Input(
        "ct.dcm",
        dicom(SIGNED[..., 0].astype(np.int16), RescaleSlope="1", RescaleIntercept="-1024"),
        (SIGNED - 1024).astype(np.float32),
    ),
    Input("identity.dcm", dicom(TWELVE[..., 0], stored=12, RescaleSlope="1", RescaleIntercept="0"), TWELVE),
    Input("colour.dicom", dicom(COLOUR, "RGB"), COLOUR),
    Input("frames.dcm", dicom(PAGES), PAGES[0]),
    Input("dicom-by-content.png", dicom(GREY[..., 0]), GREY),
    Input("broken.dcm", b"nothing of the kind" * 20, "is no DICOM file, or is damaged"),
    Input("no-image.dcm", dicom(GREY[..., 0])[:300], "is"),
    Input("bands.npy", numbers(FIVE), FIVE),
    Input("grey.npy", numbers(GREY[..., 0]), GREY),
    Input("ints.npy", numbers(SIGNED), SIGNED.astype(np.float32)),
    Input("yes-no.npy", numbers(GREY[..., 0] > 99), (GREY > 99) * np.uint8(255)),
    Input("one.npz", archive(tile=FIVE), FIVE),
    Input("named.npz", archive(image=FIVE, mask=GREY), FIVE),
    Input("unnamed.npz", archive(a=FIVE, b=GREY), "holds the arrays a, b; expected one, or one named image or"),
    Input(
        "many.npy",
        numbers(np.zeros((9, 8, 8, 3), np.uint8)),
        "holds 9 x 8 x 8 x 3 values; expected one image, H x W or H x W x C; give a file of many images by itself",
    ),
    Input(
        "channels-first.npy",
        numbers(np.zeros((3, 8, 8), np.uint8)),
        "holds 3 x 8 x 8 values, which looks like channels first",
    ),
    Input("objects.npy", numbers(np.array([{}], object)), "holds Python objects (pickle), which can run code"),
    Input("text.npy", b"1,2,3\n", "is no array that numpy.save writes, or is damaged"),
    Input("cut.npy", numbers(FIVE)[:-50], "is no array that numpy.save writes, or is damaged"),
    Input("page.html.png", b"<!DOCTYPE html><html>not found</html>", "is no image of a kind that is known here"),
    Input("cut.tif", tiff(COLOUR, compression="zstd")[:-30], "is cut short"),
    Input("cut.jpg", pillow(SMOOTH, "JPEG")[:900], "is cut short"),
    Input("cut.avif", imagecodecs.avif_encode(SMOOTH, level=90)[:-40], "is cut short"),
    Input("cut.heic", heic(SMOOTH)[:-40], "is cut short"),
    Input(
        "damaged.jxl", imagecodecs.jpegxl_encode(COLOUR)[:20] + bytes(200), "begins as JPEG XL but cannot be decoded"
    ),
    Input(
        "damaged.png",
        pillow(COLOUR, "PNG")[:60] + bytes(300) + b"IEND\xaeB`\x82",
        "begins as PNG but cannot be decoded",
    ),
    Input("lie.tif", BIG_LIE, "claims 3,600,000,000 pixels, more than 178,956,970"),
    Input("other.sgi", pillow(COLOUR, "SGI"), COLOUR),
]
BY_NAME = {case.name: case.content for case in INPUTS}


@pytest.mark.parametrize("case", INPUTS, ids=lambda case: case.name)
def test_every_input_is_read_as_expected(tmp_path, case, capfd):
    path = tmp_path / case.name
    path.write_bytes(case.content)
    if isinstance(case.expected, str):
        with pytest.raises(ImageError) as caught:
            decode(path)
        assert str(caught.value).startswith(case.expected)
    else:
        image = decode(path)
        expected = case.expected[..., None] if case.expected.ndim == 2 else case.expected
        assert image.shape == expected.shape
        assert image.dtype == expected.dtype
        np.testing.assert_allclose(image.astype(float), expected.astype(float), rtol=0, atol=case.atol)
        assert image.flags.c_contiguous
    assert capfd.readouterr() == ("", "")


def test_a_format_without_its_package_says_what_to_install(monkeypatch):
    for name in ("pillow_heif", "imagecodecs", "tifffile", "pydicom"):
        monkeypatch.setitem(sys.modules, name, None)
    for content, message in (
        (BY_NAME["photo.heic"], "is a HEIC image, which needs pillow-heif: pip install 'unlike[formats]'"),
        (BY_NAME["photo.jxl"], "is a JPEG XL image, which needs imagecodecs: pip install 'unlike[formats]'"),
        (BY_NAME["5-bands.tif"], "is a TIFF with 5 channels, which needs tifffile: pip install 'unlike[formats]'"),
        (BY_NAME["mono.dcm"], "is a DICOM file, which needs pydicom: pip install 'unlike[formats]'"),
    ):
        with pytest.raises(ImageError) as caught:
            readers.decode_bytes(content)
        assert str(caught.value) == message


def test_cut_short_is_said_of_no_file_that_is_whole():
    whole = [case for case in INPUTS if isinstance(case.expected, str) and not case.name.startswith("cut")]
    for case in whole:
        with pytest.raises(ImageError) as caught:
            readers.READERS.get(case.name.rpartition(".")[2], readers.decode_bytes)(case.content)
        assert "cut short" not in str(caught.value)


def save_all(folder: Path, images: dict[str, bytes]) -> Path:
    for name, content in images.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


def many(count: int, channels: int, start: int = 0, **options) -> dict[str, bytes]:
    random = np.random.default_rng(start)
    return {
        f"{start + number:03}.png": pillow(random.integers(90, 120, (16, 16, channels), np.uint8), "PNG", **options)
        for number in range(count)
    }


SEEN_AS = {  # what lies in a folder -> channels, floats, whether some are turned, and what is said
    "colour": ([(9, 3)], 3, False, ""),
    "grey": ([(9, 1)], 1, False, ""),
    "grey first": (
        [(9, 1), (52, 3)],
        3,
        True,
        "Of 61 images 52 colour, 9 grey: all are taken as colour (grey ones get three equal channels)",
    ),
    "colour first": (
        [(9, 3), (52, 1)],
        3,
        True,
        "Of 61 images 52 grey, 9 colour: all are taken as colour (grey ones get three equal channels)",
    ),
    "some transparent": (
        [(3, 4), (9, 3)],
        3,
        True,
        "Of 12 images 9 colour, 3 with transparency: all are taken as colour (transparent ones lie on white)",
    ),
    "most transparent": (
        [(3, 3), (9, 4)],
        4,
        True,
        "Of 12 images 9 with transparency, 3 colour: all are taken with transparency",
    ),
}


@pytest.mark.parametrize("name", SEEN_AS)
def test_most_images_decide_the_channels_and_none_is_lost(tmp_path, name):
    parts, channels, mixed, said = SEEN_AS[name]
    for place, (count, own) in enumerate(parts):
        save_all(tmp_path, many(count, own, 100 * place))
    source = open_source(tmp_path)
    spec, notes = choose_form(source, None, None, "stretch", (16, 16))
    assert (spec.channels, spec.convert) == (channels, mixed)
    assert "".join(notes).startswith(said)
    assert bool(notes) == bool(said)
    assert sum(len(batch.samples) for batch in source.stream(spec)) == sum(count for count, _ in parts)


def test_a_mixed_folder_fits_and_evaluates_without_a_flag(tmp_path):
    save_all(tmp_path / "train/good", many(9, 1) | many(52, 3, 100) | many(2, 4, 200))
    save_all(tmp_path / "test/good", many(3, 1, 300) | many(3, 3, 400))
    save_all(tmp_path / "test/bad", many(3, 3, 500) | many(3, 4, 600))
    detector = Detector("conv", epochs=1, size=16, cache=False).fit(tmp_path)
    assert detector.fitted_.unreadable == ()
    assert detector.fitted_.notes[0].startswith(
        "Of 63 images 52 colour, 9 grey, 2 with transparency: all are taken as colour"
    )
    found = evaluate(detector, tmp_path)
    assert (len(found.scores), found.scores.unreadable) == (12, ())


def test_what_a_message_advises_works(tmp_path):
    save_all(tmp_path / "colour", many(12, 3))
    save_all(tmp_path / "grey", many(3, 1))
    detector = Detector("conv", epochs=1, size=16, cache=False).fit(tmp_path / "colour")
    with pytest.raises(DataError) as caught:
        detector.score(tmp_path / "grey")
    assert "fit with --set data.channels=3 to convert such images" in str(caught.value)
    again = Detector("conv", epochs=1, size=16, cache=False, settings={"data": {"channels": 3}}).fit(
        tmp_path / "colour"
    )
    assert len(again.score(tmp_path / "grey")) == 3
    save_all(tmp_path / "bands", {"a.npy": numbers(np.zeros((16, 16, 5), np.uint8))})
    with pytest.raises(
        DataError, match="has 5 channels where the detector takes 3, and cannot be turned into them; take it away"
    ):
        detector.score(tmp_path / "bands")


def test_bands_beside_pictures_are_refused_and_it_is_said(tmp_path):
    save_all(tmp_path, many(9, 3))
    save_all(tmp_path / "bands", {f"{number}.npy": numbers(np.zeros((16, 16, 5), np.uint8)) for number in range(2)})
    source = open_source(tmp_path)
    spec, notes = choose_form(source, None, None, "stretch", (16, 16))
    assert notes == (
        "Of 11 images 9 colour, 2 of 5 channels: all are taken as colour (those with 5 channels are refused).",
    )
    assert sum(len(batch.unreadable) for batch in source.stream(spec)) == 2


def test_floats_beside_whole_numbers_are_refused_and_it_is_said(tmp_path):
    save_all(
        tmp_path, {"a.npy": numbers(np.zeros((16, 16), np.float32))} | {f"{n}.npy": numbers(GREY) for n in range(3)}
    )
    spec, notes = choose_form(open_source(tmp_path), None, None, "stretch", (16, 16))
    assert not spec.floating
    assert notes == ("Of 4 images 1 hold floats where most hold whole numbers: they are refused.",)


@pytest.mark.parametrize("pixels", [GREY, COLOUR, ALPHA, GREY.astype(np.uint16) * 257, COLOUR.astype(np.uint16) * 3])
def test_a_header_says_what_decoding_finds(tmp_path, pixels):
    path = write_png(tmp_path / "a.png", pixels)
    image = decode(path)
    assert peek(path) in (None, (image.shape[2], str(image.dtype)))
    assert (peek(path) is None) == (pixels.shape[2] == 4)


def test_a_header_of_a_photograph(tmp_path):
    for pixels in (SMOOTH, GREY):
        save_all(tmp_path, {"a.jpg": pillow(pixels, "JPEG")})
        assert peek(tmp_path / "a.jpg") == (pixels.shape[2], "uint8")
    save_all(tmp_path, {"a.png": palette(), "b.jpg": b"\xff\xd8\xff\xe0", "c.png": b"\x89PNG"})
    assert [peek(tmp_path / name) for name in ("a.png", "b.jpg", "c.png", "missing.png")] == [None] * 4


def test_a_header_says_the_size(tmp_path):
    tall = SMOOTH[: SMOOTH.shape[0] // 2]
    png, jpeg = tmp_path / "a.png", tmp_path / "b.jpg"
    save_all(tmp_path, {"a.png": pillow(tall, "PNG"), "b.jpg": pillow(tall, "JPEG"), "c.jpg": b"\xff\xd8\xff\xe0"})
    save_all(tmp_path, {"d.png": b"\x89PNG", "e.npy": numbers(GREY)})
    assert peek_size(png) == peek_size(jpeg) == tall.shape[:2]
    assert [peek_size(tmp_path / name) for name in ("c.jpg", "d.png", "e.npy", "missing.png")] == [None] * 4


@pytest.mark.parametrize(
    ("highest", "bits"),
    [(0, 16), (200, 8), (255, 8), (256, 10), (1023, 10), (4095, 12), (5000, 14), (16383, 14), (16384, 16)],
)
def test_the_bits_in_use_are_found(tmp_path, highest, bits):
    assert depth_of(highest) == bits
    frames = np.zeros((5, 16, 16), np.uint16)
    frames[3, 2, 2] = highest
    spec, notes = choose_form(open_source(frames), None, None, "stretch", (16, 16))
    assert spec.bits == bits
    assert bool(notes) == (bits < 16)
    for number, frame in enumerate(frames):
        save_all(tmp_path, {f"{number}.png": opencv_png(frame)})
    assert choose_form(open_source(tmp_path), None, None, "stretch", (16, 16)) == (spec, notes)
    assert choose_form(open_source(frames), None, None, "stretch", (16, 16), bits=14)[0].bits == 14


def test_packed_and_unpacked_files_of_one_camera_agree(tmp_path):
    save_all(
        tmp_path,
        {
            "a.tif": packed(TWELVE, 12),
            "b.tif": tiff(TWELVE),
            "c.png": opencv_png(TWELVE),
            "d.dcm": dicom(TWELVE[..., 0], stored=12),
        },
    )
    source = open_source(tmp_path)
    spec, notes = choose_form(source, None, None, "stretch", (18, 14))
    assert spec.bits == 12
    assert notes == ("Images of 16 bits use 12: white is 4,095; --set data.bits=16 decides otherwise.",)
    (batch,) = source.stream(spec)
    for pixels in batch.pixels:
        np.testing.assert_array_equal(pixels, np.rint(TWELVE * (65535 / 4095)).astype(np.uint16))


def test_eight_bits_in_sixteen_are_what_they_are_in_eight():
    spec = InputSpec(18, 14, 1, bits=8)
    np.testing.assert_array_equal(conform(GREY.astype(np.uint16), spec), GREY.astype(np.uint16) * 257)
    np.testing.assert_array_equal(conform(FULL, InputSpec(18, 14, 1)), FULL)
    np.testing.assert_array_equal(conform(GREY, replace(spec, bits=12)), GREY)


def test_values_beyond_the_bits_in_use(tmp_path):
    spec = InputSpec(18, 14, 1, bits=10)
    image = (TWELVE >> 2).copy()
    image[5, 5] = 3000
    assert conform(image, spec)[5, 5] == 65535  # a few are cut off at white
    with pytest.raises(ImageError) as caught:
        conform(TWELVE, spec)
    assert str(caught.value) == (
        "holds values up to 4,095 where those of the detector's images end at 1,023 (10 bits); fit with --set data.bits=12"
    )
    dark = np.random.default_rng(0).integers(100, 900, (20, 16, 16), np.uint16)
    detector = Detector("conv", epochs=1, cache=False).fit(dark)
    with pytest.raises(DataError, match=r"fit with --set data\.bits=12"):
        detector.score(dark * 4)
    wide = Detector("conv", epochs=1, cache=False, settings={"data": {"bits": 12}}).fit(dark)
    assert len(wide.score(dark * 4)) == 20
    assert wide.fitted_.spec.bits == 12


def test_bits_and_missing_values_are_kept_with_a_detector(tmp_path):
    dark = np.random.default_rng(0).integers(1, 900, (20, 16, 16), np.uint16)
    dark[:, :3, :3] = 0
    settings = {"data": {"missing": 0}}
    detector = Detector("conv", epochs=1, cache=False, settings=settings).fit(dark)
    detector.save(tmp_path / "d")
    again = Detector.load(tmp_path / "d")
    assert (
        again.fitted_.spec
        == detector.fitted_.spec
        == InputSpec(16, 16, 1, bits=10, missing=0.0, value_range=(0.0, 65535.0))
    )
    np.testing.assert_allclose(again.score(dark).image, detector.score(dark).image, rtol=1e-5)


@pytest.mark.parametrize("missing", [-9999.0, "nan"])
def test_missing_values_are_filled_from_around_them(missing):
    image = HOLES.copy()
    if missing == "nan":
        image[image == -9999] = np.nan
    spec = InputSpec(18, 14, 1, floating=True, missing=missing)
    filled = conform(image, spec)
    known = HOLES != -9999
    np.testing.assert_array_equal(filled[known], HOLES[known])
    assert np.isin(filled[3:5, 4], HOLES[3:5, [3, 5]]).all()
    np.testing.assert_array_equal(find_missing(image, spec), ~known[..., 0])
    assert find_missing(filled, spec) is None
    small = find_missing(image, replace(spec, height=9, width=7))
    assert small[1:3, 2].all()
    assert small.sum() == 2
    with pytest.raises(ImageError, match="holds nothing but missing values"):
        conform(np.full_like(image, np.nan), spec)


def test_a_map_is_zero_where_values_are_missing(tmp_path):
    random = np.random.default_rng(0)
    images = random.normal(0, 0.1, (30, 16, 16)).astype(np.float32)
    images[:, 4:8, 4:8] = np.nan
    detector = Detector("conv", epochs=1, cache=False, settings={"data": {"missing": float("nan")}}).fit(images)
    scores = detector.score(images, maps=True)
    assert (scores.maps[:, 4:8, 4:8] == 0).all()
    assert (scores.maps[:, :3, :3] > 0).all()
    with pytest.raises(DataError, match=r"fit with --set data\.missing=nan"):
        Detector("conv", epochs=1, cache=False).fit(images)


def test_each_page_is_an_image_unless_asked_otherwise(tmp_path):
    save_all(
        tmp_path,
        {
            "a.tif": BY_NAME["pages.tif"],
            "b.dcm": BY_NAME["frames.dcm"],
            "c.png": BY_NAME["other.sgi"],
            "d.tif": tiff(GREY),
        },
    )
    source = open_source(tmp_path)
    each = turn_pages(source, "all")
    assert [sample.id for sample in each.samples] == [
        "a.tif#1",
        "a.tif#2",
        "a.tif#3",
        "b.dcm#1",
        "b.dcm#2",
        "b.dcm#3",
        "c.png",
        "d.tif",
    ]
    for number, sample in enumerate(each.samples[:6]):
        np.testing.assert_array_equal(each.read(sample)[..., 0], PAGES[number % 3])
    assert turn_pages(each, "all") is each
    assert turn_pages(source, "first") is source
    np.testing.assert_array_equal(source.read(source.samples[0])[..., 0], PAGES[0])
    stacked = turn_pages(source, "stack")
    assert [stacked.read(sample).shape[2] for sample in stacked.samples] == [3, 3, 3, 1]
    np.testing.assert_array_equal(stacked.read(stacked.samples[0]), np.moveaxis(PAGES, 0, 2))
    with pytest.raises(ImageError, match="has no page 4; it has 3"):
        decode(tmp_path / "a.tif#4")
    with pytest.raises(ImageError, match="has no page 2; it has 1"):
        decode(tmp_path / "c.png#2")


def test_thumbnails_and_pages_of_another_size_are_no_images(tmp_path):
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        file.write(GREY[..., 0])
        file.write(GREY[::2, ::2, 0], subfiletype=1)
        file.write(GREY[::2, ::2, 0])
        file.write(255 - GREY[..., 0])
    assert count_pages(tmp_path / "a.tif") == 2
    np.testing.assert_array_equal(decode(tmp_path / "a.tif#2"), 255 - GREY)
    assert [count_pages(tmp_path / name) for name in ("missing.tif", "a.png")] == [1, 1]


def test_a_file_whose_name_has_a_number_sign_is_that_file(tmp_path):
    save_all(tmp_path, {"a.png#2": pillow(GREY, "PNG"), "a.png": pillow(COLOUR, "PNG")})
    np.testing.assert_array_equal(decode(tmp_path / "a.png#2"), GREY)


def test_masks_of_as_many_pages_are_turned_with_their_images(tmp_path):
    save_all(
        tmp_path,
        {
            "a.tif": BY_NAME["pages.tif"],
            "m.tif": BY_NAME["pages.tif"],
            "b.tif": BY_NAME["pages.tif"],
            "n.png": pillow(GREY, "PNG"),
        },
    )
    (tmp_path / "list.csv").write_text("path,label,mask\na.tif,1,m.tif\nb.tif,1,n.png\n")
    samples = turn_pages(open_source(tmp_path / "list.csv"), "all").samples
    assert [sample.mask.name for sample in samples] == ["m.tif#1", "m.tif#2", "m.tif#3", "n.png", "n.png", "n.png"]
    np.testing.assert_array_equal(readers.decode_mask(samples[2].mask), PAGES[2] > 0)


def test_a_detector_scores_every_page(tmp_path):
    stack = np.random.default_rng(0).integers(90, 110, (20, 16, 16), np.uint8)
    save_all(tmp_path, {"run.tif": tiff(stack, photometric="minisblack")})
    detector = Detector("conv", epochs=1, size=16, cache=False).fit(tmp_path)
    assert detector.fitted_.counts["unreadable"] == 0
    scores = detector.score(tmp_path / "run.tif")
    assert scores.ids == tuple(f"run.tif#{page}" for page in range(1, 21))
    np.testing.assert_allclose(scores.image, detector.score(stack).image, rtol=1e-5)


def test_arrays_in_a_folder_fit_and_evaluate(tmp_path):
    random = np.random.default_rng(0)
    for part, count in (("train/good", 20), ("test/good", 4), ("test/object", 4)):
        tiles = random.integers(0, 20_000, (count, 16, 16, 7), np.uint16)
        save_all(tmp_path / part, {f"{part[:2]}{number}.npy": numbers(tile) for number, tile in enumerate(tiles)})
    save_all(
        tmp_path / "ground_truth/object",
        {f"te{number}_mask.png": pillow(np.eye(16, dtype=np.uint8)[..., None], "PNG") for number in range(4)},
    )
    detector = Detector("conv", epochs=1, size=16, cache=False).fit(tmp_path)
    assert detector.fitted_.spec.channels == 7
    found = evaluate(detector, tmp_path)
    assert (len(found.scores), found.scores.unreadable) == (8, ())
    assert "pixel.auroc" in found.overall.figures


def test_arrays_beside_pictures_are_no_images(tmp_path):
    save_all(tmp_path, many(3, 3) | {"features.npy": numbers(np.zeros((3, 100)))})
    assert [sample.id for sample in open_source(tmp_path).samples] == ["000.png", "001.png", "002.png"]


def test_a_folder_with_a_file_of_many_images_says_how_they_are_given(tmp_path):
    save_all(tmp_path, {"x.npy": numbers(np.zeros((9, 8, 8, 3), np.uint8))})
    with pytest.raises(
        DataError, match=r"x\.npy holds 9 x 8 x 8 x 3 values; .*give a file of many images by itself, not in a folder"
    ):
        Detector("conv", epochs=1, cache=False).fit(tmp_path)
    assert (
        len(Detector("conv", epochs=1, cache=False).fit(np.random.default_rng(0).random((9, 8, 8))).fitted_.digests)
        == 9
    )


LAYOUT = {
    "train/good/a.png": GREY,
    "test/good/b.png": GREY,
    "test/bent/c.png": GREY,
    "ground_truth/bent/c_mask.png": GREY,
}


@pytest.mark.parametrize("top", ["", "bottle/"])
def test_an_archive_is_read_where_it_lies(tmp_path, top):
    folder = tmp_path / "plain" / top
    save_all(folder, {name: pillow(pixels, "PNG") for name, pixels in LAYOUT.items()})
    with zipfile.ZipFile(tmp_path / "images.zip", "w") as packed_up:
        for name in LAYOUT:
            packed_up.write(folder / name, top + name)
        packed_up.writestr("__MACOSX/._x.png", b"")
    before = {path.name for path in tmp_path.iterdir()}
    source, plain = open_source(tmp_path / "images.zip"), open_source(folder)
    assert [sample.id for sample in source.samples] == [top + sample.id for sample in plain.samples]
    for ours, theirs in zip(source.samples, plain.samples, strict=True):
        assert (ours.anomalous, ours.kind, ours.split) == (theirs.anomalous, theirs.kind, theirs.split)
        np.testing.assert_array_equal(source.read(ours), plain.read(theirs))
        if theirs.mask is not None:
            np.testing.assert_array_equal(readers.decode_mask(ours.mask), readers.decode_mask(theirs.mask))
    assert {path.name for path in tmp_path.iterdir()} == before


def test_an_archive_fits_and_its_cache_knows_when_it_changes(tmp_path, own_cache):
    path = tmp_path / "x.zip"
    for seed in (1, 2):
        with zipfile.ZipFile(path, "w") as packed_up:
            for name, content in many(12, 3, seed).items():
                packed_up.writestr(name, content)
        detector = Detector("conv", epochs=1, size=16).fit(path)
        plain = Detector("conv", epochs=1, size=16, cache=False).fit(path)
        np.testing.assert_array_equal(detector.fitted_.digests, plain.fitted_.digests)


def test_archives_that_cannot_be_read(tmp_path):
    path = tmp_path / "x.zip"
    path.write_bytes(b"no archive at all")
    with pytest.raises(DataError, match=r"x.zip: is no zip archive, or is damaged"):
        open_source(path)
    with zipfile.ZipFile(path, "w") as packed_up:
        packed_up.writestr("../a.png", b"")
    with pytest.raises(DataError, match=r"x.zip: ../a.png lies outside of the archive; pack it again"):
        open_source(path)
    with zipfile.ZipFile(path, "w") as packed_up:
        packed_up.writestr("notes.txt", b"")
    with pytest.raises(DataError, match=r"^" + str(path)):
        open_source(path)
    with zipfile.ZipFile(path, "w") as packed_up:
        packed_up.writestr("a.png", pillow(GREY, "PNG"))
    with pytest.raises(ImageError, match=r"cannot be opened \(it is not in x.zip\)"):
        decode(path / "b.png")
    content = path.read_bytes()
    path.write_bytes(content[:40] + b"\0\0\0" + content[43:])
    with pytest.raises(ImageError, match=r"cannot be read from x.zip"):
        decode(path / "a.png")


def test_an_encrypted_archive_is_named(tmp_path):
    path = tmp_path / "x.zip"
    with zipfile.ZipFile(path, "w") as packed_up:
        packed_up.writestr("a.png", b"x")
    content = bytearray(path.read_bytes())
    at = content.rfind(b"PK\x01\x02")
    content[at + 8] |= 1
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"a\.png is encrypted; expected an archive without a password"):
        open_source(path)


def test_an_enormous_image_is_read_when_it_is_allowed(tmp_path, monkeypatch):
    path = save_all(tmp_path, many(3, 3)) / "000.png"
    with pytest.raises(ImageError) as caught:
        decode(path, 200)
    assert str(caught.value).endswith("allow so many: --set data.most_pixels=256")
    assert decode(path, 256).shape == (16, 16, 3)
    spec, _ = spec_for(open_source(tmp_path), DataConfig(most_pixels=256))
    assert spec.most_pixels == 256
    (batch,) = open_source(tmp_path).stream(replace(spec, most_pixels=200))
    assert len(batch.unreadable) == 3


FLAT = np.stack([np.full((32, 32), 8 * grey, np.uint8) for grey in range(30)])
NOISE = np.random.default_rng(0).integers(90, 110, (30, 32, 32)).astype(np.uint8)
NEARLY = np.full((30, 32, 32), 99, np.uint8)
NEARLY[np.arange(30), np.arange(30), 5] = 100
ONE_FLAT = NOISE.copy()
ONE_FLAT[7] = 100
BY_TORCH = {"settings": {"model": {"runtime": "torch"}}}  # quicker for few images


@pytest.mark.parametrize(
    "images", [FLAT, NEARLY, ONE_FLAT, FLAT.astype(np.float32)], ids=["flat", "nearly", "one", "floats"]
)
@pytest.mark.parametrize(
    "chosen",
    [
        {"model": "conv", "epochs": 1},
        {"preset": "padim", **BY_TORCH},
        {"preset": "patchcore", **BY_TORCH},
        BY_TORCH,
    ],
    ids=["conv", "padim", "patchcore", "default"],
)
def test_constant_images_have_a_finite_score(images, chosen):
    detector = Detector(size=32, **chosen).fit(images)
    scores = detector.score(np.concatenate([images[:3], NOISE[:3].astype(images.dtype)]))
    assert scores.unreadable == ()
    assert np.isfinite(scores.image).all()
    assert np.isfinite(detector.fitted_.decision.threshold)


@pytest.mark.parametrize("images", [np.repeat(NOISE[:1], 30, 0), np.zeros((30, 32, 32), np.uint8)])
def test_copies_of_one_image_teach_nothing(images):
    with pytest.raises(DataError, match="30 normal images are copies of 1; at least 3 different ones are needed"):
        Detector("conv", epochs=1, size=32, cache=False).fit(images)


def test_values_beyond_the_bits_are_cut_off_and_it_is_said(tmp_path, capsys):
    dark = np.random.default_rng(0).integers(0, 900, (20, 16, 16), np.uint16)
    bright = dark.copy()
    bright[3, 0, 0] = 2000
    np.save(tmp_path / "dark.npy", dark)
    np.save(tmp_path / "bright.npy", bright)
    fit = [
        "fit",
        str(tmp_path / "dark.npy"),
        "-o",
        str(tmp_path / "d"),
        "--model",
        "conv",
        "--epochs",
        "1",
        "--no-cache",
    ]
    assert run([*fit, "--false-alarms", "0.3"]) == 0
    assert "Images of 16 bits use 10: white is 1,023" in capsys.readouterr().err
    assert run(["score", str(tmp_path / "d"), str(tmp_path / "dark.npy")]) == 0
    assert "with values beyond" not in capsys.readouterr().err
    assert run(["score", str(tmp_path / "d"), str(tmp_path / "bright.npy")]) == 0
    said = capsys.readouterr().err
    assert "1 image with values beyond 1,023 (10 bits, as the images to fit on have), such as 3: cut off there." in said
    assert "fit with --set data.bits=16" in said
    assert Detector.load(tmp_path / "d").score(bright).clipped == ("3",)
    np.save(tmp_path / "y.npy", np.arange(20) == 3)
    evaluated = ["evaluate", str(tmp_path / "d"), str(tmp_path / "bright.npy"), "--labels", str(tmp_path / "y.npy")]
    assert run([*evaluated, "-o", str(tmp_path / "out")]) == 0
    assert "1 image with values beyond 1,023" in capsys.readouterr().err
    assert run([*fit, "--set", "data.bits=16", "--false-alarms", "0.3"]) == 0
    assert run(["score", str(tmp_path / "d"), str(tmp_path / "bright.npy")]) == 0
    assert "with values beyond" not in capsys.readouterr().err


def test_a_fit_counts_what_lies_beyond_the_bits_that_were_asked_for(tmp_path):
    dark = np.random.default_rng(0).integers(0, 900, (20, 16, 16), np.uint16)
    dark[:2, 0, 0] = 2000
    save_all(tmp_path, {f"{number}.npy": numbers(image) for number, image in enumerate(dark)})
    save_all(tmp_path, {"x.npy": numbers(dark[0])[:-9]})
    for source in (open_source(dark), open_source(tmp_path)):
        notes = choose_form(source, None, None, "stretch", (16, 16), bits=10)[1]
        assert len(notes) == 1
        assert notes[0] == (
            f"Of {len(source)} images 2 have values beyond 1,023, white for data.bits=10: cut off there, or refused where there "
            "are many; --set data.bits=16 keeps them."
        )


@pytest.mark.parametrize("cached", [False, True])
def test_a_threshold_is_of_scores_without_what_was_filled(tmp_path, monkeypatch, cached):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    images = np.random.default_rng(0).normal(0, 0.1, (30, 16, 16)).astype(np.float32)
    images[:, 4:12, 4:12] = np.nan
    save_all(tmp_path / "in", {f"{number:02}.npy": numbers(image) for number, image in enumerate(images)})
    settings = {"data": {"missing": "nan", "size": 16}}
    taken = tmp_path / "in" if cached else images
    detector = Detector("conv", epochs=1, cache=cached, device="cpu", settings=settings).fit(taken)
    scores, found = detector.score(taken).image, detector.fitted_.decision.scores
    assert len(found) > 3
    assert np.abs(found[:, None] - scores[None]).min(axis=1).max() < 1e-5


def test_a_threshold_is_not_raised_by_filled_values_where_each_image_is_left_out():
    calm = np.random.default_rng(0).normal(0, 0.1, (30, 16, 16)).astype(np.float32)
    wild = calm.copy()
    wild[:, 3, 3] = np.linspace(-9, 9, 30) ** 3 / 81
    settings = {"data": {"missing": "nan"}, "model": {"side": 4}}
    thresholds = []
    for images in (calm, wild):
        images[:, :3, :3] = np.nan
        images[0, 15, 15], images[1, 15, 15] = -9, 9  # one scale for both
        detector = Detector("pixels", "neighbours", cache=False, device="cpu", settings=settings).fit(images)
        thresholds.append(np.median(detector.fitted_.decision.scores))
    assert thresholds[1] == pytest.approx(thresholds[0], rel=0.5)


def test_synthetic_defects_leave_missing_values_and_bits_as_they_are():
    random = np.random.default_rng(0)
    images = random.normal(0.5, 0.1, (12, 32, 32)).astype(np.float32)
    images[:, 4:20, 4:20] = np.nan
    spec = InputSpec(32, 32, 1, floating=True, missing="nan")
    found, _ = make_synthetic(open_source(images), spec)
    for batch in found.stream(spec):
        assert batch.missing[:, 4:20, 4:20].all()
    assert not any(sample.mask[4:20, 4:20].any() for sample in found.samples if sample.mask is not None)
    dark = random.integers(0, 1024, (12, 32, 32)).astype(np.uint16)
    deep = InputSpec(32, 32, 1, bits=10)
    found, _ = make_synthetic(open_source(dark), deep)
    assert all(batch.unreadable == () for batch in found.stream(deep))
    np.testing.assert_array_equal(found.read(found.samples[0])[..., 0], dark[0])


@pytest.mark.parametrize("kind", ["int8", "int16", "int32", "int64", "uint32", "uint64", ">i2", "bool"])
def test_arrays_of_any_numbers_are_read_as_files_of_one_image_are(tmp_path, kind):
    images = np.random.default_rng(0).integers(0, 2 if kind == "bool" else 100, (6, 12, 10)).astype(kind)
    rows = open_source(images)
    save_all(tmp_path, {f"{number}.npy": numbers(image) for number, image in enumerate(images)})
    files = open_source(tmp_path)
    spec = choose_form(rows, None, None, "stretch", (12, 10))[0]
    assert spec == choose_form(files, None, None, "stretch", (12, 10))[0]
    for one, other in zip(rows.stream(spec), files.stream(spec), strict=True):
        assert one.pixels.dtype == other.pixels.dtype
        np.testing.assert_array_equal(one.pixels, other.pixels)
    loaded = rows.load(spec, None)
    np.testing.assert_array_equal(loaded.take(np.arange(6)), next(rows.stream(spec)).pixels)


def test_a_list_of_arrays_is_an_image_each_and_it_is_said(tmp_path):
    save_all(tmp_path, {f"{number}.npy": numbers(COLOUR) for number in range(3)})
    source = open_source([tmp_path / f"{number}.npy" for number in range(3)])
    assert [sample.id for sample in source.samples] == ["0.npy", "1.npy", "2.npy"]
    assert source.notes == ("3 arrays, each taken as one image.",)
    assert source.read(source.samples[1]).shape == COLOUR.shape


def test_an_array_file_of_one_image_is_one_and_a_doubtful_one_is_said(tmp_path):
    save_all(
        tmp_path,
        {"one.npy": numbers(COLOUR), "grey.npy": numbers(GREY[..., 0]), "cube.npy": numbers(np.zeros((16, 16, 9)))},
    )
    for name in ("one", "grey"):
        source = open_source(tmp_path / f"{name}.npy")
        assert len(source) == 1
        assert source.notes == (f"{name}.npy is taken as one image; several in a file are N x H x W or N x H x W x C.",)
    cube = open_source(tmp_path / "cube.npy")
    assert len(cube) == 16
    assert cube.notes == (
        "16 x 16 x 9 values are taken as 16 grey images of 16 x 9; one image of 9 channels is array[None], saved.",
    )
    np.save(tmp_path / "cube.npy", np.zeros((16, 16, 9))[None])
    assert open_source(tmp_path / "cube.npy").read(open_source(tmp_path / "cube.npy").samples[0]).shape == (16, 16, 9)


def test_how_pages_are_taken_is_said_once(tmp_path, capsys):
    random = np.random.default_rng(0)
    for number in range(8):
        pages = random.integers(90, 120, (3, 16, 16), np.uint8)
        save_all(tmp_path / "in", {f"{number}.tif": tiff(pages, photometric="minisblack")})
    fit = ["fit", str(tmp_path / "in"), "-o", str(tmp_path / "d"), "--model", "conv", "--epochs", "1", "--size", "16"]
    assert run([*fit, "--no-cache", "--false-alarms", "0.3"]) == 0
    said = capsys.readouterr().err
    assert said.count("8 files of several pages: 24 images, one a page; --pages first takes the first of each") == 1
    assert (
        open_source(tmp_path / "in", pages="stack")
        .notes[-1]
        .startswith("8 files of several pages: all pages of each are")
    )
    assert "pages" not in "".join(open_source(tmp_path / "in", pages="first").notes)
