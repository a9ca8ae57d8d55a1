"""What "auto" should promise: several rules for n held-out normal images, on the scores that `scored.py` keeps of each set.

Of each rule and set: what it promises, how many fresh normal images are called anomalous, and how many defects are found.
"""

from __future__ import annotations

from collections.abc import Callable
from math import floor

import numpy as np
from common import write
from scored import options_of, scored

RULES = ("least", "two", "three", "past suspects", "5 %")
WIDE = 3.0  # median absolute deviations: a gap among the highest scores that parts suspects from the rest


def rules(held_out: np.ndarray) -> dict[str, int]:
    """How many of the highest held-out scores (n,) each rule lets on or above the threshold."""
    count = len(held_out)
    at: Callable[[float], int] = lambda share: max(1, floor(share * (count + 1) + 1e-9))  # noqa: E731
    falling = np.sort(held_out)[::-1]
    gaps = -np.diff(falling[:4]) >= WIDE * np.median(np.abs(falling - np.median(falling)))
    past = int(np.flatnonzero(gaps)[-1]) + 2 if gaps.any() else 1
    within = at(0.1)
    return {
        "least": at(0.01),
        "two": max(at(0.01), min(2, within)),
        "three": max(at(0.01), min(3, within)),
        "past suspects": max(at(0.01), past),
        "5 %": at(0.05),
    }


def main() -> None:
    options = options_of(__doc__).parse_args()
    rows = []
    for name in options.sets:
        kept = scored(name, options.preset)
        falling = np.sort(kept.held_out)[::-1]
        found = {
            rule: {
                "promised": round(resting / (len(falling) + 1), 4),
                "delivered": round(float((kept.normal > falling[resting - 1]).mean()), 4),
                "found": round(float((kept.anomalous > falling[resting - 1]).mean()), 4),
            }
            for rule, resting in rules(kept.held_out).items()
        }
        rows.append({"set": name, "normals": len(falling), "fresh": len(kept.normal), **found})
    means = {
        rule: {
            key: round(float(np.mean([row[rule][key] for row in rows])), 4)
            for key in ("promised", "delivered", "found")
        }
        for rule in RULES
    }
    write("auto_promise", {"preset": options.preset, "means": means, "rows": rows})


if __name__ == "__main__":
    main()
