"""A reader of image files: two bytes of height and width, then a byte for each pixel."""

from __future__ import annotations

import numpy as np


def read_grey(content: bytes):
    """(H, W, 1)"""
    height, width = content[:2]
    return np.frombuffer(content, np.uint8, height * width, offset=2).reshape(height, width, 1).copy()
