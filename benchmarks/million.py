"""How `batch.score` grows with the number of images: generated rows of a .npy up to a million, and small files, by a cheap detector.

Each number of images is a process of its own, so that its peak memory is its own. CPU seconds of all threads; one thread computes.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from multiprocessing import Process
from pathlib import Path

import cv2
import numpy as np
from common import RESULTS, cpu_seconds, peak_megabytes, write

from unlike import Detector, batch

SIDE, PART = 32, 10_000
FILE = RESULTS / "million.json"


def write_rows(path: Path, count: int) -> Path:
    """Noise in a file, written in parts; the same rows again and again, each with its number in the first pixels."""
    noise = np.random.default_rng(1).integers(90, 160, (PART, SIDE, SIDE, 1), dtype=np.uint8)
    images = np.lib.format.open_memmap(path, "w+", np.uint8, (count, SIDE, SIDE, 1))
    for start in range(0, count, PART):
        rows = np.arange(start, min(start + PART, count))
        images[start : start + PART] = noise[: len(rows)]
        images[start : start + PART, 0, :4, 0] = rows[:, None] >> np.array([24, 16, 8, 0]) & 255
    images.flush()
    return path


def write_files(folder: Path, count: int) -> Path:
    """Small PNG files, a thousand a folder."""
    draw = np.random.default_rng(2)
    for number in range(count):
        path = folder / f"{number // 1_000:04}" / f"{number:06}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), draw.integers(90, 160, (SIDE, SIDE), dtype=np.uint8))
    return folder


def measure(kind: str, count: int, folder: Path) -> dict:
    """One number of images, in this process."""
    detector, made = folder / "cheap.unlike", folder / ("x.npy" if kind == "array" else "files")
    writer = Process(
        target=write_rows if kind == "array" else write_files, args=(made, count)
    )  # whose pages are not ours
    writer.start()
    writer.join()
    begin = time.perf_counter()
    seconds = cpu_seconds(lambda: batch.score(detector, made, folder / "scores.parquet"))
    return {
        "kind": kind,
        "images": count,
        "cpu_seconds": seconds,
        "wall_seconds": time.perf_counter() - begin,
        "peak_megabytes": peak_megabytes(),
        "megabytes_of_scores": (folder / "scores.parquet").stat().st_size / 1e6,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--arrays", type=int, nargs="*", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--files", type=int, nargs="*", default=[2_000, 20_000, 200_000])
    parser.add_argument("--one", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        kind, count, folder = options.one
        print(json.dumps(measure(kind, int(count), Path(folder))))
        return
    rows = []
    for kind, count in [*(("array", n) for n in options.arrays), *(("files", n) for n in options.files)]:
        with tempfile.TemporaryDirectory() as made:
            normal = np.random.default_rng(0).integers(90, 160, (200, SIDE, SIDE, 1), dtype=np.uint8)
            cheap = Detector(model="pixels", scorer="pca", size=SIDE, cache=False)
            cheap.fit(normal).save(Path(made) / "cheap.unlike")
            command = [sys.executable, __file__, "--one", kind, str(count), made]
            found = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        rows.append(json.loads(found.stdout.splitlines()[-1]))
        print(rows[-1], file=sys.stderr, flush=True)
        write("million", {"side": SIDE, "rows": rows})


if __name__ == "__main__":
    main()
