"""Random numbers that are ours alone: seeded, and without a trace in the caller's."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import numpy as np
import torch

from unlike.records import Floats


@contextlib.contextmanager
def isolated_randomness(seed: int) -> Iterator[None]:
    """Seed torch inside, and leave the caller's random numbers as they were.

    >>> with isolated_randomness(3):
    ...     first = torch.rand(1)
    >>> with isolated_randomness(3):
    ...     bool(torch.rand(1) == first)
    True
    """
    devices = range(torch.cuda.device_count()) if torch.cuda.is_available() else ()
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(seed)
        yield


def random_directions(width: int, count: int, seed: int) -> Floats:
    """Orthogonal directions (count, width) of length 1, in float32.

    They keep more of distances and covariances than as many numbers drawn at random (Kim et al., 2021).

    >>> found = random_directions(5, 3, seed=0)
    >>> np.allclose(found @ found.T, np.eye(3), atol=1e-6)
    True
    """
    directions, _ = np.linalg.qr(np.random.default_rng(seed).normal(size=(width, count)))
    return np.ascontiguousarray(directions.T, np.float32)
