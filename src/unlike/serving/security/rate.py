"""How often somebody may ask: token buckets in memory, one for each address or name."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

MOST_KEYS = 10_000  # that are remembered; those that have asked least recently are forgotten first


@dataclass(frozen=True, slots=True)
class Rate:
    """So many at once, and then one every so often."""

    burst: int
    every_seconds: float


LOGINS = Rate(5, 12.0)  # by address: five tries, then five a minute
LOGINS_OF_NAME = Rate(20, 6.0)  # by name, whoever tries
STRANGERS = Rate(30, 2.0)  # refused tokens, by address
REQUESTS = Rate(1_000, 0.002)  # of any kind, by address


class RateLimiter:
    """Buckets that fill with time, and of which each attempt takes one.

    >>> now = [0.0]
    >>> limiter = RateLimiter(Rate(2, 10.0), clock=lambda: now[0])
    >>> [limiter.wait_seconds("ann") for _ in range(3)]
    [0.0, 0.0, 10.0]
    >>> now[0] = 10.0
    >>> limiter.wait_seconds("ann")
    0.0
    """

    def __init__(self, rate: Rate, clock: Callable[[], float] = time.monotonic) -> None:
        self._rate, self._clock = rate, clock
        self._known: OrderedDict[str, tuple[float, float]] = OrderedDict()  # what is left, and when that was
        self._lock = threading.Lock()

    def wait_seconds(self, key: str) -> float:
        """0 where this attempt is let through, which takes one from the bucket; else how long to wait."""
        with self._lock:
            left = self._left(key)
            if left < 1:
                return (1 - left) * self._rate.every_seconds
            self._keep(key, left - 1)
            return 0.0

    def is_empty(self, key: str) -> bool:
        """Whether an attempt would be refused; takes nothing."""
        with self._lock:
            return self._left(key) < 1

    def forget(self, key: str) -> None:
        """Fill the bucket: it was the right one."""
        with self._lock:
            self._known.pop(key, None)

    def _left(self, key: str) -> float:
        left, since = self._known.get(key, (float(self._rate.burst), self._clock()))
        return min(float(self._rate.burst), left + (self._clock() - since) / self._rate.every_seconds)

    def _keep(self, key: str, left: float) -> None:
        self._known[key] = left, self._clock()
        self._known.move_to_end(key)
        while len(self._known) > MOST_KEYS:
            self._known.popitem(last=False)
