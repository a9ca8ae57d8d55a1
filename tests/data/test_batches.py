"""Streaming: every image once, in order, a few at a time, with the broken ones named."""

import itertools
import threading
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conftest import stripes, write_png
from unlike.data import loading
from unlike.data.batches import block_rows, digest, value_range
from unlike.data.files import FileSource
from unlike.data.input_spec import InputSpec, conform
from unlike.data.source import choose_form, open_source
from unlike.errors import DataError
from unlike.records import Sample

SPEC = InputSpec(8, 8, 3)


def save_all(folder, images):
    for number, image in enumerate(images):
        write_png(folder / f"{number:04}.png", image)
    return open_source(folder)


def join(found):
    found = list(found)
    ids = [sample.id for batch in found for sample in batch.samples]
    shapes = [shape for batch in found for shape in batch.shapes]
    unreadable = [item for batch in found for item in batch.unreadable]
    return ids, np.concatenate([batch.pixels for batch in found if len(batch.samples)]), shapes, unreadable


def test_broken_files_are_named_and_the_others_go_on(tmp_path):
    images = stripes(200, 8)
    source = save_all(tmp_path, images)
    broken = list(range(3, 200, 10))
    for number, content in zip(broken, itertools.cycle([b"", b"no image"]), strict=False):
        source.samples[number].path.write_bytes(content)
    found = list(source.stream(SPEC, 16))
    assert len(found) == 13
    assert [len(batch.samples) + len(batch.unreadable) for batch in found] == [16] * 12 + [8]
    ids, pixels, shapes, unreadable = join(found)
    good = np.delete(np.arange(200), broken)
    assert ids == [f"{number:04}.png" for number in good]
    np.testing.assert_array_equal(pixels, images[good])
    assert shapes == [(8, 8)] * 180
    assert [item.id for item in unreadable] == [f"{number:04}.png" for number in broken]
    assert [item.reason for item in unreadable] == [
        "is empty (0 bytes)",
        "is no image of a kind that is known here",
    ] * 10


def test_a_batch_in_which_nothing_can_be_read_is_empty(tmp_path):
    source = save_all(tmp_path, stripes(5, 8))
    for sample in source.samples[:2]:
        sample.path.write_bytes(b"")
    first, *others = source.stream(SPEC, 2)
    assert len(first.samples) == len(first.pixels) == len(first.shapes) == 0
    assert [item.id for item in first.unreadable] == ["0000.png", "0001.png"]
    assert sum(len(batch.samples) for batch in others) == 3


@pytest.mark.parametrize(
    "spec", [SPEC, InputSpec(5, 12, 3), InputSpec(16, 8, 1, convert=True), InputSpec(9, 30, 3, aspect="pad")]
)
@pytest.mark.parametrize("batch_size", [1, 4, None])
def test_an_image_is_the_same_from_a_file_an_array_or_alone(tmp_path, spec, batch_size):
    images = stripes(9, 20)
    alone = np.stack([conform(image, spec) for image in images])
    for source in (save_all(tmp_path, images), open_source(images)):
        ids, pixels, shapes, unreadable = join(source.stream(spec, batch_size))
        assert ids == [sample.id for sample in source.samples]
        assert shapes == [(20, 20)] * 9
        assert unreadable == []
        np.testing.assert_array_equal(pixels, alone)


@settings(max_examples=40)
@given(rows=st.lists(st.integers(0, 19), min_size=1, max_size=20), batch_size=st.integers(1, 7))
def test_rows_come_in_the_order_of_the_samples(rows, batch_size):
    images = stripes(20, 4, channels=1)
    whole = open_source(images)
    chosen = whole.with_samples([whole.samples[row] for row in rows])
    ids, pixels, _, _ = join(chosen.stream(InputSpec(4, 4, 1), batch_size))
    assert ids == [str(row) for row in rows]
    np.testing.assert_array_equal(pixels, images[rows])


def test_rows_that_do_not_suit_are_named():
    images = np.random.default_rng(0).random((6, 4, 4)).astype(np.float32)
    images[2, 0, 0] = np.nan
    images[4, 1, 1] = np.inf
    ids, pixels, _, unreadable = join(open_source(images).stream(InputSpec(4, 4, 1, floating=True), 3))
    assert ids == ["0", "1", "3", "5"]
    np.testing.assert_array_equal(pixels[..., 0], images[[0, 1, 3, 5]])
    not_finite = "holds values that are not finite (NaN or infinity)"
    assert [(item.id, item.reason) for item in unreadable] == [
        ("2", f"{not_finite}; where they stand for no value, fit with --set data.missing=nan"),
        ("4", not_finite),
    ]


def test_integers_for_a_detector_of_floats_are_named():
    (batch,) = open_source(stripes(2, 4)).stream(InputSpec(4, 4, 3, floating=True))
    assert [item.reason.split(";")[0] for item in batch.unreadable] == [
        "holds integer values where the detector takes float ones"
    ] * 2


def test_eight_bit_images_among_sixteen_bit_ones_are_widened(tmp_path):
    narrow = stripes(4, 8)
    wide = narrow[2].astype(np.uint16) * 257 - 5 * (narrow[2] > 0).astype(np.uint16)
    source = save_all(tmp_path, [narrow[0], narrow[1], wide, narrow[3]])
    first, second = source.stream(SPEC, 2)
    assert first.pixels.dtype == np.uint8
    assert second.pixels.dtype == np.uint16
    np.testing.assert_array_equal(second.pixels[0], wide)
    np.testing.assert_array_equal(second.pixels[1], narrow[3].astype(np.uint16) * 257)


