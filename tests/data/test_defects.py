"""Synthetic defects: where they are is said, the rest stays, and the same seed makes the same."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from conftest import stripes
from unlike.data.defects import KINDS, VISIBLE, DefectConfig, add_defects, blend_edges, perlin
from unlike.errors import ConfigError


def damage(images, seed=0, value_range=(0.0, 1.0), **settings):
    return add_defects(images, DefectConfig(**settings), np.random.default_rng(seed), value_range=value_range)


def grain(count=6, side=64, channels=3, seed=0):
    """Images with details everywhere, so that whatever is moved can be seen."""
    small = np.random.default_rng(seed).integers(0, 256, (count, side // 4, side // 4, channels), np.uint8)
    return small.repeat(4, axis=1).repeat(4, axis=2)


@pytest.mark.parametrize("kind", KINDS)
def test_what_has_changed_lies_round_the_mask_and_nowhere_else(kind):
    images = grain(16)
    before = images.copy()
    spoilt, masks = damage(images, kinds=(kind,))
    assert spoilt.shape == images.shape
    assert spoilt.dtype == np.uint8
    assert masks.shape == images.shape[:3]
    np.testing.assert_array_equal(images, before)
    assert masks.any(axis=(1, 2)).all()
    assert masks.mean() < 0.5
    changed = (spoilt != images).any(axis=3)
    assert not (masks & ~changed).any()
    gap = np.abs(spoilt.astype(int) - images).max(axis=3)
    near = np.stack([cv2.dilate(mask.astype(np.uint8), np.ones((5, 5))) for mask in masks]) > 0
    assert gap[~near].max(initial=0) < 25 * VISIBLE * 255  # what alone, among 25 pixels, is too little to be seen


@pytest.mark.parametrize("kind", KINDS)
def test_the_generator_decides_alone(kind):
    images = grain()
    first, again, other = (damage(images, seed, kinds=(kind,), most=3) for seed in (3, 3, 4))
    for one, two in zip(first, again, strict=True):
        np.testing.assert_array_equal(one, two)
    assert not np.array_equal(first[0], other[0])


@pytest.mark.parametrize("channels", [1, 2, 3, 5, 130])
@pytest.mark.parametrize("kind", KINDS)
def test_number_types_differ_by_rounding_alone(kind, channels):
    images = grain(channels=channels)
    spoilt, masks = damage(images, kinds=(kind,))
    wide, wide_masks = damage(images.astype(np.uint16) * 257, kinds=(kind,))
    floats, _ = damage((images / np.float32(255)), kinds=(kind,))
    shifted, _ = damage(images.astype(np.float32) - 100, kinds=(kind,), value_range=(-100.0, 155.0))
    assert (wide.dtype, floats.dtype) == (np.uint16, np.float32)
    assert np.abs(wide / 257 - spoilt).max() <= 0.51
    assert np.abs(floats * 255 - spoilt).max() <= 0.51
    assert np.abs(shifted + 100 - spoilt).max() <= 0.51
    assert (wide_masks != masks).mean() < 0.01


@pytest.mark.parametrize("size", [(1, 1), (2, 2), (3, 5), (1, 40), (37, 50)])
@pytest.mark.parametrize("kind", KINDS)
def test_images_of_any_size(kind, size):
    images = np.random.default_rng(0).integers(0, 256, (4, *size, 3), np.uint8)
    for seed in range(5):
        spoilt, masks = damage(images, seed, kinds=(kind,), most=3, size=(0.001, 1.0))
        assert spoilt.shape == images.shape
        assert masks.shape == images.shape[:3]


def test_a_share_of_the_images_and_as_many_defects_as_asked():
    images = grain(400, side=32)
    masks = damage(images, share=0.25)[1].any(axis=(1, 2))
    assert masks.mean() == pytest.approx(0.25, abs=0.07)
    one, many = (damage(images, most=most, kinds=("scratch",))[1].mean() for most in (1, 5))
    assert many == pytest.approx(3 * one, rel=0.35)


def test_nothing_asked_is_nothing_done():
    images = grain()
    spoilt, masks = damage(images, share=0.0)
    assert spoilt is images
    assert not masks.any()


def test_what_cannot_be_seen_is_no_defect():
    """On an even image moved patches are as the image was: it stays whole, and nobody calls it defective."""
    flat = np.full((3, 32, 32, 1), 90, np.uint8)
    spoilt, masks = damage(flat, kinds=("blend",))
    assert spoilt is flat
    assert not masks.any()
    assert damage(flat, kinds=("blend", "scratch"))[1].any(axis=(1, 2)).sum() >= 2  # it is drawn anew


def test_sizes_are_those_asked_for():
    images = grain(200, side=128)
    for low, high in ((0.05, 0.1), (0.3, 0.4)):
        masks = damage(images, kinds=("stain",), size=(low, high))[1]
        sides = np.array([np.ptp(np.argwhere(mask), axis=0) + 1 for mask in masks if mask.any()]) / 128
        stretch = 3.3**0.5
        assert sides.max() <= high * stretch + 0.02
        assert np.sqrt(np.median(sides.prod(axis=1))) == pytest.approx((low * high) ** 0.5, rel=0.4)


def test_opacity_is_how_much_of_the_image_is_hidden():
    images = np.full((50, 64, 64, 1), 128, np.uint8)
    faint, strong = (
        np.abs(damage(images, kinds=("stain",), opacity=(o, o))[0].astype(int) - 128).max() for o in (0.2, 1)
    )
    assert 0.1 * 128 < faint <= 0.2 * 128
    assert strong > 0.8 * 128


def test_alpha_keeps_its_values():
    images = grain(channels=4)
    spoilt, masks = damage(images, most=3)
    assert masks.any()
    np.testing.assert_array_equal(spoilt[..., 3], images[..., 3])


@pytest.mark.parametrize("kind", KINDS)
def test_defects_fall_on_the_image_not_on_the_bars_that_fill_the_spec_up(kind):
    images = grain(24)
    inside = np.zeros(images.shape[:3], bool)
    inside[:8, 20:40], inside[8:16, :, 50:], inside[16:22, 3:60, 5:9] = True, True, True  # the last two are bars alone
    bars = images.copy()
    spoilt, masks = add_defects(images, DefectConfig(kinds=(kind,), most=3), np.random.default_rng(0), inside=inside)
    changed = (spoilt != bars).any(axis=3)
    assert not (changed & ~inside).any()
    assert not (masks & ~inside).any()
    assert masks[:22].any(axis=(1, 2)).mean() > 0.8
    assert not masks[22:].any()


def test_defects_are_sized_by_the_image_not_by_the_spec():
    images = grain(100, side=128)
    inside = np.zeros(images.shape[:3], bool)
    inside[:, 32:64, 32:64] = True
    masks = add_defects(images, DefectConfig(("stain",), size=(0.3, 0.3)), np.random.default_rng(0), inside=inside)[1]
    sides = np.array([np.ptp(np.argwhere(mask), axis=0) + 1 for mask in masks if mask.any()])
    assert np.sqrt(np.median(sides.prod(axis=1))) == pytest.approx(0.3 * 32, rel=0.4)


def test_an_inside_that_is_the_whole_spec_changes_nothing():
    images, config = grain(12), DefectConfig(most=3)
    plain = add_defects(images, config, np.random.default_rng(0))
    whole = add_defects(images, config, np.random.default_rng(0), inside=np.ones(images.shape[:3], bool))
    for one, two in zip(plain, whole, strict=True):
        np.testing.assert_array_equal(one, two)


def test_floats_stay_between_black_and_white():
    images = stripes(20, channels=1).astype(np.float32) / 255
    spoilt, masks = damage(images, most=3)
    assert masks.any(axis=(1, 2)).all()
    assert spoilt.min() >= 0
    assert spoilt.max() <= 1


def test_a_patch_may_come_from_another_image():
    """Of black and white images, only a patch of another one can turn black to white."""
    images = np.zeros((8, 32, 32, 1), np.uint8)
    images[::2] = 255
    noise = np.random.default_rng(0).integers(0, 20, images.shape, np.uint8)
    images = np.where(images > 0, images - noise, images + noise)
    spoilt, _ = damage(images, kinds=("texture",), opacity=(1.0, 1.0), size=(0.4, 0.4), most=5)
    assert spoilt[1::2].max() > 150


def test_blended_patches_are_as_opencv_blends_them():
    random = np.random.default_rng(0)
    around, patch = (cv2.GaussianBlur(random.integers(0, 256, (64, 64, 3), np.uint8), (0, 0), 3) for _ in range(2))
    patch //= 2  # darker: its edges would show
    ours = around.copy()
    inside = np.s_[12:44, 20:52]
    blended = blend_edges(patch[inside].astype(np.float32), around[inside].astype(np.float32))
    ours[inside] = np.clip(np.rint(blended), 0, 255)
    mask = np.zeros((64, 64), np.uint8)
    mask[inside] = 255
    theirs = cv2.seamlessClone(patch, around, mask, (35, 27), cv2.NORMAL_CLONE)
    gap = np.abs(ours.astype(int) - theirs)[inside]
    naive = np.abs(patch.astype(int) - theirs)[inside]
    assert np.median(gap) <= 3  # OpenCV rounds, and draws the border a few pixels further in
    assert np.median(gap) < np.median(naive) / 3


def test_blending_adds_a_harmonic_function_and_keeps_the_border():
    random = np.random.default_rng(0)
    around, patch = random.normal(size=(2, 17, 23, 2))
    blended = blend_edges(patch, around)
    added = blended - patch
    laplacian = added[:-2, 1:-1] + added[2:, 1:-1] + added[1:-1, :-2] + added[1:-1, 2:] - 4 * added[1:-1, 1:-1]
    np.testing.assert_allclose(laplacian, 0, atol=1e-9)
    np.testing.assert_array_equal(blended[0], around[0])
    np.testing.assert_array_equal(blended[:, -1], around[:, -1])


def test_perlin_noise_is_smooth_and_zero_at_corners_of_cells():
    noise = perlin((64, 96), 4, np.random.default_rng(0))
    np.testing.assert_allclose(noise[::16, ::24], 0, atol=1e-6)
    assert 0.4 < np.abs(noise).max() < 1
    assert np.abs(np.diff(noise, axis=0)).max() < 0.2
    assert noise.mean() == pytest.approx(0, abs=0.1)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"kinds": ()}, "defects.kinds: expected one or more of blend, .*, came none"),
        ({"kinds": ("scrach",)}, "unknown defects.kinds 'scrach'; did you mean 'scratch'"),
        ({"share": 1.5}, r"defects\.share: expected 0 to 1, came 1\.5"),
        ({"most": 0}, r"defects\.most: expected 1 to 100, came 0"),
        ({"size": (0.0, 0.5)}, r"defects\.size: expected 0\.001 to 1, came 0"),
        ({"opacity": (0.5, 1.5)}, r"defects\.opacity: expected 0\.001 to 1, came 1\.5"),
        ({"size": (0.5, 0.1)}, r"defects\.size: expected the lower end first, came 0\.5, 0\.1"),
    ],
)
def test_settings_that_cannot_be(settings, message):
    with pytest.raises(ConfigError, match=message):
        DefectConfig(**settings)
