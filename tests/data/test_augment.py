"""Each change does what it says and nothing else; chance decides image by image, and can be repeated."""

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conftest import stripes
from unlike.config import from_mapping, to_mapping
from unlike.data.augment import CHANCES, LIMITS, AugmentConfig, augment
from unlike.errors import ConfigError, DataError

KINDS = (np.uint8, np.uint16, np.float32)
STEADY = {  # the jitter that changes nothing; tests set one of its ranges
    "jitter_brightness": (1.0, 1.0),
    "jitter_contrast": (1.0, 1.0),
    "jitter_saturation": (1.0, 1.0),
    "jitter_hue_degrees": (0.0, 0.0),
}


def always(pixels, masks=None, seed=0, value_range=(0.0, 1.0), **chosen):
    config = AugmentConfig(**chosen)
    return augment(pixels, config, np.random.default_rng(seed), masks, value_range=value_range)


def jittered(pixels, value_range=(0.0, 1.0), **factors):
    ranges = {f"jitter_{name}": (factor, factor) for name, factor in factors.items()}
    return always(pixels, jitter=1.0, value_range=value_range, **(STEADY | ranges))


def everything(probability):
    return AugmentConfig(**dict.fromkeys(CHANCES, probability), crop_padding=2, jitter_hue_degrees=(-20, 20))


def noise(rng, *shape, kind=np.uint8, low=0, high=256):
    return rng.integers(low, high, shape).astype(kind)


def unit(values):
    """The given values as the colours of single pixels of float images, (1, 1, N, 3)."""
    return np.array(values, np.float32).reshape(1, 1, -1, 3)


# geometry


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("channels", [1, 3, 4, 7, 130])
def test_flips_are_exact(rng, kind, channels):
    images = noise(rng, 3, 5, 8, channels, kind=kind)
    np.testing.assert_array_equal(always(images, horizontal_flip=1.0), images[:, :, ::-1])
    np.testing.assert_array_equal(always(images, vertical_flip=1.0), images[:, ::-1])
    np.testing.assert_array_equal(always(images, horizontal_flip=1.0, vertical_flip=1.0), images[:, ::-1, ::-1])


@pytest.mark.parametrize("degrees", [90.0, -90.0, 180.0])
@pytest.mark.parametrize("side", [8, 9])
def test_rotation_is_counterclockwise_about_the_centre(rng, degrees, side):
    images = noise(rng, 2, side, side, 3)
    turned = always(images, rotation=1.0, rotation_degrees=(degrees, degrees), crop_padding=3)  # of no crop
    np.testing.assert_array_equal(turned, np.rot90(images, round(degrees / 90), axes=(1, 2)))


def test_rotation_mirrors_the_image_beyond_its_border():
    grey = np.full((1, 16, 24, 3), 77, np.uint8)
    np.testing.assert_array_equal(always(grey, rotation=1.0, rotation_degrees=(-45.0, 45.0)), grey)


def test_a_crop_enlarges_a_part_in_proportion():
    ramp = np.broadcast_to(np.arange(64, dtype=np.float32)[None, None, :, None], (50, 32, 64, 1))
    cropped = always(ramp, crop=1.0, crop_area=(0.25, 0.25))
    np.testing.assert_allclose(np.diff(cropped[:, :, 2:-2], axis=2), 0.5, atol=0.04)  # half as steep: twice as large
    left = cropped[:, 0, 2, 0]
    assert left.min() < 4
    assert left.max() > 28  # anywhere from the left edge to the middle


def test_a_crop_keeps_within_its_areas():
    ramp = np.broadcast_to(np.arange(64, dtype=np.float32)[None, None, :, None], (200, 64, 64, 1))
    cropped = always(ramp, crop=1.0, crop_area=(0.5, 0.8))
    areas = ((cropped[:, 32, 60, 0] - cropped[:, 32, 4, 0]) / 56) ** 2
    assert 0.49 < areas.min() < 0.52
    assert 0.78 < areas.max() < 0.81


def test_a_padded_crop_of_the_whole_area_is_a_shift_by_whole_pixels(rng):
    images = noise(rng, 60, 7, 9, 2)
    moved = always(images, crop=1.0, crop_area=(1.0, 1.0), crop_padding=2)
    padded = np.pad(images, ((0, 0), (2, 2), (2, 2), (0, 0)), mode="symmetric")
    shifts = {(y, x): padded[:, y : y + 7, x : x + 9] for y in range(5) for x in range(5)}
    found = [next(place for place, all_ in shifts.items() if (all_[row] == moved[row]).all()) for row in range(60)]
    assert len(set(found)) > 15


