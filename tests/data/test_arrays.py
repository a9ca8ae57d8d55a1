"""Images that are already an array: which are taken, and that the right rows come out."""

import io
import pickle
import tempfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unlike.data.arrays import ImageArray, check_images, read_array_file
from unlike.data.samples import RowSamples, rows_of
from unlike.errors import DataError
from unlike.records import Sample

KINDS = [np.uint8, np.uint16, np.float16, np.float32, np.float64, ">u2", ">f4", ">f8"]


def numbered(count=10, shape=(6, 5, 3), kind=np.uint8):
    return (np.arange(count * np.prod(shape)) % 251).reshape(count, *shape).astype(kind)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", [(6, 5), (6, 5, 1), (6, 5, 3), (6, 5, 7)])
@pytest.mark.parametrize("mapped", [False, True])
def test_rows_come_out_native_with_their_values(tmp_path, shape, kind, mapped):
    array = numbered(shape=shape, kind=kind)
    if mapped:
        np.save(tmp_path / "x.npy", array)
        array, labels = read_array_file(tmp_path / "x.npy")
        assert isinstance(array, np.memmap)
        assert labels is None
    images = check_images(array, "x")
    assert len(images) == 10
    assert images.size == (6, 5)
    assert images.channels == (shape[2] if len(shape) == 3 else 1)
    assert images.floating == (np.dtype(kind).kind == "f")
    expected = np.asarray(array, np.float32 if images.floating else np.dtype(kind).newbyteorder("="))
    expected = expected.reshape(10, 6, 5, -1)
    for rows in (images.block(2, 7), images.take(np.arange(2, 7))):
        np.testing.assert_array_equal(rows, expected[2:7])
        assert rows.dtype == (np.float32 if images.floating else np.dtype(kind).newbyteorder("="))
        assert rows.dtype.isnative
        assert rows.flags.c_contiguous
    np.testing.assert_array_equal(images.take(np.array([9, 0, 4])), expected[[9, 0, 4]])
    np.testing.assert_array_equal(images.block(8, 99), expected[8:])


def test_an_array_in_memory_is_not_copied():
    array = numbered()
    assert np.shares_memory(ImageArray(array).block(3, 6), array)


def test_values_too_large_for_float32_become_infinite_without_a_warning():
    images = ImageArray(np.full((2, 6, 5), 1e300))
    assert np.isinf(images.block(0, 2)).all()


