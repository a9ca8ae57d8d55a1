"""Residuals of held-out images: numbers by hand, what is left out, which examples are shown, and the page."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib.colors import to_hex

from unlike.data.batches import digest
from unlike.data.input_spec import InputSpec
from unlike.data.source import open_source
from unlike.errors import DataError
from unlike.records import Sample
from unlike.report.figures import ANOMALOUS, NORMAL
from unlike.report.residuals import (
    NOT_FINITE,
    HeldOut,
    Stage,
    choose_examples,
    hold_out,
    residual_page,
    show_examples,
)

SPEC = InputSpec(8, 8, 1)


def shift(by, digests=(), note=""):
    """A stage that reconstructs each image brighter by that much; its residual is the image's own mean times that."""

    def find_maps(pixels):
        return by * pixels[..., 0].astype(np.float64)

    return Stage(f"by {by}", find_maps, lambda pixels: pixels + np.uint8(by), np.array(digests, np.uint64), note)


@pytest.fixture
def images():
    """Row n has the value n + 1 everywhere."""
    return np.repeat(np.arange(1, 13, dtype=np.uint8), 64).reshape(12, 8, 8)


@pytest.fixture
def index(images):
    return open_source(images, np.arange(12) >= 8)


def test_residuals_are_those_of_each_stage_in_the_order_of_the_images(index, monkeypatch):
    told = []
    held_out = hold_out(index, SPEC, [shift(2), shift(3)], lambda done, total: told.append((done, total)))
    np.testing.assert_array_equal(held_out.residuals, [2 * np.arange(1, 13), 3 * np.arange(1, 13)])
    assert [sample.id for sample in held_out.samples] == [str(row) for row in range(12)]
    np.testing.assert_array_equal(held_out.anomalous, np.arange(12) >= 8)
    assert told[-1] == (12, 12)
    before, after = held_out.measure()
    assert (before.normal.value, before.anomalous.value) == (2 * 4.5, 2 * 10.5)
    assert after.ratio.value == pytest.approx(10.5 / 4.5)


def test_images_that_any_stage_has_learned_from_are_left_out(index, images):
    first, second = ([digest(images[row][..., None]) for row in rows] for rows in ((0, 3), (3, 9)))
    held_out = hold_out(index, SPEC, [shift(1, first), shift(2, second)])
    assert held_out.known == ("0", "3", "9")
    assert [sample.id for sample in held_out.samples] == ["1", "2", "4", "5", "6", "7", "8", "10", "11"]
    assert held_out.measure()[0].normal.value == np.mean([2, 3, 5, 6, 7, 8])


@pytest.mark.parametrize(("rows", "word", "count"), [(range(8), "normal", 8), (range(8, 12), "anomalous", 4)])
def test_nothing_but_images_it_learned_from_is_refused(index, images, rows, word, count):
    known = [digest(images[row][..., None]) for row in rows]
    message = f"the array: no {word} image to compare; {count} left out, because the model has learned from them. Give"
    with pytest.raises(DataError, match=message):
        hold_out(index, SPEC, [shift(1, known)])


def test_one_sort_of_images_alone_is_refused(images):
    with pytest.raises(DataError, match=r"the array: no anomalous image to compare\. Give some that were held out"):
        hold_out(open_source(images, np.zeros(12)), SPEC, [shift(1)])


def test_a_residual_that_is_no_number_is_named(index):
    def find_maps(pixels):
        return np.where(pixels[..., 0] == 5, np.nan, 1.0 * pixels[..., 0])

    held_out = hold_out(index, SPEC, [Stage("a", find_maps, lambda pixels: pixels, np.zeros(0, np.uint64)), shift(1)])
    assert [(item.id, item.reason) for item in held_out.unreadable] == [("4", NOT_FINITE)]
    assert held_out.residuals.shape == (2, 11)


def test_an_image_that_cannot_be_read_is_named(tmp_path):
    (tmp_path / "good").mkdir()
    (tmp_path / "good/a.png").write_bytes(b"")
    (tmp_path / "bent").mkdir()
    (tmp_path / "bent/b.png").write_bytes(b"")
    with pytest.raises(DataError, match="no normal image to compare; 2 could not be used"):
        hold_out(open_source(tmp_path), SPEC, [shift(1)])


