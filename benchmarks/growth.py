"""How fitting, scoring and memory grow with the number of images: 100, 1,000 and 10,000 generated ones in an array on disk.

Fitting takes that many images, and scoring takes as many others. One process a preset and number, so that peak memory is its
own; what the process held before it fitted anything (libraries, the backbone) stands beside it.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from multiprocessing import Process
from pathlib import Path

import numpy as np
from common import RESULTS, cpu_seconds, peak_megabytes, write

from unlike import Detector

SIDE = 128
FILE = RESULTS / "growth.json"
CHOICES = {name: {"preset": name} for name in ("ensemble", "padim", "patchcore", "dfr")}
CHOICES |= {"conv, 5 epochs": {"model": "conv", "epochs": 5}}


def write_images(path: Path, count: int, seed: int) -> Path:
    """Noisy waves, all different, written in parts so that they are never in memory together."""
    random = np.random.default_rng(seed)
    images = np.lib.format.open_memmap(path, "w+", np.uint8, (count, SIDE, SIDE, 3))
    x = np.linspace(0, 8 * np.pi, SIDE)
    for start in range(0, count, 100):
        size = min(100, count - start)
        phase = random.uniform(0, 2 * np.pi, (size, 1, 1, 3))
        waves = 128 + 60 * np.sin(x[None, None, :, None] * random.uniform(0.9, 1.1, (size, 1, 1, 1)) + phase)
        images[start : start + size] = np.clip(waves + random.normal(0, 10, (size, SIDE, SIDE, 3)), 0, 255)
    images.flush()
    return path


def measure(name: str, folder: Path) -> dict:
    train, test = folder / "0.npy", folder / "1.npy"
    before = peak_megabytes()
    detector = Detector(**CHOICES[name], settings={"data": {"size": SIDE}}, device="cpu", cache=False)
    fit = cpu_seconds(lambda: detector.fit(train))
    fitted = peak_megabytes()
    score = cpu_seconds(lambda: [None for _ in detector.stream(test)])
    return {
        "detector": name,
        "images": len(np.load(train, mmap_mode="r")),
        "fit_cpu_seconds": fit,
        "score_cpu_seconds": score,
        "megabytes_before": before,
        "peak_megabytes_fit": fitted,
        "peak_megabytes": peak_megabytes(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--detectors", nargs="+", default=list(CHOICES), choices=list(CHOICES))
    parser.add_argument("--counts", nargs="+", type=int, default=[100, 1_000, 10_000])
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(measure(options.one[0], Path(options.one[1]))))
        return
    kept = json.loads(FILE.read_text())["rows"] if FILE.exists() else []
    rows = [row for row in kept if row["detector"] not in options.detectors]
    for count in options.counts:
        with tempfile.TemporaryDirectory() as folder:
            for seed in (0, 1):  # by a process of its own: a child's peak begins with what its parent held
                writer = Process(target=write_images, args=(Path(folder) / f"{seed}.npy", count, seed))
                writer.start()
                writer.join()
            for name in options.detectors:
                command = [sys.executable, __file__, "--one", name, folder]
                found = subprocess.run(command, check=True, capture_output=True, text=True)
                rows.append(json.loads(found.stdout.splitlines()[-1]))
                print(rows[-1], file=sys.stderr, flush=True)
                rows.sort(key=lambda row: (list(CHOICES).index(row["detector"]), row["images"]))
                write("growth", {"side": SIDE, "rows": rows})


if __name__ == "__main__":
    main()
