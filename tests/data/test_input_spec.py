"""The way into an input spec and back again."""

import cv2
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from unlike.data.input_spec import InputSpec, conform, restore_map
from unlike.errors import ImageError

RANDOM = np.random.default_rng(3)
GREY, COLOUR, ALPHA = (RANDOM.integers(0, 256, (9, 7, channels), np.uint8) for channels in (1, 3, 4))
FLOATS = RANDOM.normal(0, 1000, (9, 7, 1)).astype(np.float32)


@pytest.mark.parametrize("kind", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("size", [(16, 16), (8, 16), (20, 12)])
def test_shrinking_a_fine_pattern_gives_its_mean(kind, size):
    y, x = np.mgrid[:160, :160]
    high = 1 if kind == np.float32 else np.iinfo(kind).max
    board = ((x + y) % 2 * high).astype(kind)[..., None]
    fitted = conform(board, InputSpec(*size, 1, floating=kind == np.float32))
    assert fitted.shape == (*size, 1)
    assert fitted.dtype == kind
    np.testing.assert_allclose(fitted / high, 0.5, atol=0.12 if size == (20, 12) else 0.01)  # 160 / 12 is not whole


def test_enlarging_keeps_the_range_and_the_mean():
    fitted = conform(GREY, InputSpec(36, 28, 1))
    assert fitted.shape == (36, 28, 1)
    assert fitted.min() >= GREY.min()
    assert fitted.max() <= GREY.max()
    assert abs(fitted.mean() - GREY.mean()) < 5


def test_one_axis_shrinks_while_the_other_grows():
    stripes = np.zeros((100, 4, 1), np.uint8)
    stripes[::2] = 200
    np.testing.assert_array_equal(conform(stripes, InputSpec(10, 16, 1)), np.full((10, 16, 1), 100))


def test_an_image_of_the_right_size_is_not_touched():
    np.testing.assert_array_equal(conform(COLOUR, InputSpec(9, 7, 3)), COLOUR)


def test_padding_keeps_the_proportions_and_the_edge():
    wide_image = np.full((10, 40, 3), 50, np.uint8)
    wide_image[0], wide_image[-1] = 10, 90
    fitted = conform(wide_image, InputSpec(40, 40, 3, aspect="pad"))
    np.testing.assert_array_equal(fitted[15:25], wide_image)
    assert (fitted[:15] == 10).all()
    assert (fitted[25:] == 90).all()


@pytest.mark.parametrize("channels", [2, 5, 9])
def test_any_number_of_channels_is_resized_apart(channels):
    image = np.broadcast_to(np.arange(channels, dtype=np.uint8) * 20, (30, 40, channels))
    fitted = conform(image, InputSpec(12, 50, channels))
    assert fitted.shape == (12, 50, channels)
    np.testing.assert_array_equal(fitted[3, 3], np.arange(channels) * 20)


@pytest.mark.parametrize(
    ("image", "channels", "message"),
    [
        (GREY, 3, "has 1 channel where the detector takes 3; fit with --set data.channels=3 to convert such images"),
        (COLOUR, 1, "has 3 channels where the detector takes 1; fit with --set data.channels=1 to convert such images"),
        (ALPHA, 3, "has 4 channels where the detector takes 3; fit with --set data.channels=3 to convert such images"),
    ],
)
def test_other_channels_are_refused_unless_asked_for(image, channels, message):
    with pytest.raises(ImageError) as caught:
        conform(image, InputSpec(9, 7, channels))
    assert str(caught.value) == message


def test_channels_are_converted_when_asked_for():
    np.testing.assert_array_equal(conform(GREY, InputSpec(9, 7, 3, convert=True)), np.repeat(GREY, 3, axis=2))
    alpha = ALPHA[..., 3:] / 255
    on_white = ALPHA[..., :3] * alpha + 255 * (1 - alpha)
    np.testing.assert_allclose(conform(ALPHA, InputSpec(9, 7, 3, convert=True)), on_white, atol=0.51)
    for image in (GREY, COLOUR):
        alike = conform(image, InputSpec(9, 7, 4, convert=True))
        np.testing.assert_array_equal(alike[..., :3], np.broadcast_to(image, (9, 7, 3)))
        assert (alike[..., 3] == 255).all()
    weights = [0.299, 0.587, 0.114]
    for image, colours in ((COLOUR, COLOUR), (ALPHA, on_white)):
        grey = conform(image, InputSpec(9, 7, 1, convert=True))
        np.testing.assert_allclose(grey[..., 0], colours @ weights, atol=1.1)


@pytest.mark.parametrize(("channels", "wanted"), [(5, 3), (3, 5), (2, 1)])
def test_conversions_that_mean_nothing_are_refused(channels, wanted):
    with pytest.raises(ImageError, match=f"has {channels} channels?, which cannot be turned into {wanted}"):
        conform(np.zeros((9, 7, channels), np.uint8), InputSpec(9, 7, wanted, convert=True))


def test_floats_and_integers_do_not_mix():
    with pytest.raises(ImageError, match="holds integer values where the detector takes float ones; convert the image"):
        conform(GREY, InputSpec(9, 7, 1, floating=True))
    with pytest.raises(ImageError, match="holds float values where the detector takes integer ones; convert the image"):
        conform(FLOATS, InputSpec(9, 7, 1))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_are_refused(value):
    image = FLOATS.copy()
    image[4, 4] = value
    way_out = "; where they stand for no value, fit with --set data.missing=nan" if np.isnan(value) else ""
    with pytest.raises(ImageError, match=rf"^holds values that are not finite \(NaN or infinity\){way_out}$"):
        conform(image, InputSpec(4, 4, 1, floating=True))


sides = st.integers(12, 90)


@settings(max_examples=60)
@given(
    height=sides, width=sides, place=st.tuples(*[st.floats(0.15, 0.85)] * 2), aspect=st.sampled_from(["stretch", "pad"])
)
@example(height=90, width=12, place=(0.5, 0.5), aspect="pad")
@example(height=12, width=90, place=(0.2, 0.8), aspect="stretch")
def test_a_map_comes_back_to_where_the_blob_was(height, width, place, aspect):
    spec = InputSpec(40, 56, 1, floating=True, aspect=aspect)
    y, x = place[0] * (height - 1), place[1] * (width - 1)
    rows, columns = np.mgrid[:height, :width]
    sigma = max(1.5, min(height, width) / 12)
    blob = np.exp(-((rows - y) ** 2 + (columns - x) ** 2) / (2 * sigma**2)).astype(np.float32)[..., None]
    fitted = conform(blob, spec)[..., 0]
    small = cv2.resize(fitted, (28, 20), interpolation=cv2.INTER_AREA)  # as models give it: half the spec
    restored = restore_map(small, (height, width), spec)
    assert restored.shape == (height, width)
    assert restored.dtype == np.float32
    weights = np.maximum(restored - 0.1 * restored.max(), 0)
    centre = (weights * rows).sum() / weights.sum(), (weights * columns).sum() / weights.sum()
    assert abs(centre[0] - y) < 0.04 * height + 1
    assert abs(centre[1] - x) < 0.04 * width + 1


def test_a_map_that_shrinks_keeps_a_single_bright_pixel():
    map_ = np.zeros((64, 64), np.float32)
    map_[33, 21] = 64.0
    restored = restore_map(map_, (8, 8), InputSpec(64, 64, 1))
    assert restored[4, 2] == 1.0  # the mean over the area, where interpolation would miss it
    assert restored.sum() == 1.0


def test_a_map_of_the_same_size_is_not_touched():
    map_ = np.random.default_rng(0).random((16, 24), np.float32)
    np.testing.assert_array_equal(restore_map(map_, (16, 24), InputSpec(16, 24, 1)), map_)
