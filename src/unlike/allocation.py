"""How the C library gives memory back: batch after batch of the same size, it had better not."""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Iterator
from contextlib import contextmanager

TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3  # parameters of mallopt(3)
KEEP = 1 << 30  # bytes: blocks up to this size come from the heap, and as much of it is kept when it is free
USUAL_TRIM, USUAL_MMAP = 64 << 20, 32 << 20  # what glibc arrives at by itself where blocks are large


@contextmanager
def kept_memory() -> Iterator[None]:
    """Let the process keep freed memory inside the block, and give it back at the end.

    Each step of a training takes and frees some hundred megabytes. By itself glibc returns them to the system and asks for
    them again, and the system clears every page on the way: about a tenth of the time of a small convolutional network
    (benchmarks/training_speed.py). Does nothing where the C library is another.

    >>> with kept_memory():
    ...     blocks = [bytes(1000) for _ in range(3)]
    """
    library = _glibc()
    if library is None:
        yield
        return
    library.mallopt(MMAP_THRESHOLD, KEEP)
    library.mallopt(TRIM_THRESHOLD, KEEP)
    try:
        yield
    finally:
        library.mallopt(MMAP_THRESHOLD, USUAL_MMAP)
        library.mallopt(TRIM_THRESHOLD, USUAL_TRIM)
        library.malloc_trim(0)


@functools.cache
def _glibc() -> ctypes.CDLL | None:
    """The C library of this process, where it can be told such things."""
    try:
        library = ctypes.CDLL(None)
        library.gnu_get_libc_version  # noqa: B018  (musl and macOS have none)
    except (AttributeError, OSError, TypeError):  # Windows has no library of that name
        return None
    return library
