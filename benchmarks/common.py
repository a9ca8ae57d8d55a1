"""What the benchmarks share: one thread, CPU seconds, medians with their spread, and results files that say how they came."""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is loaded: ratios of one thread are steadier
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import json
import platform
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

RESULTS = Path(__file__).parent / "results"
DATA = Path(os.environ.get("UNLIKE_DATA", Path(__file__).parents[2] / "shared" / "data"))


def cpu_seconds(work: Callable[[], object]) -> float:
    """CPU seconds of this process, all threads together."""
    start = time.process_time()
    work()
    return time.process_time() - start


def spread(values: list[float]) -> dict[str, float]:
    return {"median": float(np.median(values)), "least": float(np.min(values)), "most": float(np.max(values))}


def peak_megabytes() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def need(path: Path) -> Path:
    if not path.exists():
        sys.exit(f"{path} is not here; UNLIKE_DATA names the folder of real images")
    return path


def write(name: str, results: dict) -> None:
    """Leave the results beside the script, with the command and the versions that made them."""
    import torch

    import unlike

    facts = {
        "command": " ".join(["python", "benchmarks/" + Path(sys.argv[0]).name, *sys.argv[1:]]),
        "versions": {"unlike": unlike.__version__, "torch": torch.__version__, "python": platform.python_version()},
        "threads": int(os.environ["OMP_NUM_THREADS"]),
    }
    RESULTS.mkdir(exist_ok=True)
    text = json.dumps({**facts, **results}, indent=2)
    (RESULTS / f"{name}.json").write_text(text + "\n")
    print(text)