def test_all_geometry_together_is_one_map(rng):
    """Flip, then rotate by 90 degrees, then shift: the same as one after the other, as nothing is interpolated."""
    images = noise(rng, 1, 9, 9, 1)
    shift = {"crop": 1.0, "crop_area": (1.0, 1.0), "crop_padding": 3}
    turn = {"rotation": 1.0, "rotation_degrees": (90.0, 90.0)}
    whole = always(images, horizontal_flip=1.0, **turn, **shift)
    steps = always(always(always(images, horizontal_flip=1.0), **turn), **shift)
    np.testing.assert_array_equal(whole, steps)


@settings(max_examples=60)
@given(
    size=st.tuples(st.integers(12, 40), st.integers(12, 40)),
    degrees=st.floats(-180, 180),
    area=st.floats(0.3, 1.0),
    flips=st.tuples(st.booleans(), st.booleans()),
    seed=st.integers(0, 2**32 - 1),
)
def test_masks_follow_the_image(size, degrees, area, flips, seed):
    """A soft blob and its mask stay together, wherever they go."""
    y, x = np.mgrid[: size[0], : size[1]]
    random = np.random.default_rng(seed)
    middles = random.uniform(0, 1, (4, 2, 1, 1)) * np.array(size).reshape(2, 1, 1)
    blobs = np.exp(-((y - middles[:, 0]) ** 2 + (x - middles[:, 1]) ** 2) / 50).astype(np.float32)
    masks = blobs > 0.5
    moved, moved_masks = always(
        blobs[..., None],
        masks,
        seed,
        horizontal_flip=float(flips[0]),
        vertical_flip=float(flips[1]),
        rotation=1.0,
        rotation_degrees=(degrees, degrees),
        crop=1.0,
        crop_area=(area, area),
    )
    assert moved_masks.dtype == bool
    assert moved_masks.shape == masks.shape
    assert (moved[..., 0][moved_masks] > 0.35).all()
    assert (moved[..., 0][~moved_masks] < 0.65).all()


def test_a_marked_corner_is_flipped_with_its_mask():
    images, masks = np.zeros((1, 4, 6, 3), np.uint8), np.zeros((1, 4, 6), bool)
    images[0, 0, 0], masks[0, 0, 0] = 255, True
    moved, moved_masks = always(images, masks, horizontal_flip=1.0, vertical_flip=1.0)
    assert np.argwhere(moved_masks).tolist() == [[0, 3, 5]]
    np.testing.assert_array_equal(moved[..., 0] > 0, moved_masks)


def test_colours_and_blur_leave_masks_alone(rng):
    masks = rng.random((5, 8, 8)) > 0.5
    _, same = always(noise(rng, 5, 8, 8, 3), masks, jitter=1.0, blur=1.0)
    np.testing.assert_array_equal(same, masks)


# colours


@pytest.mark.parametrize("channels", [1, 3, 7])
def test_brightness_multiplies_the_distance_from_black(rng, channels):
    images = noise(rng, 4, 8, 9, channels, low=20, high=180)
    np.testing.assert_allclose(jittered(images, brightness=1.3), images * 1.3, atol=1)
    floats = images / np.float32(100) - 1
    np.testing.assert_allclose(
        jittered(floats, brightness=0.5, value_range=(-1.0, 1.0)), (floats + 1) * 0.5 - 1, atol=1e-5
    )


@pytest.mark.parametrize("channels", [1, 3, 7, 130])
def test_contrast_multiplies_the_distance_from_each_images_mean(rng, channels):
    images = noise(rng, 4, 8, 9, channels, low=90, high=150, kind=np.float32) + np.arange(4).reshape(4, 1, 1, 1)
    images = images.astype(np.float32)
    means = images.mean((1, 2, 3), keepdims=True)
    np.testing.assert_allclose(jittered(images, contrast=1.5), means + 1.5 * (images - means), atol=1e-3)
    both = jittered(images, brightness=0.8, contrast=1.5)
    np.testing.assert_allclose(both, 0.8 * means + 1.5 * 0.8 * (images - means), atol=1e-3)


def test_no_saturation_is_grey_and_keeps_the_luminance(rng):
    images = noise(rng, 4, 8, 9, 3)
    grey = jittered(images, saturation=0.0)
    np.testing.assert_array_equal(grey[..., :1].repeat(3, axis=3), grey)
    np.testing.assert_allclose(grey[..., 0], images @ [0.299, 0.587, 0.114], atol=1.5)


