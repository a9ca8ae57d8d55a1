"""What a run costs: CPU seconds of this process and its children, and the most memory it held."""

from __future__ import annotations

import contextlib
import os
import re
import sys
import time
from pathlib import Path

STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")
FORGET_PEAK = "5"  # what CLEAR takes, man 5 proc


class Meter:
    """Starts to count when it is made.

    On Linux the peak is the run's own. Elsewhere it is the process's so far, which an earlier run may have set.

    >>> sorted(Meter().read())
    ['cpu_seconds', 'peak_megabytes']
    """

    def __init__(self) -> None:
        self._start = _cpu_seconds()
        with contextlib.suppress(OSError):  # not on this system
            CLEAR.write_text(FORGET_PEAK)

    def read(self) -> dict[str, float]:
        """The costs so far."""
        return {
            "cpu_seconds": round(_cpu_seconds() - self._start, 3),
            "peak_megabytes": round(_peak_megabytes(), 1),
        }


def _cpu_seconds() -> float:
    children = os.times()  # which counts in hundredths of a second, too coarse for a short run of this process
    return time.process_time() + children.children_user + children.children_system


def _peak_megabytes() -> float:
    try:
        found = re.search(r"VmHWM:\s+(\d+) kB", STATUS.read_text())
    except OSError:
        found = None
    if found:
        return int(found[1]) / 1024
    try:
        import resource
    except ImportError:  # Windows
        return 0.0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1024 * 1024 if sys.platform == "darwin" else 1024)
