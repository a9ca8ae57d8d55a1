"""What is learned from synthetic defects alone, without pretrained weights: image and pixel figures on real sets, several seeds.

The network and its training were chosen on magnetic_tile's training images and generated defects of kinds that were left out of
the training; what scores its code on the labels of two other sets, turned transistors and polycrystalline cells (detection.py has
both), and the last choice with a look at tiles. ELPV is the demo's set, split anew by each seed as the demo splits it. Also how many images
of 256 x 256 get defects in a CPU second, by kind.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from functools import partial
from pathlib import Path

import cv2
import numpy as np
from common import DATA, cpu_seconds, need, spread, write

from unlike import Detector, evaluate
from unlike.data.defects import KINDS, DefectConfig, add_defects
from unlike.demo import write_cells

SETS = {"magnetic_tile": "magnetic_tile", "transistor": "mvtec_ad_256/transistor", "elpv-mono": None}


def same_training(one: Detector, other: Detector) -> bool:
    """Whether both learn the same model in the same way, however they are scored."""
    sections = one.settings.to_sections(), other.settings.to_sections()
    names = ("model", "data", "augment", "corruption", "training")
    return all(sections[0][name] == sections[1][name] for name in names)


def measure(images: Path, choice: dict, seed: int, kept: Path | None) -> dict:
    start = time.process_time()
    known = Detector.load(kept) if kept is not None and kept.exists() else None
    trained = known is not None and same_training(known, Detector(**choice))
    model = known.fitted_.pipeline.model if trained else None
    detector = Detector(**choice, seed=seed, device="cpu").fit(images, model=model)
    seconds = None if trained else round(time.process_time() - start, 1)
    if kept is not None and not trained:
        detector.save(kept)
    start = time.process_time()
    found = evaluate(detector, images)
    rate = len(found.scores) / (time.process_time() - start)
    made = evaluate(detector, images, synthetic=True)
    figures = {f"image.{key}": value for key, value in found.overall.image.items()}
    figures |= {f"pixel.{key}": value for key, value in found.overall.pixel.items()}
    return {
        "seed": seed,
        "fit_cpu_seconds": seconds,  # none: its model was there
        "evaluated_per_cpu_second": round(rate, 1),
        "auroc": found.overall.image["auroc"].value,
        "synthetic_auroc": made.overall.image["auroc"].value,
        "figures": {key: str(value) for key, value in figures.items()},
        "kinds": {name: str(metrics.image["auroc"]) for name, metrics in found.kinds.items()},
    }


def measure_set(name: str, choice: dict, seed: int, keep: Path | None) -> dict:
    with tempfile.TemporaryDirectory() as folder:
        part = SETS[name]
        images = write_cells(Path(folder), seed) if part is None else need(DATA / part)
        run = measure(images, choice, seed, None if keep is None else keep / f"{name}-{seed}.unlike")
    print(name, json.dumps(run), flush=True)
    return run


def speed(rounds: int) -> dict:
    """Images with one defect each, in a CPU second."""
    cv2.setNumThreads(1)
    images = np.random.default_rng(0).integers(0, 256, (64, 256, 256, 3), np.uint8)
    rates = {}
    for name, kinds in ({kind: (kind,) for kind in KINDS} | {"all": tuple(KINDS)}).items():
        make = partial(add_defects, images, DefectConfig(kinds=kinds), np.random.default_rng(0))
        rates[name] = spread([len(images) / cpu_seconds(make) for _ in range(rounds)])
    return rates


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--sets", nargs="+", default=list(SETS), choices=list(SETS))
    parser.add_argument("--preset", default="repair")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--keep", type=Path, help="folder of trained detectors: what is there is not trained again")
    options = parser.parse_args()
    rates = speed(options.rounds)
    runs: dict[str, list[dict]] = {name: [] for name in options.sets}
    for seed in range(options.seeds):
        for name in options.sets:
            runs[name].append(measure_set(name, {"preset": options.preset}, seed, options.keep))
    sets = {name: {"auroc": spread([run["auroc"] for run in found]), "runs": found} for name, found in runs.items()}
    facts = {"seeds": options.seeds, "preset": options.preset, "images_with_defects_per_cpu_second": rates}
    write("defects_quality", facts | {"sets": sets})


if __name__ == "__main__":
    main()
