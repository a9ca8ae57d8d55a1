"""Some images of a set as a set of images."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from unlike.data.batches import ImageSet
from unlike.records import Bools, Pixels, Rows, Sample, Unreadable


class ChosenImages:
    """The images of a set in some rows (n,), as if there were no others."""

    def __init__(self, images: ImageSet, rows: Rows) -> None:
        self.samples: Sequence[Sample] = [images.samples[row] for row in rows]
        self.unreadable: tuple[Unreadable, ...] = images.unreadable
        self.digests: npt.NDArray[np.uint64] = images.digests[rows]
        self._images, self._rows = images, rows

    def take(self, rows: Rows) -> Pixels:
        """(B, H, W, C)"""
        return self._images.take(self._rows[rows])

    def inside(self, rows: Rows) -> Bools | None:
        """(B, H, W)"""
        return self._images.inside(self._rows[rows])

    def missing(self, rows: Rows) -> Bools | None:
        """(B, H, W)"""
        return self._images.missing(self._rows[rows])
