"""Edits of codes: each does what it says to the elements that it names, and to no other."""

from __future__ import annotations

import itertools
import re

import numpy as np
import pytest

from unlike.errors import ConfigError, DataError
from unlike.report.edits import Strip, check_elements, edit_strips, parse_edit, principal_edits


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1=x3", [2.0, 12.0, -6.0]),
        ("1=x-0.5", [2.0, -2.0, -6.0]),
        ("1=+1.5", [2.0, 5.5, -6.0]),
        ("1=-1.5", [2.0, 2.5, -6.0]),
        ("1=0", [2.0, 0.0, -6.0]),
        ("1==-7", [2.0, -7.0, -6.0]),
        ("1=1e2", [2.0, 100.0, -6.0]),
        ("0=x2, 2=+6", [4.0, 4.0, 0.0]),
        ("0=1,0=x5", [5.0, 4.0, -6.0]),
    ],
)
def test_elements_are_multiplied_added_to_and_set(text, expected):
    codes = np.array([[2.0, 4.0, -6.0]] * 2, np.float32)
    found = parse_edit(text).apply(codes)
    np.testing.assert_array_equal(found, [expected] * 2)
    assert found.dtype == codes.dtype
    np.testing.assert_array_equal(codes, [[2.0, 4.0, -6.0]] * 2)  # not the original


@pytest.mark.parametrize(
    "text", ["2*3", "x=3", "2=", "2=xx3", "2=nan", "2=+inf", "-1=0", "2=x3,", "", "2=1.5.2", "2=0x1"]
)
def test_a_change_that_cannot_be_read_says_how_to_write_one(text):
    message = f"--set: expected ELEMENT=xFACTOR, =+NUMBER, =-NUMBER or =NUMBER, came {text!r}; for instance 2=x3"
    with pytest.raises(ConfigError, match=re.escape(message)):
        parse_edit(text)


def test_an_element_that_does_not_exist_is_named():
    check_elements([parse_edit("3=0")], size=4)
    with pytest.raises(ConfigError, match="there is no element 4; the code has 4, numbered from 0 to 3"):
        check_elements([parse_edit("3=0"), parse_edit("1=0,4=x2")], size=4)


def test_directions_are_those_of_largest_variance_in_standard_deviations(rng):
    deviations = np.array([1.0, 8.0, 3.0, 0.5])
    codes = rng.normal(size=(4000, 4)) * deviations
    edits = principal_edits(codes, 2)
    assert [edit.steps for edit in edits] == [-2, -1, 1, 2] * 2
    assert [edit.group for edit in edits[::4]] == [
        "direction 1: 86 % of the variance",
        "direction 2: 12 % of the variance",
    ]
    first, second = edits[2].shift, edits[6].shift
    assert abs(first[1]) == pytest.approx(8, rel=0.05)
    assert abs(second[2]) == pytest.approx(3, rel=0.05)
    moved = edits[3].apply(codes[:1].astype(np.float32))
    np.testing.assert_allclose(moved - codes[:1], 2 * first[None], atol=1e-4)
    assert moved.dtype == np.float32


def test_directions_are_the_same_for_the_same_codes(rng):
    codes = rng.normal(size=(50, 300)).astype(np.float32)
    for one, other in zip(principal_edits(codes, 3), principal_edits(codes.copy(), 3), strict=True):
        np.testing.assert_array_equal(one.shift, other.shift)


@pytest.mark.parametrize(("count", "most"), [(5, 4), (0, 4)])
def test_more_directions_than_images_can_show_are_refused(count, most, rng):
    message = f"--directions: expected 1 to {most}, came {count}: 5 images with codes of 9 elements vary in no more"
    with pytest.raises(ConfigError, match=message):
        principal_edits(rng.normal(size=(5, 9)), count)


def test_codes_without_a_direction_are_refused():
    with pytest.raises(DataError, match="the codes of all 5 images are the same"):
        principal_edits(np.ones((5, 9)), 1)
    with pytest.raises(DataError, match="directions need the codes of 2 images or more, came 1; give more, or change"):
        principal_edits(np.ones((1, 9)), 1)


def test_two_directions_are_shown_where_nobody_says_how_many_and_there_are_two(rng):
    assert len(principal_edits(rng.normal(size=(9, 5)))) == 8
    assert len(principal_edits(rng.normal(size=(2, 5)))) == 4


def strips_of(images, groups=("", "a", "a", "b")):
    return [Strip(f"edit {number}", images, group) for number, group in enumerate(groups)]


def test_every_image_is_a_row_of_original_reconstruction_and_edits():
    images = np.random.default_rng(0).integers(0, 255, (3, 8, 12, 3)).astype(np.uint8)
    figure = edit_strips(["a", "b", "c"], images, images // 2, strips_of(images // 4), title="Edits")
    (axes,) = figure.axes
    assert len(axes.images) == 3 * 6
    edges = sorted({(round(image.get_extent()[0], 4), round(image.get_extent()[1], 4)) for image in axes.images})
    assert len(edges) == 6
    assert all(right <= left for (_, right), (left, _) in itertools.pairwise(edges))
    rows = sorted({(round(image.get_extent()[3], 4), round(image.get_extent()[2], 4)) for image in axes.images})
    assert all(bottom < top for (_, bottom), (top, _) in itertools.pairwise(rows))
    assert rows[-1][1] < axes.get_ylim()[0]
    assert edges[-1][1] < axes.get_xlim()[1]
    np.testing.assert_array_equal(axes.images[1].get_array(), images[0] // 2)
    words = [text.get_text() for text in axes.texts]
    assert {"Edits", "original", "reconstruction", "edit 3", "a", "b"} <= set(words)


def test_groups_have_one_heading_each():
    images = np.zeros((1, 8, 8, 1), np.uint8)
    (axes,) = edit_strips(["x"], images, images, strips_of(images)).axes
    words = [text.get_text() for text in axes.texts]
    assert (words.count("a"), words.count("b")) == (1, 1)
    assert len(axes.lines) == 2


def test_an_edit_without_effect_says_so():
    images = np.full((2, 8, 8, 1), 0.25, np.float32)
    rebuilt = images + np.linspace(0, 1, 64, dtype=np.float32).reshape(1, 8, 8, 1)
    (axes,) = edit_strips(["x", "y"], rebuilt, rebuilt, [Strip("[0] = 1", rebuilt)]).axes
    assert "pixels ±0 %" in [text.get_text() for text in axes.texts]


def test_images_of_one_value_have_a_picture():
    images = np.full((1, 8, 8, 1), 0.25, np.float32)
    figure = edit_strips(["x"], images, images, [Strip("[0] = 1", images)])
    figure.draw_without_rendering()
    shown = [image.get_array() for axes in figure.axes for image in axes.images]
    assert shown
    assert all(np.isfinite(values).all() for values in shown)
