"""Which images belong together: bursts are found whatever their size, independent images are left alone."""

import numpy as np
import pytest

from unlike.calibration.groups import (
    closest_in_others,
    connect,
    find_same_pictures,
    find_series,
    global_distances,
    natural_order,
    owned_shares,
)

POSITIONS, WIDTH = 36, 24


def parts(random, count, alike=0.5):
    """Features of independent parts of one product: they share what is usual at each position."""
    usual = random.normal(size=(1, POSITIONS, WIDTH))
    return (alike * usual + random.normal(size=(count, POSITIONS, WIDTH))).astype(np.float32)


def shots(random, part, count, noise=0.25):
    """The same part again: shifted by some positions, a little brighter, with noise."""
    found = []
    for _ in range(count):
        shifted = np.roll(part, random.integers(0, 6), axis=0) * random.uniform(0.95, 1.05)
        found.append(shifted + noise * random.normal(size=part.shape))
    return np.array(found, np.float32)


def thumbnails(random, count):
    found = random.normal(size=(count, 256))
    found -= found.mean(axis=1, keepdims=True)
    return (found / np.linalg.norm(found, axis=1, keepdims=True)).astype(np.float32)


def test_who_belongs_to_one_belongs_to_all():
    groups = connect(np.array([[1, 4], [4, 2], [0, 3]]), 6)
    assert groups.numbers.tolist() == [0, 1, 1, 0, 1, 2]
    assert [rows.tolist() for rows in groups.larger] == [[1, 2, 4], [0, 3]]
    assert len(groups) == 3


def test_without_pairs_each_is_a_group():
    groups = connect(np.empty((0, 2), np.intp), 4)
    assert groups.numbers.tolist() == [0, 1, 2, 3]
    assert groups.larger == []
    assert len(connect(np.empty((0, 2), np.intp), 0)) == 0


@pytest.mark.parametrize("size", [2, 5, 15])
def test_a_burst_is_one_group_and_others_stay_alone(rng, size):
    singles = parts(rng, 40)
    burst = shots(rng, singles[0], size - 1)
    found = connect(find_series(np.concatenate([singles, burst])), 40 + size - 1)
    assert [rows.tolist() for rows in found.larger] == [[0, *range(40, 40 + size - 1)]]


def test_independent_parts_are_no_series(rng):
    assert len(find_series(parts(rng, 60))) == 0


def test_several_bursts_are_told_apart(rng):
    singles = parts(rng, 30)
    found = find_series(np.concatenate([singles, shots(rng, singles[3], 2), shots(rng, singles[9], 2)]))
    groups = connect(found, 34)
    assert sorted(rows.tolist() for rows in groups.larger) == [[3, 30, 31], [9, 32, 33]]


def test_of_few_images_much_is_owned_by_chance(rng):
    few = parts(rng, 4)
    assert owned_shares(closest_in_others(few)).max() > 0.3  # each owns a third
    assert len(find_series(few)) == 0
    assert len(find_series(few[:2])) == 0


def test_shares_sum_to_one_and_none_owns_itself(rng):
    shares = owned_shares(closest_in_others(parts(rng, 7), seed=3))
    assert shares.shape == (7, 7)
    assert np.allclose(shares.sum(axis=1), 1)
    assert (shares.diagonal() == 0).all()


def test_distances_of_whole_images_are_in_usual_ones(rng):
    distances = global_distances(parts(rng, 20))
    assert np.median(distances[np.triu_indices(20, 1)]) == pytest.approx(1)
    assert np.isfinite(global_distances(np.zeros((3, 4, 5), np.float32))).all()


def test_the_same_picture_is_found_again_and_nothing_else(rng):
    scenes = thumbnails(rng, 50)
    again = scenes[[7, 7, 20]] + 0.002 * rng.normal(size=(3, 256)).astype(np.float32)
    groups = connect(find_same_pictures(np.concatenate([scenes, again])), 53)
    assert [rows.tolist() for rows in groups.larger] == [[7, 50, 51], [20, 52]]


def test_pictures_of_one_scene_are_not_the_same_picture(rng):
    """Where a camera stands still all are near each other: the same are those that are far nearer than others."""
    scenes = thumbnails(rng, 1) + 0.1 * thumbnails(rng, 30)
    assert len(find_same_pictures(scenes)) == 0
    assert find_same_pictures(np.concatenate([scenes, scenes[4:5]])).tolist() == [[4, 30]]


def test_pictures_of_one_shade_are_like_no_other(rng):
    scenes = np.concatenate([thumbnails(rng, 10), np.zeros((3, 256), np.float32)])
    assert len(find_same_pictures(scenes)) == 0
    assert len(find_same_pictures(scenes[:1])) == 0
    assert len(find_same_pictures(scenes[:0])) == 0


def test_blocks_change_nothing(rng, monkeypatch):
    scenes = thumbnails(rng, 30)
    scenes = np.concatenate([scenes, scenes[:9]])
    features = parts(rng, 12)
    whole, shares = find_same_pictures(scenes).tolist(), owned_shares(closest_in_others(features))
    monkeypatch.setattr("unlike.calibration.groups.BLOCK_VALUES", 100)
    assert find_same_pictures(scenes).tolist() == whole
    assert np.array_equal(owned_shares(closest_in_others(features)), shares)


def test_distances_of_whole_images_do_not_know_where_things_lie(rng):
    features = rng.normal(size=(6, 16, 5))
    moved = np.stack([one[rng.permutation(16)] for one in features])  # each in its own way
    np.testing.assert_allclose(global_distances(moved), global_distances(features), rtol=1e-4, atol=1e-4)
    pairs = np.triu_indices(6, 1)
    assert np.median(global_distances(features)[pairs]) == pytest.approx(1)


def test_digits_that_are_no_numbers_are_letters_to_the_order_of_names():
    assert natural_order(["a10.png", "a1\u00b22.png", "a9.png"])[[2, 0]].tolist() == [1, 2]
