"""What a command costs from its start to its end, the first time on a machine and later, when the network is kept there.

`unlike fit` on the transistors, and `unlike score` of ten of them, by the default and by PatchCore; one process a command, one
thread. "First" has an empty cache folder; "later" finds in it the networks that were kept, but no decoded image.
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
IMAGES = 10  # that are scored


def run(cache: Path, *arguments: str) -> dict[str, float]:
    """CPU seconds and peak memory of one command."""
    for entry in cache.glob("decoded-*"):
        shutil.rmtree(entry)
    command = [sys.executable, "-m", "unlike", *arguments]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, env={**os.environ, "UNLIKE_CACHE": str(cache)})
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"{' '.join(command)} ended with {process.returncode}")
    return {"cpu_seconds": used.ru_utime + used.ru_stime, "peak_mb": used.ru_maxrss / 1024}


def measure(preset: str, rounds: int) -> list[dict]:
    images = need(DATA / "mvtec_ad_256" / "transistor")
    runs: dict[tuple[str, str], list[dict]] = {}
    for _ in range(rounds):
        with tempfile.TemporaryDirectory() as folder:
            few, detector, out = (Path(folder) / name for name in ("few", "d.unlike", "scores.csv"))
            few.mkdir()
            for file in sorted((images / "test" / "bent_lead").glob("*.png"))[:IMAGES]:
                shutil.copy(file, few)
            for command, arguments in (
                ("fit", ("fit", str(images), "-o", str(detector), "--preset", preset, "--device", "cpu")),
                (f"score {IMAGES}", ("score", str(detector), str(few), "-o", str(out), "--device", "cpu")),
            ):
                cache = Path(folder) / command
                for use in ("first", "later"):
                    runs.setdefault((command, use), []).append(run(cache, *arguments))
    return [
        {
            "preset": preset,
            "command": command,
            "use": use,
            **{key: spread([found[key] for found in measured]) for key in measured[0]},
        }
        for (command, use), measured in runs.items()
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--presets", nargs="*", default=PRESETS)
    options = parser.parse_args()
    rows = [row for preset in options.presets for row in measure(preset, options.rounds)]
    write("startup", {"rounds": options.rounds, "rows": rows})


if __name__ == "__main__":
    main()
