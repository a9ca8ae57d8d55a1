"""Before anything is fitted: what would be taken, what is a copy or a series, what is strange, what can be promised."""

import cv2
import numpy as np
import pytest

from conftest import scratched, stripes, write_png
from unlike.calibration.thresholds import auto_promise
from unlike.data.facts import Defect
from unlike.data.input_spec import InputSpec
from unlike.detector.inspect import inspect
from unlike.detector.inspection import advise_size, fit_lines
from unlike.detector.settings import Settings

BY_TORCH = {"model": {"runtime": "torch"}}  # quicker for few images
CLEAR = Settings.resolve(overrides={"data": {"size": 128}, **BY_TORCH})
SMALL = Settings.resolve(overrides={"data": {"size": 64}, **BY_TORCH})


def scenes(random, count, size=128):
    """Independent pictures of one kind: coarse blobs of grey and fine grain."""
    found = []
    for _ in range(count):
        coarse = cv2.resize(random.normal(size=(7, 7)), (size, size), interpolation=cv2.INTER_CUBIC)
        fine = cv2.resize(random.normal(size=(24, 24)), (size, size), interpolation=cv2.INTER_CUBIC)
        found.append(np.clip(128 + 30 * coarse + 20 * fine, 0, 255).astype(np.uint8))
    return np.array(found)


def burst(random, image, count):
    """Shots of one scene: shifted, cropped, in another light."""
    size, found = len(image), []
    for _ in range(count):
        matrix = cv2.getRotationMatrix2D((size / 2, size / 2), random.uniform(-2, 2), random.uniform(1.0, 1.06))
        matrix[:, 2] += random.uniform(-3, 3, 2)
        moved = cv2.warpAffine(image, matrix, (size, size), borderMode=cv2.BORDER_REFLECT)
        found.append(np.clip(moved * random.uniform(0.92, 1.08), 0, 255).astype(np.uint8))
    return np.array(found)


def test_an_mvtec_folder_as_fit_would_take_it(mvtec):
    found = inspect(mvtec, settings=SMALL, features=False)
    assert (len(found.samples), len(found.taken), found.distinct) == (60, 40, 40)
    assert {found.sample(row).split for row in found.taken} == {"train"}
    assert found.promise == pytest.approx(3 / 41)
    assert found.spec.size == (64, 64)
    assert found.smallest.original == pytest.approx(6)
    assert (found.look, found.not_looked) == (None, "not asked for")


def test_bursts_count_once(rng):
    images = scenes(rng, 24)
    images = np.concatenate([images, burst(rng, images[0], 4), burst(rng, images[1], 1), burst(rng, images[2], 9)])
    found = inspect(images, settings=CLEAR)
    largest, *others = [rows.tolist() for rows in found.look.series.larger]
    assert others[:2] == [[0, 24, 25, 26, 27], [1, 28]]
    assert set(largest).union(*others[2:]) <= {
        2,
        *range(29, 38),
    }  # shots far from the others may stay alone, or by twos
    assert len(largest) >= 7
    assert found.distinct == 38
    alone = inspect(images[:24], settings=CLEAR)
    assert alone.distinct == 24
    assert 22 <= alone.groups <= 24  # independent pictures are hardly ever joined,
    assert abs(found.groups - alone.groups) <= 2  # and fourteen shots more of three of them add no groups
    assert found.promise == pytest.approx(3 / 39)
    assert found.promise_of_groups == pytest.approx(auto_promise(found.groups))


def test_the_strangest_normal_is_the_odd_one_and_the_map_says_where(rng):
    images = scenes(rng, 25)
    images[11, 80:108, 12:40] = 255
    found = inspect(images, settings=SMALL)
    first = found.look.strangest[0]
    assert first.sample.id == "11"
    assert first.ratio > 1.3
    down, across = np.unravel_index(first.map.argmax(), first.map.shape)
    assert down / first.map.shape[0] >= 0.5 > across / first.map.shape[1]
    assert [item.ratio for item in found.look.strangest] == sorted(
        (i.ratio for i in found.look.strangest), reverse=True
    )


def test_copies_exact_and_near(rng):
    images = scenes(rng, 20)
    images = np.concatenate([images, images[3:5], np.clip(images[7:8] * 0.9, 0, 255).astype(np.uint8)])
    found = inspect(images, features=False)
    assert (found.distinct, found.groups) == (21, 20)
    assert [rows.tolist() for rows in found.copies.larger] == [[3, 20], [4, 21]]


