"""False alarms on fresh normal images at a promise of 5 %, over many random splits.

Real normal images, monocrystalline solar cells without a defect. A small autoencoder, fitted anew on 300 in each of 50 splits
and measured on the 288 others, holds some back to draw its line. The default, fitted on several numbers of them, draws it
by what it would have said of each had it not learned from it, which proves less. The promise is on average over splits: the mean must not exceed 5 % by more than its
standard error explains.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable

import cv2
import numpy as np
from common import RESULTS, write

from unlike import Detector
from unlike.demo import load_cells

FILE = RESULTS / "false_alarms.json"
SIDE = 64  # pixels across
AUTOENCODER = {"model": {"bottleneck": 32}, "training": {"epochs": 20, "learning_rate": 3e-3}}
COUNTS = (40, 130, 200, 400)  # that the default is fitted on
DEFAULT_SPLITS = 20


def load_normal() -> np.ndarray:
    cells, probability, kind = load_cells()
    normal = cells[(kind == "mono") & (probability == 0)]
    return np.stack([cv2.resize(cell, (SIDE, SIDE), interpolation=cv2.INTER_AREA) for cell in normal])


def measure(make: Callable[[int], Detector], normal: np.ndarray, count: int, splits: int, promise: float) -> dict:
    shares = []
    for seed in range(splits):
        order = np.random.default_rng(seed).permutation(len(normal))
        detector = make(seed).fit(normal[order[:count]])
        fresh = detector.score(normal[order[count:]]).image
        shares.append(float((fresh > detector.fitted_.decision.threshold).mean()))
    mean, error = float(np.mean(shares)), float(np.std(shares, ddof=1) / np.sqrt(len(shares)))
    return {
        "splits": splits,
        "fresh_normals_a_split": len(normal) - count,
        "mean": mean,
        "standard_error": error,
        "standard_deviation": float(np.std(shares, ddof=1)),
        "least": min(shares),
        "most": max(shares),
        "kept": mean <= promise + 2 * error,
        "shares": [round(share, 4) for share in shares],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--splits", type=int, default=50)
    parser.add_argument("--promise", type=float, default=0.05)
    parser.add_argument("--only-default", action="store_true", help="the autoencoder's stay as they were")
    options = parser.parse_args()
    normal, promise = load_normal(), options.promise

    def autoencoder(seed: int) -> Detector:
        return Detector(model="conv", false_alarms=promise, seed=seed, settings=AUTOENCODER, device="cpu")

    def default(seed: int) -> Detector:
        return Detector(size=SIDE, false_alarms=promise, seed=seed, device="cpu", cache=False)

    if options.only_default:
        found = json.loads(FILE.read_text())
    else:
        found = {"promise": promise, **measure(autoencoder, normal, 300, options.splits, promise)}
    rows = [{"count": n, **measure(default, normal, n, DEFAULT_SPLITS, promise)} for n in COUNTS]
    write("false_alarms", {**found, "default": rows})


if __name__ == "__main__":
    main()
