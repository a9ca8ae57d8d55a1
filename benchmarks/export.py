"""Every preset and model that ships as an ONNX and as an OpenVINO graph: how far from torch, how large, how fast, how soon there.

`--parity` fits each on transistors, quickly, and holds both graphs against torch, 1, 2 and 7 images at once. `--speed` is of the
default at its own size: images a CPU second beside `Detector.score`, 1 and 32 at once, and what `unlike score` of ten images takes
from its start to its end. `--peer-python` holds anomalib's own ONNX export against its own torch, beside ours. One thread. Results are written as they come, so that a run can be ended and gone on with.
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
FITTED_ON = 40  # images, where speed is measured


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


def prepare(folder: Path) -> dict[str, Path]:
    """The default, fitted, and its exports, in single precision and in integers; what is there already is taken as it is."""
    from unlike import Detector
    from unlike.export.exporting import export_detector

    folder.mkdir(parents=True, exist_ok=True)
    fitted = folder / "d.unlike"
    normal = [str(path) for path in images(FITTED_ON)]
    if not fitted.exists():
        Detector(device="cpu").fit(normal).save(fitted)
    places = {"detector": fitted}
    for to in ("onnx", "openvino"):
        for name, int8 in ((to, False), (f"{to}-int8", True)):
            places[name] = folder / f"d.{name}"
            if not places[name].exists():
                check = str(need(DATA / "mvtec_ad_256" / "transistor" / "test")) if int8 else None
                normals = normal if int8 else None
                export_detector(Detector.load(fitted, "cpu"), places[name], to, int8=int8, check=check, normals=normals)
    return places


def speed(rounds: int, folder: Path) -> dict:
    """Of the default, by each runtime and in 8-bit integers; all in turn, so that what else the machine does is shared."""
    import numpy as np

    from unlike import Detector
    from unlike.data.source import open_source
    from unlike.runtime import load
    from unlike.runtime.proof import processor

    places = prepare(folder)
    detector = Detector.load(places["detector"], "cpu")
    (batch,) = open_source([str(path) for path in images(32)]).stream(detector.fitted_.spec, 32)
    seen = batch.pixels
    found = {name: load(place, threads=1) for name, place in places.items() if name != "detector"}
    scorers = {"detector": detector.score, **{name: one.score for name, one in found.items()}}
    took: dict = {name: {"1": [], "32": []} for name in scorers}
    for _ in range(rounds + 1):  # the first is to warm up
        for count, repeats in ((1, 4), (32, 1)):
            for name, score in scorers.items():
                seconds = cpu_seconds(lambda: [score(seen[:count]) for _ in range(repeats)])  # noqa: B023 (called at once)
                took[name][str(count)].append(count * repeats / seconds)
    rates = {name: {count: spread(one[1:]) for count, one in counts.items()} for name, counts in took.items()}
    few = folder / "few"
    few.mkdir(exist_ok=True)
    for path in images(10, "test/bent_lead"):
        shutil.copy(path, few)
    runs: dict = {name: [] for name in places}
    for _ in range(rounds + 1):  # the first compiles modules and fills the cache
        for name, place in places.items():
            runs[name].append(start(place, few, folder))
    starts = {name: {key: spread([one[key] for one in many[1:]]) for key in many[0]} for name, many in runs.items()}
    known = detector.score(seen).image
    gaps = {
        name: float(np.abs(one.score(seen).image / known - 1).max())
        for name, one in found.items()
        if not name.endswith("int8")
    }
    vnni = "_vnni" in Path("/proc/cpuinfo").read_text()
    return {
        "fitted_on": FITTED_ON,
        "vnni": vnni,
        "processor": processor(),
        "images_a_cpu_second": rates,
        "unlike_score_of_10": starts,
        "gap_to_detector": gaps,
    }


def start(detector: Path, few: Path, folder: Path) -> dict[str, float]:
    """CPU seconds and peak memory of `unlike score`, one process."""
    command = [sys.executable, "-m", "unlike", "score", str(detector), str(few), "-o", str(folder / "s.csv")]
    # modules are compiled once, as where they were installed
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    environment |= {"UNLIKE_CACHE": str(folder / "c"), "PYTHONPYCACHEPREFIX": str(folder / "pyc")}
    # by a small process between: what a process had at its peak before it became another one counts as the other's
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, *command],
        stderr=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        env=environment,
        check=True,
    )
    return json.loads(done.stdout)


MEASURE = """
import json, resource, subprocess, sys
code = subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL).returncode
used = resource.getrusage(resource.RUSAGE_CHILDREN)
print(json.dumps({"cpu_seconds": used.ru_utime + used.ru_stime, "peak_mb": used.ru_maxrss / 1024, "code": code}))
"""


def peer(python: str, rounds: int, folder: Path) -> dict:
    """The ONNX of anomalib beside ours of the same kind, images and weights: how far from its torch, how fast, how large."""
    import numpy as np
    import onnxruntime

    from unlike import Detector
    from unlike.data.source import open_source
    from unlike.export.exporting import export_detector
    from unlike.runtime import load

    root = peer_root(folder)
    normal, new = str(root / "train" / "good"), str(root / "test")
    rows: dict = {}
    for name in ("padim", "patchcore"):
        theirs, ours = folder / f"peer-{name}", folder / f"{name}.onnx"
        if not (theirs / "torch.npz").exists():
            script = Path(__file__).with_name("anomalib_export.py")
            subprocess.run([python, str(script), str(root), name, str(theirs)], check=True, stdout=subprocess.DEVNULL)
        detector = Detector(preset=name, device="cpu").fit(normal)
        if not ours.exists():
            export_detector(detector, ours)
        known = np.load(theirs / "torch.npz")
        graph = theirs / "weights" / "onnx" / "model.onnx"
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        session = onnxruntime.InferenceSession(str(graph), options, providers=["CPUExecutionProvider"])
        exported = load(ours, threads=1)
        see = partial(exported.session, missing=None)
        (batch,) = open_source(new).stream(exported.spec, len(known["pixels"]))

        def run(pixels, session=session):
            found = dict(
                zip([one.name for one in session.get_outputs()], session.run(None, {"input": pixels}), strict=True)
            )
            return found["anomaly_map"].reshape(len(pixels), *found["anomaly_map"].shape[-2:]), found[
                "pred_score"
            ].reshape(-1)

        gaps = gaps_of(run, known["pixels"], known["maps"], known["scores"])
        at_once = next(size for size in (1, 2, 7) if "refused" not in gaps[str(size)])  # that both take
        rows[name] = {
            "anomalib": {
                "gaps": gaps,
                "milliseconds": spread(latencies(run, known["pixels"][:at_once], rounds)),
                "megabytes": sum(one.stat().st_size for one in graph.parent.iterdir()) / 1e6,
            },
            "unlike": {
                "gaps": gaps_of(see, batch.pixels, *torch_of(detector, batch.pixels)),
                "milliseconds": spread(latencies(see, batch.pixels[:at_once], rounds)),
                "megabytes": sum((ours / one).stat().st_size for one in ("model.onnx", "model.onnx.data")) / 1e6,
            },
            "at_once": at_once,
            "images": len(known["scores"]),
        }
        print(name, rows[name], flush=True)
    return {"fitted_on": FITTED_ON, "rows": rows}


def peer_root(folder: Path) -> Path:
    """A few transistors in the layout that anomalib reads."""
    root = folder / "root"
    parts = {"train/good": FITTED_ON, "test/bent_lead": 8, "test/good": 8, "test/misplaced": 8}
    for part, count in parts.items():
        (root / part).mkdir(parents=True, exist_ok=True)
        for path in images(count, part):
            shutil.copy(path, root / part)
    return root


def torch_of(detector, pixels):
    """Maps and scores of each image by itself, by torch."""
    from unlike.export.graph import PixelGraph, by_torch

    fitted = detector.fitted_
    with by_torch(fitted.pipeline) as pipeline:
        return PixelGraph(pipeline, fitted.spec, "uint8").eval().see(pixels, None)


def gaps_of(run, pixels, maps, scores) -> dict:
    """The largest gap to torch in batches of 1, 2 and 7, as a share; a sentence for a batch that a graph does not take."""
    import numpy as np

    gaps: dict = {}
    for size in (1, 2, 7):
        score = map_ = 0.0
        try:
            for begin in range(0, len(pixels) - size + 1, size):
                rows = slice(begin, begin + size)
                found, values = run(pixels[rows])
                score = max(score, float(np.abs(values / scores[rows] - 1).max()))
                map_ = max(map_, float(np.abs(found - maps[rows]).max() / np.abs(maps[rows]).max()))
        except Exception as error:  # noqa: BLE001 (of a library, whose errors have no common type)
            gaps[str(size)] = {"refused": " ".join(str(error).split())[:200]}
        else:
            gaps[str(size)] = {"score": score, "map": map_}
    return gaps


def latencies(run, pixels, rounds: int, repeats: int = 5) -> list[float]:
    """CPU milliseconds an image, of each round apart from the first."""
    count = repeats * len(pixels)
    took = [cpu_seconds(lambda: [run(pixels) for _ in range(repeats)]) * 1000 / count for _ in range(rounds + 1)]
    return took[1:]


def keep(**results) -> None:
    """Write some results, and leave those of other parts as they are."""
    from importlib.metadata import version

    path = RESULTS / "export.json"
    before = json.loads(path.read_text()) if path.exists() else {}
    runtimes = {name: version(name) for name in ("onnxruntime", "openvino", "onnxscript")}
    kept = {name: value for name, value in before.items() if name in ("parity", "speed", "peer")}
    write("export", {"runtimes": runtimes, **kept, **results})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--parity", action="store_true")
    parser.add_argument("--speed", action="store_true")
    parser.add_argument("--peer-python", help="an interpreter with anomalib 2.7.0, see anomalib_peer.py")
    parser.add_argument(
        "--folder", type=Path, help="keeps what was fitted and exported, and takes it where it is there"
    )
    parser.add_argument("--names", nargs="*", default=[])
    parser.add_argument("--size", type=int, default=SIZE)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    if options.parity:
        parity(options.names, options.size)
    with tempfile.TemporaryDirectory() as made:
        folder = options.folder or Path(made)
        if options.speed:
            keep(speed=speed(options.rounds, folder))
        if options.peer_python:
            keep(peer=peer(options.peer_python, options.rounds, folder))


if __name__ == "__main__":
    main()
