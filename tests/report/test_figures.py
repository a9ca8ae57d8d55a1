"""Figures: the numbers they draw are the numbers that went in, and they look the same on every machine."""

from __future__ import annotations

import base64
import xml.etree.ElementTree as ET

import matplotlib as mpl
import numpy as np
import pytest
from report_fakes import losses_over

from unlike.records import Estimate, Metrics, kept_epoch
from unlike.report import figures

XLINK = "{http://www.w3.org/1999/xlink}href"


@pytest.fixture
def scored(rng):
    """Scores of 300 normal and 60 anomalous images, and which are which."""
    return np.concatenate([rng.gamma(20, 0.06, 300), rng.gamma(12, 0.17, 60)]), np.arange(360) >= 300


def heights(axes):
    return list(axes.patches[0].get_data().values)


def line(axes, label):
    return next(drawn for drawn in axes.lines if drawn.get_label() == label)


def decoded(figure):
    return base64.b64decode(figures.svg(figure).partition(",")[2])


def test_a_histogram_has_50_bins_that_hold_every_image(scored):
    scores, anomalous = scored
    figure = figures.score_histograms(scores, anomalous, 1.9, calibration=scores[:99])
    assert [len(heights(axes)) for axes in figure.axes] == [50, 50, 50]
    assert [sum(heights(axes)) for axes in figure.axes] == [99, 300, 60]


def test_histograms_share_one_scale_and_show_the_threshold(scored):
    scores, anomalous = scored
    normal, strange = figures.score_histograms(scores, anomalous, 1.9).axes
    assert normal.get_xlim() == strange.get_xlim()
    assert list(normal.patches[0].get_data().edges) == list(strange.patches[0].get_data().edges)
    for axes, group in ((normal, scores[~anomalous]), (strange, scores[anomalous])):
        assert list(axes.lines[0].get_xdata()) == [1.9, 1.9]
        assert axes.get_title(loc="right").startswith(f"{(group > 1.9).sum()} above")
    assert strange.get_xlabel() == "Score (higher is stranger)"
    assert normal.get_ylabel() == "Images"


def test_groups_differ_in_colour_in_hatch_and_in_marker():
    for part in ("colour", "hatch", "marker"):
        assert len({getattr(look, part) for look in figures.GROUPS}) == len(figures.GROUPS)


def test_normal_and_anomalous_differ_in_more_than_colour(scored):
    normal, strange = figures.score_histograms(*scored, 1.9).axes
    assert normal.patches[0].get_facecolor() != strange.patches[0].get_facecolor()
    assert not normal.patches[0].get_hatch()
    assert strange.patches[0].get_hatch()


def test_heavy_tailed_scores_get_a_logarithmic_axis(rng):
    scores, anomalous = rng.lognormal(0, 2, 400), np.arange(400) >= 300
    figure = figures.score_histograms(scores, anomalous, 5.0)
    assert [axes.get_xscale() for axes in figure.axes] == ["log", "log"]
    assert [sum(heights(axes)) for axes in figure.axes] == [300, 100]
    assert "logarithmic" in figure.axes[-1].get_xlabel()


@pytest.mark.parametrize("scores", [[0.0, 1.0, 1.0, 900.0], [1.0, 2.0, 3.0, 4.0]])
def test_scores_of_zero_or_without_a_tail_stay_linear(scores):
    edges, logarithmic = figures.bin_edges(np.array(scores), threshold=2.0)
    assert not logarithmic
    assert np.allclose(np.diff(edges), np.diff(edges)[0])


@pytest.mark.parametrize("value", [0.0, 1e-9, 5.0, -3.0])
def test_equal_scores_lie_in_one_bin(value):
    scores, anomalous = np.full(6, value), np.arange(6) > 2
    figure = figures.score_histograms(scores, anomalous, threshold=value)
    assert [max(heights(axes)) for axes in figure.axes] == [3, 3]
    assert decoded(figure)


def test_a_threshold_beyond_all_scores_is_on_the_axis():
    edges, _ = figures.bin_edges(np.array([1.0, 2.0]), threshold=3.0)
    assert edges[0] < 1.0 < 3.0 < edges[-1]


def test_the_roc_curve_has_its_axes_the_right_way_round(scored):
    scores, anomalous = scored
    axes = figures.roc(scores, anomalous, 1.9).axes[0]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("False-alarm rate", "Detection rate")
    drawn = line(axes, "this detector")
    for cut in (0.8, 1.2, 1.9, 2.5):
        point = [(scores[~anomalous] > cut).mean(), (scores[anomalous] > cut).mean()]
        assert np.interp(point[0] + 1e-9, drawn.get_xdata(), drawn.get_ydata()) >= point[1] - 1e-9
    assert np.trapezoid(drawn.get_ydata(), drawn.get_xdata()) == pytest.approx(pairwise_auroc(scores, anomalous))


def pairwise_auroc(scores, anomalous):
    difference = scores[anomalous][:, None] - scores[~anomalous][None]
    return (difference > 0).mean() + (difference == 0).mean() / 2


def test_the_operating_point_of_the_roc_curve_is_the_two_rates(scored):
    scores, anomalous = scored
    point = line(figures.roc(scores, anomalous, 1.5).axes[0], "the threshold")
    assert list(point.get_xdata()) == [(scores[:300] > 1.5).mean()]
    assert list(point.get_ydata()) == [(scores[300:] > 1.5).mean()]