def test_saturation_and_hue_need_colours(rng):
    for channels in (1, 2, 7, 131):
        images = noise(rng, 2, 4, 5, channels)
        np.testing.assert_array_equal(jittered(images, saturation=0.0, hue_degrees=90.0), images)


def test_hue_turns_red_to_green_and_leaves_grey():
    colours = unit([[1, 0, 0], [0, 1, 0], [0.4, 0.4, 0.4]])
    (red, _, grey), (turned, _, same) = colours[0, 0], jittered(colours, hue_degrees=120.0)[0, 0]
    assert red.argmax() == 0
    assert turned.argmax() == 1
    np.testing.assert_allclose(turned @ [0.299, 0.587, 0.114], 0.299, atol=1e-6)  # as light as before
    np.testing.assert_allclose(same, grey, atol=1e-6)
    back = jittered(jittered(colours, hue_degrees=75.0), hue_degrees=-75.0)
    np.testing.assert_allclose(back, colours, atol=1e-6)


def test_alpha_keeps_its_values(rng):
    images, chosen = (
        noise(rng, 3, 6, 7, 4),
        {"brightness": 0.5, "contrast": 0.7, "saturation": 0.3, "hue_degrees": 30.0},
    )
    changed = jittered(images, **chosen).astype(int)
    np.testing.assert_array_equal(changed[..., 3], images[..., 3])
    np.testing.assert_allclose(changed[..., :3], jittered(images[..., :3], **chosen), atol=1)  # of rounding


