"""How fast a GPU fits and scores, beside the CPU of the same machine: the default, PatchCore and conv, in under eight minutes."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable

import numpy as np
import torch
from common import write

from unlike import Detector
from unlike.detector.accelerator import images_at_once
from unlike.detector.building import choose_device

SIDE, BUDGET_SECONDS = 256, 420.0
CHOICES = {"default": {}, "patchcore": {"preset": "patchcore"}, "conv": {"model": "conv", "epochs": 3}}


def images_of(count: int, seed: int) -> np.ndarray:
    """Noisy waves, (N, 256, 256, 3)."""
    draw = np.random.default_rng(seed)
    x = np.linspace(0, 8 * np.pi, SIDE)
    waves = 128 + 60 * np.sin(x[None, None, :, None] + draw.uniform(0, 6, (count, 1, 1, 3)))
    return np.clip(waves + draw.normal(0, 10, (count, SIDE, SIDE, 3)), 0, 255).astype(np.uint8)


def seconds_of(work: Callable[[], object], device: torch.device) -> float:
    """Wall seconds, until the device has done all of it."""
    start = time.perf_counter()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - start


def measure(name: str, device: str, train: np.ndarray, test: np.ndarray) -> dict:
    """Seconds to fit, and images a second once what is made at the first image is made."""
    chosen = choose_device(device)
    detector = Detector(**CHOICES[name], settings={"data": {"size": SIDE}}, device=device, cache=False)
    fit = seconds_of(lambda: detector.fit(train), chosen)
    detector.score(test[:16])
    found: list[np.ndarray] = []
    score = seconds_of(lambda: found.append(detector.score(test).image), chosen)
    return {
        "detector": name,
        "device": device,
        "fit_seconds": fit,
        "images_a_second": len(test) / score,
        "images_at_once": images_at_once(detector.fitted_.spec, chosen),
        "scores": found[0].tolist(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--train", type=int, default=200)
    parser.add_argument("--test", type=int, default=1_000)
    parser.add_argument("--cpu-test", type=int, default=100, help="fewer, for it takes longer")
    parser.add_argument("--detectors", nargs="+", default=list(CHOICES), choices=list(CHOICES))
    options = parser.parse_args()
    there = torch.cuda.is_available()
    card = "cuda" if there else "cpu"
    if not there:
        print("No GPU is here: what is measured is the CPU alone.", file=sys.stderr)
    begin, rows = time.perf_counter(), []
    train, test = images_of(options.train, 0), images_of(options.test, 1)
    for name in options.detectors:
        devices = [(card, test), ("cpu", test[: options.cpu_test])] if there else [(card, test)]
        for device, images in devices:
            if time.perf_counter() - begin > BUDGET_SECONDS:
                print(f"Out of time before {name} on {device}.", file=sys.stderr)
                continue
            rows.append(measure(name, device, train, images))
            print({key: value for key, value in rows[-1].items() if key != "scores"}, file=sys.stderr, flush=True)
    ratios = {}
    for row in rows:
        beside = next((one for one in rows if one["detector"] == row["detector"] and one["device"] == "cpu"), None)
        if row["device"] == "cuda" and beside is not None:
            few = np.array(beside["scores"])
            same = np.abs(np.array(row["scores"][: len(few)]) - few) / np.abs(few)
            ratios[row["detector"]] = {
                "fit": beside["fit_seconds"] / row["fit_seconds"],
                "score": row["images_a_second"] / beside["images_a_second"],
                "largest_relative_difference_of_scores": float(same.max()),
            }
    for row in rows:
        del row["scores"]
    name = torch.cuda.get_device_name() if there else "none: the CPU stood in"
    found = {"gpu": name, "side": SIDE, "rows": rows, "gpu_beside_cpu": ratios, "seconds": time.perf_counter() - begin}
    if there:
        write("gpu", found)
    print(found)


if __name__ == "__main__":
    main()
