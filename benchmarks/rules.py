"""Rules for a threshold at the same promise: is it kept, and how many anomalous images are found?

Each set's held-out normal scores are split at random, again and again: a rule draws its threshold by two thirds, the others are fresh.
Anomalous images are those of the test set. A promise that two thirds of the images cannot hold is made the least that they can;
the confidence bound is then left out. Rules that choose by labels are given half of the test set, and are measured on the other half
(and, as false alarms, on its normal images). Scores are made once: `python benchmarks/scored.py`.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from common import write
from scored import Scored, options_of, scored

from unlike.calibration.conformal import smallest_promise
from unlike.calibration.decision import is_anomalous
from unlike.calibration.thresholds import THRESHOLDS, make_rule
from unlike.errors import DataError

BY_NORMALS = ("conformal", "tail", "confidence", "k-sigma")
BY_LABELS = tuple(name for name in THRESHOLDS if THRESHOLDS[name].needs_labels)
PROMISES = (0.01, 0.02, 0.05)
MADE = {
    "gamma": lambda random, count: random.gamma(3.0, size=count),
    "log-normal": lambda random, count: random.lognormal(sigma=0.5, size=count),
    "Pareto": lambda random, count: random.pareto(3.0, size=count),
}
COUNTS = (31, 60, 99, 175, 400)  # of made scores
FRESH = 100_000


def by_normals(data: Scored, rule: str, promise: float, splits: int) -> dict:
    """Means over splits, with standard errors."""
    rows = []
    for seed in range(splits):
        order = np.random.default_rng(seed).permutation(len(data.held_out))
        cut = 2 * len(order) // 3
        known, fresh = data.held_out[order[:cut]], data.held_out[order[cut:]]
        asked = max(promise, smallest_promise(cut))
        try:
            threshold = make_rule(rule, asked).fit(known).threshold_
        except DataError:
            return {"rule": rule, "promise": asked, "left_out": f"{cut} normal images are too few"}
        rows.append((is_anomalous(fresh, threshold).mean(), is_anomalous(data.anomalous, threshold).mean()))
    return {"rule": rule, "promise": asked} | describe(np.array(rows), asked)


def describe(rows: np.ndarray, promise: float | None) -> dict:
    alarms, found = rows.T
    error = float(alarms.std(ddof=1) / np.sqrt(len(alarms)))
    kept = {} if promise is None else {"kept": bool(alarms.mean() <= promise + 2 * error)}
    return {
        "false_alarms": float(alarms.mean()),
        "standard_error": error,
        **kept,
        "found": float(found.mean()),
        "found_deviation": float(found.std(ddof=1)),
        "found_none": float((found == 0).mean()),
    }


def by_all(data: Scored, rule: str, promise: float) -> dict:
    """The threshold by all held-out images, on the fresh ones of the test set."""
    asked = max(promise, smallest_promise(len(data.held_out)))
    try:
        threshold = make_rule(rule, asked).fit(data.held_out).threshold_
    except DataError:
        return {}
    alarms, found = (float(is_anomalous(part, threshold).mean()) for part in (data.normal, data.anomalous))
    return {"rule": rule, "promise": asked, "false_alarms": alarms, "found": found}


def by_labels(data: Scored, rule: str, splits: int) -> dict:
    scores = np.concatenate([data.normal, data.anomalous])
    anomalous = np.arange(len(scores)) >= len(data.normal)
    rows = []
    for seed in range(splits):
        random = np.random.default_rng(seed)
        known = np.zeros(len(scores), bool)
        for label in (False, True):
            some = random.permutation(np.flatnonzero(anomalous == label))
            known[some[: len(some) // 2]] = True
        threshold = make_rule(rule).fit(scores[known], None, anomalous[known]).threshold_
        alarms = is_anomalous(scores, threshold)
        rows.append((alarms[~known & ~anomalous].mean(), alarms[~known & anomalous].mean()))
    return {"rule": rule} | describe(np.array(rows), None)


def of_made(draw: Callable[[np.random.Generator, int], np.ndarray], rule: str, count: int, splits: int) -> dict:
    """How many fresh scores are above, and how much the threshold varies, where scores are drawn anew each time."""
    random = np.random.default_rng(0)
    asked, fresh = max(0.01, smallest_promise(count)), np.sort(draw(random, FRESH))
    thresholds = np.array([make_rule(rule, asked).fit(draw(random, count)).threshold_ for _ in range(splits)])
    shares = 1 - np.searchsorted(fresh, thresholds, side="right") / FRESH
    error = float(shares.std(ddof=1) / np.sqrt(splits))
    return {
        "rule": rule,
        "count": count,
        "promise": asked,
        "false_alarms": float(shares.mean()),
        "standard_error": error,
        "kept": bool(shares.mean() <= asked + 2 * error),
        "threshold": float(thresholds.mean()),
        "threshold_deviation": float(thresholds.std(ddof=1)),
    }


def main() -> None:
    parser = options_of(__doc__)
    parser.add_argument("--splits", type=int, default=40)
    parser.add_argument("--made", type=int, default=200, help="draws of made scores")
    options = parser.parse_args()
    sets = {}
    for name in options.sets:
        data = scored(name, options.preset)
        sets[name] = {
            "held_out": len(data.held_out),
            "normal": len(data.normal),
            "anomalous": len(data.anomalous),
            "splits": [by_normals(data, rule, a, options.splits) for a in PROMISES for rule in BY_NORMALS],
            "test": [found for a in PROMISES for rule in BY_NORMALS if (found := by_all(data, rule, a))],
            "labels": [by_labels(data, rule, options.splits) for rule in BY_LABELS],
        }
    made = {
        name: [
            of_made(draw, rule, count, options.made) for count in COUNTS for rule in ("conformal", "tail", "k-sigma")
        ]
        for name, draw in MADE.items()
    }
    write(
        "rules", {"preset": options.preset, "splits": options.splits, "sets": sets, "draws": options.made, "made": made}
    )


if __name__ == "__main__":
    main()
