"""How large images usually are, before they are read."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from conftest import write_png
from unlike.data import looks
from unlike.data.looks import usual_side
from unlike.data.source import open_source
from unlike.errors import DataError


def folder_of(path, sizes):
    """A source of grey images of these sizes (height, width)."""
    for number, size in enumerate(sizes):
        write_png(path / f"{number:03}.png", np.full(size, number, np.uint8))
    return open_source(path)


def test_the_usual_side_is_the_median_of_longer_sides(tmp_path):
    assert usual_side(folder_of(tmp_path, [(30, 40), (50, 20), (90, 10), (8, 8), (60, 60)])) == 50


def test_of_an_array_it_is_that_of_each_image():
    assert usual_side(open_source(np.zeros((4, 24, 36, 1), np.uint8))) == 36


def test_headers_that_say_no_size_are_decoded_and_broken_ones_left_to_the_reading(tmp_path):
    for number, side in enumerate((20, 30, 40)):
        cv2.imwrite(str(tmp_path / f"{number}.bmp"), np.full((side, 10), number, np.uint8))
    (tmp_path / "broken.bmp").write_bytes(b"BM")
    assert usual_side(open_source(tmp_path)) == 30


def test_where_none_can_be_read_it_is_said(tmp_path):
    for number in range(3):
        (tmp_path / f"{number}.png").write_bytes(b"no image")
    with pytest.raises(DataError, match="no image of 3 can be read"):
        usual_side(open_source(tmp_path))


def test_of_many_some_are_looked_at_spread_over_all(tmp_path, monkeypatch):
    monkeypatch.setattr(looks, "LOOKS", 3)
    assert usual_side(folder_of(tmp_path, [(20, 20), *[(90, 90)] * 4, (40, 40), *[(90, 90)] * 4, (60, 60)])) == 40
    assert looks._spread(11, 3) == [0, 5, 10]
    assert looks._spread(0, 3) == []
