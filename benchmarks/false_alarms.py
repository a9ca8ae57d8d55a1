"""False alarms on fresh normal images at a promise of 5 %, over 50 random splits.

Real normal images (monocrystalline solar cells without a defect), 300 to fit and 288 fresh ones in each split; a small
autoencoder is fitted anew each time. The promise is on average over splits: the mean must not exceed 5 % by more than
its standard error explains.
"""

from __future__ import annotations

import argparse

import cv2
import numpy as np
from common import write

from unlike import Detector
from unlike.demo import load_cells


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--splits", type=int, default=50)
    parser.add_argument("--promise", type=float, default=0.05)
    options = parser.parse_args()
    cells, probability, kind = load_cells()
    normal = cells[(kind == "mono") & (probability == 0)]
    normal = np.stack([cv2.resize(cell, (64, 64), interpolation=cv2.INTER_AREA) for cell in normal])
    settings = {"model": {"bottleneck": 32}, "training": {"epochs": 20, "learning_rate": 3e-3}}
    shares = []
    for seed in range(options.splits):
        order = np.random.default_rng(seed).permutation(len(normal))
        detector = Detector(model="conv", false_alarms=options.promise, seed=seed, settings=settings, device="cpu")
        detector.fit(normal[order[:300]])
        fresh = detector.score(normal[order[300:]]).image
        shares.append(float((fresh > detector.threshold_).mean()))
    mean, error = float(np.mean(shares)), float(np.std(shares, ddof=1) / np.sqrt(len(shares)))
    write(
        "false_alarms",
        {
            "promise": options.promise,
            "splits": options.splits,
            "fresh_normals_a_split": len(normal) - 300,
            "mean": mean,
            "standard_error": error,
            "standard_deviation": float(np.std(shares, ddof=1)),
            "least": min(shares),
            "most": max(shares),
            "kept": mean <= options.promise + 2 * error,
            "shares": [round(share, 4) for share in shares],
        },
    )


if __name__ == "__main__":
    main()
