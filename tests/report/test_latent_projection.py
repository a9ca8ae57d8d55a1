"""Codes on a plane: neighbours stay neighbours, the same seed is the same picture, and too little is refused in words."""

from __future__ import annotations

import builtins
import sys

import numpy as np
import pytest
from matplotlib.colors import to_hex

from unlike.errors import ConfigError, DataError
from unlike.report.figures import ANOMALOUS, NORMAL, svg
from unlike.report.projection import (
    INNER,
    PICTURE,
    SLOTS,
    STRANGENESS,
    Panel,
    Projection,
    choose_looks,
    outermost,
    project,
    projections,
    unit_square,
)


def two_groups(count, dimensions=12, apart=8.0):
    random = np.random.default_rng(0)
    points = random.normal(size=(count, dimensions)).astype(np.float32)
    points[count // 2 :, 0] += apart
    return points


def plane(count=40):
    return Projection(np.random.default_rng(1).normal(size=(count, 2)), (0.5, 0.25))


@pytest.mark.parametrize("method", ["pca", "tsne"])
def test_groups_that_lie_apart_stay_apart(method):
    positions = project(two_groups(60), method).positions
    left, right = positions[:30], positions[30:]
    between = np.linalg.norm(left.mean(axis=0) - right.mean(axis=0))
    assert between > 2 * max(left.std(), right.std())


@pytest.mark.parametrize("method", ["pca", "tsne"])
def test_the_same_seed_gives_the_same_positions(method):
    points = two_groups(80)
    first, again = project(points, method, seed=3), project(points.copy(), method, seed=3)
    np.testing.assert_array_equal(first.positions, again.positions)
    assert first.shares == again.shares


def test_pca_keeps_distances_on_a_plane_and_says_how_much_it_shows():
    flat = np.random.default_rng(0).normal(size=(30, 2)) * (5, 2)
    tilted = flat @ np.linalg.qr(np.random.default_rng(1).normal(size=(9, 9)))[0][:2]
    found = project(tilted)
    centred = flat - flat.mean(axis=0)
    ratio = np.linalg.norm(found.positions, axis=1) / np.linalg.norm(centred, axis=1)
    assert np.allclose(ratio, ratio[0], rtol=1e-4)
    assert found.shares[0] > found.shares[1] > 0
    assert sum(found.shares) == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("method", ["pca", "tsne"])
def test_one_number_a_code_lies_on_a_line(method):
    positions = project(np.arange(9.0)[:, None], method).positions
    assert positions.shape == (9, 2)
    assert np.isfinite(positions).all()


def test_values_of_any_size_can_be_laid_out(rng):
    points = rng.normal(size=(20, 5))
    for factor in (1e-30, 1e30):
        np.testing.assert_allclose(project(points * factor).shares, project(points).shares, rtol=1e-3)
    np.testing.assert_allclose(project(points + 1e6).shares, project(points).shares, rtol=1e-3)


@pytest.mark.parametrize(("method", "least"), [("pca", 3), ("tsne", 6)])
def test_the_smallest_sets_work_and_smaller_ones_say_how_many_are_needed(method, least, rng):
    points = rng.normal(size=(least, 4))
    assert project(points, method).positions.shape == (least, 2)
    with pytest.raises(DataError, match=f"needs at least {least} images, came {least - 1}; give more images"):
        project(points[1:], method)


def test_tsne_of_three_images_names_the_way_out():
    with pytest.raises(
        DataError, match=r"t-SNE needs at least 6 images, came 3; give more images, or take --method pca"
    ):
        project(np.eye(3), "tsne")


def test_a_method_that_does_not_exist_gets_a_suggestion():
    with pytest.raises(ConfigError, match=r"unknown method 'tsn'; did you mean 'tsne'\? known: pca, tsne, umap"):
        project(np.eye(9), "tsn")


def test_codes_that_are_all_the_same_are_refused():
    with pytest.raises(DataError, match="the codes of all 7 images are the same: there is nothing to see"):
        project(np.ones((7, 4)), "tsne")


def test_codes_that_are_not_finite_are_refused():
    points = np.zeros((7, 4))
    points[2, 1], points[3, 0] = np.nan, np.inf
    with pytest.raises(DataError, match="the codes of 2 of 7 images are not finite: the detector did not learn"):
        project(points)


def test_umap_that_is_not_installed_says_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "umap", None)
    with pytest.raises(ConfigError, match=r"umap-learn is not installed; pip install 'unlike\[umap\]', or take"):
        project(two_groups(20), "umap")


def test_umap_is_asked_for_a_neighbourhood_that_the_images_can_fill(monkeypatch):
    """By a stand-in: the real one takes half a minute to compile itself."""
    asked = []

    class Stand:
        def __init__(self, **settings):
            asked.append(settings)

        def fit_transform(self, points):
            return points[:, :2]

    monkeypatch.setitem(sys.modules, "umap", type("module", (), {"UMAP": Stand}))
    assert project(two_groups(8), "umap", seed=5).positions.shape == (8, 2)
    project(two_groups(200), "umap")
    assert asked[0] == {"n_neighbors": 7, "init": "random", "random_state": 5, "n_jobs": 1}
    assert (asked[1]["n_neighbors"], asked[1]["init"]) == (15, "spectral")


def test_the_outermost_images_stand_round_the_panel_each_once():
    positions = plane(200).positions
    chosen = outermost(positions)
    assert sorted(chosen) == list(range(16))
    assert len(set(chosen.values())) == 16
    inside = unit_square(positions) - 0.5
    far, all_of_them = np.linalg.norm(inside[list(chosen.values())], axis=1), np.linalg.norm(inside, axis=1)
    assert far.mean() > np.quantile(all_of_them, 0.85)
    assert {int(np.argmin(positions[:, 0])), int(np.argmax(positions[:, 1]))} <= set(chosen.values())


