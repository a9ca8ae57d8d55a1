"""Detection quality of the pixel autoencoders on real images, by the command line's defaults: several seeds, intervals.

`conv` and `fcn` have the reports' sizes; those of the preset `textbook` were chosen on the faces' test labels, so its figure
there flatters. Nothing was chosen on the other sets. Where a set
has masks, pixel AUROC and AUPRO are measured in the masks' own pixels.
"""

from __future__ import annotations

import argparse
import time

from common import DATA, need, spread, write

from unlike import Detector, evaluate

SETS = {
    "faces64": ("faces64/trainingset.npy", "faces64/testingset.npy", "faces64/testing_labels.csv"),
    "magnetic_tile": ("magnetic_tile", "magnetic_tile", None),
    "transistor": ("mvtec_ad_256/transistor", "mvtec_ad_256/transistor", None),
}
CELLS = {
    "faces64": {"conv": {"model": "conv"}, "fcn": {"model": "fcn"}, "textbook": {"preset": "textbook"}},
    "magnetic_tile": {"conv": {"model": "conv", "size": 64}, "textbook": {"preset": "textbook"}},
    "transistor": {"conv": {"model": "conv", "size": 64}, "textbook": {"preset": "textbook"}},
}


def measure(name: str, choice: dict, seeds: int) -> dict:
    train, test, labels = SETS[name]
    runs = []
    for seed in range(seeds):
        start = time.process_time()
        detector = Detector(**choice, seed=seed, device="cpu").fit(need(DATA / train))
        seconds = time.process_time() - start
        found = evaluate(detector, DATA / test, None if labels is None else DATA / labels)
        figures = {f"image.{key}": value for key, value in found.overall.image.items()}
        figures |= {f"pixel.{key}": value for key, value in found.overall.pixel.items()}
        runs.append(
            {"seed": seed, "fit_cpu_seconds": round(seconds, 1)} | {key: str(value) for key, value in figures.items()}
        )
        runs[-1] |= {"auroc": found.overall.image["auroc"].value}
    return {"auroc": spread([run["auroc"] for run in runs]), "runs": runs}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args()
    sets = {
        name: {cell: measure(name, choice, options.seeds) for cell, choice in cells.items()}
        for name, cells in CELLS.items()
    }
    write("quality", {"seeds": options.seeds, "sets": sets})


if __name__ == "__main__":
    main()
