"""Which normal images a new one is most like: a short summary of each is kept with the detector."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from unlike.data.tensors import to_tensor
from unlike.detector.pipeline import BLOCK, Pipeline
from unlike.records import Floats, Pixels

MOST_KNOWN = 1000  # normal images that are kept in short,
MOST_ENCODED = 200  # where the model has to look at them once more
PARTS = 2  # of an image, across and down, whose mean features are its summary
DIRECTIONS = 32  # along which summaries differ most, and are kept


@dataclass(frozen=True, slots=True, eq=False)
class KnownNormals:
    """Normal images in short.

    >>> summaries = np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 9.0]])
    >>> KnownNormals.of(["a", "b", "c"], summaries).nearest(np.array([[0.9, 0.2]]), count=2)
    [('b', 'a')]
    """

    ids: npt.NDArray[np.str_]  # (N,)
    places: Floats  # (N, K) where they lie
    centre: Floats  # (S,) the mean summary
    directions: Floats  # (K, S)

    @classmethod
    def of(cls, ids: Sequence[str], summaries: Floats) -> KnownNormals:
        """From summaries (N, S), along the directions in which they differ most."""
        from sklearn.utils.extmath import randomized_svd

        centre = summaries.mean(axis=0)
        count = min(DIRECTIONS, *summaries.shape)
        kept = randomized_svd(summaries - centre, count, random_state=0)[2].astype(np.float32)
        return cls(np.array(ids), ((summaries - centre) @ kept.T).astype(np.float32), centre.astype(np.float32), kept)

    def arrays(self) -> dict[str, npt.NDArray[np.generic]]:
        """What is kept on disk, by its name."""
        return {"ids": self.ids, "places": self.places, "centre": self.centre, "directions": self.directions}

    def nearest(self, summaries: Floats, count: int) -> list[tuple[str, ...]]:
        """The ids of the normal images that each of some others, summaries (B, S), is most like, the most alike first."""
        from scipy.spatial.distance import cdist

        gaps = cdist((summaries - self.centre) @ self.directions.T, self.places)
        order = np.argsort(gaps, axis=1, kind="stable")[:, :count]
        return [tuple(row) for row in self.ids[order].tolist()]


def summarise(features: Tensor) -> Floats:
    """Features (B, D, h, w) -> (B, 4 D): their means in each quarter of the image, or over less where there is less."""
    height, width = (min(PARTS, side) for side in features.shape[2:])
    means = functional.adaptive_avg_pool2d(features.float(), (height, width))
    return np.asarray(means.flatten(1).cpu().numpy())


@torch.inference_mode()
def summarise_pixels(pipeline: Pipeline, pixels: Pixels, value_range: tuple[float, float]) -> Floats:
    """Pixels (B, H, W, C) -> summaries (B, S) of what the model makes of them."""
    parts = (pixels[start : start + BLOCK] for start in range(0, len(pixels), BLOCK))
    return np.concatenate(
        [summarise(pipeline.model.encode(to_tensor(part, value_range, pipeline.device))) for part in parts]
    )
