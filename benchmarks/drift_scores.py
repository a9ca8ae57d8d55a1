"""Scores of normal images under changes of light and focus, and of defects: made once, and kept in the cache folder.

    python benchmarks/drift_scores.py [--set pavement] [--most 300]

A detector (`fast`) is fitted on some normal images drawn at random; others, and the same with more light or less focus, are scored, and
defective ones. Images of one set only: all of one size.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import cv2
import numpy as np
from sets import SETS, open_set

from unlike import Detector
from unlike.cache import Cache

PRESET = "fast"
CHANGES = {  # of pixels (N, H, W, C) of uint8
    "brightness +1 %": lambda images: _lighter(images, 1.01),
    "brightness +2 %": lambda images: _lighter(images, 1.02),
    "brightness +3 %": lambda images: _lighter(images, 1.03),
    "blur of 1 pixel": lambda images: np.stack(
        [cv2.GaussianBlur(image, (0, 0), 1).reshape(image.shape) for image in images]
    ),
}


def _lighter(images: np.ndarray, gain: float) -> np.ndarray:
    return np.clip(np.rint(images * gain), 0, 255).astype(np.uint8)


def scores_of(name: str, most: int) -> dict[str, np.ndarray]:
    """By name: `held out`, `fresh`, fresh ones after each change, and `defects`."""
    path = Cache.default().folder / "benchmarks" / f"drift-{name}-{most}.npz"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        np.savez(path, **make(name, most))
    with np.load(path) as kept:
        return {key: kept[key] for key in kept.files}


def make(name: str, most: int) -> dict[str, np.ndarray]:
    with tempfile.TemporaryDirectory() as folder:
        train, test = open_set(name, Path(folder))
        normal = np.stack(
            [train.read(one) for one in train.samples] + [test.read(one) for one in test.samples if not one.anomalous]
        )
        defects = np.stack([test.read(one) for one in test.samples if one.anomalous][:most])
    order = np.random.default_rng(0).permutation(len(normal))
    detector = Detector(preset=PRESET, device="cpu", settings={"decision": {"groups": "none"}}).fit(
        normal[order[:most]]
    )
    fresh = normal[order[most : 2 * most]]
    found = {"held out": detector.fitted_.decision.scores, "fresh": detector.score(fresh).image}
    found["defects"] = detector.score(defects).image
    for change, alter in CHANGES.items():
        found[change] = detector.score(alter(fresh)).image
        print(change, flush=True)
    return found


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--set", default="pavement", choices=SETS)
    parser.add_argument("--most", type=int, default=300)
    options = parser.parse_args()
    print({key: len(values) for key, values in scores_of(options.set, options.most).items()})
