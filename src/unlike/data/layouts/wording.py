"""Lists and numbers in sentences about files."""

from __future__ import annotations

from collections.abc import Sequence

from unlike.artifacts import printable

NAMED = 5  # of a list; the rest are counted


def listed(names: Sequence[str], most: int = NAMED) -> str:
    """The first few of some names, and how many more there are.

    >>> listed(["a", "b", "c"], 2)
    'a, b and 1 more'
    """
    more = f" and {len(names) - most:,} more" if len(names) > most else ""
    return ", ".join(map(printable, names[:most])) + more


def plural(count: int, noun: str) -> str:
    """A number of things.

    >>> plural(1, "image"), plural(2000, "image")
    ('1 image', '2,000 images')
    """
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"
