"""Small detectors and their exports, made once for all tests that look at them."""

from __future__ import annotations

import functools
import tempfile
from pathlib import Path

import numpy as np

from conftest import stripes
from unlike import Detector
from unlike.export.exporting import export_detector


@functools.cache
def small_detector() -> Detector:
    """Fitted on 30 images of 32 x 32, in a second."""
    settings = {"decision": {"calibration": "cross"}, "model": {"side": 8}}
    return Detector("pixels", "gaussian", false_alarms=0.1, settings=settings, device="cpu", cache=False).fit(
        stripes(30)
    )


@functools.cache
def small_export(to: str = "onnx") -> Path:
    """Of that detector; nobody writes to it."""
    folder = Path(tempfile.mkdtemp()) / f"small.{to}"
    export_detector(small_detector(), folder, to)
    return folder


def strange(count: int = 4) -> np.ndarray:
    """New images, every other one with a square."""
    images = stripes(count, seed=9)
    images[::2, 4:14, 6:20] = 255
    return images
