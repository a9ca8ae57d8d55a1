"""Thresholds by what scorers would have said had they not learned from an image, against scorers of four fifths.

Both ways, the same detectors of the same images: what a fit costs, and at several promises what share of defects lies above
the threshold, and of fresh normal images. What is compared are thresholds: the scores differ by the scale of an ensemble alone.
"""

from __future__ import annotations

import argparse
import tempfile
from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

import numpy as np
from common import cpu_seconds, spread, write
from sets import SETS, open_set

from unlike import Detector
from unlike.scoring import SCORERS

PRESETS = ("ensemble", "feature-pca", "padim", "patchcore")
DATA = ("transistor",)
PROMISES = (0.01, 0.05)


def measure(preset: str, data: str, seeds: int, folder: Path, *, again: bool) -> dict:
    learn, test = open_set(data, folder)
    anomalous = np.array([bool(sample.anomalous) for sample in test.samples])
    runs = []
    for seed in range(seeds):
        detector = Detector(preset=preset, seed=seed, device="cpu", cache=False)
        kind = SCORERS[detector.settings.scorer_name]
        capabilities = kind.capabilities
        learned_again = property(lambda scorer, known=capabilities: replace(known.fget(scorer), leave_one_out=None))
        with patch.object(kind, "capabilities", learned_again if again else capabilities):
            seconds = cpu_seconds(lambda detector=detector: detector.fit(learn))
        chances, run = detector.fitted_.decision.p_values(detector.score(test).image), {"fit_cpu_seconds": seconds}
        for promise in PROMISES:
            run |= {f"found at {promise:g}": float((chances[anomalous] <= promise).mean())}
            run |= {f"false alarms at {promise:g}": float((chances[~anomalous] <= promise).mean())}
        runs.append(run)
    return {key: spread([run[key] for run in runs]) for key in runs[0]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--presets", nargs="*", choices=PRESETS, default=PRESETS)
    parser.add_argument("--sets", nargs="*", choices=SETS, default=DATA)
    options = parser.parse_args()
    rows = []
    for data in options.sets:
        for preset in options.presets:
            with tempfile.TemporaryDirectory() as folder:
                ways = {
                    way: measure(preset, data, options.seeds, Path(folder) / way, again=way == "four fifths")
                    for way in ("left out", "four fifths")
                }
            rows.append({"preset": preset, "set": data, **ways})
            write("left_out", {"seeds": options.seeds, "rows": rows})


if __name__ == "__main__":
    main()