@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
@pytest.mark.parametrize("channels", [1, 3])
def test_integers_stop_at_their_ends(kind, channels):
    top = np.iinfo(kind).max
    images = np.array([0, top // 2, top], kind).reshape(1, 1, 3, 1).repeat(channels, axis=3)
    assert jittered(images, brightness=1.9)[0, 0, :, 0].tolist() == [0, pytest.approx(1.9 * (top // 2), abs=1), top]
    ends = jittered(images, contrast=5.0)[0, 0, :, 0]
    assert (ends[0], ends[2]) == (0, top)


def test_floats_are_not_clipped():
    assert jittered(unit([[0.9, 0.9, 0.9]]), brightness=2.0).max() == pytest.approx(1.8)


# blur


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("sigma", [0.0, 0.4, 1.0, 2.5])
def test_blur_is_a_gaussian(rng, kind, sigma):
    images = noise(rng, 2, 20, 24, 3, kind=kind)
    taps = round(6 * sigma + 1) | 1
    expected = [cv2.GaussianBlur(image.astype(np.float32), (taps, taps), sigma or 1.0) for image in images]
    blurred = always(images, blur=1.0, blur_pixels=(sigma, sigma))
    np.testing.assert_allclose(blurred, expected, atol=1e-3 if kind == np.float32 else 0.51)
    near_opencv = [cv2.GaussianBlur(image, (taps, taps), sigma or 1.0) for image in images]
    np.testing.assert_allclose(blurred.astype(float), np.array(near_opencv, float), atol=2)


def test_blur_takes_detail_and_keeps_the_light(rng):
    images = noise(rng, 4, 32, 32, 1)
    spectra = [
        np.abs(np.fft.fft2(each[..., 0].astype(float)))
        for each in (images, always(images, blur=1.0, blur_pixels=(1, 1)))
    ]
    assert spectra[1][:, 12:20, 12:20].mean() < 0.1 * spectra[0][:, 12:20, 12:20].mean()
    np.testing.assert_allclose(spectra[1][:, 0, 0], spectra[0][:, 0, 0], rtol=0.01)


# chance


def test_nothing_is_switched_on_by_default(rng):
    images, masks = noise(rng, 2, 4, 4, 3), np.zeros((2, 4, 4), bool)
    state = rng.bit_generator.state
    assert augment(images, AugmentConfig(), rng) is images
    kept = augment(images, AugmentConfig(), rng, masks)
    assert kept[0] is images
    assert kept[1] is masks
    assert rng.bit_generator.state == state
    assert not AugmentConfig().active


@pytest.mark.parametrize("name", CHANCES)
def test_a_change_happens_as_often_as_it_should(name):
    images = stripes(1, 8)[0] + np.zeros((2000, 1, 1, 1), np.uint8)
    strong = {"rotation_degrees": (30.0, 40.0), "crop_area": (0.5, 0.6), "jitter_brightness": (0.4, 0.5)}
    changed = always(images, **{name: 0.3}, **strong, blur_pixels=(1.0, 2.0)) != images
    share = changed.any((1, 2, 3)).mean()
    assert abs(share - 0.3) < 4 * np.sqrt(0.3 * 0.7 / 2000)
    assert (always(images, **{name: 1.0}, **strong, blur_pixels=(1.0, 2.0)) != images).any((1, 2, 3)).all()


def test_changes_are_independent_of_each_other():
    images = np.arange(6, dtype=np.uint8).reshape(1, 2, 3, 1) + np.zeros((2000, 1, 1, 1), np.uint8)
    flipped = always(images, horizontal_flip=0.5, vertical_flip=0.5)[:, 0, 0, 0]
    np.testing.assert_allclose(np.bincount(flipped, minlength=6)[[0, 2, 3, 5]] / 2000, 0.25, atol=0.04)


def test_the_same_generator_gives_the_same_images(rng):
    images = stripes(12, 16)
    first, again, other = (augment(images, everything(0.5), np.random.default_rng(seed)) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


def test_an_images_change_depends_on_its_place_alone(rng):
    images, others = stripes(6, 16), noise(rng, 9, 16, 16, 3)
    others[:6:2] = images[::2]
    few, many = (augment(batch, everything(0.7), np.random.default_rng(4)) for batch in (images, others))
    np.testing.assert_array_equal(few[::2], many[:6:2])


def test_switching_one_change_on_leaves_the_others_as_they_were(rng):
    images = noise(rng, 40, 8, 8, 3)
    flipped = always(images, horizontal_flip=0.5)
    np.testing.assert_array_equal(always(images, horizontal_flip=0.5, blur=1.0, blur_pixels=(0, 0)), flipped)


def test_images_of_a_batch_change_each_in_its_own_way():
    images = stripes(1, 16)[0] + np.zeros((8, 1, 1, 1), np.uint8)
    changed = augment(images, everything(1.0), np.random.default_rng(0))
    assert len({image.tobytes() for image in changed}) == 8


# any images


@settings(max_examples=60)
@given(
    kind=st.sampled_from(KINDS),
    shape=st.tuples(st.integers(0, 3), st.integers(1, 12), st.integers(1, 12), st.sampled_from([1, 2, 3, 4, 7, 133])),
    seed=st.integers(0, 100),
)
def test_any_image_comes_back_in_its_own_shape_and_type(kind, shape, seed):
    images = np.random.default_rng(seed).integers(0, 256, shape).astype(kind)
    images.flags.writeable = False  # as a memory map is
    before, masks = images.copy(), np.zeros(shape[:3], bool)
    changed, moved = augment(images, everything(1.0), np.random.default_rng(seed), masks)
    assert (changed.shape, changed.dtype, moved.shape) == (images.shape, images.dtype, masks.shape)
    assert not np.shares_memory(changed, images)
    assert not moved.any()
    assert np.isfinite(changed).all()
    np.testing.assert_array_equal(images, before)


def test_masks_must_fit(rng):
    with pytest.raises(DataError, match=r"masks \(2, 4, 5\) do not fit images \(2, 4, 4\)"):
        augment(noise(rng, 2, 4, 4, 3), AugmentConfig(), rng, np.zeros((2, 4, 5), bool))


# settings


def test_settings_survive_toml():
    config = everything(0.25)
    assert from_mapping(AugmentConfig, to_mapping(config), "augment") == config


def test_every_setting_is_checked():
    for name in CHANCES:
        with pytest.raises(ConfigError, match=rf"augment\.{name}: expected 0 to 1, came 1\.5"):
            AugmentConfig(**{name: 1.5})
    for name, (low, high) in LIMITS.items():
        with pytest.raises(ConfigError, match=rf"augment\.{name}: expected {low:g} to {high:g}, came"):
            AugmentConfig(**{name: (low, high + 1)})
        with pytest.raises(ConfigError, match=rf"augment\.{name}: expected {low:g} to {high:g}, came"):
            AugmentConfig(**{name: (low - 1, high)})
        with pytest.raises(ConfigError, match=rf"augment\.{name}: expected the lower end first, came"):
            AugmentConfig(**{name: (high, low)})
    with pytest.raises(ConfigError, match=r"augment\.crop_padding: expected 0 to 10000, came -1"):
        AugmentConfig(crop_padding=-1)
    with pytest.raises(ConfigError, match=r"augment\.blur: expected 0 to 1, came nan"):
        AugmentConfig(blur=float("nan"))
