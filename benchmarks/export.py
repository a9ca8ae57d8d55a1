"""Every preset and model that ships as an ONNX and as an OpenVINO graph: how far from torch, how large, how fast, how soon there.

`--parity` fits each on transistors, quickly, and holds both graphs against torch, 1, 2 and 7 images at once. `--speed` is of the
default at its own size: images a CPU second beside `Detector.score`, 1 and 32 at once, and what `unlike score` of ten images takes
from its start to its end. One thread. Results are written as they come, so that a run can be ended and gone on with.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path

from common import DATA, RESULTS, cpu_seconds, need, spread, write

from unlike.errors import UnlikeError

IMAGES = 24  # to fit on
SIZE = 64  # pixels a side, for parity


def images(count: int, part: str = "train/good") -> list[Path]:
    folder = need(DATA / "mvtec_ad_256" / "transistor")
    return sorted((folder / part).glob("*.png"))[:count]


def fit(preset: str | None, model: str | None, size: int | None, cache: bool = False):
    from unlike import Detector
    from unlike.models import MODELS

    settings: dict = {} if size is None else {"data": {"size": size}}
    chosen = MODELS[model].trains if model else True
    if chosen and not (preset and not trains(preset)):
        settings["training"] = {"epochs": 1}
    detector = Detector(model, preset=preset, settings=settings, false_alarms=0.2, device="cpu", cache=cache)
    return detector.fit([str(path) for path in images(IMAGES)])


def trains(preset: str) -> bool:
    from unlike.detector.presets import PRESETS
    from unlike.models import MODELS

    return MODELS[PRESETS[preset].sections["model"]["name"]].trains


def measure_parity(detector) -> dict:
    """How far each graph is from torch at worst, and how large; a sentence where there is none."""
    import numpy as np

    from unlike.errors import ExportError
    from unlike.export.graph import PixelGraph, by_torch
    from unlike.export.images import made_images
    from unlike.export.writers import convert_to_openvino, write_onnx
    from unlike.runtime.proof import Proof, measure_gap
    from unlike.runtime.sessions import GRAPHS, open_session

    fitted, row = detector.fitted_, {}
    ids, pixels, _ = made_images(fitted, "uint8", "first")
    with by_torch(fitted.pipeline) as pipeline, tempfile.TemporaryDirectory() as folder:
        graph = PixelGraph(pipeline, fitted.spec, "uint8").eval()
        try:
            source = write_onnx(graph, Path(folder) / "onnx")
            proof = Proof(ids, pixels, *graph.see(pixels, None))
            places = {"onnx": source, "openvino": convert_to_openvino(source, Path(folder) / "openvino")}
        except ExportError as error:
            return {"refused": str(error)}
        for to, place in places.items():
            gap = measure_gap(open_session(place, to), proof, fitted.decision)
            size = sum((place / name).stat().st_size for name in GRAPHS[to]) / 1e6
            row[to] = {"score": gap.score, "map": gap.map, "verdicts": gap.verdicts, "megabytes": size}
    row["images"] = len(np.unique(ids))
    return row


def parity(names: list[str], size: int) -> list[dict]:
    from unlike.detector.presets import PRESETS
    from unlike.models import FAMILIES

    kept = RESULTS / "export.json"
    rows = json.loads(kept.read_text())["parity"] if kept.exists() else []
    done = {(row["kind"], row["name"]) for row in rows}
    for kind, name in [*(("preset", name) for name in PRESETS), *(("model", name) for name in FAMILIES)]:
        if (kind, name) in done or (names and name not in names):
            continue
        smaller = 32 if name in ("conv-dense", "conv-dense-objects") else size
        try:
            detector = fit(name if kind == "preset" else None, name if kind == "model" else None, smaller)
        except UnlikeError as error:  # such as weights that are not on this machine
            print(f"{kind} {name}: {error}", file=sys.stderr, flush=True)
            continue
        rows.append({"kind": kind, "name": name, "size": smaller, **measure_parity(detector)})
        print(rows[-1], flush=True)
        keep(parity=rows)
    return rows


def speed(rounds: int, folder: Path) -> dict:
    """Of the default, by each runtime and in 8-bit integers."""
    import numpy as np

    from unlike import Detector
    from unlike.data.source import open_source
    from unlike.export.exporting import export_detector
    from unlike.runtime import load

    detector = Detector(device="cpu").fit([str(path) for path in images(100)])
    detector.save(folder / "d.unlike")
    places = {"onnx": {}, "openvino": {}}
    found: dict = {}
    for to in places:
        export_detector(detector, folder / f"d.{to}", to)
        found[to] = load(folder / f"d.{to}", threads=1)
    (batch,) = open_source([str(path) for path in images(32)]).stream(detector.fitted_.spec, 32)
    seen = batch.pixels
    scorers = {"detector": detector.score, **{to: one.score for to, one in found.items()}}
    rates: dict = {}
    for name, score in scorers.items():
        score(seen[:2])
        for count in (1, 32):
            took = [cpu_seconds(partial(score, seen[:count])) for _ in range(rounds)]
            rates.setdefault(name, {})[str(count)] = spread([count / seconds for seconds in took])
    few = folder / "few"
    few.mkdir()
    for path in images(10, "test/bent_lead"):
        shutil.copy(path, few)
    starts = {}
    for name in ("d.unlike", *(f"d.{to}" for to in places)):
        runs = [start(folder / name, few, folder) for _ in range(rounds + 1)][1:]  # the first fills the cache
        starts[name] = {key: spread([one[key] for one in runs]) for key in runs[0]}
    gaps = {
        to: float(np.abs(one.score(seen).image / detector.score(seen).image - 1).max()) for to, one in found.items()
    }
    return {"images_a_cpu_second": rates, "unlike_score_of_10": starts, "gap_to_detector": gaps}


def start(detector: Path, few: Path, folder: Path) -> dict[str, float]:
    """CPU seconds and peak memory of `unlike score`, one process."""
    command = [sys.executable, "-m", "unlike", "score", str(detector), str(few), "-o", str(folder / "s.csv")]
    process = subprocess.Popen(
        command, stderr=subprocess.DEVNULL, env={**os.environ, "UNLIKE_CACHE": str(folder / "c")}
    )
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    return {"cpu_seconds": used.ru_utime + used.ru_stime, "peak_mb": used.ru_maxrss / 1024, "code": process.returncode}


def keep(**results) -> None:
    """Write some results, and leave those of other parts as they are."""
    from importlib.metadata import version

    path = RESULTS / "export.json"
    before = json.loads(path.read_text()) if path.exists() else {}
    runtimes = {name: version(name) for name in ("onnxruntime", "openvino", "onnxscript")}
    kept = {name: value for name, value in before.items() if name in ("parity", "speed")}
    write("export", {"runtimes": runtimes, **kept, **results})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--parity", action="store_true")
    parser.add_argument("--speed", action="store_true")
    parser.add_argument("--names", nargs="*", default=[])
    parser.add_argument("--size", type=int, default=SIZE)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    if options.parity:
        parity(options.names, options.size)
    if options.speed:
        with tempfile.TemporaryDirectory() as folder:
            keep(speed=speed(options.rounds, Path(folder)))


if __name__ == "__main__":
    main()
