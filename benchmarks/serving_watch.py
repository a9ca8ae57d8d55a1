"""Watching a folder: what a look costs by the number of files that stay in it, and rows after kills at random moments.

python benchmarks/serving_watch.py [--kills 5] [--work DIR]
"""

from __future__ import annotations

import argparse
import csv
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path

from common import DATA, cpu_seconds, need, spread, write

from unlike.serving.sources.ledger import DONE, Entry, Signature
from unlike.serving.sources.watch import FolderConfig, FolderSource

COUNTS = (1_000, 10_000, 100_000)
IMAGES = 150


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--kills", type=int, default=5)
    parser.add_argument("--work", type=Path, default=None)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=chosen.work) as place:
        looks = {str(count): look_cost(Path(place, f"look{count}"), count) for count in COUNTS}
        write("serving_watch", {"look_cpu_seconds": looks, "watching": kill_rounds(Path(place, "kill"), chosen.kills)})


def look_cost(folder: Path, count: int) -> dict[str, float]:
    """CPU seconds of one look at so many files that are done."""
    folder.mkdir()
    for number in range(count):
        (folder / f"{number:06}.png").touch()
    source = FolderSource(str(folder), FolderConfig(settle_seconds=0.0), print)
    stamps = ((path.name, Signature.of(path.stat())) for path in folder.glob("*.png"))
    source.ledger.record({name: Entry(stamp, DONE) for name, stamp in stamps})
    source._look()  # noqa: SLF001 (which also tidies, once a day)
    found = spread([cpu_seconds(source._look) for _ in range(5)])  # noqa: SLF001
    source.close()
    shutil.rmtree(folder)
    return found


def kill_rounds(folder: Path, kills: int) -> dict[str, int]:
    """Images come in pieces and by renaming while `unlike watch` is killed; then each must have its row, and no other."""
    random.seed(0)
    category = min(one for one in need(DATA / "mvtec_ad_256").iterdir() if one.is_dir())
    images = sorted(category.glob("t*/*/*.png"))[:IMAGES]
    command = [sys.executable, "-m", "unlike"]
    fit = [
        "fit",
        str(category / "train"),
        "-o",
        str(folder / "small.unlike"),
        "--model",
        "pixels",
        "--scorer",
        "gaussian",
    ]
    subprocess.run([*command, *fit, "--size", "32"], check=True, stderr=subprocess.DEVNULL)
    incoming, rows = folder / "in", folder / "scores.csv"
    incoming.mkdir()
    watch = [
        *command,
        "watch",
        str(incoming),
        "--detector",
        str(folder / "small.unlike"),
        "-o",
        str(rows),
        "--settle",
        "0.5",
    ]
    camera = threading.Thread(target=bring, args=(images, incoming))
    camera.start()
    done = 0
    while done < kills or camera.is_alive():
        before = count_rows(rows)
        with subprocess.Popen(watch, stderr=subprocess.DEVNULL) as process:
            until = time.monotonic() + 60
            while count_rows(rows) < before + 2 and time.monotonic() < until and camera.is_alive():
                time.sleep(0.02)
            time.sleep(random.uniform(0, 1))
            os.kill(process.pid, signal.SIGKILL)
        done += 1
    subprocess.run([*watch, "--once"], check=True, stderr=subprocess.DEVNULL)
    again = folder / "again.csv"
    score = [*command, "score", str(folder / "small.unlike"), str(incoming), "-o", str(again)]
    subprocess.run(score, check=True, stderr=subprocess.DEVNULL)
    found, expected = ({row["id"]: row for row in csv.DictReader(path.open())} for path in (rows, again))
    times = Counter(row["id"] for row in csv.DictReader(rows.open()))
    return {
        "kills": done,
        "images": len(expected),
        "lost": len(expected.keys() - found.keys()),
        "twice": sum(number > 1 for number in times.values()),
        "other_than_score": sum(found.get(name) != row for name, row in expected.items()),
    }


def bring(images: list[Path], incoming: Path) -> None:
    """Write as cameras do: every third beside and renamed, the others in pieces."""
    for number, image in enumerate(images):
        content, name = image.read_bytes(), f"{number:04}.png"
        if number % 3 == 0:
            (incoming / f"{name}.part").write_bytes(content)
            (incoming / f"{name}.part").rename(incoming / name)
            continue
        with (incoming / name).open("wb") as file:
            for start in range(0, len(content), len(content) // 3 + 1):
                file.write(content[start : start + len(content) // 3 + 1])
                file.flush()
                time.sleep(random.uniform(0, 0.2))


def count_rows(path: Path) -> int:
    return path.read_bytes().count(b"\n") if path.exists() else 0


if __name__ == "__main__":
    main()
