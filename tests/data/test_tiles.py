"""Large images in tiles: every pixel is in one, what is cut is put together again, and no seam shows."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from unlike.data.input_spec import InputSpec
from unlike.data.source import choose_form, open_source
from unlike.data.split import split_normals
from unlike.data.tiles import TiledImages, Tiling, cut_split
from unlike.errors import ConfigError


@st.composite
def tilings(draw, multiple=1):
    tile = multiple * draw(st.integers(1, 48 // multiple))
    sides = [tile + multiple * draw(st.integers(0, 100 // multiple)) for _ in range(2)]
    return Tiling(*sides, tile, draw(st.integers(0, tile - 1)))


@given(tilings())
@settings(max_examples=100)
def test_tiles_cover_the_image_with_the_overlap_that_was_asked_for(tiling):
    for starts, length in ((tiling.tops, tiling.height), (tiling.lefts, tiling.width)):
        assert (starts[0], starts[-1]) == (0, length - tiling.tile)
        gaps = np.diff(starts)
        assert (gaps > 0).all()
        assert (gaps <= tiling.tile - tiling.overlap).all()
    assert len(tiling) == len(tiling.tops) * len(tiling.lefts)


def cut(tiling, images, at_once=64):
    """All tiles (B T, C, tile, tile) of images (B, C, H, W), however many at a time."""
    return torch.cat(list(tiling.cut(images, at_once)))


@given(tilings(), st.integers(1, 3), st.integers(0, 99), st.integers(1, 50))
@settings(max_examples=40)
def test_what_is_cut_comes_back(tiling, channels, seed, at_once):
    random = torch.Generator().manual_seed(seed)
    images = torch.randint(0, 256, (2, channels, tiling.height, tiling.width), generator=random).float()
    parts = list(tiling.cut(images, at_once))
    assert max(map(len, parts)) <= at_once
    tiles = torch.cat(parts)
    assert len(tiles) == 2 * len(tiling)
    torch.testing.assert_close(tiling.stitch(tiles), images, rtol=1e-5, atol=1e-4)
    torch.testing.assert_close(tiling.stitch(tiles[:, 0]), images[:, 0], rtol=1e-5, atol=1e-4)


def test_tiles_that_a_model_sees_are_those_that_it_learns_from(images):
    array, loaded = images
    tiling = Tiling(50, 70, 32, 8)
    seen = cut(tiling, torch.from_numpy(array).permute(0, 3, 1, 2), at_once=3)
    learned = TiledImages(loaded, tiling).take(np.arange(6 * len(tiling)))
    np.testing.assert_array_equal(seen.permute(0, 2, 3, 1), learned)


@given(tilings(), st.integers(1, 40), st.integers(1, 40))
@settings(max_examples=60)
def test_weights_sum_to_one_whatever_the_cells(tiling, down, across):
    """Maps that are 1 everywhere make one that is 1 everywhere, also where cells and tiles do not agree."""
    whole = tiling.stitch(torch.ones(3 * len(tiling), down, across, dtype=torch.float64))
    assert whole.shape[0] == 3
    torch.testing.assert_close(whole, torch.ones_like(whole), rtol=1e-12, atol=0)
    assert whole.shape[1] >= tiling.height * down / tiling.tile - 1e-6  # cells no larger than a tile's


def equivariant(images):  # (B, C, H, W) -> (B, H / 4, W / 4)
    """Sees 12 x 12 pixels around each cell of 4 x 4, wherever that is."""
    random = torch.Generator().manual_seed(0)
    weights = torch.randn(5, images.shape[1], 12, 12, generator=random)
    return functional.conv2d(images, weights, stride=4, padding=4).abs().mean(dim=1)


@pytest.mark.parametrize(
    ("size", "tile", "overlap"), [((256, 384), 128, 32), ((192, 160), 64, 40), ((128, 128), 64, 24)]
)
def test_an_equivariant_scorer_has_the_same_map_with_tiles_as_without(size, tile, overlap):
    """Inside: at a tile's edge such a scorer sees the padding of the tile; the weights are small there but not 0."""
    images = torch.rand(2, 3, *size, generator=torch.Generator().manual_seed(1))
    tiling = Tiling(*size, tile, overlap)
    tiles = cut(tiling, images)
    stitched, whole = tiling.stitch(equivariant(tiles)), equivariant(images)
    assert stitched.shape == whole.shape
    seen_whole = np.ones(whole.shape[1:], bool)  # by every tile that covers the cell, with all that it sees
    for starts, rows in ((tiling.tops, seen_whole), (tiling.lefts, seen_whole.T)):
        for start in starts[1:]:
            rows[start // 4 : start // 4 + 1] = False
        for start in starts[:-1]:
            rows[(start + tile) // 4 - 1 : (start + tile) // 4] = False
    assert seen_whole.mean() > 0.5
    torch.testing.assert_close(stitched[:, seen_whole], whole[:, seen_whole], rtol=1e-5, atol=1e-5)
    off = (stitched - whole).abs() / whole.mean()
    assert off.max() < 0.25  # at the seams: what the padding does, in the little that it counts
    hard = equivariant(tiles)[:, 0].mean()  # and the scale of the two is one
    assert 0.5 < hard / whole.mean() < 2


def test_a_smooth_surface_has_no_seam():
    """Tiles that disagree by a constant each: between neighbouring cells the step is a small part of the disagreement."""
    tiling = Tiling(256, 256, 128, 64)
    levels = torch.arange(float(len(tiling))) % 2
    whole = tiling.stitch(levels[:, None, None].expand(-1, 128, 128))[0]
    assert whole.diff(dim=0).abs().max() < 0.06
    assert whole.diff(dim=1).abs().max() < 0.06
    assert whole.max() > 0.99
    assert whole.min() == 0


def test_cells_that_lie_on_no_common_grid_are_interpolated():
    """A ramp stays a ramp."""
    tiling = Tiling(100, 100, 40, 10)
    tiles = cut(tiling, torch.arange(100.0).expand(1, 1, 100, 100))
    coarse = functional.avg_pool2d(tiles, 8)[:, 0]  # 5 cells a tile, which begin at 0, 30 and 60
    ramp = tiling.stitch(coarse)[0, 6]
    assert len(ramp) == 13
    middles = (np.arange(13) + 0.5) * 100 / 13 - 0.5
    np.testing.assert_allclose(ramp[1:-1], middles[1:-1], atol=0.9)


def test_a_tile_of_one_cell_is_never_lost():
    for tiling in (Tiling(64, 640, 64, 16), Tiling(64, 640, 64, 0), Tiling(64, 200, 64, 16), Tiling(256, 700, 256, 64)):
        for number in range(len(tiling)):
            maps = torch.zeros(len(tiling), 1, 1)
            maps[number] = 1
            assert tiling.stitch(maps).max() > 0.3


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: Tiling(100, 60, 64, 0),
            r"data\.tile: expected no more than the images have, 100 x 60 pixels, came 64",
        ),
    ],
)
def test_tiles_larger_than_the_image_are_refused(make, message):
    with pytest.raises(ConfigError, match=message):
        make()


