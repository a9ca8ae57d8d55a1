"""How many images a second the service scores with 1, 4, 16 and 64 clients, how long one waits, and what a bare route would do.

In one run: `unlike score`'s images a CPU second by the exported detector; the service, which looks at what comes, keeps each image,
and has each result on the disk before it answers; and as the peer a bare FastAPI route around the same detector, which does none
of that. (anomalib, whose own inference would be another peer, is not installed here.) Images a CPU second are of the server's process
alone, and do not depend on what else runs on the machine; times do.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import httpx
import numpy as np
import uvicorn
from common import cpu_seconds, write
from fastapi import FastAPI, UploadFile
from serving_common import Server, fit_into, free_port, varied

from unlike import Detector
from unlike.runtime.exported import load

CLIENTS = (1, 4, 16, 64)


def bare(export: str, port: int) -> None:
    """The peer: a route that decodes an image and scores it, and remembers nothing."""
    from unlike.data.input_spec import conform
    from unlike.data.readers.common import decode_bytes

    app, detector = FastAPI(), load(export)

    @app.get("/ready")
    def ready() -> dict:
        return {}

    @app.post("/score")
    def score(file: UploadFile) -> dict:
        pixels = conform(decode_bytes(file.file.read()), detector.spec)
        maps, scores = detector.see(pixels[None])
        return {"score": float(scores[0]), "peak": float(maps.max())}

    uvicorn.run(app, host="127.0.0.1", port=port, log_level="error", access_log=False)


async def drive(url: str, contents: list[bytes], clients: int, seconds: float, start: int) -> dict:
    """What so many clients see, each of which sends its next image when the one before is answered."""
    waits: list[float] = []
    answers: Counter[int] = Counter()
    until, numbers = time.monotonic() + seconds, iter(range(start, start + 10**6))
    limits = httpx.Limits(max_connections=clients, max_keepalive_connections=clients)
    async with httpx.AsyncClient(timeout=300, limits=limits) as client:

        async def one() -> None:
            while time.monotonic() < until:
                number = next(numbers)
                content = varied(contents[number % len(contents)], number)
                before = time.monotonic()
                answer = await client.post(url, files={"file": (f"{number}.png", content)})
                answers[answer.status_code] += 1
                if answer.status_code == 200:
                    waits.append(time.monotonic() - before)
                else:
                    await asyncio.sleep(float(answer.headers.get("retry-after", 1)))

        before = time.monotonic()
        await asyncio.gather(*(one() for _ in range(clients)))
        wall = time.monotonic() - before
    return {
        "requests": sum(answers.values()),
        "answers": {str(status): count for status, count in sorted(answers.items())},
        "per_second": round(len(waits) / wall, 2),
        "median_seconds": round(float(np.median(waits)), 4),
        "p99_seconds": round(float(np.quantile(waits, 0.99)), 4),
    }


def measure(server: Server, path: str, contents: list[bytes], seconds: float) -> dict:
    """One server under each number of clients, and stopped."""
    server.wait()
    asyncio.run(drive(server.url + path, contents, 1, 2.0, 0))  # what is loaded at first is no part of it
    levels = {}
    for clients in CLIENTS:
        before = server.figures()
        level = asyncio.run(drive(server.url + path, contents, clients, seconds, 10_000_000 * clients))
        after = server.figures()
        scored = level["answers"].get("200", 0)
        level["images_per_cpu_second"] = round(scored / (after["cpu_seconds"] - before["cpu_seconds"]), 2)
        level["megabytes_after"] = round(after["megabytes"], 1)
        levels[str(clients)] = level
        print(clients, level, flush=True)
    peak = server.figures()["peak_megabytes"]
    server.stop()
    single = levels["1"]["median_seconds"]
    return {
        "clients": levels,
        "peak_megabytes": round(peak, 1),
        "p99_of_16_to_single": round(levels["16"]["p99_seconds"] / single, 2),
    }


def main() -> None:
    if sys.argv[1:2] == ["--bare"]:
        bare(sys.argv[2], int(sys.argv[3]))
        return
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=25.0, help="of each number of clients")
    parser.add_argument("--to", default="onnx", help="what runs the detector")
    parser.add_argument("--workers", type=int, default=2, help="threads of the service that score, each on one core")
    parser.add_argument("--images", type=int, default=16, help="to fit on")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        export, paths = fit_into(folder, Detector(size=256), given.to, given.images)
        contents = [path.read_bytes() for path in paths]
        by_hand = load(export)
        by_hand.score([str(path) for path in paths[:8]])
        files = [str(path) for path in paths]
        rate = len(files) / cpu_seconds(lambda: by_hand.judge(files))
        print("by hand", rate, flush=True)
        service = measure(
            Server.serve(folder, "--workers", str(given.workers)), "/detectors/part/score", contents, given.seconds
        )
        port = free_port()
        peer = Server([sys.executable, __file__, "--bare", str(export), str(port)], port)
        bare_route = measure(peer, "/score", contents, given.seconds)
    at_16 = service["clients"]["16"]["images_per_cpu_second"]
    write(
        "serving_load",
        {
            "images": len(paths),
            "runtime": given.to,
            "workers": given.workers,
            "load_average": [round(one, 1) for one in os.getloadavg()],  # what else ran: times are worth as much
            "score_images_per_cpu_second": round(rate, 2),
            "service": service,
            "bare_route": bare_route,
            "service_at_16_to_score": round(at_16 / rate, 3),
            "service_at_16_to_bare_route": round(at_16 / bare_route["clients"]["16"]["images_per_cpu_second"], 3),
            "peer": "a bare FastAPI route around the same detector; anomalib is not installed",
        },
    )


if __name__ == "__main__":
    main()