def test_the_operating_point_of_the_precision_recall_curve(scored):
    scores, anomalous = scored
    axes = figures.precision_recall(scores, anomalous, 1.5).axes[0]
    point, alarms = line(axes, "the threshold"), scores > 1.5
    assert list(point.get_xdata()) == [alarms[anomalous].mean()]
    assert list(point.get_ydata()) == [anomalous[alarms].mean()]
    assert list(line(axes, "guessing").get_ydata()) == pytest.approx([60 / 360] * 2)
    assert "recall" in axes.get_xlabel()
    assert "precision" in axes.get_ylabel()


def test_without_an_alarm_there_is_no_precision_to_mark(scored):
    axes = figures.precision_recall(*scored, threshold=1e9).axes[0]
    assert "the threshold" not in [drawn.get_label() for drawn in axes.lines]


def test_loss_curves_mark_the_epoch_that_was_kept():
    axes = figures.losses(losses_over(12)).axes[0]
    assert list(line(axes, "training").get_ydata()) == pytest.approx([0.4 / epoch for epoch in range(1, 13)])
    assert list(line(axes, "validation").get_xdata()) == list(range(1, 13))
    assert list(line(axes, "kept: epoch 8").get_xdata()) == [8, 8]
    assert line(axes, "training").get_linestyle() != line(axes, "validation").get_linestyle()
    for keep in ("train", "last"):
        assert list(line(figures.losses(losses_over(12), keep).axes[0], "kept: epoch 12").get_xdata()) == [12, 12]


@pytest.mark.parametrize(("epochs", "scale"), [(3, "linear"), (200, "log")])
def test_losses_that_fall_far_get_a_logarithmic_axis(epochs, scale):
    history = [{"epoch": e, "train": 1 / e, "validation": None, "learning_rate": 0.1} for e in range(1, epochs + 1)]
    axes = figures.losses(history).axes[0]
    assert axes.get_yscale() == scale


def test_losses_without_validation_or_with_none_finite_are_drawn():
    history = [{"epoch": 1, "train": float("nan"), "validation": float("nan"), "learning_rate": 0.1}]
    assert kept_epoch(history, "validation") is None
    assert decoded(figures.losses(history))


def grouped(detected):
    return Metrics(5, 5, image={"detection_rate": Estimate(detected, 0.0, 1.0), "auroc": Estimate(0.8)})


def test_dots_stand_at_the_values_hardest_group_on_top():
    figure = figures.dots({"easy": grouped(0.9), "hard": grouped(0.2)}, overall=grouped(0.5))
    rates, auroc = figure.axes
    assert [label.get_text() for label in rates.get_yticklabels()] == ["hard", "easy", "all together"]
    dots = [drawn.get_xdata()[0] for drawn in rates.lines if drawn.get_marker() in ("o", "D")]
    assert dots == [0.2, 0.9, 0.5]
    assert rates.get_ylim()[0] > rates.get_ylim()[1]  # the first row is on top
    assert (rates.get_xlabel(), auroc.get_xlabel()) == ("Detection rate", "AUROC")


def test_dots_of_very_many_groups_keep_the_hardest():
    groups = {f"kind {number}": grouped(number / 100) for number in range(100)}
    labels = [label.get_text() for label in figures.dots(groups, grouped(0.5)).axes[0].get_yticklabels()]
    assert labels == [f"kind {number}" for number in range(figures.MOST_DOTS)] + ["all together"]


def test_dots_of_groups_without_figures_are_not_drawn():
    nothing = Metrics(5, 0)
    assert figures.dots({"a": nothing}, nothing) is None
    partly = figures.dots({"a": nothing, "b": grouped(0.5)}, grouped(0.5))
    assert [label.get_text() for label in partly.axes[0].get_yticklabels()] == ["b", "a", "all together"]


@pytest.mark.parametrize("name", ["$x^{$", "裂纹", "<b>&\"'", "a\x00\x07b", "\udcff", "x" * 500, "_^\\frac"])
def test_any_name_can_stand_in_a_figure(name):
    figure = figures.dots({name: grouped(0.5), "b": grouped(0.6)}, grouped(0.5))
    texts = [node.text for node in ET.fromstring(decoded(figure)).iter() if node.tag.endswith("text")]
    shown = figure.axes[0].get_yticklabels()[0].get_text()
    assert shown in texts
    assert len(shown) <= 30


def test_a_figure_loads_nothing_and_is_the_same_every_time(scored):
    content = decoded(figures.score_histograms(*scored, 1.9))
    links = [node.get(XLINK) or node.get("href") for node in ET.fromstring(content).iter()]
    assert all(link.startswith("#") for link in links if link)
    assert any(links)
    assert content == decoded(figures.score_histograms(*scored, 1.9))


def test_the_users_own_matplotlib_settings_neither_change_a_figure_nor_are_changed(scored):
    plain = decoded(figures.roc(*scored, 1.9))
    with mpl.rc_context({"text.usetex": True, "figure.facecolor": "black", "axes.grid": False, "font.size": 30}):
        before = dict(mpl.rcParams)
        assert decoded(figures.roc(*scored, 1.9)) == plain
        assert dict(mpl.rcParams) == before


def test_many_images_make_no_large_figure(rng):
    scores, anomalous = rng.normal(size=50_000), rng.random(50_000) < 0.5
    for draw in (figures.roc, figures.precision_recall):
        assert len(figures.svg(draw(scores, anomalous, 0.0))) < 300_000
