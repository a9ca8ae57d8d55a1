"""Workers and drivers of `unlike score --on ray` are killed at random moments: is every image in the output, once, with its score?

Each session of the command has workers killed by SIGKILL, and then itself; the next one goes on from the same folder. Where a folder
is complete it is compared with the scores of one process, and the next session begins a new one. All sessions share a cluster
of two workers on this machine.
"""

from __future__ import annotations

import argparse
import os
import random
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from common import write

from unlike import Detector, batch

SIDE, SHARD = 64, 20
WORKERS_A_SESSION = 2  # that are killed before their driver is
START_SECONDS = 900.0  # that a session is given to write a shard, on a busy machine
GONE_SECONDS = 60.0  # that processes are given to end by themselves after their driver is killed


def make(folder: Path, count: int) -> tuple[Path, Path]:
    """A cheap detector, and so many images in a file."""
    draw = np.random.default_rng(0)
    detector, images = folder / "noise.unlike", folder / "images.npy"
    normal = draw.integers(100, 120, (60, SIDE, SIDE, 3), dtype=np.uint8)
    Detector(model="conv", size=SIDE, epochs=2, settings={"model": {"widths": [16, 16]}}).fit(normal).save(detector)
    np.save(images, draw.integers(90, 160, (count, SIDE, SIDE, 3), dtype=np.uint8))
    return detector, images


def start_cluster(folder: Path) -> tuple[subprocess.Popen, str]:
    """A cluster of our own, and its address; it takes a token, which whoever is started from here inherits."""
    os.environ |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    os.environ |= {"RAY_worker_niceness": "0"}  # 15 otherwise: on a machine that is busy nothing would come of it
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [
        str(Path(sys.executable).with_name("ray")),
        "start",
        "--head",
        "--block",
        f"--port={port}",
        "--num-cpus=2",
    ]
    command += ["--include-dashboard=false", "--disable-usage-stats", "--object-store-memory=200000000"]
    cluster = subprocess.Popen(
        [*command, f"--temp-dir={folder}"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    assert wait_for(lambda: _listens(port), START_SECONDS), "no cluster in time"
    return cluster, f"127.0.0.1:{port}"


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def start(detector: Path, images: Path, output: Path, address: str) -> subprocess.Popen:
    """The command, with two workers."""
    command = [sys.executable, "-m", "unlike", "score", str(detector), str(images), "-o", str(output), "--on", "ray"]
    command += ["--address", address, "--workers", "2", "--shard", str(SHARD)]
    return subprocess.Popen(command)


def descendants(root: int) -> dict[int, str]:
    """Names of all processes below one, by their number."""
    parents, names = {}, {}
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            names[int(entry.name)] = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
        except (OSError, ValueError, IndexError):
            continue
    found, edge = {}, {root}
    while edge:
        edge = {process for process, parent in parents.items() if parent in edge and process not in found}
        found |= {process: names[process] for process in edge}
    return found


def shards(output: Path) -> int:
    return len(list(output.glob("part-*.parquet")))


def wait_for(condition, seconds: float) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.05)
    return False


def check(output: Path, truth: dict[str, float]) -> float:
    """The largest relative difference of a score; an AssertionError where an image is missing, or there twice."""
    table = pq.read_table(sorted(output.glob("part-*.parquet")))
    ids = table["id"].to_pylist()
    assert sorted(ids) == sorted(truth), f"{len(ids)} rows of {len(truth)} images, {len(set(ids))} of them different"
    found = dict(zip(ids, table["score"].to_pylist(), strict=True))
    return max(abs(found[name] - truth[name]) / abs(truth[name]) for name in truth)


def workers_of(cluster: int) -> list[int]:
    """The processes of a cluster that score."""
    return [process for process, name in descendants(cluster).items() if name.startswith("ray::MapWorker")]


def session(
    detector: Path, images: Path, output: Path, draw: random.Random, cluster: tuple[subprocess.Popen, str]
) -> dict:
    """One run of the command with some kills; what was killed, and what was left."""
    before = last = shards(output)
    driver = start(detector, images, output, cluster[1])
    told = {"shards_before": before, "workers": 0, "driver": 0}
    try:
        for _ in range(WORKERS_A_SESSION):
            assert wait_for(lambda last=last: shards(output) > last or driver.poll() is not None, START_SECONDS), (
                "no shard in time"
            )
            time.sleep(draw.uniform(0, 3))
            found = workers_of(cluster[0].pid)
            assert found or driver.poll() is None or shards(output) > before, "the command ended by itself"
            if found and driver.poll() is None:
                os.kill(draw.choice(found), signal.SIGKILL)
                told["workers"] += 1
            last = shards(output)
        time.sleep(draw.uniform(0, 8))
        left = workers_of(cluster[0].pid)
        told["driver"] = int(driver.poll() is None)
    finally:
        driver.kill()
        driver.wait()
    ended = wait_for(lambda: not any(Path(f"/proc/{process}").exists() for process in left), GONE_SECONDS)
    return told | {"shards_after": shards(output), "workers_ended": ended}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--images", type=int, default=8_000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    draw, rows, differences = random.Random(options.seed), [], []
    with tempfile.TemporaryDirectory(prefix="rk") as made:
        folder = Path(made)
        detector, images = make(folder, options.images)
        batch.score(detector, images, folder / "truth.parquet")
        table = pq.read_table(folder / "truth.parquet")
        truth = dict(zip(table["id"].to_pylist(), table["score"].to_pylist(), strict=True))
        output, cluster = folder / "scores", start_cluster(folder / "ray")
        try:
            while sum(row["workers"] + row["driver"] for row in rows) < options.kills:
                rows.append(session(detector, images, output, draw, cluster))
                print(rows[-1], file=sys.stderr, flush=True)
                if shards(output) == -(-options.images // SHARD):
                    differences.append(check(output, truth))
                    shutil.rmtree(output)
            assert start(detector, images, output, cluster[1]).wait() == 0
            differences.append(check(output, truth))
        finally:
            os.killpg(cluster[0].pid, signal.SIGTERM)
            cluster[0].wait()
    found = {
        "images": options.images,
        "kills_of_workers": sum(row["workers"] for row in rows),
        "kills_of_drivers": sum(row["driver"] for row in rows),
        "outputs_complete": len(differences),
        "largest_relative_difference": max(differences),
        "sessions": rows,
    }
    print(found, file=sys.stderr)
    write("ray_kill", found)


if __name__ == "__main__":
    main()
