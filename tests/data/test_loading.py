"""Decode once: the same pixels as without, and never a wrong one, whatever happens to the cache."""

import json
import multiprocessing
import os
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from conftest import stripes, write_png
from unlike.cache import STALE_SECONDS, Cache
from unlike.data import batches, loading
from unlike.data.batches import block_rows, digest, iterate, value_range_of
from unlike.data.input_spec import InputSpec
from unlike.data.source import Source, open_source
from unlike.errors import ConfigError, DataError, ImageError
from unlike.records import Unreadable

SPEC = InputSpec(8, 8, 3)
IMAGES = stripes(12, 16)
ALL = np.arange(12)


@pytest.fixture
def store(own_cache):
    return Cache(own_cache, 10**9)


@pytest.fixture
def source(tmp_path):
    return fill(tmp_path / "images", IMAGES)


@pytest.fixture
def decoded(monkeypatch):
    """The paths that were decoded, as they are."""
    paths, decode = [], loading.decode
    monkeypatch.setattr(loading, "decode", lambda path, most: (paths.append(path), decode(path, most))[1])
    return paths


def fill(folder, images) -> Source:
    for number, image in enumerate(images):
        write_png(folder / f"{number:03}.png", image)
    return open_source(folder)


def entries(store: Cache) -> list[Path]:
    return sorted(store.folder.iterdir())


def ids(images):
    return [sample.id for sample in images.samples]


def assert_same(images, others):
    assert ids(images) == ids(others)
    assert images.unreadable == others.unreadable
    np.testing.assert_array_equal(images.digests, others.digests)
    rows = np.arange(len(images.samples))
    for order in (rows, rows[::-1], rows[[-1, 0, 0]]):
        pixels, expected = images.take(order), others.take(order)
        assert pixels.dtype == expected.dtype
        np.testing.assert_array_equal(pixels, expected)


KINDS = {
    "8 bit": (IMAGES, SPEC),
    "16 bit": (IMAGES.astype(np.uint16) * 257, SPEC),
    "mixed": ([*IMAGES[:8], IMAGES[8].astype(np.uint16) * 255, *IMAGES[9:]], SPEC),
    "grey, padded": (IMAGES[..., :1], InputSpec(10, 20, 1, aspect="pad")),
}


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("block", [512, 5])
def test_the_pixels_are_those_without_a_cache(tmp_path, store, monkeypatch, name, block):
    monkeypatch.setattr(loading, "block_rows", lambda spec: block)
    images, spec = KINDS[name]
    source = fill(tmp_path / "images", images)
    source.samples[3].path.write_bytes(b"")
    source.samples[7].path.write_text("no image")
    plain = source.load(spec, None)
    assert [item.id for item in plain.unreadable] == ["003.png", "007.png"]
    for _ in range(2):
        assert_same(source.load(spec, store), plain)
    assert len(entries(store)) == 1


def test_where_images_lie_in_the_spec_is_known(tmp_path, store):
    """A wide one, a tall one and a broken one: what is not inside is a copy of the border."""
    spec = InputSpec(8, 8, 3, aspect="pad")
    source = fill(tmp_path / "images", [IMAGES[0][:4], IMAGES[1], IMAGES[2][:, :8]])
    source.samples[1].path.write_bytes(b"")
    for images in (source.load(spec, None), source.load(spec, store), source.load(spec, store)):
        wide, tall = images.inside(np.arange(2))
        assert np.flatnonzero(wide.any(axis=1)).tolist() == [3, 4]
        assert wide[3:5].all()
        assert np.flatnonzero(tall.any(axis=0)).tolist() == [2, 3, 4, 5]
        assert tall[:, 2:6].all()
        np.testing.assert_array_equal(images.inside(np.array([1, 0, 1])), [tall, wide, tall])
    array = open_source(IMAGES[:, :, :8]).load(spec, None)
    np.testing.assert_array_equal(array.inside(np.array([5])), [tall])
    for each in (source, open_source(IMAGES)):
        assert each.load(SPEC, store).inside(np.arange(2)) is None


def test_floats_are_kept_as_floats(tmp_path, store):
    import cv2

    values = np.random.default_rng(0).normal(0, 100, (4, 8, 8)).astype(np.float32)
    (tmp_path / "images").mkdir()
    for number, image in enumerate(values):
        assert cv2.imwrite(str(tmp_path / f"images/{number}.tiff"), image)
    source, spec = open_source(tmp_path / "images"), InputSpec(8, 8, 1, floating=True)
    images = source.load(spec, store)
    np.testing.assert_array_equal(images.take(np.arange(4))[..., 0], values)
    assert value_range_of(images, np.arange(4), spec) == (values.min(), values.max())
    assert_same(images, source.load(spec, None))


