"""Write a picture of the same eight faces as every model rebuilds them, after an equal time of training each.

The faces are not in the repository; UNLIKE_DATA names the folder that holds `faces64/`, and the picture stays outside.
"""

from __future__ import annotations

import argparse
import csv
import os
import time
from pathlib import Path

import cv2
import numpy as np

from unlike import Detector
from unlike.data.source import open_source
from unlike.detector.explain import explain
from unlike.models import MODELS, Autoencoder

HEAVY = ("residual-unet", "resnet")  # of which a laptop trains a few images a second


def epoch_seconds(name: str, images: np.ndarray, settings: dict) -> float:
    """CPU seconds of an epoch, the second one: the first also sets things up."""
    ends: list[float] = []
    detector = Detector(model=name, scorer="residual", epochs=2, settings=settings, device="cpu")
    detector.fit(images, notify=lambda stage, *_: ends.append(time.process_time()) if stage == "train" else None)
    return ends[-1] - ends[-2]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("output", type=Path)
    parser.add_argument("--seconds", type=float, default=20, help="CPU seconds of training a model")
    options = parser.parse_args()
    folder = Path(os.environ["UNLIKE_DATA"]) / "faces64"
    images = np.load(folder / "trainingset.npy", mmap_mode="r")
    with (folder / "testing_labels.csv").open() as file:
        normal = [int(row["ID"]) for row in csv.DictReader(file) if row["anomaly"] == "0"]
    faces = np.asarray(np.load(folder / "testingset.npy", mmap_mode="r")[normal[:8]])
    rows = [np.concatenate(list(faces), axis=1)]
    drawn = [name for name, kind in MODELS.items() if issubclass(kind, Autoencoder) and not name.startswith("feature-")]
    for name in drawn:
        settings = {"training": {"batch_size": 16 if name in HEAVY else 32}}
        seen = images[:600] if name in HEAVY else images[:3000]
        epochs = max(1, round(options.seconds / (epoch_seconds(name, images[:300], settings) * len(seen) / 300)))
        detector = Detector(model=name, scorer="residual", epochs=epochs, settings=settings, device="cpu").fit(seen)
        found = explain(detector, faces, open_source(faces).samples)
        rows.append(np.concatenate([item.rebuilt for item in found], axis=1))
        print(name, epochs, "epochs of", len(seen), flush=True)
    picture = np.concatenate(rows)
    cv2.imwrite(str(options.output), cv2.resize(picture, None, fx=2, fy=2, interpolation=cv2.INTER_NEAREST)[..., ::-1])


if __name__ == "__main__":
    main()
