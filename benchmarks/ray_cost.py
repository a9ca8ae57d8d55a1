"""What Ray adds to an image: CPU seconds of all processes of `unlike score --on ray`, of each kind, beside those of one process.

CPU seconds, not wall seconds: they say the same on a machine that does other things. Start-up is told apart by two numbers of images.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from common import cpu_seconds, write
from ray_kill import descendants

from unlike import Detector, batch

SIDE = 64
TICKS = os.sysconf("SC_CLK_TCK")


def make(folder: Path, count: int) -> tuple[Path, Path]:
    """A detector of a usual kind, and so many images in a file."""
    draw = np.random.default_rng(0)
    detector, images = folder / "conv.unlike", folder / f"{count}.npy"
    if not detector.exists():
        normal = draw.integers(100, 120, (60, SIDE, SIDE, 3), dtype=np.uint8)
        Detector(model="conv", size=SIDE, epochs=1).fit(normal).save(detector)
    np.save(images, draw.integers(90, 160, (count, SIDE, SIDE, 3), dtype=np.uint8))
    return detector, images


def ticks_of(process: int) -> int:
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


def on_ray(detector: Path, images: Path, output: Path, workers: int) -> dict:
    """CPU seconds of the command and of every process below it, as they were last seen; and when shards came."""
    command = [sys.executable, "-m", "unlike", "score", str(detector), str(images), "-o", str(output), "--on", "ray"]
    driver = subprocess.Popen([*command, "--workers", str(workers)], stderr=subprocess.DEVNULL)
    seen: dict[int, tuple[str, int]] = {}
    while driver.poll() is None:
        for process, name in [*descendants(driver.pid).items(), (driver.pid, "driver")]:
            try:
                seen[process] = (name, ticks_of(process))
            except (OSError, IndexError):
                continue
        time.sleep(0.2)
    assert driver.returncode == 0
    scoring = sum(ticks for name, ticks in seen.values() if name.startswith("ray::MapWorker")) / TICKS
    times = sorted(path.stat().st_mtime for path in output.glob("part-*"))
    return {
        "cpu_seconds": sum(ticks for _, ticks in seen.values()) / TICKS,
        "cpu_seconds_of_workers": scoring,
        "seconds_from_first_to_last_shard": times[-1] - times[0],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--counts", type=int, nargs=2, default=[5_000, 25_000])
    options = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        for count in options.counts:
            detector, images = make(folder, count)
            row = {"images": count}
            row["here_cpu_seconds"] = cpu_seconds(
                lambda d=detector, i=images, c=count: batch.score(d, i, folder / f"here-{c}")
            )
            for workers in (1, 2):
                row[f"ray_{workers}"] = on_ray(detector, images, folder / f"ray-{count}-{workers}", workers)
            rows.append(row)
            print(row, file=sys.stderr, flush=True)
    few, many = rows
    more = many["images"] - few["images"]
    here = (many["here_cpu_seconds"] - few["here_cpu_seconds"]) / more
    found = {"rows": rows, "here_cpu_milliseconds_an_image": 1e3 * here}
    for workers in (1, 2):
        ray = (many[f"ray_{workers}"]["cpu_seconds"] - few[f"ray_{workers}"]["cpu_seconds"]) / more
        found[f"ray_{workers}_cpu_milliseconds_an_image"] = 1e3 * ray
        found[f"ray_{workers}_overhead"] = ray / here - 1
    alone, both = (many[f"ray_{workers}"]["seconds_from_first_to_last_shard"] for workers in (1, 2))
    found["two_workers_faster"] = alone / both
    found["load_average"] = os.getloadavg()[0]
    write("ray_cost", found)


if __name__ == "__main__":
    main()