def test_an_array_gives_the_pixels_of_the_files(source, store, own_cache):
    from_array = open_source(IMAGES).load(SPEC, store)
    assert entries(store) == []  # an array is not copied
    from_files = source.load(SPEC, None)
    np.testing.assert_array_equal(from_array.take(ALL[::-1]), from_files.take(ALL[::-1]))
    np.testing.assert_array_equal(from_array.digests, from_files.digests)
    as_it_is = open_source(IMAGES).load(InputSpec(16, 16, 3), store)
    np.testing.assert_array_equal(as_it_is.take(ALL[3:5]), IMAGES[3:5])


def test_rows_that_are_not_finite_are_left_out():
    values = np.random.default_rng(0).random((6, 4, 4))
    values[2, 1, 1] = np.nan
    images = open_source(values, labels=[0, 0, 0, 1, 0, 0]).load(InputSpec(4, 4, 1, floating=True), None)
    assert ids(images) == ["0", "1", "3", "4", "5"]
    assert images.samples[2].anomalous
    reason = "holds values that are not finite (NaN or infinity); where they stand for no value, fit with --set data.missing=nan"
    assert images.unreadable == (Unreadable("2", reason),)
    np.testing.assert_array_equal(images.take(np.array([2, 1]))[..., 0], values[[3, 1]].astype(np.float32))


def test_the_second_time_nothing_is_decoded(source, store, decoded):
    progress = []
    source.load(SPEC, store, lambda *done: progress.append(done))
    assert sorted(decoded) == [sample.path for sample in source.samples]
    assert progress == [(12, 12)]
    images = source.load(SPEC, store, lambda *done: progress.append(done))
    images.take(ALL)
    assert len(decoded) == 12
    assert len(progress) == 1


def test_progress_is_told(source, monkeypatch):
    monkeypatch.setattr(loading, "block_rows", lambda spec: 5)
    source.samples[0].path.write_bytes(b"")
    progress = []
    source.load(SPEC, None, lambda *done: progress.append(done))
    assert progress == [(5, 12), (10, 12), (12, 12)]


def touch(source):
    os.utime(source.samples[5].path, ns=(1, 1))
    return source, SPEC


def rewrite(source):
    write_png(source.samples[5].path, 255 - IMAGES[5])
    return source, SPEC


def delete(source):
    source.samples[5].path.unlink()
    return source, SPEC


CHANGES = {
    "a file is touched": touch,
    "a file is written anew": rewrite,
    "a file is gone": delete,
    "a file is left out": lambda source: (replace(source, samples=source.samples[1:]), SPEC),
    "another order": lambda source: (replace(source, samples=source.samples[::-1]), SPEC),
    "another height": lambda source: (source, replace(SPEC, height=9)),
    "another aspect": lambda source: (source, replace(SPEC, aspect="pad")),
    "other channels": lambda source: (source, replace(SPEC, channels=1, convert=True)),
}


@pytest.mark.parametrize("name", CHANGES)
def test_what_changes_is_decoded_anew(source, store, name):
    source.load(SPEC, store)
    source, spec = CHANGES[name](source)
    assert_same(source.load(spec, store), source.load(spec, None))
    assert len(entries(store)) == 2


def test_black_and_white_change_no_pixel_that_is_kept(source, store, decoded):
    source.load(SPEC, store)
    source.load(replace(SPEC, value_range=(0.0, 255.0)), store)
    assert len(decoded) == 12
    assert len(entries(store)) == 1


@pytest.mark.parametrize(("kind", "expected"), [(np.uint8, (0.0, 255.0)), (np.uint16, (0.0, 65535.0))])
def test_black_and_white_of_integers_are_those_of_their_type(kind, expected):
    images = open_source(IMAGES.astype(kind)).load(SPEC, None)
    assert value_range_of(images, ALL[3:], SPEC) == expected


def test_another_decoder_decodes_anew(source, store, decoded, monkeypatch):
    source.load(SPEC, store)
    monkeypatch.setattr("cv2.__version__", "99.0")
    source.load(SPEC, store)
    assert len(decoded) == 24


