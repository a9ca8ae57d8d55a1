"""A history of a million images: how long does a page of it take, by every filter, on the first page and far down?"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from datetime import UTC, datetime, timedelta
from itertools import product
from pathlib import Path

import numpy as np
from common import write
from sqlalchemy import insert

from unlike.serving import history
from unlike.serving.database.engine import Database, open_database
from unlike.serving.database.tables import Detector, Image, Version

START = datetime(2026, 1, 1, tzinfo=UTC)
DETECTORS = 4
BLOCK = 5000


def fill(database: Database, rows: int) -> None:
    """Images of four detectors, one a second: 3 % anomalous, .5 % without a verdict, 2 % reviewed."""
    random = np.random.default_rng(0)
    with database.sessions.begin() as session:
        for number in range(DETECTORS):
            session.add(Detector(id=number + 1, name=f"camera {number}", current_version_id=number + 1))
            session.flush()
            facts = {"number": 1, "path": "", "fingerprint": "", "state": "current", "figures": {}}
            session.add(Version(id=number + 1, detector_id=number + 1, **facts))
    for start in range(0, rows, BLOCK):
        lots = random.random((BLOCK, 3))
        values = [row_of(start + offset, *lot) for offset, lot in enumerate(lots.tolist())]
        with database.sessions.begin() as session:
            session.execute(insert(Image), values)


def row_of(number: int, verdict: float, review: float, score: float) -> dict:
    failed = verdict > 0.995
    odd = None if failed else verdict < 0.03
    detector = number % DETECTORS + 1
    return {
        "id": f"{(number * 2654435761) % 2**32:08x}{number:024x}",
        "detector_id": detector,
        "version_id": detector,
        "client_id": "",
        "digest": f"{number:064x}",
        "name": f"{number}.png",
        "received_at": START + timedelta(seconds=number),
        "score": None if failed else score,
        "threshold": None if failed else 0.97,
        "p_value": None if failed else 1 - score,
        "anomalous": odd,
        "regions": [],
        "error": "cannot be decoded" if failed else None,
        "kept": False,
        "reviewed": review < 0.02,
    }


def questions(rows: int) -> dict[str, history.Wanted]:
    """Every combination of the filters."""
    middle = START + timedelta(seconds=rows // 2)
    spans = {"": (None, None), " from": (middle, None), " to": (None, middle)}
    return {
        f"{detector or 'all'} {verdict or 'any'} {reviewed}{span}": history.Wanted(detector, verdict, reviewed, *times)
        for detector, verdict, reviewed, (span, times) in product(
            (None, "camera 1"), (None, "anomalous", "normal"), (None, True, False), spans.items()
        )
    }


def measure(database: Database, rows: int, repeats: int) -> dict:
    """Milliseconds of a page of 50 by every filter: the first, the second, and one in the middle of the history."""
    middle = history.write_cursor(START + timedelta(seconds=rows // 2), "f" * 32)
    taken: dict[str, list[float]] = {}
    worked: list[float] = []
    for _ in range(repeats):
        for name, wanted in questions(rows).items():
            for cursor in (None, middle):
                start, before = time.perf_counter(), time.thread_time()
                with database.readers() as session:
                    page = history.list_images(session, wanted, 50, cursor)
                taken.setdefault(name, []).append(1000 * (time.perf_counter() - start))
                worked.append(1000 * (time.thread_time() - before))
                assert page.rows or cursor, name
    everything = np.concatenate([list(values) for values in taken.values()])
    slowest = max(taken, key=lambda name: np.quantile(taken[name], 0.95))
    return {
        "pages": len(everything),
        "filters": len(taken),
        "median_ms": round(float(np.median(everything)), 2),
        "p95_ms": round(float(np.quantile(everything, 0.95)), 2),
        "most_ms": round(float(everything.max()), 2),
        "cpu_median_ms": round(float(np.median(worked)), 2),  # whatever else ran on the machine
        "cpu_p95_ms": round(float(np.quantile(worked, 0.95)), 2),
        "slowest_filter": slowest,
        "slowest_filter_p95_ms": round(float(np.quantile(taken[slowest], 0.95)), 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--repeats", type=int, default=10)
    parser.add_argument("--db", help="an empty database; by default a SQLite file of its own")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        database = open_database(given.db or f"sqlite:///{Path(folder) / 'history.sqlite'}")
        start = time.perf_counter()
        fill(database, given.rows)
        filled = time.perf_counter() - start
        results = {
            "database": database.engine.dialect.name,
            "rows": given.rows,
            "load_average": [round(one, 1) for one in os.getloadavg()],  # what else ran: times are worth as much
            "fill_seconds": round(filled, 1),
            **measure(database, given.rows, given.repeats),
        }
        database.close()
    write("serving_history", results)


if __name__ == "__main__":
    main()
