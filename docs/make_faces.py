"""Write a picture of the same eight faces as every model rebuilds them, after an equal time of training each.

The faces are not in the repository; UNLIKE_DATA names the folder that holds `faces64/`, and the picture stays outside.
"""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path

import cv2
import numpy as np

from unlike import Detector
from unlike.data.index import find_images
from unlike.models import MODELS

HEAVY = {"residual-unet": {"training": {"batch_size": 16}}}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("output", type=Path)
    parser.add_argument("--seconds", type=float, default=20, help="CPU seconds of training a model")
    options = parser.parse_args()
    folder = Path(os.environ["UNLIKE_DATA"]) / "faces64"
    images = np.load(folder / "trainingset.npy", mmap_mode="r")
    faces = np.asarray(np.load(folder / "testingset.npy", mmap_mode="r")[:8])
    rows = [np.concatenate(list(faces), axis=1)]
    for name in MODELS:
        start = time.process_time()
        Detector(model=name, epochs=1, settings=HEAVY.get(name), device="cpu").fit(images[:500])
        epochs = max(1, round(options.seconds / (time.process_time() - start) / 6))
        detector = Detector(model=name, epochs=epochs, settings=HEAVY.get(name), device="cpu").fit(images[:3000])
        found = detector.explain(faces, find_images(faces).samples)
        rows.append(np.concatenate([item.rebuilt for item in found], axis=1))
        print(name, epochs, "epochs", flush=True)
    picture = np.concatenate(rows)
    cv2.imwrite(str(options.output), cv2.resize(picture, None, fx=2, fy=2, interpolation=cv2.INTER_NEAREST)[..., ::-1])


if __name__ == "__main__":
    main()