def test_images_of_other_channels_are_named(tmp_path):
    source = save_all(tmp_path, [*stripes(2, 8), stripes(1, 8, channels=1)[0]])
    ids, _, _, (lost,) = join(source.stream(SPEC))
    assert ids == ["0000.png", "0001.png"]
    assert lost.reason.startswith("has 1 channel where the detector takes 3; fit with --set data.channels=3")


def test_no_more_than_two_batches_are_read_ahead(monkeypatch):
    read = []
    monkeypatch.setattr(loading, "decode", lambda path, most: (read.append(path), np.zeros((8, 8, 3), np.uint8))[1])
    source = FileSource("many", [Sample(str(n), path=Path(str(n))) for n in range(1000)])
    running = source.stream(SPEC, 10)
    for number, _ in enumerate(itertools.islice(running, 5), 1):
        assert len(read) <= 10 * (number + 1)
    running.close()
    assert len(read) <= 60


def test_whoever_stops_early_does_not_wait(monkeypatch):
    """The images that are waiting are dropped; only those under way are read to their end."""
    release = threading.Event()
    read = []

    def slow(path, most):
        read.append(path)
        if len(read) > 50:
            release.wait(10)
        return np.zeros((8, 8, 3), np.uint8)

    monkeypatch.setattr(loading, "decode", slow)
    monkeypatch.setattr(loading, "threads", lambda: 2)
    source = FileSource("many", [Sample(str(n), path=Path(str(n))) for n in range(300)])
    running = source.stream(SPEC, 50)
    assert len(next(running).samples) == 50
    threading.Timer(0.2, release.set).start()
    running.close()
    assert len(read) <= 52


def test_memory_does_not_grow_with_an_array_on_disk(tmp_path):
    """Each block is a map of its own, given back before the next: no more than two are alive."""
    np.save(tmp_path / "x.npy", np.zeros((4000, 8, 8), np.uint8))
    source = open_source(tmp_path / "x.npy")
    alive = []
    for batch in source.stream(InputSpec(8, 8, 1), 100):
        base = batch.pixels
        while isinstance(getattr(base, "base", None), np.ndarray):
            base = base.base
        assert base.nbytes <= 100 * 64
        alive.append(len(batch.samples))
    assert alive == [100] * 40


@pytest.mark.parametrize(
    ("images", "asked", "expected"),
    [
        (stripes(2, 20), {}, InputSpec(20, 20, 3)),
        (stripes(2, 20, channels=1), {}, InputSpec(20, 20, 1)),
        (np.zeros((2, 9, 7), np.float64), {}, InputSpec(9, 7, 1, floating=True)),
        (stripes(2, 20), {"size": (4, 5), "aspect": "pad"}, InputSpec(4, 5, 3, aspect="pad")),
        (stripes(2, 20), {"channels": 1}, InputSpec(20, 20, 1, convert=True)),
    ],
)
def test_the_spec_of_an_array_is_its_own_unless_asked(images, asked, expected):
    asked = {"size": None, "channels": None, "aspect": "stretch", "fallback": (256, 256)} | asked
    assert choose_form(open_source(images), **asked)[0] == expected


def test_the_spec_of_files_is_the_fallback_and_what_the_first_readable_is(tmp_path):
    source = save_all(tmp_path, stripes(3, 20, channels=1))
    source.samples[0].path.write_bytes(b"")
    assert choose_form(source, None, None, "stretch", (64, 32))[0] == InputSpec(64, 32, 1)
    assert choose_form(source, (5, 6), 3, "pad", (64, 32))[0] == InputSpec(5, 6, 3, aspect="pad", convert=True)


def test_no_readable_image_at_all(tmp_path):
    source = save_all(tmp_path, stripes(5, 4))
    for sample in source.samples:
        sample.path.write_bytes(b"")
    with pytest.raises(DataError) as caught:
        choose_form(source, None, None, "stretch", (8, 8))
    assert str(caught.value) == (f"{tmp_path}: no image of 5 can be read: 0000.png is empty (0 bytes)")


def test_identical_images_share_a_digest_and_others_do_not():
    images = stripes(50, 8)
    assert len({digest(image) for image in images}) == 50
    assert digest(images[3].copy()) == digest(images[3])
    assert digest(np.asfortranarray(images[3])) == digest(images[3])
    assert digest(images[3].astype(np.uint16) * 257) == digest(images[3])
    assert digest(images[3].astype(np.uint16)) != digest(images[3])
    one_off = images[3].copy()
    one_off[0, 0, 0] ^= 1
    assert digest(one_off) != digest(images[3])
    assert 0 <= digest(images[0]) < 2**64


@pytest.mark.parametrize(
    ("low", "high", "kind", "expected"),
    [
        (3, 9, np.uint8, (0.0, 255.0)),
        (3, 9, np.uint16, (0.0, 65535.0)),
        (0.0, 1.0, np.float32, (0.0, 1.0)),
        (-0.2, 0.9, np.float32, (-1.0, 1.0)),
        (0.0, 1.5, np.float32, (0.0, 255.0)),
        (-3.0, 1.0, np.float32, (-3.0, 1.0)),
        (300.0, 300.0, np.float32, (300.0, 301.0)),
    ],
)
def test_black_and_white(low, high, kind, expected):
    assert value_range(low, high, np.dtype(kind)) == expected


@pytest.mark.parametrize(
    ("spec", "rows"),
    [
        (InputSpec(8, 8, 1), 512),
        (InputSpec(256, 256, 3), 10),
        (InputSpec(256, 256, 3, floating=True), 10),
        (InputSpec(4000, 4000, 3), 8),
    ],
)
def test_a_block_has_a_bounded_weight(spec, rows):
    assert block_rows(spec) == rows


def test_streaming_needs_no_affinity(monkeypatch):
    monkeypatch.delattr("os.sched_getaffinity", raising=False)  # as on macOS and Windows
    assert 1 <= loading.threads() <= 8
