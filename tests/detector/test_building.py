"""The size at which images are seen that are seen near their own."""

from __future__ import annotations

import numpy as np
import pytest

from conftest import write_png
from unlike import Detector
from unlike.data.source import open_source
from unlike.detector.building import native_side, spec_for
from unlike.detector.settings import DataConfig
from unlike.errors import ConfigError


@pytest.mark.parametrize(
    ("usual", "most", "side"),
    [
        (1, 512, 128),  # never fewer
        (28, 512, 128),  # enlarged more than four times, that would be the least
        (40, 512, 160),  # four times
        (63, 512, 224),
        (64, 512, 256),  # networks see much at 256
        (255, 512, 256),
        (383, 512, 256),  # down to a step of 128
        (384, 512, 384),
        (640, 512, 512),  # no more than wanted
        (640, 4096, 640),
        (9000, 4096, 4096),
        (640, 256, 256),
        (640, 200, 200),
        (30, 128, 128),
    ],
)
def test_the_side_of_images_near_their_own_size(usual, most, side):
    assert native_side(usual, most) == side


def spec_of(folder, **data):
    return spec_for(open_source(folder), DataConfig(size="native", **data))[0]


def test_native_size_is_a_square_by_the_images_and_by_tiles_larger(tmp_path):
    for number in range(3):
        write_png(tmp_path / f"{number}.png", np.full((300, 700), number, np.uint8))
    assert spec_of(tmp_path).size == (512, 512)
    assert spec_of(tmp_path, most_native=384).size == (384, 384)
    assert spec_of(tmp_path, tile=256).size == (640, 640)
    arrays = spec_for(open_source(np.zeros((4, 24, 90, 1), np.uint8)), DataConfig(size="native"))[0]
    assert arrays.size == (256, 256)


def test_native_is_a_choice_of_size_and_has_a_most():
    assert DataConfig(size="native").sides is None
    with pytest.raises(ConfigError, match=r"data\.most_native: expected 128 to 4096, came 100"):
        DataConfig(most_native=100)
    with pytest.raises(ConfigError, match=r"data\.size: expected .*'native'.*, came 'nativ'"):
        Detector(size="nativ")