maps = {
    "whole": lambda m: m,
    "a part": lambda m: m[4:],
    "every other": lambda m: m[::2],
    "backwards": lambda m: m[::-1],
    "cropped": lambda m: m[:, 1:],
    "cropped columns": lambda m: m[:, :, 2:],
    "a row of a part": lambda m: m[3:][2:],
    "reshaped": lambda m: m.reshape(m.shape[0] // 2, 2 * m.shape[1], *m.shape[2:]),
    "moved axes": lambda m: np.swapaxes(m, 1, 2),
    "another type": lambda m: m.view(np.int8),
}


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("shape", [(6, 8), (6, 8, 2)])
@pytest.mark.parametrize("name", maps)
def test_a_block_of_a_part_of_a_map_is_that_part(tmp_path, name, shape, order):
    np.save(tmp_path / "x.npy", np.asarray(numbered(12, shape), order=order))
    whole, _ = read_array_file(tmp_path / "x.npy")
    part = maps[name](whole)
    images = ImageArray(part)
    expected = np.array(part).reshape(*part.shape[:3], -1)
    for start, stop in ((0, 1), (1, 4), (0, len(part))):
        np.testing.assert_array_equal(images.block(start, stop), expected[start:stop])


def test_a_map_of_a_file_without_a_name():
    with tempfile.TemporaryFile() as file:
        array = np.memmap(file, np.uint8, "w+", shape=(10, 6, 5))
        array[:] = numbered(shape=(6, 5))
        np.testing.assert_array_equal(ImageArray(array).block(2, 5)[..., 0], numbered(shape=(6, 5))[2:5])


def test_a_private_map_keeps_its_changes(tmp_path):
    np.save(tmp_path / "x.npy", numbered())
    private = np.load(tmp_path / "x.npy", mmap_mode="c")
    private[3] = 250
    assert (ImageArray(private).block(3, 4) == 250).all()


@settings(max_examples=40)
@given(count=st.integers(1, 30), data=st.data())
def test_any_block_is_those_rows(tmp_path_factory, count, data):
    array = numbered(count, (3, 4))
    path = tmp_path_factory.mktemp("block") / "x.npy"
    np.save(path, array)
    start = data.draw(st.integers(0, count - 1))
    stop = data.draw(st.integers(start + 1, count))
    images = ImageArray(read_array_file(path)[0])
    np.testing.assert_array_equal(images.block(start, stop)[..., 0], array[start:stop])


WRONG = {
    "one grey image": (
        np.zeros((64, 64), np.uint8),
        "64 x 64, which looks like one image; for one image give array[None]",
    ),
    "one colour image": (np.zeros((64, 64, 3), np.uint8), "64 x 64 x 3, which looks like one image"),
    "channels first": (np.zeros((9, 3, 32, 32), np.uint8), "channels first; give numpy.moveaxis(array, 1, -1)"),
    "too many axes": (np.zeros((2, 3, 4, 5, 6), np.uint8), "came 2 x 3 x 4 x 5 x 6"),
    "one axis": (
        np.zeros(9, np.uint8),
        "expected N x H x W or N x H x W x C of whole numbers, floats or yes and no, came 9",
    ),
    "a number": (np.array(3.0), "came a single value"),
    "words": (np.full((9, 8, 8), "a"), "of whole numbers, floats or yes and no, came <U1"),
    "complex": (np.zeros((9, 8, 8), complex), "came complex128; give numpy.abs(array)"),
    "objects": (np.full((9, 8, 8), None), "holds Python objects, which can run code"),
    "no rows": (np.zeros((0, 8, 8), np.uint8), "x: holds no image"),
    "no columns": (np.zeros((9, 8, 0), np.uint8), "came 9 x 8 x 0"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_no_stack_of_images_is_refused(name):
    array, message = WRONG[name]
    with pytest.raises(DataError) as caught:
        check_images(array, "x")
    assert str(caught.value).startswith("x: ")
    assert message in str(caught.value)


def npy(array, **options) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, **options)
    return buffer.getvalue()


def npz(save=np.savez, **arrays) -> bytes:
    buffer = io.BytesIO()
    save(buffer, **arrays)
    return buffer.getvalue()


def archive(**files: str) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as packed:
        for name, text in files.items():
            packed.writestr(name, text)
    return buffer.getvalue()


def altered(content: bytes, place: int) -> bytes:
    return content[:place] + bytes([content[place] ^ 255]) + content[place + 1 :]


class Trap:
    """Would leave a file behind if it were ever unpickled."""

    def __reduce__(self):
        return (open, ("trapped", "w"))


SQUASHED = npz(np.savez_compressed, images=np.random.default_rng(0).integers(0, 9, (4, 8, 8), np.uint8))
UNREADABLE = {
    "empty.npy": (b"", "is empty (0 bytes)"),
    "empty.npz": (b"", "is empty (0 bytes)"),
    "cut.npy": (npy(numbered())[:-5], "is cut short or damaged"),
    "cut_in_header.npy": (npy(numbered())[:50], "is cut short or damaged"),
    "cut.npz": (npz(images=numbered())[:-40], "is cut short or damaged"),
    "altered.npz": (altered(npz(images=numbered()), 300), "is cut short or damaged (Bad CRC-32"),
    "altered_squashed.npz": (altered(SQUASHED, 100), "is cut short or damaged"),
    "objects.npy": (npy(np.array([Trap()], object), allow_pickle=True), "holds Python objects (pickle), which can run"),
    "objects.npz": (npz(images=np.array([Trap()], object)), "holds Python objects (pickle), which can run code"),
    "labels.npz": (npz(images=numbered(), labels=np.array([Trap()], object)), "holds Python objects (pickle)"),
    "pickle.npy": (pickle.dumps(Trap()), "holds Python objects (pickle), which can run code when they are loaded"),
    "text.npy": (b"hello, this is a text", "is no .npy file, whatever its name says; expected what numpy.save writes"),
    "text.npz": (b"hello, this is a text", "is no .npz file, whatever its name says"),
    "two.npz": (npz(a=numbered(), b=numbered()), "expected one array, or one named images or x or X"),
    "none.npz": (archive(), "came none"),
}


@pytest.mark.parametrize("name", UNREADABLE)
def test_a_file_that_is_no_array_is_refused_and_runs_no_code(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    content, message = UNREADABLE[name]
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(DataError) as caught:
        read_array_file(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert message in str(caught.value)
    assert not (tmp_path / "trapped").exists()


def test_a_packed_file_that_is_no_array_is_refused(tmp_path):
    (tmp_path / "x.npz").write_bytes(archive(images="hello"))
    array, _ = read_array_file(tmp_path / "x.npz")
    with pytest.raises(DataError, match=r"came \|S5"):
        check_images(array, "x")


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@pytest.mark.parametrize(
    "names", [("images", "labels"), ("X", "y"), ("x", "anomaly"), ("arr_0", None), ("cells", None)]
)
def test_packed_images_with_and_without_labels(tmp_path, names, save):
    arrays = {names[0]: numbered()} | ({names[1]: np.arange(10) > 6} if names[1] else {})
    save(tmp_path / "x.npz", **arrays)
    images, labels = read_array_file(tmp_path / "x.npz")
    np.testing.assert_array_equal(images, numbered())
    assert (labels is None) == (names[1] is None)
    if labels is not None:
        np.testing.assert_array_equal(labels, np.arange(10) > 6)


def test_samples_of_rows_are_made_when_asked_for():
    samples = RowSamples(range(1_000_000_000))
    assert len(samples) == 1_000_000_000
    assert samples[999_999_999] == Sample("999999999", row=999_999_999)
    assert [sample.id for sample in samples[5:8]] == ["5", "6", "7"]
    assert samples[-1].row == 999_999_999
    with pytest.raises(IndexError):
        samples[1_000_000_000]


def test_samples_of_rows_carry_labels():
    samples = RowSamples(range(4), np.array([False, True, True, False]))
    assert [(sample.anomalous, sample.kind) for sample in samples[1:]] == [
        (True, "anomalous"),
        (True, "anomalous"),
        (False, "good"),
    ]
    chosen = samples.take(np.array([3, 1]))
    assert [(sample.row, sample.anomalous) for sample in chosen] == [(3, False), (1, True)]
    assert rows_of(chosen).tolist() == [3, 1]
    assert rows_of([samples[2], samples[0]]).tolist() == [2, 0]


def test_an_archive_that_unpacks_to_too_much_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("unlike.data.arrays.MAX_UNPACKED_BYTES", 10_000)
    np.savez_compressed(tmp_path / "bomb.npz", images=np.zeros((100, 16, 16), np.uint8))
    with pytest.raises(DataError, match=r"bomb\.npz: unpacks to 0\.0 GB, more than .*save the images as \.npy"):
        read_array_file(tmp_path / "bomb.npz")


def test_scattered_rows_of_a_file_do_not_stay_in_memory(tmp_path):
    """Not where a system tells no process what it holds."""
    smaps = Path("/proc/self/smaps")
    if not smaps.exists():
        pytest.skip("needs Linux")
    array = np.arange(64 * 256 * 256, dtype=np.uint8).reshape(64, 256, 256)
    np.save(tmp_path / "images.npy", array)
    mapped = np.load(tmp_path / "images.npy", mmap_mode="r")
    rows = np.random.default_rng(0).permutation(64)
    for _ in range(2):
        assert np.array_equal(ImageArray(mapped).take(rows)[..., 0], array[rows])
    lines = smaps.read_text().split("images.npy", 1)[1].splitlines()
    resident = next(int(line.split()[1]) for line in lines if line.startswith("Rss:"))
    assert resident < 1000  # kB, of 4 MB
    changed = np.load(tmp_path / "images.npy", mmap_mode="c")
    changed[3] = 7
    ImageArray(changed).take(rows)
    assert (changed[3] == 7).all()  # what was written into such a map is nowhere else


def test_a_damaged_file_is_not_read_whole_to_say_so(tmp_path, monkeypatch):
    path = tmp_path / "cut.npy"
    path.write_bytes(npy(numbered())[:-5])

    def refuse(path):
        raise MemoryError(f"{path} is larger than memory")

    monkeypatch.setattr(Path, "read_bytes", refuse)
    with pytest.raises(DataError, match="is cut short or damaged"):
        read_array_file(path)
