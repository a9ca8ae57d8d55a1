"""What the losses of a training say."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any


def kept_epoch(history: Sequence[Mapping[str, Any]], keep: str) -> Mapping[str, Any] | None:
    """The row of the epoch whose weights a training with that `training.keep` has kept; None where no row has such a loss.

    >>> rows = [{"epoch": 1, "train": 3.0, "validation": 2.0}, {"epoch": 2, "train": 1.0, "validation": 4.0}]
    >>> [kept_epoch(rows, keep)["epoch"] for keep in ("validation", "train", "last")]
    [1, 2, 2]
    """
    if keep == "last":
        return history[-1] if history else None
    known = [row for row in history if row.get(keep) is not None and math.isfinite(row[keep])]
    return min(known, key=lambda row: float(row[keep]), default=None)
