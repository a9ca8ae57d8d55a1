"""Scores of real images, fitted and scored once for each set and preset, and kept: what rules are then compared on in seconds.

    python benchmarks/scored.py [--preset ensemble] [--sets cookies ...]

Of each set: the held-out scores of the normal images that the detector was fitted on, each as if it had not been learned from, and
those of fresh images, normal and anomalous. They lie in the cache folder, one `.npz` a set and preset.
"""

from __future__ import annotations

import argparse
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from common import DATA, need
from detection import SETS as OTHERS
from detection import open_folder

from unlike import Detector
from unlike.cache import Cache
from unlike.data.source import Source

FOLDERS = ("cookies", "mtoc", "headct", "pneumonia28", "pavement", "hyper205")
SETS = OTHERS | {name: lambda _, name=name: open_folder(need(DATA / name)) for name in FOLDERS}
MOST = 300  # fresh images of a set


@dataclass(frozen=True, slots=True, eq=False)
class Scored:
    """What a detector makes of one set."""

    held_out: np.ndarray  # (n,) scores of normal images, as if they were new
    normal: np.ndarray  # (N,) of fresh normal images
    anomalous: np.ndarray  # (M,)


def scored(name: str, preset: str) -> Scored:
    """The scores of a set by a preset: from the cache folder, or made now."""
    path = Cache.default().folder / "benchmarks" / f"{preset}-{name.replace(' ', '_')}.npz"
    if not path.exists():
        found = make(name, preset)
        path.parent.mkdir(parents=True, exist_ok=True)
        np.savez(path, held_out=found.held_out, normal=found.normal, anomalous=found.anomalous)
    with np.load(path) as kept:
        return Scored(kept["held_out"], kept["normal"], kept["anomalous"])


def make(name: str, preset: str) -> Scored:
    with tempfile.TemporaryDirectory() as folder:
        learn, test = SETS[name](Path(folder))
        detector = Detector(preset=preset, device="cpu").fit(learn)
        test = test.take(some(test))
        found = detector.score(test)
    labels = {sample.id: bool(sample.anomalous) for sample in test.samples}
    anomalous = np.array([labels[image] for image in found.ids])
    return Scored(detector.fitted_.decision.scores, found.image[~anomalous], found.image[anomalous])


def some(test: Source) -> np.ndarray:
    """Rows of at most so many images, in order."""
    return np.sort(np.random.default_rng(0).permutation(len(test))[:MOST])


def options_of(description: str | None) -> argparse.ArgumentParser:
    """What the scripts that use these scores take."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--preset", default="ensemble")
    parser.add_argument("--sets", nargs="+", choices=SETS, default=list(SETS))
    return parser


if __name__ == "__main__":
    options = options_of(__doc__).parse_args()
    for data in options.sets:
        kept = scored(data, options.preset)
        print(data, len(kept.held_out), len(kept.normal), len(kept.anomalous), flush=True)
