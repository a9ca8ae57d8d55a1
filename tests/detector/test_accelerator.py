"""What a GPU is given at a time, with the CPU as a stand-in: no GPU need be here."""

from itertools import chain

import numpy as np
import pytest
import torch

from conftest import stripes
from unlike import Detector
from unlike.data.input_spec import InputSpec
from unlike.detector import pipeline as pipeline_module
from unlike.detector.accelerator import FEWEST, MOST, images_at_once, images_that_fit, in_parts


def test_batches_grow_with_the_memory_that_is_free():
    small, large = InputSpec(64, 64, 3), InputSpec(512, 512, 3)
    found = [images_that_fit(large, free) for free in (10**8, 10**10, 2 * 10**10, 10**12)]
    assert found == [FEWEST, 16, 33, MOST]
    assert images_that_fit(small, 10**9) > images_that_fit(large, 10**9)
    assert images_at_once(small, torch.device("cpu")) is None


def test_a_gpu_is_asked_what_is_free(monkeypatch):
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (10**10, 2 * 10**10))
    assert images_at_once(InputSpec(512, 512, 3), torch.device("cuda")) == 16


def test_where_memory_runs_out_parts_are_halved():
    asked = []

    def see(start, stop):
        asked.append((start, stop))
        if stop - start > 3:
            raise torch.OutOfMemoryError
        return list(range(start, stop))

    assert [*chain(*in_parts(10, 8, see))] == list(range(10))
    assert asked[:3] == [(0, 8), (0, 4), (0, 2)]
    with pytest.raises(torch.OutOfMemoryError):
        in_parts(1, 1, lambda start, stop: see(start, stop + 9))


def test_scores_do_not_depend_on_how_many_go_through_together(monkeypatch):
    detector = Detector(model="conv", size=32, epochs=1, settings={"model": {"widths": [8]}}, cache=False).fit(
        stripes(30)
    )
    images = stripes(40, seed=2)
    whole = detector.score(images, maps=True)
    monkeypatch.setattr(pipeline_module, "in_parts", lambda count, at_once, see: in_parts(count, 7, see))
    parts = detector.score(images, maps=True)
    np.testing.assert_allclose(parts.image, whole.image, rtol=1e-5)
    np.testing.assert_allclose(parts.maps, whole.maps, rtol=1e-4, atol=1e-5)