def test_broken_files_have_the_names_by_which_they_are_asked_for(source, store):
    """The same files under other ids use the same entry, and must not bring the ids of the first."""
    source.samples[2].path.write_bytes(b"")
    source.load(SPEC, store)
    renamed = replace(source, samples=[replace(sample, id=f"lot/{sample.id}") for sample in source.samples])
    images = renamed.load(SPEC, store)
    assert len(entries(store)) == 1
    assert images.unreadable == (Unreadable("lot/002.png", "is empty (0 bytes)"),)
    assert ids(images)[:3] == ["lot/000.png", "lot/001.png", "lot/003.png"]


def test_labels_are_those_of_the_source_not_of_the_cache(source, store):
    source.load(SPEC, store)
    labelled = replace(source, samples=[replace(sample, anomalous=True) for sample in source.samples])
    assert all(sample.anomalous for sample in labelled.load(SPEC, store).samples)


def test_when_nothing_can_be_read_the_reasons_are_given_and_nothing_is_kept(source, store):
    for sample in source.samples:
        sample.path.write_bytes(b"")
    for where in (store, None):
        with pytest.raises(DataError) as caught:
            source.load(SPEC, where)
        assert str(caught.value) == (f"{source.name}: no image of 12 can be used: 000.png is empty (0 bytes)")
    assert entries(store) == []


def lots(folder, count):
    return [fill(folder / f"lot{number}", stripes(12, 16, seed=number)) for number in range(count)]


def test_the_least_recently_used_goes_first(tmp_path, own_cache, decoded):
    store = Cache(own_cache, 3 * 12 * 8 * 8 * 3 + 3_000)
    first, second, third, fourth = lots(tmp_path, 4)
    for age, lot in ((30, first), (20, second), (10, third)):
        known = set(entries(store))
        lot.load(SPEC, store)
        (new,) = set(entries(store)) - known
        os.utime(new, (time.time() - age,) * 2)
    first.load(SPEC, store)  # used again: now the newest
    fourth.load(SPEC, store)
    assert len(entries(store)) == 3
    assert len(decoded) == 48
    for lot in (first, third, fourth):
        lot.load(SPEC, store)
    assert len(decoded) == 48
    second.load(SPEC, store)
    assert len(decoded) == 60


def test_the_bound_holds(tmp_path, own_cache):
    limit = 2 * 12 * 8 * 8 * 3 + 2_500
    store = Cache(own_cache, limit)
    for lot in lots(tmp_path, 5):
        lot.load(SPEC, store)
        assert sum(file.stat().st_size for entry in entries(store) for file in entry.iterdir()) <= limit
    assert len(entries(store)) == 2


@pytest.mark.parametrize("images", [IMAGES, IMAGES.astype(np.uint16) * 257], ids=["8 bit", "16 bit"])
def test_a_set_larger_than_the_bound_is_decoded_each_time(tmp_path, own_cache, images, decoded):
    size = 12 * 8 * 8 * 3 * images.itemsize
    source = fill(tmp_path / "images", images)
    small = source.load(SPEC, Cache(own_cache, size - 1))
    assert list(own_cache.iterdir()) == []
    del decoded[:]
    small.take(ALL[:2])
    assert len(decoded) == 2
    source.load(SPEC, Cache(own_cache, size))
    assert len(list(own_cache.iterdir())) == 1


def test_what_is_not_ours_is_never_deleted(source, own_cache):
    for name in ("photos", "building-plans", "decoded-photos", "decoded-photos.building-old"):
        (own_cache / name).mkdir()
        (own_cache / name / "precious.png").write_bytes(bytes(100_000))
        os.utime(own_cache / name, (0, 0))
    (own_cache / "notes.txt").write_text("keep")
    source.load(SPEC, Cache(own_cache, 12 * 8 * 8 * 3))
    assert len(list(own_cache.glob("*/precious.png"))) == 4
    assert (own_cache / "notes.txt").exists()
    assert len(list(own_cache.iterdir())) == 6


@pytest.mark.parametrize(("age", "left"), [(STALE_SECONDS + 60, 1), (60.0, 2)])
def test_what_a_kill_left_is_never_used_and_goes_in_time(source, store, age, left):
    source.load(SPEC, store)
    (entry,) = entries(store)
    unfinished = entry.rename(entry.with_name(f"{entry.name}.building-k1ll3d"))
    (unfinished / "facts.json").unlink()
    os.utime(unfinished, (time.time() - age,) * 2)
    assert_same(source.load(SPEC, store), source.load(SPEC, None))
    assert entry.is_dir()
    assert len(entries(store)) == left


