"""Pixels from one number type to another."""

import numpy as np

from unlike.data.pixels import promote, to_uint8


def test_promote_spans_the_wider_scale():
    image = np.array([0, 1, 255], np.uint8).reshape(1, 3, 1)
    widened = promote(image, np.dtype(np.uint16))
    assert widened.dtype == np.uint16
    assert widened.ravel().tolist() == [0, 257, 65535]
    assert promote(image, np.dtype(np.uint8)) is image
    assert promote(widened, np.dtype(np.uint16)) is widened


def test_to_uint8_is_for_the_eye():
    values = np.array([[-1.0, 0.0, 0.5, 1.0, 2.0]])
    assert to_uint8(values, 0.0, 1.0).tolist() == [[0, 0, 128, 255, 255]]
    assert to_uint8(np.array([[0, 65535]], np.uint16), 0, 65535).tolist() == [[0, 255]]
    assert to_uint8(np.array([[3.0]]), 3.0, 3.0).tolist() == [[0]]
