"""What the pictures of the code space are made of."""

from __future__ import annotations

import numpy as np
import pytest
from report_fakes import FakeEncoder

from unlike.data.source import open_source
from unlike.errors import DataError
from unlike.records import Explanation, Sample
from unlike.report import latent
from unlike.report.extremes import Shown, score_extremes
from unlike.report.figures import ANOMALOUS, NORMAL
from unlike.report.histograms import Spread, score_spreads
from unlike.report.latent import View, draw_rows, flatten, keep_shared, rate, view_codes, view_pixels


@pytest.fixture
def index(rng):
    images = rng.integers(0, 255, (40, 8, 8)).astype(np.uint8)
    return open_source(images, np.arange(40) % 4 == 0)


def test_rows_are_drawn_at_random_by_the_seed_and_kept_in_order():
    rows = draw_rows(1000, 50, seed=1)
    assert len(set(rows.tolist())) == 50
    assert (np.diff(rows) > 0).all()
    assert rows.max() > 900
    np.testing.assert_array_equal(rows, draw_rows(1000, 50, seed=1))
    assert not np.array_equal(rows, draw_rows(1000, 50, seed=2))


def test_scores_codes_and_pixels_belong_to_the_same_images(index, monkeypatch):
    monkeypatch.setattr(latent, "PART", 7)
    detector = FakeEncoder(index, lost=("3", "9"), gone=("5",))
    told = []
    seen = rate(detector, "fake", index, lambda done, total: told.append((done, total)))
    assert told == [(40, 40)]
    assert [item.id for item in seen.unreadable] == ["3", "9"]
    codes = view_codes(seen)
    assert detector.asked == [6, 7, 7, 7, 7, 3]
    pixels = view_pixels(seen)
    assert (len(codes.samples), len(pixels.samples)) == (37, 38)
    one, other = keep_shared([pixels, codes])
    assert [sample.id for sample in one.samples] == [sample.id for sample in other.samples]
    np.testing.assert_array_equal(one.points, other.points)
    np.testing.assert_array_equal(one.scores, other.scores)
    np.testing.assert_allclose(one.scores, one.points.mean(axis=1))


def test_no_readable_image_is_an_error_that_says_why(index):
    with pytest.raises(DataError, match="no image of 40 can be scored: 0 is empty"):
        rate(FakeEncoder(index, lost=tuple(map(str, range(40)))), "fake", index)


def test_detectors_that_share_no_image_are_refused():
    views = [View(name, (Sample(name),), np.zeros(1), np.zeros((1, 2))) for name in "ab"]
    with pytest.raises(DataError, match="no image can be read by all of these detectors; take detectors of the same"):
        keep_shared(views)


def test_a_large_grid_is_averaged_over_its_positions(rng):
    grids = rng.normal(size=(2, 5, 64, 64)).astype(np.float32)
    np.testing.assert_allclose(flatten(grids), grids.mean(axis=(2, 3)))
    assert flatten(grids[:, :4]).shape == (2, 16_384)