def test_copies_between_train_and_test(mvtec):
    image = cv2.imread(str(mvtec / "train/good/005.png"))
    write_png(mvtec / "test/good/099.png", image[..., ::-1])
    found = inspect(mvtec, features=False)
    names = [tuple(found.sample(row).id for row in pair) for pair in found.leaked]
    assert ("train/good/005.png", "test/good/099.png") in names


def test_where_fit_would_refuse_the_reason_is_there(tmp_path):
    bad, _ = scratched(stripes(6))
    labels = [1] * 6
    found = inspect(bad, labels, features=True)
    assert "no image of 6 is normal and outside a test split" in found.refusal
    assert (len(found.taken), found.distinct, found.look) == (0, 0, None)
    assert found.not_looked == "5 different normal images are needed, here are 0"


def test_settings_that_would_train_are_looked_at_by_the_default(rng):
    trained = Settings.resolve(model="conv", overrides={"data": {"size": 64, "tile": 32}})
    found = inspect(scenes(rng, 8), settings=trained)
    assert len(found.look.strangest) == 6
    assert found.spec.size == (64, 64)


def test_of_many_some_runs_are_looked_at(rng, monkeypatch):
    monkeypatch.setattr("unlike.detector.inspect.MOST_LOOKED_AT", 10)
    images = scenes(rng, 16)
    pairs = np.concatenate([[image, *burst(rng, image, 1)] for image in images])
    found = inspect(pairs, settings=SMALL)
    assert 8 <= len(found.look.rows) <= 10
    assert (np.diff(found.look.rows) == 1).sum() >= len(found.look.rows) - 2  # two runs
    assert found.groups <= 32


def test_the_same_again_is_the_same(rng):
    images = scenes(rng, 12)
    one, other = (inspect(images, settings=SMALL, seed=3) for _ in range(2))
    assert [item.ratio for item in one.look.strangest] == [item.ratio for item in other.look.strangest]


def test_broken_files_are_named_and_the_rest_is_complete(tmp_path):
    for number, image in enumerate(stripes(7)):
        write_png(tmp_path / f"{number}.png", image)
    (tmp_path / "x.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    found = inspect(tmp_path, features=False)
    assert [item.id for item in found.facts.unreadable] == ["x.png"]
    assert len(found.taken) == 7


def test_advice_about_size_can_be_followed():
    spec = InputSpec(256, 256, 3)
    larger = advise_size(Defect(0, 1.5, 30, 6), (1024, 1024), spec)
    assert (larger.options, larger.pixels) == ("--size 512", 3.0)
    tiles = advise_size(Defect(0, 0.3, 66, 4), (256, 4000), spec)
    overrides = {"data": {"size": (256, 4000), "tile": 256}}
    settings = Settings.resolve(preset="patchcore", overrides=overrides)
    assert tiles.options == "--size 256x4000 --set data.tile=256"
    assert len(settings.data.tiling(InputSpec(256, 4000, 3))) > 15
    assert advise_size(Defect(0, 1.5, 30, 1.5), (256, 256), spec) is None  # it is seen as it is
    assert advise_size(Defect(0, 5.0, 30, 9), (1024, 1024), spec) is None  # it is seen well


@pytest.mark.parametrize(("normals", "promised"), [(99, 0.01), (31, 0.2), (31, None)])
def test_after_a_fit_nothing_is_said_where_nothing_is_short(normals, promised):
    assert fit_lines((300, 300), InputSpec(256, 256, 3), normals, promised) == []


def test_after_a_fit_what_is_too_small_is_said_in_pixels_of_the_images():
    line, advice = fit_lines((640, 640), InputSpec(256, 256, 3), 120, None)
    assert line.startswith(
        "Images of 640 x 640 are seen at 256 x 256: what is less than about 10 of their pixels across"
    )
    assert "--set data.size=512, a larger size; or in tiles, --size 640x640" in advice


def test_images_seen_at_half_their_size_are_not_said_to_be_near_it():
    (said,) = fit_lines((1000, 900), InputSpec(512, 512, 3), 300, None, native=True)
    assert said == "Images of some 1000 pixels are seen at 512 x 512, smaller than they are; --size takes another."
