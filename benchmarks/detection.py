"""The presets that look with frozen features, on real defects: AUROC, pixels, and what fitting and scoring cost.

Three sets: transistors and magnetic tiles of the data folder, and the demo's solar cells. Four more were looked at when the
default and feature-pca were chosen: the transistors, each turned by some angle, shrunk and shifted, so that nothing lies where
it lay; polycrystalline solar cells; and two where whole images are of another kind: faces, and vehicles among which animals
are to be found, the first 400 to learn from and the first 600 to test, enlarged to 256 pixels. The presets' settings are the same for all; how they were chosen stands in src/unlike/detector/presets.py. One process a preset and set, so that peak memory is its own.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import cv2
import numpy as np
from common import DATA, RESULTS, cpu_seconds, need, peak_megabytes, spread, write

from unlike import Detector, evaluate
from unlike.data.cells import load_cells
from unlike.data.source import Source, labelled, open_source, training
from unlike.demo import write_cells

FILE = RESULTS / "detection.json"
TRANSISTORS = "mvtec_ad_256/transistor"
POLY = 300  # normal polycrystalline cells to learn from, and at most as many normal and defective ones to test


def write_poly(folder: Path) -> Path:
    """Polycrystalline cells in MVTec AD layout: normal is a defect probability of 0, defective one of 1."""
    cells, probability, kind = load_cells()
    random = np.random.default_rng(5)
    normal, broken = (random.permutation(np.flatnonzero((kind == "poly") & (probability == value))) for value in (0, 1))
    parts = {"train/good": normal[:POLY], "test/good": normal[POLY : 2 * POLY], "test/defective": broken[:POLY]}
    for part, rows in parts.items():
        (folder / part).mkdir(parents=True)
        for row in rows:
            cv2.imwrite(str(folder / part / f"cell{row:04}.png"), cells[row])
    return folder


def write_turned(folder: Path) -> Path:
    """The transistors, each turned by any angle, shrunk by up to a fifth and shifted by up to 16 pixels; no masks."""
    source, random = need(DATA / TRANSISTORS), np.random.default_rng(1)
    for path in sorted(source.rglob("*.png")):
        if "ground_truth" in path.parts:
            continue
        image = cv2.imread(str(path))
        height, width = image.shape[:2]
        turn = cv2.getRotationMatrix2D((width / 2, height / 2), random.uniform(0, 360), random.uniform(0.8, 1))
        turn[:, 2] += random.uniform(-16, 16, 2)
        to = folder / path.relative_to(source)
        to.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(to), cv2.warpAffine(image, turn, (width, height), borderMode=cv2.BORDER_REFLECT_101))
    return folder


def open_folder(path: Path) -> tuple[Source, Source]:
    whole = open_source(path)
    return training(whole), labelled(whole)


def open_arrays(name: str) -> tuple[Source, Source]:
    """The first of a folder's arrays, enlarged as a file would be."""
    folder = need(DATA / name)
    train, test, labels = (min(folder.glob(pattern)) for pattern in ("train*.npy", "test*.npy", "*label*.csv"))
    learn, found = open_source(train), open_source(test, labels)
    return training(learn.take(np.arange(400))), labelled(found.take(np.arange(600)))


SETS = {
    "transistor": lambda _: open_folder(need(DATA / TRANSISTORS)),
    "magnetic_tile": lambda _: open_folder(need(DATA / "magnetic_tile")),
    "solar cells": lambda folder: open_folder(write_cells(folder, 0)),
    "turned transistors": lambda folder: open_folder(write_turned(folder)),
    "polycrystalline cells": lambda folder: open_folder(write_poly(folder)),
    "faces": lambda _: open_arrays("faces64"),
    "vehicles": lambda _: open_arrays("vehicles32"),
}
FIGURES = ("image.auroc", "image.detection_rate", "image.false_alarm_rate", "pixel.auroc", "pixel.aupro")
FEATURES = {"model": {"stages": [2, 3, 4], "cell": 16}, "map": {"reduction": "max"}, "data": {"size": 256}}
CHOICES = {"feature-conv": {"model": "feature-conv", "settings": FEATURES}}  # others are presets
TARGETS = ("transistor", "magnetic_tile", "solar cells")


def measure(preset: str, data: str, seeds: int, device: str) -> dict:
    runs = []
    with tempfile.TemporaryDirectory() as folder:
        learn, test = SETS[data](Path(folder))
        for seed in range(seeds):
            detector = Detector(**CHOICES.get(preset, {"preset": preset}), seed=seed, device=device, cache=False)
            fit = cpu_seconds(lambda detector=detector: detector.fit(learn))
            score = cpu_seconds(lambda detector=detector: detector.score(test))
            found = evaluate(detector, test)
            figures = {key: found.overall.figures[key] for key in FIGURES if key in found.overall.figures}
            kinds = {
                name: {"images": of_kind.anomalous}
                | {key: of_kind.figures[key].value for key in FIGURES if key in of_kind.figures}
                for name, of_kind in found.kinds.items()
            }
            runs.append(
                {"fit": fit, "rate": len(test) / score, "kinds": kinds}
                | {key: (value.value, str(value)) for key, value in figures.items()}
            )
    keys = [key for key in runs[0] if "." in key]
    return {
        "preset": preset,
        "set": data,
        "device": device,
        "fit_cpu_seconds": spread([run["fit"] for run in runs]),
        "score_images_per_cpu_second": spread([run["rate"] for run in runs]),
        "peak_megabytes": peak_megabytes(),
        "figures": {key: spread([run[key][0] for run in runs]) for key in keys},
        "with_intervals": {key: [run[key][1] for run in runs] for key in keys},
        "kinds": runs[0]["kinds"],  # of the first seed, each with all normal images
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument(
        "--presets", nargs="*", default=["ensemble", "padim", "patchcore", "dfr"], help="or feature-conv"
    )
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--sets", nargs="*", choices=SETS, default=TARGETS)
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(measure(*options.one, options.seeds, options.device)))
        return
    kept = json.loads(FILE.read_text())["rows"] if FILE.exists() else []
    rows = [row for row in kept if row["preset"] not in options.presets or row["set"] not in options.sets]
    for preset in options.presets:
        for data in options.sets:
            more = ["--one", preset, data, "--seeds", str(options.seeds), "--device", options.device]
            found = subprocess.run([sys.executable, __file__, *more], check=True, capture_output=True, text=True)
            rows.append(json.loads(found.stdout.splitlines()[-1]))
            print(rows[-1], file=sys.stderr, flush=True)
            write("detection", {"seeds": options.seeds, "rows": rows})


if __name__ == "__main__":
    main()
