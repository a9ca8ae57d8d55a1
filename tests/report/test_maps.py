"""Maps as files: one scale for all overlays, on which the region threshold lies half way."""

from __future__ import annotations

import cv2
import numpy as np

from fakes import decision_of, fitted_of
from unlike.data.input_spec import InputSpec
from unlike.data.source import open_source
from unlike.records import Sample, ScoredBatch
from unlike.report.gallery import overlay
from unlike.report.maps import write_maps


def write(tmp_path, level: float) -> np.ndarray:
    """The overlay of a map that is the same everywhere, over a grey picture."""
    image = np.full((1, 8, 8, 3), 128, np.uint8)
    fitted = fitted_of(decision_of({"": 1.0}, np.linspace(1, 2, 101), region=2.0), InputSpec(8, 8, 3))
    batch = ScoredBatch(
        [Sample("0", row=0)], np.zeros(1), np.full((1, 8, 8), level, np.float32), [(8, 8)], np.zeros(1, np.uint64), ()
    )
    write_maps(tmp_path, fitted, open_source(image), batch)
    assert cv2.imread(str(tmp_path / "0.map.tiff"), cv2.IMREAD_UNCHANGED)[0, 0] == np.float32(level)
    return cv2.imread(str(tmp_path / "0.overlay.png"))[..., ::-1][0, 0]


def test_calm_positions_stay_grey_and_the_region_threshold_is_half_way_up(tmp_path):
    grey = write(tmp_path, 0.0)
    assert np.ptp(grey) <= 1
    assert np.array_equal(write(tmp_path, 1.1), grey)  # as high as one normal image in ten is anywhere
    half = overlay(np.full((1, 1, 3), 128, np.uint8), np.full((1, 1), 0.5), limit=1.0)[0, 0]
    assert np.array_equal(write(tmp_path, 2.0), half)
    brightest = write(tmp_path, 2.9)
    assert np.array_equal(write(tmp_path, 9.0), brightest)
    assert brightest.sum() > half.sum() > grey.sum()


def test_maps_of_images_with_the_longest_names_are_written_each_to_its_own_file(tmp_path):
    ids = [f"{'ä' * 120}{number}.png" for number in range(2)]  # of 245 bytes
    fitted = fitted_of(decision_of({"": 1.0}, np.linspace(1, 2, 101), region=2.0), InputSpec(8, 8, 3))
    samples = [Sample(name, row=row) for row, name in enumerate(ids)]
    batch = ScoredBatch(samples, np.zeros(2), np.ones((2, 8, 8), np.float32), [(8, 8)] * 2, np.zeros(2, np.uint64), ())
    write_maps(tmp_path, fitted, open_source(np.full((2, 8, 8, 3), 128, np.uint8)), batch)
    written = sorted(path.name for path in tmp_path.iterdir())
    assert len(written) == 4
    assert all(name.startswith("ä" * 80) for name in written)
