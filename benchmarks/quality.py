"""Detection quality of the pixel autoencoders on real images, by the command line's defaults: several seeds, intervals.

`conv` and `fcn` have the reports' sizes; those of the preset `textbook` were chosen on the faces' test labels, so its figure
there flatters. Nothing was chosen on the other sets, but for what `autoencoder` adds to it: that residuals are held against
what is usual at each position was tried on the transistors, tiles and cells, with labels seen. Where a set has masks, pixel
AUROC and AUPRO are measured in the masks' own pixels. Cells that are not asked for stay as they were.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path

from common import DATA, RESULTS, need, spread, write

from unlike import Detector, evaluate
from unlike.demo import write_cells

FILE = RESULTS / "quality.json"

SETS = {
    "faces64": ("faces64/trainingset.npy", "faces64/testingset.npy", "faces64/testing_labels.csv"),
    "magnetic_tile": ("magnetic_tile", "magnetic_tile", None),
    "transistor": ("mvtec_ad_256/transistor", "mvtec_ad_256/transistor", None),
    "solar cells": None,  # the demo's
}
TEXTBOOK = {"textbook": {"preset": "textbook"}, "autoencoder": {"preset": "autoencoder"}}
SCALED = {
    f"textbook, scale={scale}": {"preset": "textbook", "settings": {"scorer": {"scale": scale}}}
    for scale in ("channel", "whitened")  # of colours
}
CELLS = {
    "faces64": {"conv": {"model": "conv"}, "fcn": {"model": "fcn"}, **TEXTBOOK},
    "magnetic_tile": {"conv": {"model": "conv", "size": 64}, **TEXTBOOK},
    "transistor": {"conv": {"model": "conv", "size": 64}, **TEXTBOOK, **SCALED},
    "solar cells": TEXTBOOK,
}


def measure(name: str, choice: dict, seeds: int) -> dict:
    with tempfile.TemporaryDirectory() as folder:
        where = SETS[name] or (write_cells(Path(folder), 0),) * 2 + (None,)
        train, test, labels = (None if part is None else DATA / part for part in where)
        return measure_seeds(need(train), test, labels, choice, seeds)


def measure_seeds(train: Path, test: Path, labels: Path | None, choice: dict, seeds: int) -> dict:
    runs = []
    for seed in range(seeds):
        start = time.process_time()
        detector = Detector(**choice, seed=seed, device="cpu").fit(train)
        seconds = time.process_time() - start
        found = evaluate(detector, test, labels)
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
    names = [f"{name}/{cell}" for name, cells in CELLS.items() for cell in cells]
    parser.add_argument("--cells", nargs="+", choices=names, help="else all")
    options = parser.parse_args()
    sets = json.loads(FILE.read_text())["sets"] if FILE.exists() else {}
    for name, cells in CELLS.items():
        for cell, choice in cells.items():
            if options.cells is None or f"{name}/{cell}" in options.cells:
                sets.setdefault(name, {})[cell] = measure(name, choice, options.seeds)
                print(name, cell, sets[name][cell]["auroc"], flush=True)
                write("quality", {"seeds": options.seeds, "sets": sets})


if __name__ == "__main__":
    main()
