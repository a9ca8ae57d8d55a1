"""What a GPU is given at a time: as many images as its free memory holds, for it idles on the few that a processor's caches do."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import torch

from unlike.data.input_spec import InputSpec

SHARE = 0.5  # of the free memory, for other processes want some too
FLOATS_A_VALUE = 96  # that the layers of the usual networks hold at once, for each value of an image
FEWEST, MOST = 8, 512  # images: more take memory and no less time
Found = TypeVar("Found")


def images_that_fit(spec: InputSpec, free_bytes: int) -> int:
    """How many images of a spec are scored together where so much memory is free.

    >>> images_that_fit(InputSpec(256, 256, 3), 8_000_000_000), images_that_fit(InputSpec(256, 256, 3), 100_000_000)
    (52, 8)
    """
    each = 4 * FLOATS_A_VALUE * spec.height * spec.width * spec.channels
    return max(FEWEST, min(MOST, int(SHARE * free_bytes / each)))


def images_at_once(spec: InputSpec, device: torch.device) -> int | None:
    """The same for a device; None on one whose memory is not its own, such as a CPU, where a block's usual size is best."""
    if device.type != "cuda":
        return None
    return images_that_fit(spec, torch.cuda.mem_get_info(device)[0])


def in_parts(count: int, at_once: int, see: Callable[[int, int], Found]) -> list[Found]:
    """What `see(start, stop)` gives for `count` images, `at_once` together, or half as many each time memory runs out.

    >>> in_parts(5, 2, lambda start, stop: (start, stop))
    [(0, 2), (2, 4), (4, 5)]
    """
    found: list[Found] = []
    start = 0
    while start < count:
        try:
            found.append(see(start, min(start + at_once, count)))
        except torch.OutOfMemoryError:
            if at_once == 1:
                raise
            at_once = max(1, at_once // 2)
            continue
        start += at_once
    return found
