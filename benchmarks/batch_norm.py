"""What batch norms that are judged by statistics of use change: which epoch is kept, on what loss, of small sets.

Two presets of reports on forty normal images each: 36 to train, 4 to validate. And `conv-dense` of 600 vehicles, whose
dropout stands before its batch norms: how many different codes it gives, and how much reconstructions vary.
"""

from __future__ import annotations

import argparse

import cv2
import numpy as np
from common import DATA, need, write

from unlike import Detector
from unlike.detector.explain import decode, encode
from unlike.records import kept_epoch

SMALL = {"vae-products": (6, 20), "three-conv-exact": (4, 20)}  # preset -> epochs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=40, help="of conv-dense")
    parser.add_argument("--images", type=int, default=600, help="for conv-dense")
    options = parser.parse_args()
    found: dict = {"small": [], "dropout": []}
    for statistics in ("running", "estimated"):
        found["dropout"].append(train_objects(statistics, options.epochs, options.images))
        print(found["dropout"][-1], flush=True)
    write("batch_norm", found | vars(options))  # what is there so far
    for name, images in small_sets().items():
        for preset, lengths in SMALL.items():
            for epochs in lengths:
                for statistics in ("running", "estimated"):
                    found["small"].append(train_small(name, images, preset, epochs, statistics))
                    print(found["small"][-1], flush=True)
    write("batch_norm", found | vars(options))


def small_sets() -> dict[str, np.ndarray]:
    """Forty normal images each, with twenty for calibration."""
    folder = need(DATA / "mvtec_ad_256" / "transistor" / "train" / "good")
    transistors = [cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB) for path in sorted(folder.iterdir())[:60]]
    return {"transistor": np.stack(transistors), "cells": normal_cells(60)}


def normal_cells(count: int) -> np.ndarray:
    from elpv_dataset.utils import load_dataset

    pictures, probabilities, _ = load_dataset()
    return np.stack([cv2.resize(image, (128, 128)) for image in pictures[probabilities == 0][:count]])


def train_small(name: str, images: np.ndarray, preset: str, epochs: int, statistics: str) -> dict:
    settings = {
        "training": {"epochs": epochs, "statistics": statistics},
        "decision": {"calibration_share": 1 / 3},
    }
    detector = Detector(preset=preset, settings=settings, cache=False).fit(images)
    history = detector.fitted_.history
    kept = kept_epoch(history, "validation")
    return {
        "images": name,
        "preset": preset,
        "epochs": epochs,
        "statistics": statistics,
        "kept": kept["epoch"],
        "losses": {
            part: [round(float(row[part]), 5) for row in (history[0], kept, history[-1])]
            for part in ("train", "validation")
        },
        "counts": dict(detector.fitted_.counts),
        "warnings": list(detector.fitted_.warnings),
    }


def train_objects(statistics: str, epochs: int, count: int) -> dict:
    learn, test = (np.load(need(DATA / "vehicles32" / name)) for name in ("train.npy", "test.npy"))
    settings = {"training": {"epochs": epochs, "statistics": statistics, "keep": "train"}}
    detector = Detector(preset="conv-dense-objects", settings=settings, cache=False).fit(learn[:count])
    codes = encode(detector, test[:300])
    rebuilt = decode(detector, codes.grids).astype(float)
    history = detector.fitted_.history
    return {
        "statistics": statistics,
        "epochs": epochs,
        "distinct_codes": len(np.unique(codes.vectors.round(5), axis=0)),
        "variance_of_reconstructions": float(rebuilt.var(0).sum() / test[:300].astype(float).var(0).sum()),
        "validation": [round(float(history[row]["validation"]), 4) for row in (0, -1)],
        "train": [round(float(history[row]["train"]), 4) for row in (0, -1)],
        "warnings": list(detector.fitted_.warnings),
    }


if __name__ == "__main__":
    main()
