"""The alpha sweep: every panel, its sizes, and points of any number of dimensions."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib.colors import to_hex

from unlike.report.clusters import MOST_POINTS, alpha_sweep
from unlike.report.figures import ANOMALOUS, NORMAL

SIZES = (400, 40, 30)


def groups(features=2, seed=0):
    random = np.random.default_rng(seed)
    means = np.zeros((3, features))
    means[1, 0], means[2, -1] = 8, -8
    labels = np.repeat(np.arange(3), SIZES)
    return means[labels] + random.standard_normal((len(labels), features)), labels


def panels(figure):
    return {axes.get_title(loc="left"): axes for axes in figure.axes if axes.get_visible()}


def sizes_of(axes):
    return [int(size.replace(",", "")) for size in axes.get_xlabel().rpartition("sizes ")[2].split(", ")]


def test_a_tenth_joins_clusters_and_alpha_itself_finds_them():
    found = panels(alpha_sweep(groups()[0], 3))
    assert list(found) == ["k-means", "0.1 x alpha", "alpha", "10 x alpha"]
    assert sizes_of(found["0.1 x alpha"]) == [470, 0, 0]
    np.testing.assert_allclose(sizes_of(found["alpha"]), SIZES, atol=3)
    assert all(sum(sizes_of(axes)) == 470 for axes in found.values())
    numbers = [float(axes.get_xlabel().split()[1]) for axes in list(found.values())[1:]]
    np.testing.assert_allclose(numbers, numbers[1] * np.array([0.1, 1, 10]), rtol=0.01)


def test_what_is_drawn_is_every_point_and_every_centre():
    for axes in panels(alpha_sweep(groups()[0], 3)).values():
        assert sum(len(dots.get_offsets()) for dots in axes.collections) == 470
        assert len(axes.lines[0].get_xdata()) == 3


def test_labels_are_drawn_and_compared_with_but_not_learned_from():
    points, labels = groups()
    plain, found = panels(alpha_sweep(points, 3)), panels(alpha_sweep(points, 3, [f"kind {label}" for label in labels]))
    assert list(found) == ["As labelled", *plain]
    assert sizes_of(found["As labelled"]) == list(SIZES)
    assert [found[name].get_xlabel() for name in plain] == [axes.get_xlabel() for axes in plain.values()]
    agreements = {name: found[name].get_title(loc="right") for name in plain}
    assert agreements["0.1 x alpha"] == "ARI 0.00"
    assert float(agreements["alpha"].removeprefix("ARI ")) > 0.95


def test_labels_have_their_names_and_normal_is_blue_however_few_are():
    points, labels = groups()
    kinds = np.array(["scratch", "normal", "bent"])[labels]
    figure = alpha_sweep(points, 3, kinds)
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["normal", "scratch", "bent", "centre"]
    first = panels(figure)["As labelled"].collections[0]
    assert len(first.get_offsets()) == SIZES[1]
    assert to_hex(first.get_facecolor()[0]).upper() == NORMAL
    assert [text.get_text() for text in alpha_sweep(points, 3).legends[0].get_texts()] == ["centre"]
    clusters = panels(figure)["alpha"].collections  # which are no promise of normal or anomalous
    assert not {to_hex(dots.get_facecolor()[0]).upper() for dots in clusters} & {NORMAL, ANOMALOUS}


def test_many_dimensions_are_clustered_whole_and_drawn_on_two():
    points, labels = groups(12)
    figure = alpha_sweep(points, 3, labels)
    assert "First principal component" in figure.get_supxlabel()
    assert "% of the variance" in figure.get_supxlabel()
    assert float(panels(figure)["alpha"].get_title(loc="right").removeprefix("ARI ")) > 0.95


def test_one_dimension_is_a_line():
    figure = alpha_sweep(np.concatenate([np.random.default_rng(0).normal(m, 1, (50, 1)) for m in (0, 20)]), 2)
    assert sizes_of(panels(figure)["alpha"]) == [50, 50]
    assert figure.get_supxlabel() == "First coordinate"


def test_of_very_many_points_some_are_drawn_and_all_counted():
    points = np.random.default_rng(0).normal(size=(MOST_POINTS + 500, 2))
    axes = panels(alpha_sweep(points, 2, alpha=5.0))["alpha"]
    assert sum(len(dots.get_offsets()) for dots in axes.collections) == MOST_POINTS
    assert sum(sizes_of(axes)) == len(points)


def test_of_many_clusters_the_largest_sizes_are_printed():
    axes = panels(alpha_sweep(np.random.default_rng(0).normal(size=(90, 2)), 9, alpha=20.0))["10 x alpha"]
    assert axes.get_xlabel().endswith(", …")


@pytest.mark.parametrize(
    ("points", "words"),
    [
        (np.zeros((2, 2)), "n_samples=2 for n_clusters=3"),
        (np.ones((9, 2)), "all 9 points are the same"),
        (np.full((9, 2), np.nan), "came NaN or inf in 9 of 9 points"),
        (np.zeros(9), "Expected 2D array, got 1D array instead"),
    ],
)
def test_points_that_cannot_be_clustered_are_told(points, words):
    with pytest.raises(ValueError, match=words):
        alpha_sweep(points, 3)


def test_labels_of_other_points_are_told():
    points, labels = groups()
    with pytest.raises(ValueError, match="a label for each of the 470 points, came 469; give as many of both"):
        alpha_sweep(points, 3, labels[1:])


@pytest.mark.parametrize(
    ("factors", "labelled"), [((1.0,), False), ((0.1, 1, 10, 100), False), ((1.0,), True), ((0.1, 1, 10, 100), True)]
)
def test_alpha_times_whatever_is_asked_for(factors, labelled):
    points = np.random.default_rng(0).normal(size=(60, 2))
    labels = ["normal"] * 60 if labelled else None
    figure = alpha_sweep(points, 2, labels, alpha=2.0, factors=factors)
    shown = [axes.get_title(loc="left") for axes in figure.axes if axes.get_visible()]
    assert len(shown) == len(factors) + 1 + labelled
    assert shown[-1] == {1.0: "alpha", 100: "100 x alpha"}[factors[-1]]
