"""The presets that look with frozen features, on real defects: AUROC, pixels, and what fitting and scoring cost.

Three sets: transistors and magnetic tiles of the data folder, and the demo's solar cells. The presets' settings are the
same for all; how they were chosen stands in src/unlike/settings.py. One process a preset and set, so that peak memory is
its own.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

from common import DATA, RESULTS, cpu_seconds, need, peak_megabytes, spread, write

from unlike import Detector, evaluate
from unlike.data.index import find_images
from unlike.demo import write_cells

FILE = RESULTS / "detection.json"
SETS = {"transistor": "mvtec_ad_256/transistor", "magnetic_tile": "magnetic_tile", "solar cells": ""}


def measure(preset: str, data: str, seeds: int) -> dict:
    runs = []
    with tempfile.TemporaryDirectory() as folder:
        path = need(DATA / SETS[data]) if SETS[data] else write_cells(Path(folder), 0)
        tests = len(find_images(path).labelled())
        for seed in range(seeds):
            detector = Detector(preset=preset, seed=seed, device="cpu", cache=False)
            fit = cpu_seconds(lambda detector=detector: detector.fit(path))
            score = cpu_seconds(lambda detector=detector: detector.score(find_images(path).labelled()))
            found = evaluate(detector, path).overall
            figures = {f"image.{key}": found.image[key] for key in ("auroc", "detection_rate", "false_alarm_rate")}
            figures |= {f"pixel.{key}": found.pixel[key] for key in ("auroc", "aupro") if key in found.pixel}
            runs.append(
                {"fit": fit, "rate": tests / score} | {key: (value.value, str(value)) for key, value in figures.items()}
            )
    keys = [key for key in runs[0] if "." in key]
    return {
        "preset": preset,
        "set": data,
        "fit_cpu_seconds": spread([run["fit"] for run in runs]),
        "score_images_per_cpu_second": spread([run["rate"] for run in runs]),
        "peak_megabytes": peak_megabytes(),
        "figures": {key: spread([run[key][0] for run in runs]) for key in keys},
        "with_intervals": {key: [run[key][1] for run in runs] for key in keys},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--presets", nargs="*", default=["padim", "patchcore", "dfr"])
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(measure(*options.one, options.seeds)))
        return
    kept = json.loads(FILE.read_text())["rows"] if FILE.exists() else []
    rows = [row for row in kept if row["preset"] not in options.presets]
    for preset in options.presets:
        for data in SETS:
            more = ["--one", preset, data, "--seeds", str(options.seeds)]
            found = subprocess.run([sys.executable, __file__, *more], check=True, capture_output=True, text=True)
            rows.append(json.loads(found.stdout.splitlines()[-1]))
            print(rows[-1], file=sys.stderr, flush=True)
            write("detection", {"seeds": options.seeds, "rows": rows})


if __name__ == "__main__":
    main()