def test_lines_from_pictures_to_dots_do_not_cross():
    positions = plane(200).positions
    dots = INNER[0] + (INNER[1] - INNER[0]) * unit_square(positions)
    lines = [(SLOTS[slot], dots[row]) for slot, row in outermost(positions).items()]

    def side(a, b, c):
        return np.sign((b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0]))

    def cross(one, other):
        return side(*one, other[0]) != side(*one, other[1]) and side(*other, one[0]) != side(*other, one[1])

    assert not any(cross(lines[i], lines[j]) for i in range(16) for j in range(i))


@pytest.mark.parametrize("count", [1, 2, 5, 15])
def test_few_images_have_few_pictures(count):
    chosen = outermost(plane(count).positions)
    assert len(chosen) == len(set(chosen.values())) == count


def test_pictures_lie_apart_from_each_other_and_from_the_dots():
    gaps = np.abs(SLOTS[:, None] - SLOTS[None]).max(axis=2) + np.eye(16)
    assert gaps.min() > PICTURE
    edges = np.abs(SLOTS - 0.5).max(axis=1) - PICTURE / 2
    assert edges.min() > INNER[1] - 0.5
    assert (np.abs(SLOTS - 0.5) + PICTURE / 2).max() < 0.5


def test_kinds_have_colours_and_markers_of_their_own():
    kinds = ["normal"] * 9 + [f"kind{number % 9}" for number in range(90)] + ["no label"]
    looks = choose_looks(kinds)
    assert (looks["normal"].colour, looks["normal"].marker) == (NORMAL, "o")
    own = {looks[f"kind{number}"] for number in range(5)}
    assert len(own) == 5
    assert looks["normal"] not in own
    assert len({looks[f"kind{number}"] for number in range(5, 9)}) == 1  # too many to tell apart


def test_a_legend_counts_each_kind_and_the_others_together():
    kinds = ["normal"] * 4 + [f"kind{number}" for number in range(9) for _ in range(9 - number)]
    figure = projections([Panel("conv", plane(49), kinds=kinds)])
    words = [text.get_text() for text in figure.legends[0].get_texts()]
    assert words == ["normal (4)", "kind0 (9)", "kind1 (8)", "kind2 (7)", "kind3 (6)", "kind4 (5)", "other kinds (10)"]


def test_two_kinds_are_drawn_in_the_colours_of_the_report():
    figure = projections([Panel("conv", plane(6), kinds=["normal"] * 4 + ["anomalous"] * 2)])
    drawn = [(to_hex(dots.get_facecolor()[0]).upper(), len(dots.get_offsets())) for dots in figure.axes[0].collections]
    assert drawn == [(NORMAL, 4), (ANOMALOUS, 2)]


def test_scores_are_coloured_by_rank_so_that_one_giant_does_not_dim_the_rest():
    scores = np.array([1.0, 2.0, 3.0, 4.0, 1e9])
    figure = projections([Panel("conv", plane(5), scores=scores)])
    (dots,) = figure.axes[0].collections
    offsets, inside = np.asarray(dots.get_offsets()), 0.04 + 0.92 * unit_square(plane(5).positions)
    for row, rank in enumerate(np.linspace(0, 1, 5)):
        found = int(np.argmin(np.linalg.norm(offsets - inside[row], axis=1)))
        np.testing.assert_allclose(dots.get_facecolor()[found][:3], STRANGENESS(rank)[:3])
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["lowest score", "median", "highest score"]


@pytest.mark.parametrize(("panels", "shape"), [(1, (1, 1)), (3, (1, 3)), (4, (2, 2)), (5, (2, 3)), (10, (4, 3))])
def test_panels_stand_in_rows(panels, shape):
    figure = projections([Panel(f"d{number}", plane(5), scores=np.arange(5.0)) for number in range(panels)])
    assert figure.axes[0].get_subplotspec().get_gridspec().get_geometry() == shape
    assert sum(axes.axison for axes in figure.axes) == panels


def test_thousands_of_dots_do_not_make_a_page_heavy(rng):
    def drawn(count):
        return svg(projections([Panel("conv", Projection(rng.normal(size=(count, 2))), scores=np.arange(count))]))

    assert len(drawn(400)) < 120_000
    assert len(drawn(5000)) < 300_000  # a million as one shape each


def test_pictures_of_any_shape_keep_it():
    pictures = {row: np.full((10, 20, 3), row, np.uint8) for row in range(5)}
    figure = projections([Panel("conv", plane(5), kinds=["normal"] * 5)], pictures)
    assert len(figure.axes[0].images) == 5
    for image in figure.axes[0].images:
        left, right, bottom, top = image.get_extent()
        assert right - left == pytest.approx(PICTURE)
        assert top - bottom == pytest.approx(PICTURE / 2)


def test_axes_of_a_method_without_meaning_have_no_words():
    figure = projections(
        [Panel("conv", Projection(plane(5).positions), scores=np.arange(5.0))], title="t-SNE of 5 images"
    )
    assert figure.axes[0].get_xlabel() == ""
    assert figure.get_suptitle() == "t-SNE of 5 images"


def test_hostile_names_are_drawn_as_they_are():
    name = "$\\frac$\x00\u202e" + "x" * 90
    figure = projections([Panel(name, plane(4), kinds=[name, "normal", "normal", "normal"])])
    figure.draw_without_rendering()
    assert len(figure.axes[0].get_title(loc="left")) == 34


def test_nothing_here_needs_torch(monkeypatch):
    imported = builtins.__import__

    def refuse(name, *rest):
        assert not name.startswith("torch")
        return imported(name, *rest)

    monkeypatch.setattr(builtins, "__import__", refuse)
    project(two_groups(20), "tsne")
