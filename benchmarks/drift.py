"""`unlike monitor`: false alarms over clean streams, and how many images it takes to find a change.

    python benchmarks/drift.py [--sets pavement transistor] [--streams 200] [--length 2000] [--usual 100 250]

Scores of real images (`drift_scores.py`). A stream that changes is drawn from their smoothed distribution (a Gaussian kernel on
logarithms of scores, for a few hundred images are too few to make 2,000 different ones), and so are the usual scores that it is held against.
The clean streams are exchangeable with the usual scores by construction. Whether the held-out scores of a detector are exchangeable with
fresh ones is another question: it is asked of the fresh images themselves, each once, in many random orders. `fixed` is for
comparison: bets on p-values against the same usual scores for ever.
"""

from __future__ import annotations

import argparse
from collections import Counter
from concurrent.futures import ProcessPoolExecutor

import numpy as np
from common import write
from drift_scores import CHANGES, PRESET, scores_of

from unlike.calibration.drift import DriftConfig, DriftMonitor
from unlike.calibration.martingale import Martingale

MOST = {"pavement": 250, "transistor": 136}  # images to fit on, and fresh ones
AFTER = 500  # images of a stream before it changes
LONGEST = 1500  # images after that
DEFECTS = (0.01, 0.05)  # of a stream before and after
LEARNED_AFTER = 2000  # images of a stream that is learned from
RISE, LEARNED = "defects 1 to 5 %", "defects 1 to 5 %, learned from the stream"


def smooth(scores: np.ndarray, count: int, random: np.random.Generator) -> np.ndarray:
    """Draws from the distribution of some scores, smoothed (Silverman's rule on logarithms)."""
    logs = np.log(scores)
    width = 0.9 * min(logs.std(), np.subtract(*np.quantile(logs, (0.75, 0.25))) / 1.34) * len(logs) ** -0.2
    return np.exp(random.choice(logs, count) + random.normal(0, width, count))


def first_alarm(monitor: DriftMonitor, scores: np.ndarray) -> tuple[int, str] | None:
    for score in scores:
        seen = monitor.see("", float(score))
        if seen.alarm:
            return seen.number, seen.alarm
    return None


def share_of(events: list[bool]) -> dict:
    rate = float(np.mean(events))
    return {"rate": rate, "standard_error": float(np.sqrt(rate * (1 - rate) / len(events))), "streams": len(events)}


def clean(usual: int, options: argparse.Namespace) -> dict:
    """Ranks of scores from any continuous distribution have the same distribution: these are Gaussian."""
    online, fixed = [], []
    for seed in range(options.streams):
        random = np.random.default_rng([usual, seed])
        known, stream = random.normal(size=usual), random.normal(size=options.length)
        online.append(first_alarm(DriftMonitor(known, DriftConfig(seed=seed)), stream) is not None)
        if seed < options.fixed:
            fixed.append(bets_on_fixed(known, stream, random))
    print(usual, np.mean(online), np.mean(fixed), flush=True)
    return {"monitor": share_of(online), "fixed": share_of(fixed)}


def bets_on_fixed(known: np.ndarray, stream: np.ndarray, random: np.random.Generator) -> bool:
    above = len(known) - np.searchsorted(np.sort(known), stream)
    martingale = Martingale()
    return any(martingale.see(float(p)) >= 100 for p in (above + random.uniform(size=len(stream))) / (len(known) + 1))


def held_out(data: dict[str, np.ndarray], orders: int) -> dict:
    """Real held-out scores, and the real fresh ones in random orders: what is delivered of the promise."""
    found = [
        first_alarm(DriftMonitor(data["held out"]), np.random.default_rng(seed).permutation(data["fresh"])) is not None
        for seed in range(orders)
    ]
    return {"usual": len(data["held out"]), "length": len(data["fresh"]), **share_of(found)}


def delay(data: dict[str, np.ndarray], change: str, options: argparse.Namespace) -> dict:
    """Images from the change to the first alarm; a stream that gave one before is counted apart."""
    delays, kinds, early = [], Counter(), 0
    for seed in range(options.changed):
        random, config = np.random.default_rng([7, seed]), DriftConfig(seed=seed)
        known = smooth(data["fresh"], options.known, random)
        if change == LEARNED:  # what is usual has defects too: it is learned from the stream
            known, config = None, DriftConfig(learn=options.known, seed=seed)
        before, after = stream(data, change, random)
        found = first_alarm(DriftMonitor(known, config), np.concatenate([before, after]))
        if found is not None and found[0] <= len(before):
            early += 1
            continue
        delays.append(np.inf if found is None else found[0] - len(before))
        if found is not None:
            kinds[found[1]] += 1
    low, middle, high = np.quantile(delays or [np.inf], (0.1, 0.5, 0.9), method="higher")
    spread = (("10 %", low), ("median", middle), ("90 %", high))
    return {
        "change": change,
        "usual": options.known,
        "streams": options.changed,
        "alarm_before": early,
        "found": int(np.isfinite(delays).sum()),
        "delay": {name: float(value) if np.isfinite(value) else None for name, value in spread},
        "kinds": dict(kinds),
    }


def stream(data: dict[str, np.ndarray], change: str, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Scores before a change, and after it."""
    if change in CHANGES:
        return smooth(data["fresh"], AFTER, random), smooth(data[change], LONGEST, random)
    parts = []
    for share, count in zip(DEFECTS, (LEARNED_AFTER if change == LEARNED else AFTER, LONGEST), strict=True):
        odd = random.uniform(size=count) < share
        parts.append(np.where(odd, smooth(data["defects"], count, random), smooth(data["fresh"], count, random)))
    return parts[0], parts[1]


def measure(name: str, options: argparse.Namespace) -> dict:
    data = scores_of(name, MOST[name])
    return {
        "images": {key: len(values) for key, values in data.items()},
        "medians": {key: round(float(np.median(values)), 4) for key, values in data.items()},
        "held_out": held_out(data, options.streams),
        "delays": [delay(data, change, options) for change in (*CHANGES, RISE, LEARNED)],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sets", nargs="+", choices=MOST, default=list(MOST))
    parser.add_argument("--streams", type=int, default=200)
    parser.add_argument("--length", type=int, default=2000)
    parser.add_argument("--fixed", type=int, default=50, help="streams of them on which the comparison bets, too")
    parser.add_argument("--changed", type=int, default=20, help="streams of each change")
    parser.add_argument("--usual", type=int, nargs="+", default=[100, 300])
    parser.add_argument("--known", type=int, default=250, help="usual scores where a change is to be found")
    parser.add_argument("--processes", type=int, default=3)
    options = parser.parse_args()
    facts = {
        "preset": PRESET,
        "promise": 0.01,
        "length": options.length,
        "before": AFTER,
        "longest": LONGEST,
        "defects": DEFECTS,
    }
    with ProcessPoolExecutor(options.processes) as pool:
        sets = {name: pool.submit(measure, name, options) for name in options.sets}
        found = {usual: pool.submit(clean, usual, options) for usual in options.usual}
        facts["sets"] = {name: one.result() for name, one in sets.items()}
        facts["clean"] = {usual: one.result() for usual, one in found.items()}
    write("drift", facts)


if __name__ == "__main__":
    main()