@pytest.fixture
def images(rng):
    array = rng.integers(0, 256, (6, 50, 70, 3), np.uint8)
    source = open_source(array)
    return array, source.load(choose_form(source, None, None, "stretch", (8, 8))[0], None)


def test_tiles_of_a_set_of_images_can_be_taken_in_any_order(images, rng):
    array, loaded = images
    tiling = Tiling(50, 70, 32, 8)
    tiled = TiledImages(loaded, tiling)
    rows = rng.permutation(6 * len(tiling))
    tiles = cut(tiling, torch.from_numpy(array).permute(0, 3, 1, 2))[rows]
    np.testing.assert_array_equal(tiled.take(rows), tiles.permute(0, 2, 3, 1))
    assert len(tiled.samples) == 6 * len(tiling)
    assert [tiled.samples[row].id for row in rows[:9]] == [str(row // len(tiling)) for row in rows[:9]]
    assert tiled.samples[-1].id == "5"
    assert [sample.id for sample in tiled.samples[0 : 2 * len(tiling) : len(tiling)]] == ["0", "1"]
    with pytest.raises(IndexError):
        tiled.samples[len(tiled.samples)]
    assert tiling.spec_of(InputSpec(50, 70, 3)) == InputSpec(32, 32, 3)


def test_a_tile_shows_the_image_the_bar_beside_it_or_both(rng):
    array = open_source(rng.integers(0, 255, (2, 8, 16, 1), np.uint8))
    spec = InputSpec(16, 16, 1, aspect="pad")
    tiles = TiledImages(array.load(spec, None), Tiling(16, 16, 4, 0))
    inside = tiles.inside(np.array([20, 0, 5, 31]))
    np.testing.assert_array_equal(inside.any(axis=(1, 2)), [True, False, True, False])
    np.testing.assert_array_equal(inside.all(axis=(1, 2)), [True, False, True, False])
    plain = open_source(rng.integers(0, 255, (2, 16, 16, 1), np.uint8)).load(InputSpec(16, 16, 1), None)
    assert TiledImages(plain, Tiling(16, 16, 4, 0)).inside(np.array([3])) is None


def test_an_image_is_in_one_part_of_a_split_with_all_its_tiles():
    tiling = Tiling(50, 70, 32, 8)
    split = split_normals(np.arange(20), 5, seed=0)
    tiles = cut_split(split, tiling)
    for part in ("train", "validation", "calibration"):
        owners, counts = np.unique(getattr(tiles, part) // len(tiling), return_counts=True)
        np.testing.assert_array_equal(owners, getattr(split, part))
        assert (counts == len(tiling)).all()


def test_few_huge_images_are_worked_on_at_once():
    sizes = [Tiling(side, side, 256, 64).images_at_once for side in (256, 512, 1024, 8192)]
    assert sizes == [8, 8, 2, 1]