def test_examples_are_typical_of_their_group_by_the_first_stage():
    samples = tuple(Sample(str(row), anomalous=row >= 100) for row in range(200))
    residuals = np.stack([np.arange(200.0)[::-1], np.arange(200.0)])
    chosen = [int(sample.id) for sample in choose_examples(HeldOut(samples, residuals))]
    assert chosen == [66, 33, 166, 133]
    few = HeldOut((Sample("a", anomalous=False), Sample("b", anomalous=True)), np.ones((1, 2)))
    assert [sample.id for sample in choose_examples(few)] == ["a", "b"]


def test_examples_show_what_each_stage_makes_of_them(index):
    stages = [shift(2), shift(3)]
    held_out = hold_out(index, SPEC, stages)
    examples = show_examples(index, SPEC, stages, choose_examples(held_out))
    assert [example.sample.id for example in examples] == ["2", "5", "9", "10"]
    assert [int(image[0, 0, 0]) for image in (examples[0].image, *examples[0].reconstructions)] == [3, 5, 6]
    assert [float(map_.mean()) for map_ in examples[0].maps] == [6, 9]


def test_the_page_says_the_figures_and_shows_the_examples(index):
    stages = [shift(2), shift(3, note="a note")]
    held_out = hold_out(index, SPEC, stages)
    gaps = held_out.measure()
    examples = show_examples(index, SPEC, stages, choose_examples(held_out))
    figure = residual_page(held_out, gaps, stages, examples, "A title")
    sheet, *charts = figure.axes
    words = [text.get_text() for text in sheet.texts]
    assert words[0] == "A title"
    for word in ("by 2", "by 3", "a note", "original", "reconstruction by\nby 3", "residual of\nby 2", "6", "9"):
        assert word in words, word
    assert f"normal: mean 9 [{gaps[0].normal.low:.3g}, {gaps[0].normal.high:.3g}]" in words
    assert f"ratio of the means 2.33 [{gaps[1].ratio.low:.3g}, {gaps[1].ratio.high:.3g}]" in words
    assert len(sheet.images) == 4 * 5
    assert len(charts) == 2
    assert charts[0].get_xlim() == charts[1].get_xlim()  # one scale, or the eye compares nothing
    normal, _, mean = charts[0].lines[:3]
    assert to_hex(normal.get_color()) == NORMAL.lower()
    np.testing.assert_array_equal(np.sort(normal.get_xdata()), 2 * np.arange(1, 9))
    assert mean.get_xdata() == [9]
    assert to_hex(charts[0].lines[3].get_color()) == ANOMALOUS.lower()


def test_nothing_is_cut_off_or_laid_over_something_else(index):
    """Every word lies within the sheet, and no picture over another."""
    stages = [shift(2, note="only its encoder was fine-tuned: the decoder no longer fits it"), shift(3)]
    held_out = hold_out(index, SPEC, stages)
    examples = show_examples(index, SPEC, stages, choose_examples(held_out))
    figure = residual_page(held_out, held_out.measure(), stages, examples, "A title")
    sheet = figure.axes[0]
    inches = sheet.transData.inverted()
    width, height = figure.get_size_inches()
    for text in sheet.texts:
        (left, low), (right, high) = inches.transform(text.get_window_extent().get_points())
        assert left >= 0
        assert right <= width, text
        assert min(low, high) >= 0
        assert max(low, high) <= height, text
    boxes = [image.get_extent() for image in sheet.images]
    for position, (left, right, bottom, top) in enumerate(boxes):
        assert right <= width
        for other in boxes[position + 1 :]:
            beside = other[0] >= right or other[1] <= left or other[3] >= bottom or other[2] <= top
            assert beside


def test_residuals_of_several_decades_have_plain_numbers_on_their_axis():
    samples = tuple(Sample(str(row), anomalous=row >= 6) for row in range(12))
    held_out = HeldOut(samples, np.geomspace(0.01, 90, 12)[None])
    stage = Stage("a", lambda pixels: pixels, lambda pixels: pixels, np.zeros(0, np.uint64))
    figure = residual_page(held_out, held_out.measure(), [stage], [])
    figure.draw_without_rendering()
    (chart,) = [axes for axes in figure.axes if axes.get_xscale() == "log"]
    labels = [label.get_text() for label in chart.get_xticklabels()]
    assert {"0.1", "1", "10"} <= set(labels)
