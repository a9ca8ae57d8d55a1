"""Every model at its default sizes, on equal terms: parameters, FLOPs, rates, memory, and AUROC after equal CPU time.

For each model, set and seed: one fit whose number of epochs is what a stated budget of CPU seconds allows (measured on
the first steps; at least one epoch), then the AUROC of the residual. A model that is slow to train is thus shown for
what it is worth on a laptop, not for what it would be worth after a night on a GPU. Where an epoch takes more than LONGEST
times the budget, the fit has the first images only, as many as that allows. One process a model and set, so that peak
memory is its own.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time

import numpy as np
import torch
from common import DATA, RESULTS, cpu_seconds, need, peak_megabytes, spread, write
from torch.utils.flop_counter import FlopCounterMode

from unlike import Detector, evaluate
from unlike.models import MODELS
from unlike.records import ImageShape
from unlike.testing import example_images

SETS = {
    "faces64": ("faces64/trainingset.npy", "faces64/testingset.npy", "faces64/testing_labels.csv"),
    "vehicles32": ("vehicles32/train.npy", "vehicles32/test.npy", "vehicles32/test_labels.csv"),
}
FILE = RESULTS / "models_table.json"
LONGEST = 5  # budgets that one epoch may take
SETTINGS = {"residual-unet": {"training": {"batch_size": 16}}}  # 128 images of it do not fit a laptop


def epoch_seconds(name: str, images: np.ndarray) -> float:
    """CPU seconds of one epoch, from a short fit on a part of the images."""
    part = images[: min(len(images), 400)]
    rows: list[float] = []

    def notify(*_: object) -> None:
        rows.append(time.process_time())

    Detector(model=name, epochs=2, settings=SETTINGS.get(name), device="cpu", cache=False).fit(part, notify=notify)
    fitted = len(part) - 100 - 20
    return (rows[-1] - rows[-2]) * len(images) * 0.7 / fitted


def measure(name: str, data: str, seeds: int, budget: float) -> dict:
    train, test, labels = (need(DATA / path) for path in SETS[data])
    images = np.load(train, mmap_mode="r")
    size = images.shape[1]
    with torch.no_grad():
        model = MODELS[name](MODELS[name].Config(), ImageShape(3, size, size)).eval()
        with FlopCounterMode(display=False) as counter:
            model.rebuild(example_images(model, 1))
    one = epoch_seconds(name, images)
    epochs = max(1, round(budget / one))
    images = images[: int(len(images) * min(1, LONGEST * budget / one))]
    aurocs, bounds, fits = [], [], []
    for seed in range(seeds):
        detector = Detector(
            model=name, epochs=epochs, seed=seed, settings=SETTINGS.get(name), device="cpu", cache=False
        )
        fits.append(cpu_seconds(lambda detector=detector: detector.fit(images)))
        found = evaluate(detector, test, labels).overall.image["auroc"]
        aurocs.append(found.value)
        bounds.append(str(found))
    scoring = cpu_seconds(lambda: detector.score(test))
    count = detector.fitted_.counts["train"]
    return {
        "model": name,
        "set": data,
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "megaflops_an_image": counter.get_total_flops() / 1e6,
        "images": len(images),
        "epochs": epochs,
        "fit_cpu_seconds": spread(fits),
        "train_images_per_cpu_second": count * epochs / float(np.median(fits)),
        "score_images_per_cpu_second": len(np.load(test, mmap_mode="r")) / scoring,
        "peak_megabytes": peak_megabytes(),
        "auroc": spread(aurocs),
        "auroc_with_intervals": bounds,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--budget", type=float, default=40, help="CPU seconds of training a fit")
    parser.add_argument("--models", nargs="*", default=list(MODELS))
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(measure(*options.one, options.seeds, options.budget)))
        return
    kept = json.loads(FILE.read_text())["rows"] if FILE.exists() else []  # of models that are not run again
    rows = [row for row in kept if row["model"] not in options.models and "error" not in row]
    for name in options.models:
        for data in SETS:
            more = ["--one", name, data, "--seeds", str(options.seeds), "--budget", str(options.budget)]
            found = subprocess.run([sys.executable, __file__, *more], check=False, capture_output=True, text=True)
            failed = {"model": name, "set": data, "error": found.stderr.strip().splitlines()[-1:]}
            rows.append(json.loads(found.stdout.splitlines()[-1]) if found.returncode == 0 else failed)
            print(rows[-1], file=sys.stderr, flush=True)
    rows.sort(key=lambda row: list(MODELS).index(row["model"]))
    write("models_table", {"budget_cpu_seconds": options.budget, "seeds": options.seeds, "rows": rows})


if __name__ == "__main__":
    main()
