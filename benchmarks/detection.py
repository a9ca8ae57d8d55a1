"""The presets that look with frozen features, on real defects: AUROC, pixels, and what fitting and scoring cost.

The sets are those of sets.py. One process a preset and set, so that peak memory is its own.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

from common import RESULTS, cpu_seconds, peak_megabytes, spread, write
from sets import SETS, TARGETS, open_set

from unlike import Detector, evaluate

FILE = RESULTS / "detection.json"
FIGURES = ("image.auroc", "image.detection_rate", "image.false_alarm_rate", "pixel.auroc", "pixel.aupro")
FEATURES = {"model": {"stages": [2, 3, 4], "cell": 16}, "map": {"reduction": "max"}, "data": {"size": 256}}
CHOICES = {"feature-conv": {"model": "feature-conv", "settings": FEATURES}}  # others are presets


def measure(preset: str, data: str, seeds: int, device: str) -> dict:
    runs = []
    with tempfile.TemporaryDirectory() as folder:
        learn, test = open_set(data, Path(folder))
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