def explained(score, anomalous=None, reconstructs=True, shape=(8, 8, 1), kind=""):
    image = np.full(shape, 100, np.uint8)
    sample = Sample(f"{score}.png", anomalous=anomalous, kind=kind)
    return Explanation(sample, score, image, np.ones(shape[:2]), image // 2 if reconstructs else None)


def words_of(figure):
    return [text.get_text() for text in figure.axes[0].texts]


def test_a_gallery_prints_scores_and_kinds_in_their_colours():
    blocks = [
        Shown("conv", [explained(0.9, anomalous=True, kind="bent")], [explained(0.1, anomalous=False)], "conv by residual"),
        Shown("vae", [explained(12.5)], []),
    ]  # fmt: skip
    figure = score_extremes(blocks, "Scores")
    words = words_of(figure)
    assert {"Scores", "conv", "vae", "conv by residual", "0.9", "0.1", "12.5", "bent", "normal"} <= set(words)
    assert words.count("largest scores") == 2
    assert words.count("smallest scores") == 1
    colours = {text.get_text(): text.get_color() for text in figure.axes[0].texts}
    assert (colours["bent"], colours["normal"]) == (ANOMALOUS, NORMAL)
    assert len(figure.axes[0].images) == 6
    np.testing.assert_array_equal(figure.axes[0].images[1].get_array(), np.full((8, 8, 3), 50))


def test_headings_do_not_run_into_what_stands_beside_them():
    (axes,) = score_extremes([Shown("conv", [explained(0.9)], [explained(0.1)])]).axes
    spans = {
        text.get_text(): text.get_window_extent()
        for text in axes.texts
        if text.get_text() != "original, reconstruction"
    }
    for beside in (text.get_window_extent() for text in axes.texts if text.get_text() == "original, reconstruction"):
        assert all(beside.x0 > spans[name].x1 + 5 for name in ("largest scores", "smallest scores"))


def test_a_model_that_reconstructs_nothing_shows_its_map():
    figure = score_extremes([Shown("features", [explained(1.0, reconstructs=False)], [])])
    assert "original, map" in words_of(figure)
    shown = figure.axes[0].images[1].get_array()
    assert shown.max() - shown.min() > 60  # the colours of a map, not the grey of an image


@pytest.mark.parametrize(("most", "shape"), [(1, (8, 8, 1)), (3, (8, 24, 3)), (9, (24, 8, 3))])
def test_no_picture_of_a_gallery_lies_on_another(most, shape):
    block = Shown(
        "conv",
        [explained(1.0 + n, shape=shape) for n in range(most)],
        [explained(n / 9, shape=shape) for n in range(most)],
    )
    (axes,) = score_extremes([block, block]).axes
    boxes = [image.get_extent() for image in axes.images]
    assert len(boxes) == most * 8
    width, height = axes.get_xlim()[1], axes.get_ylim()[0]
    for place, (left, right, bottom, top) in enumerate(boxes):
        assert 0 < left < right < width
        assert 0 < top < bottom < height
        assert (right - left) / (bottom - top) == pytest.approx(shape[1] / shape[0])
        for other_left, other_right, other_bottom, other_top in boxes[:place]:
            assert right <= other_left or other_right <= left or bottom <= other_top or other_bottom <= top


def test_histograms_have_fifty_bins_over_the_range_and_the_auroc():
    groups = {"normal": np.linspace(0, 1, 100), "anomalous": np.linspace(0.5, 1.5, 100)}
    figure = score_spreads([Spread("conv", groups, 0.9, "conv by residual"), Spread("vae", groups, 0.9)])
    assert figure.axes[0].get_title(loc="right") == "conv by residual · AUROC 0.873"
    assert figure.axes[1].get_title(loc="right") == "AUROC 0.873"
    for stairs in figure.axes[0].patches:
        values, edges, _ = stairs.get_data()
        assert len(edges) == 51
        assert edges[0] < 0
        assert edges[-1] > 1.5
        assert np.nansum(values) == 100
    words = [text.get_text() for text in figure.legends[0].get_texts()]
    assert words == ["normal (100)", "anomalous (100)", "threshold"]
    figure.draw_without_rendering()


def test_one_class_alone_has_no_auroc():
    for groups in ({"normal": np.arange(3.0)}, {"no label": np.arange(3.0), "anomalous": np.arange(2.0)}):
        figure = score_spreads([Spread("conv", groups, 0.9, "conv by residual")])
        assert figure.axes[0].get_title(loc="right") == "conv by residual"


def test_heavy_tailed_scores_get_a_logarithmic_axis():
    figure = score_spreads([Spread("conv", {"no label": np.array([1.0, 1, 1, 900])}, 2.0)])
    assert figure.axes[0].get_xscale() == "log"
    figure.draw_without_rendering()
    labels = [label.get_text() for label in figure.axes[0].get_xticklabels() if label.get_text()]
    assert "100" in labels
    assert not any("$" in label for label in labels)


@pytest.mark.parametrize(("count", "shape"), [(1, (1, 1)), (3, (3, 1)), (4, (2, 2)), (5, (3, 2))])
def test_many_histograms_stand_in_two_columns(count, shape):
    figure = score_spreads([Spread("conv", {"normal": np.arange(9.0)}, 5.0)] * count)
    assert figure.axes[0].get_subplotspec().get_gridspec().get_geometry() == shape
    labelled = [axes for axes in figure.axes if axes.get_xlabel()]
    assert len(labelled) == min(count, shape[1])


def test_images_with_several_thresholds_have_none_marked():
    groups = {"normal": np.linspace(0, 1, 100)}
    marked, unmarked = Spread("one", groups, 0.9), Spread("several", groups, None)
    figure = score_spreads([marked, unmarked])
    assert [len(axes.lines) for axes in figure.axes] == [1, 0]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["normal (100)", "threshold"]
    assert [text.get_text() for text in score_spreads([unmarked]).legends[0].get_texts()] == ["normal (100)"]


def test_a_detector_without_scores_is_refused():
    with pytest.raises(DataError, match="conv: no score to show; give images"):
        score_spreads([Spread("conv", {"normal": np.empty(0)}, 1.0)])
