"""Random numbers that are ours alone: seeded, and without a trace in the caller's."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch


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
