"""Which normal images a new one is most like: a short summary of each is kept with the detector."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from unlike.data.pixels import make_small
from unlike.data.tensors import to_tensor
from unlike.detector.pipeline import BLOCK, Pipeline
from unlike.records import Floats, Pixels, Rows

MOST_KNOWN = 1000  # normal images that are kept in short,
MOST_ENCODED = 200  # where the model has to look at them once more
PARTS = 2  # of an image, across and down, whose mean features are its summary
PICTURE_SIDE = 72  # pixels of the longer side of a picture of one
DIRECTIONS = 32  # along which summaries differ most, and are kept


@dataclass(frozen=True, slots=True, eq=False)
class KnownNormals:
    """Normal images in short.

    >>> summaries = np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 9.0]])
    >>> known = KnownNormals.of(["a", "b", "c"], summaries)
    >>> known.ids[known.nearest(np.array([[0.9, 0.2]]), count=2)]
    array([['b', 'a']], dtype='<U1')
    """

    ids: npt.NDArray[np.str_]  # (N,)
    places: Floats  # (N, K) where they lie
    centre: Floats  # (S,) the mean summary
    directions: Floats  # (K, S)
    pictures: Pixels  # (N, h, w, 1 or 3) of 8 bits, small; none, (0, ...), where none were to be kept

    @classmethod
    def of(cls, ids: Sequence[str], summaries: Floats, pictures: Pixels | None = None) -> KnownNormals:
        """From summaries (N, S), along the directions in which they differ most, and from pictures of them if any."""
        centre = summaries.mean(axis=0)
        count = min(DIRECTIONS, *summaries.shape)
        kept = np.linalg.svd(summaries - centre, full_matrices=False)[2][:count].astype(np.float32)
        places, shown = (
            (summaries - centre) @ kept.T,
            np.empty((0, 1, 1, 1), np.uint8) if pictures is None else pictures,
        )
        return cls(np.array(ids), places.astype(np.float32), centre.astype(np.float32), kept, shown)

    def arrays(self) -> dict[str, npt.NDArray[np.generic]]:
        """What is kept on disk, by its name."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    def nearest(self, summaries: Floats, count: int) -> Rows:
        """(B, count) which normal images each of some others, summaries (B, S), is most like, the most alike first."""
        from scipy.spatial.distance import cdist

        gaps = cdist((summaries - self.centre) @ self.directions.T, self.places)
        return np.asarray(np.argsort(gaps, axis=1, kind="stable")[:, :count])


def summarise(features: Tensor) -> Floats:
    """Features (B, D, h, w) -> (B, 4 D): their means in each quarter of the image, or over less where there is less."""
    height, width = (min(PARTS, side) for side in features.shape[2:])
    means = functional.adaptive_avg_pool2d(features.float(), (height, width))
    return np.asarray(means.flatten(1).cpu().numpy())


def draw_small(image: Pixels, low: float, high: float) -> Pixels:
    """A picture (H, W, C) of values from low to high, as small as is kept of a normal image.

    >>> draw_small(np.zeros((300, 150, 3), np.uint8), 0, 255).shape
    (72, 36, 3)
    """
    shown = make_small(image, low, high)
    factor = min(1.0, PICTURE_SIDE / max(shown.shape[:2]))
    size = (max(1, round(shown.shape[1] * factor)), max(1, round(shown.shape[0] * factor)))
    return np.asarray(cv2.resize(shown, size, interpolation=cv2.INTER_AREA).reshape(*size[::-1], -1))


@torch.inference_mode()
def summarise_pixels(pipeline: Pipeline, pixels: Pixels, value_range: tuple[float, float]) -> Floats:
    """Pixels (B, H, W, C) -> summaries (B, S) of what the model makes of them."""
    parts = (pixels[start : start + BLOCK] for start in range(0, len(pixels), BLOCK))
    return np.concatenate(
        [summarise(pipeline.model.encode(to_tensor(part, value_range, pipeline.device))) for part in parts]
    )
