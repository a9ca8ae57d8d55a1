"""Scoring 20,000 and 200,000 images of 64 x 64 from a `.npy` by the command line: images per CPU second and peak memory.

Each size is a process of its own, so that its peak memory is its own.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from common import cpu_seconds, peak_megabytes, write


def write_images(path: Path, count: int) -> None:
    """Random images, a block at a time."""
    random = np.random.default_rng(0)
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(
            file, {"descr": "|u1", "fortran_order": False, "shape": (count, 64, 64, 3)}
        )
        for _ in range(count // 1000):
            file.write(random.integers(0, 256, (1000, 64, 64, 3), dtype=np.uint8).data)


def score(detector: str, images: str, output: str) -> dict:
    from unlike.cli import run

    seconds = cpu_seconds(lambda: run(["score", detector, images, "-o", output]))
    with Path(output).open() as file:
        rows = sum(1 for _ in file) - 1
    return {"images": rows, "images_per_cpu_second": rows / seconds, "peak_megabytes": peak_megabytes()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--score", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.score:
        print(json.dumps(score(*options.score)))
        return
    from unlike import Detector

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        images = np.random.default_rng(1).integers(0, 256, (400, 64, 64, 3), dtype=np.uint8)
        Detector(model="conv", epochs=1, device="cpu").fit(images).save(folder / "d.unlike")
        runs = []
        for count in (20_000, 200_000):
            write_images(folder / "images.npy", count)
            paths = [str(folder / part) for part in ("d.unlike", "images.npy", "scores.csv")]
            found = subprocess.run(
                [sys.executable, __file__, "--score", *paths], check=True, capture_output=True, text=True
            )
            runs.append(json.loads(found.stdout.splitlines()[-1]))
    write("scoring_speed", {"runs": runs})


if __name__ == "__main__":
    main()
