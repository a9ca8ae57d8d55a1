"""Two checkouts in turns: what `unlike fit` and `unlike score` cost by each, of the default and of PatchCore, on the transistors.

    python benchmarks/against.py OTHER/src [--rounds 5]

`OTHER/src` is the source folder of another checkout (`git worktree add OTHER COMMIT`). One process a command, one thread, a cache
folder for each checkout with its networks in it, but no decoded image. Ratios are of this checkout over the other, round by round.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from common import DATA, need, spread, write

PRESETS = ("ensemble", "patchcore")
HERE = Path(__file__).parents[1] / "src"


def run(source: Path, cache: Path, *arguments: str) -> dict[str, float]:
    """CPU seconds and peak memory of one command of a checkout."""
    for entry in cache.glob("decoded-*"):
        shutil.rmtree(entry)
    command = [sys.executable, "-m", "unlike", *arguments]
    environment = {**os.environ, "UNLIKE_CACHE": str(cache), "PYTHONPATH": str(source)}
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment)
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"{' '.join(command)} by {source} ended with {process.returncode}")
    return {"cpu_seconds": used.ru_utime + used.ru_stime, "peak_mb": used.ru_maxrss / 1024}


def measure(preset: str, other: Path, rounds: int) -> list[dict]:
    images = need(DATA / "mvtec_ad_256" / "transistor")
    found: dict[tuple[str, str], list[dict[str, float]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for number in range(rounds + 1):  # the first fills the caches
            for name, source in (("other", other), ("this", HERE)):
                cache, detector, out = (Path(folder) / name / part for part in ("cache", "d.unlike", "scores.csv"))
                cache.mkdir(parents=True, exist_ok=True)
                commands = {
                    "fit": ("fit", str(images), "-o", str(detector), "--preset", preset, "--device", "cpu"),
                    "score": ("score", str(detector), str(images / "test"), "-o", str(out), "--device", "cpu"),
                }
                for command, arguments in commands.items():
                    used = run(source, cache, *arguments)
                    if number:
                        found.setdefault((command, name), []).append(used)
    return [describe(preset, command, found[command, "this"], found[command, "other"]) for command in ("fit", "score")]


def describe(preset: str, command: str, this: list[dict[str, float]], other: list[dict[str, float]]) -> dict:
    rows: dict = {"preset": preset, "command": command}
    for figure in ("cpu_seconds", "peak_mb"):
        mine, theirs = [one[figure] for one in this], [one[figure] for one in other]
        rows[figure] = {"this": spread(mine), "other": spread(theirs)}
        rows[figure]["ratio"] = spread([a / b for a, b in zip(mine, theirs, strict=True)])
    return rows


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("other", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    rows = [row for preset in PRESETS for row in measure(preset, options.other.absolute(), options.rounds)]
    sys.argv[1:] = ["OTHER/src", *sys.argv[2:]]  # as the results file says it: no folder of a machine
    write("against", {"commands": rows})
