"""Who trains, who validates, who calibrates."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unlike.data.samples import RowSamples
from unlike.data.split import (
    CALIBRATION_CAP,
    FEWEST,
    VALIDATION_CAP,
    calibration_size,
    calibration_sizes,
    categories_of,
    distinct_rows,
    split_categories,
    split_classes,
    split_normals,
)
from unlike.errors import DataError


@settings(max_examples=60)
@given(
    normals=st.integers(3, 5000),
    share=st.none() | st.floats(0.01, 0.9),
    false_alarms=st.none() | st.floats(0.0005, 0.5),
    seed=st.integers(0, 5),
)
def test_a_split_is_disjoint_complete_and_leaves_no_part_empty(normals, share, false_alarms, seed):
    rows = np.arange(normals) * 3 + 1
    calibration = calibration_size(normals, share, false_alarms)
    split = split_normals(rows, calibration, seed)
    parts = (split.train, split.validation, split.calibration)
    assert np.array_equal(np.sort(np.concatenate(parts)), rows)
    assert all(len(part) >= 1 and (np.diff(part) > 0).all() for part in parts)
    assert len(split.calibration) == calibration
    assert len(split.validation) <= VALIDATION_CAP


def test_a_split_depends_on_the_seed_alone():
    rows = np.arange(100)
    first, again, other = (split_normals(rows, 25, seed) for seed in (1, 1, 2))
    for part in ("train", "validation", "calibration"):
        assert np.array_equal(getattr(first, part), getattr(again, part))
        assert not np.array_equal(getattr(first, part), getattr(other, part))


def test_every_image_is_as_likely_to_calibrate():
    counts = np.bincount(np.concatenate([split_normals(np.arange(20), 5, seed).calibration for seed in range(400)]))
    assert counts.min() > 60  # 100 expected, standard deviation 8.7
    assert counts.max() < 140


@pytest.mark.parametrize(
    ("normals", "share", "false_alarms", "expected"),
    [
        (3, None, None, 1),
        (60, None, None, 20),
        (296, None, None, 98),
        (297, None, None, 99),
        (1000, None, None, 250),
        (10**6, None, None, CALIBRATION_CAP),
        (100, 0.3, None, 30),
        (100, 0.001, None, 1),
        (10, 0.99, None, 8),
        (100, 0.3, 0.01, 30),
        (200, None, 0.01, 99),
        (100, None, 0.01, 50),
        (100, None, 0.1, 33),
        (10**6, None, 0.0001, 9999),
    ],
)
def test_how_many_calibrate(normals, share, false_alarms, expected):
    assert calibration_size(normals, share, false_alarms) == expected


@pytest.mark.parametrize(
    ("normals", "message"), [(0, "0 normal images cannot"), (1, "1 normal image cannot"), (2, "2 normal")]
)
def test_too_few_to_split(normals, message):
    with pytest.raises(DataError, match=f"{message}.*; at least 3 are needed, some 100 for a useful detector"):
        calibration_size(normals, None, None)


def test_copies_are_counted_once():
    digests = np.array([5, 9, 5, 2**63 + 1, 9, 5], np.uint64)
    assert distinct_rows(digests).tolist() == [0, 1, 3]
    assert distinct_rows(digests[:0]).tolist() == []


@settings(max_examples=60)
@given(
    counts=st.lists(st.integers(1, 400), min_size=2, max_size=6).filter(lambda counts: max(counts) >= FEWEST),
    share=st.none() | st.floats(0.01, 0.9),
    false_alarms=st.none() | st.floats(0.0005, 0.5),
    seed=st.integers(0, 5),
)
def test_images_of_every_category_calibrate(counts, share, false_alarms, seed):
    categories = np.repeat([f"kind {number}" for number in range(len(counts))], counts)
    rows = np.random.default_rng(seed).permutation(len(categories)) * 3
    sizes = calibration_sizes(categories, share, false_alarms)
    split = split_categories(rows, categories, sizes, seed)
    parts = (split.train, split.validation, split.calibration)
    assert np.array_equal(np.sort(np.concatenate(parts)), np.sort(rows))
    assert all(len(part) >= 1 and (np.diff(part) > 0).all() for part in parts)
    for name, count in zip(dict.fromkeys(categories.tolist()), counts, strict=True):
        held_out = np.isin(rows[categories == name], split.calibration).sum()
        assert held_out == sizes[name]
        assert 0 < held_out < count - 1 if count >= FEWEST else held_out == 0


@pytest.mark.parametrize(
    ("counts", "share", "false_alarms", "expected"),
    [
        ((300, 300), None, None, [99, 99]),
        ((300, 60), None, None, [99, 20]),
        ((100, 100), 0.3, None, [30, 30]),
        ((300, 60), None, 0.02, [99, 20]),  # 60 images cannot hold 49 out: why take half of them
        ((60, 60, 60, 60), None, 0.01, [25, 25, 25, 25]),  # none can for itself, but 99 can for all
        ((2, 300), None, None, [0, 99]),
    ],
)
def test_how_many_of_each_category_calibrate(counts, share, false_alarms, expected):
    categories = np.repeat([*"abcdef"[: len(counts)]], counts)
    assert list(calibration_sizes(categories, share, false_alarms).values()) == expected


def test_rows_of_an_array_have_no_category():
    assert categories_of(RowSamples(range(3))).tolist() == ["", "", ""]
    assert categories_of([]).tolist() == []


@given(st.lists(st.integers(2, 9), min_size=1, max_size=4), st.floats(0.01, 0.99), st.integers(0, 99))
def test_every_class_has_an_image_on_either_side(counts, share, seed):
    codes = np.repeat(np.arange(len(counts)), counts)
    found = split_classes(np.arange(len(codes)), codes, share, seed)
    for code in range(len(counts)):
        assert (codes[found.train] == code).any()
        assert (codes[found.validation] == code).any()
    assert sorted([*found.train, *found.validation]) == list(range(len(codes)))
