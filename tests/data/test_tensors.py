"""From pixels to what a model takes, and back."""

import numpy as np
import pytest
import torch

from unlike.data.tensors import to_pixels, to_tensor

RANGES = {np.uint8: (0.0, 255.0), np.uint16: (0.0, 65535.0), np.float32: (-900.0, 3000.0)}


@pytest.mark.parametrize(("kind", "bounds"), RANGES.items())
def test_black_is_minus_one_white_is_one_and_the_way_back_loses_nothing(kind, bounds):
    pixels = np.linspace(*bounds, 2 * 3 * 5 * 4).astype(kind).reshape(2, 3, 5, 4)
    pixels.flags.writeable = False  # as a memory map is
    tensor = to_tensor(pixels, bounds)
    assert tensor.dtype == torch.float32
    assert tensor.shape == (2, 4, 3, 5)
    assert tensor.is_contiguous(memory_format=torch.channels_last)
    expected = (pixels.astype(np.float64) - bounds[0]) / (bounds[1] - bounds[0]) * 2 - 1
    np.testing.assert_allclose(tensor.permute(0, 2, 3, 1).numpy(), expected, atol=1e-6)
    back = to_pixels(tensor, bounds, np.dtype(kind))
    assert back.dtype == kind
    np.testing.assert_allclose(back, pixels, atol=0 if kind != np.float32 else 1e-3)


def test_the_pixels_are_not_changed():
    pixels = np.full((1, 2, 2, 1), 0.25, np.float32)
    to_tensor(pixels, (0.0, 1.0))
    assert (pixels == 0.25).all()


def test_integers_have_their_own_range_and_pictures_end_at_it():
    assert to_tensor(np.full((1, 1, 1, 1), 255, np.uint8), (0.0, 65535.0)).item() == 1.0
    outside = torch.tensor([-1.5, 1.5]).reshape(1, 1, 1, 2)
    assert to_pixels(outside, (0.0, 255.0), np.dtype(np.uint8)).ravel().tolist() == [0, 255]
    assert to_pixels(outside, (0.0, 1.0), np.dtype(np.float32)).ravel().tolist() == [-0.25, 1.25]
