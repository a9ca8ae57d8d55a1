"""How the default was chosen: what it is made of, and what might be in its stead, on the development sets.

Real defects: transistors, each turned by some angle, shrunk and shifted; polycrystalline solar cells; faces; vehicles among
which animals are to be found. Synthetic ones: a quarter of the normal training images of transistors, tiles and cells, and
each of them once more with a small or a large defect; the other three quarters are learned from. No image of the three sets
by whose figures the project is judged is among them but these normal ones.

A candidate is the default but for what its row says. One process a set, one seed; rows of other candidates stay as they were.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from common import RESULTS, cpu_seconds, write
from sets import TARGETS, open_set

from unlike import Detector, evaluate
from unlike.data.defects import DefectConfig
from unlike.data.source import Source, choose_form, labelled, training
from unlike.detector.presets import PRESETS
from unlike.detector.settings import Sections
from unlike.evaluation.synthetic import make_synthetic

FILE = RESULTS / "choice.json"
REAL = ("turned transistors", "polycrystalline cells", "faces", "vehicles")
MEMBERS = PRESETS["ensemble"].sections["scorer"]["settings"]
KNOWN = MEMBERS | {
    "gaussian": {"feature_group": 0, "positions": "each", "shrinkage": 0.1}
}  # PaDiM, of the same features
DEFECTS = {
    "small": DefectConfig(),
    "large": DefectConfig(kinds=("blend", "texture", "stain", "paste"), size=(0.35, 0.95)),
}


def of_members(*names: str, without: str = "") -> Detector:
    chosen = [name for name in names if name != without]
    return ensemble({"scorer": {"scorers": chosen, "settings": {name: KNOWN[name] for name in chosen}}})


def alone(name: str) -> Detector:
    scorer = name.removesuffix("_fine")
    settings = {key: PRESETS["ensemble"].sections[key] for key in ("map", "data")}
    model = {key: value for key, value in PRESETS["ensemble"].sections["model"].items() if key != "name"}
    return Detector(model="features", scorer=scorer, settings=settings | {"model": model, "scorer": MEMBERS[name]})


def ensemble(settings: Sections) -> Detector:
    return Detector(preset="ensemble", settings=settings)


CANDIDATES: dict[str, Callable[[], Detector]] = {
    "the default": lambda: ensemble({}),
    "the plain mean": lambda: ensemble({"scorer": {"combine": "mean"}}),
    "the highest of the four": lambda: ensemble({"scorer": {"combine": "max"}}),
    **{f"`{name}` alone": lambda name=name: alone(name) for name in MEMBERS},
    **{f"without `{name}`": lambda name=name: of_members(*MEMBERS, without=name) for name in MEMBERS},
    "with PaDiM in the stead of `pca`": lambda: of_members("gaussian", *MEMBERS, without="pca"),
    "with PaDiM as a fifth": lambda: of_members("gaussian", *MEMBERS),
    "features as they are, not of unit length": lambda: ensemble({"model": {"scale": "none"}}),
    "all 472 numbers, not 300": lambda: ensemble({"model": {"dimensions": None}}),
    "efficientnet-lite1": lambda: ensemble({"model": {"backbone": "efficientnet-lite1"}}),
    "efficientnet-lite2": lambda: ensemble({"model": {"backbone": "efficientnet-lite2"}}),
}


def damaged(name: str, defects: DefectConfig, folder: Path) -> tuple[Source, Source]:
    learn, _ = open_set(name, folder)
    order = np.random.default_rng(3).permutation(len(learn))
    kept, quarter = np.sort(order[len(learn) // 4 :]), np.sort(order[: len(learn) // 4])
    spec = choose_form(learn, (256, 256), None, "stretch", (256, 256))[0]
    found, _ = make_synthetic(learn.take(quarter), spec, 4, defects)
    return training(learn.take(kept)), labelled(found)


DEVELOPMENT: dict[str, Callable[[Path], tuple[Source, Source]]] = {
    name: lambda folder, name=name: open_set(name, folder) for name in REAL
} | {
    f"{name}, {size} synthetic defects": lambda folder, name=name, defects=defects: damaged(name, defects, folder)
    for size, defects in DEFECTS.items()
    for name in TARGETS
}


def measure(data: str, candidates: list[str]) -> dict:
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        learn, test = DEVELOPMENT[data](Path(folder))
        for name in candidates:
            detector = CANDIDATES[name]()
            seconds = cpu_seconds(lambda detector=detector: detector.fit(learn))
            metrics = evaluate(detector, test).overall
            figures = {key: metrics.image[key].value for key in ("auroc", "detection_rate", "false_alarm_rate")}
            figures |= {"aupro": metrics.pixel["aupro"].value} if "aupro" in metrics.pixel else {}
            found[name] = figures | {"fit_cpu_seconds": seconds}
            print(data, name, found[name], file=sys.stderr, flush=True)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--candidates", nargs="*", choices=CANDIDATES, default=list(CANDIDATES))
    parser.add_argument("--sets", nargs="*", choices=DEVELOPMENT, default=list(DEVELOPMENT))
    parser.add_argument("--one", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(measure(options.one, options.candidates)))
        return
    rows: dict[str, dict] = json.loads(FILE.read_text())["sets"] if FILE.exists() else {}
    for data in options.sets:
        more = ["--one", data, "--candidates", *options.candidates]
        found = subprocess.run([sys.executable, __file__, *more], check=True, stdout=subprocess.PIPE, text=True)
        rows[data] = rows.get(data, {}) | json.loads(found.stdout.splitlines()[-1])
        write("choice", {"sets": rows})


if __name__ == "__main__":
    main()
