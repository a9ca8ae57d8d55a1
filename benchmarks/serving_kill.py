"""The server is killed (SIGKILL) at random moments under load, again and again: is any result lost that was acknowledged?

Each round starts the server on the same history, sends images from several clients, kills it somewhere between the first answer
and two seconds later, and starts again. At the end, and after each round in the database itself: every acknowledged row is there as it was
answered, no row is half written (a score without a threshold, a verdict without regions, ...), and SQLite finds no damage.
"""

from __future__ import annotations

import argparse
import sqlite3
import tempfile
import threading
import time
from pathlib import Path

import httpx
import numpy as np
from common import write
from serving_common import Server, fit_into, varied

from unlike import Detector

CLIENTS = 4
HALF = (
    "SELECT count(*) FROM images WHERE (error IS NULL) != (score IS NOT NULL) OR (score IS NULL) != (threshold IS NULL) "
    "OR (score IS NULL) != (anomalous IS NULL) OR digest = '' OR detector_id NOT IN (SELECT id FROM detectors) "
    "OR version_id NOT IN (SELECT id FROM versions) OR NOT json_valid(regions)"
)


def load(server: Server, images: list[bytes], lane: int, start: int, acknowledged: dict, errors: list) -> None:
    """One client: sends until nobody answers, and notes what was acknowledged."""
    number = start
    with httpx.Client(timeout=30) as client:
        while True:
            content = varied(images[number % len(images)], number)
            files = {"file": (f"{number}.png", content)}
            try:
                answer = client.post(
                    f"{server.url}/detectors/part/score", files=files, data={"client_id": f"lane {lane}"}
                )
            except httpx.TransportError:
                return
            if answer.status_code == 200:
                row = answer.json()["items"][0]
                acknowledged[row["id"]] = row
            else:
                errors.append(answer.status_code)
            number += CLIENTS


def rows_in(path: Path) -> tuple[dict, int, str]:
    """What the history holds: scores by id, how many rows are half written, and what SQLite says of the file."""
    with sqlite3.connect(path) as connection:
        rows = {row[0]: row[1:] for row in connection.execute("SELECT id, score, anomalous, name FROM images")}
        half = connection.execute(HALF).fetchone()[0]
        state = connection.execute("PRAGMA integrity_check").fetchone()[0]
    connection.close()
    return rows, half, state


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--seconds", type=float, default=900.0, help="end after the round in which these are over")
    given = parser.parse_args()
    random, acknowledged, errors = np.random.default_rng(0), {}, []
    started, rounds, restarts = time.monotonic(), 0, []
    lost = half = other = 0
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        _, paths = fit_into(folder, Detector("pixels", "gaussian", size=64), "onnx", images=40)
        images = [path.read_bytes() for path in paths]
        while rounds < given.rounds and time.monotonic() - started < given.seconds:
            before = time.monotonic()
            server = Server.serve(folder)
            server.wait()
            restarts.append(time.monotonic() - before)
            lanes = [
                threading.Thread(
                    target=load, args=(server, images, lane, rounds * 100_000 + lane, acknowledged, errors)
                )
                for lane in range(CLIENTS)
            ]
            known = len(acknowledged)
            for lane in lanes:
                lane.start()
            while len(acknowledged) == known and all(lane.is_alive() for lane in lanes):
                time.sleep(0.01)
            time.sleep(random.uniform(0, 2))
            server.kill()
            for lane in lanes:
                lane.join()
            rounds += 1
            rows, half_now, state = rows_in(folder / "history.sqlite")
            wrong = [one for one in acknowledged.values() if rows.get(one["id"], (None,))[:1] != (one["score"],)]
            lost, half, other = len(wrong), half_now, other + (state != "ok")
            results = {
                "rounds": rounds,
                "clients": CLIENTS,
                "acknowledged": len(acknowledged),
                "written_but_not_acknowledged": len(rows) - len(acknowledged),
                "lost": lost,
                "half_rows": half,
                "damaged_files": other,
                "other_answers": {str(status): errors.count(status) for status in sorted(set(errors))},
                "start_seconds_median": round(float(np.median(restarts)), 2),
            }
            print(results, flush=True)
    write("serving_kill", results)


if __name__ == "__main__":
    main()