def test_a_build_that_is_stopped_leaves_nothing(source, store):
    def stop(done, total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        source.load(SPEC, store, stop)
    assert entries(store) == []


def full_disk(*args, **kwargs):
    raise OSError(28, "No space left on device")


@pytest.mark.parametrize("place", ["mkdtemp", "write_array_header", "save", "fsync", "rename"])
def test_a_full_or_read_only_cache_is_done_without(source, store, monkeypatch, place):
    target = {
        "mkdtemp": "tempfile.mkdtemp",
        "write_array_header": "numpy.lib.format.write_array_header_1_0",
        "save": "numpy.save",
        "fsync": "os.fsync",
        "rename": "pathlib.Path.rename",
    }[place]
    plain = source.load(SPEC, None)
    monkeypatch.setattr(target, full_disk)
    assert_same(source.load(SPEC, store), plain)
    assert entries(store) == []


def test_a_cache_folder_that_cannot_be_made_is_done_without(source, tmp_path):
    (tmp_path / "file").write_text("in the way")
    store = Cache(tmp_path / "file" / "cache", 10**9)
    assert_same(source.load(SPEC, store), source.load(SPEC, None))


def test_a_cache_that_may_only_be_read_is_used(source, store, decoded, monkeypatch):
    source.load(SPEC, store)
    monkeypatch.setattr("os.utime", full_disk)
    source.load(SPEC, store).take(ALL)
    assert len(decoded) == 12


def cut(path):
    path.write_bytes(path.read_bytes()[:-7])


def edit(**changes):
    return lambda path: path.write_text(json.dumps(json.loads(path.read_text()) | changes))


DAMAGES = {
    "images cut short": ("images.npy", cut),
    "images empty": ("images.npy", lambda path: path.write_bytes(b"")),
    "images gone": ("images.npy", Path.unlink),
    "images of another set": ("images.npy", lambda path: np.save(path, np.zeros((11, 8, 8, 3), np.uint8))),
    "digests gone": ("digests.npy", Path.unlink),
    "digests of another set": ("digests.npy", lambda path: np.save(path, np.zeros(11, np.uint64))),
    "shapes gone": ("shapes.npy", Path.unlink),
    "shapes of another set": ("shapes.npy", lambda path: np.save(path, np.zeros((11, 2), np.intp))),
    "facts cut short": ("facts.json", cut),
    "facts gone": ("facts.json", Path.unlink),
    "facts of another kind": ("facts.json", lambda path: path.write_text("[]")),
    "facts without the unreadable": ("facts.json", lambda path: path.write_text("{}")),
    "facts of no such image": ("facts.json", edit(unreadable=[[99, "is empty"]])),
    "facts with a wrong value": ("facts.json", edit(unreadable=None)),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_a_damaged_entry_is_made_anew(source, store, decoded, name):
    source.load(SPEC, store)
    (entry,) = entries(store)
    file, damage = DAMAGES[name]
    damage(entry / file)
    assert_same(source.load(SPEC, store), source.load(SPEC, None))
    assert entries(store) == [entry]
    del decoded[:]
    source.load(SPEC, store).take(ALL)
    assert decoded == []


def test_a_file_that_vanishes_later_is_named(source):
    images = source.load(SPEC, None)
    source.samples[4].path.unlink()
    images.take(ALL[:4])
    with pytest.raises(DataError) as caught:
        images.take(ALL)
    assert str(caught.value) == (
        "004.png: could be read before, but now cannot be opened (No such file or directory); "
        "leave the images as they are until all is done"
    )


def test_a_cached_set_outlives_its_files_and_its_eviction(source, store):
    images = source.load(SPEC, store)
    expected = images.take(ALL)
    for sample in source.samples:
        sample.path.unlink()
    (entry,) = entries(store)
    for file in entry.iterdir():
        file.unlink()
    np.testing.assert_array_equal(images.take(ALL), expected)


def test_a_name_that_is_no_text(source, store):
    sample = source.samples[0]
    odd = sample.path.rename(sample.path.with_name(os.fsdecode(b"\xff\xfe.png")))
    odd.write_bytes(b"")
    source = open_source(odd.parent)
    for _ in range(2):
        assert source.load(SPEC, store).unreadable == (Unreadable(odd.name, "is empty (0 bytes)"),)
    assert len(entries(store)) == 1


def test_digests_tell_copies(tmp_path, store):
    images = IMAGES.copy()
    images[7] = images[2]
    found = fill(tmp_path / "images", images).load(SPEC, store)
    assert len(set(found.digests.tolist())) == 11
    assert found.digests[7] == found.digests[2] == digest(found.take(ALL[2:3])[0])
    assert found.digests.dtype == np.uint64


def build(folder, cache_folder, start, results):
    start.wait()
    images = open_source(folder).load(SPEC, Cache(Path(cache_folder), 10**9))
    results.put((type(images).__name__, images.take(ALL).tobytes()))


def test_processes_that_build_at_once_all_get_the_right_pixels(source, store):
    context = multiprocessing.get_context("spawn")
    start, results = context.Barrier(3), context.Queue()
    arguments = (source.name, str(store.folder), start, results)
    processes = [context.Process(target=build, args=arguments) for _ in range(3)]
    for process in processes:
        process.start()
    found = [results.get(timeout=300) for _ in processes]
    for process in processes:
        process.join(300)
        assert process.exitcode == 0
    expected = source.load(SPEC, None).take(ALL).tobytes()
    assert found == [("_CachedImages", expected)] * 3
    assert len(entries(store)) == 1


def test_an_entry_that_another_process_finished_first_is_used(source, store, monkeypatch):
    real, raced = Path.rename, []

    def lose_the_race(path, target):
        if not raced:
            raced.append(path)
            source.load(SPEC, store)
        return real(path, target)

    monkeypatch.setattr(Path, "rename", lose_the_race)
    images = source.load(SPEC, store)
    assert len(raced) == 1
    assert isinstance(images, loading._CachedImages)
    assert len(entries(store)) == 1


def test_the_default_cache_is_the_users(monkeypatch, own_cache):
    assert Cache.default() == Cache(own_cache, 10_000_000_000)
    monkeypatch.setenv("UNLIKE_CACHE_GB", "0.5")
    assert Cache.default().limit_bytes == 500_000_000
    monkeypatch.delenv("UNLIKE_CACHE")
    assert Cache.default().folder.name == "unlike"


@pytest.mark.parametrize("value", ["lots", "nan", "inf", "-1"])
def test_a_bound_that_is_no_number(monkeypatch, value):
    monkeypatch.setenv("UNLIKE_CACHE_GB", value)
    with pytest.raises(
        ConfigError, match=f"UNLIKE_CACHE_GB: expected a number of gigabytes, 0 or more, came '{value}'"
    ):
        Cache.default()


@pytest.mark.parametrize("with_cache", [True, False])
def test_iterate_gives_chosen_images_in_blocks(source, store, monkeypatch, with_cache):
    monkeypatch.setattr(batches, "block_rows", lambda spec: 5)
    images = source.load(SPEC, store if with_cache else None)
    rows = np.array([11, 3, 4, 0, 7, 7, 2])
    found = list(iterate(images, rows, SPEC))
    assert [len(batch.samples) for batch in found] == [5, 2]
    assert [sample.id for batch in found for sample in batch.samples] == [f"{row:03}.png" for row in rows]
    np.testing.assert_array_equal(np.concatenate([batch.pixels for batch in found]), images.take(rows))
    assert found[0].shapes == [(8, 8)] * 5
    assert block_rows(SPEC) == 512


def test_an_image_that_can_be_read_by_now_is_read(source, store, monkeypatch):
    """Permissions are no part of what names an entry."""
    read, blocked = loading.decode, source.samples[3].path

    def refuse(path, most):
        if path == blocked:
            raise ImageError("cannot be opened (Permission denied)")
        return read(path, most)

    with monkeypatch.context() as patch:
        patch.setattr(loading, "decode", refuse)
        for _ in range(2):
            assert [lost.id for lost in source.load(SPEC, store).unreadable] == [source.samples[3].id]
    assert source.load(SPEC, store).unreadable == ()
    assert len(entries(store)) == 1


def test_pixels_that_changed_on_the_disk_are_never_used(source, store):
    expected = source.load(SPEC, store).take(ALL)
    file = entries(store)[0] / "images.npy"
    content = bytearray(file.read_bytes())
    content[-100] ^= 255  # of the last image
    file.write_bytes(content)
    images = source.load(SPEC, store)
    assert np.array_equal(images.take(ALL[:11]), expected[:11])
    with pytest.raises(
        DataError, match=rf"{source.samples[11].id}: what the cache folder has of it .* run the same again"
    ):
        images.take(ALL[::-1])
    assert np.array_equal(source.load(SPEC, store).take(ALL), expected)


def test_a_lower_bound_is_held_though_nothing_fits_it(source, store):
    source.load(SPEC, store)
    size = sum(file.stat().st_size for file in entries(store)[0].iterdir())
    with pytest.raises(OSError, match="more than the cache may hold"):
        Cache(store.folder, size // 2).make_room(size)
    assert entries(store) == []
