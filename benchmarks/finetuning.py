"""What a detector's encoder is worth to a classifier: accuracy fine-tuned, frozen and from scratch, by number of labels.

Two real sets. vehicles32 (CIFAR-10, 32 x 32) is the one at hand with two classes of 250 labels and more: a detector is
fitted on its 3,000 vehicles without labels, as it would be to find what is none; of the 750 vehicles and 750 animals of
its test part 10, 50 or 250 a class are labelled. The digits of scikit-learn (8 x 8, brought to 16 x 16) have ten classes
of at most 183: a detector is fitted, without labels, on all that are not for testing; 10, 50 or 100 a class are labelled.
A fifth of the labelled images validates. The test images are drawn anew for each seed and seen by no one before. All
arms of a seed see the same images in the same order.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass

import numpy as np
from common import DATA, need, spread, write
from sklearn.datasets import load_digits

from unlike import Classifier, Detector

VEHICLES = DATA / "vehicles32"
ARMS = {"fine-tuned": {}, "frozen": {"freeze_encoder": True}, "scratch": {"scratch": True}}


@dataclass(frozen=True)
class Labelled:
    """Labelled images, and how many of each class are for testing and for learning."""

    images: np.ndarray
    names: np.ndarray
    test: int
    labels: tuple[int, ...]
    size: int
    unlabelled: np.ndarray | None = None  # None: the images that are not for testing

    def divide(self, seed: int) -> tuple[np.ndarray, np.ndarray]:
        """Rows for testing (K, test), and for learning (K, the most labels)."""
        random = np.random.default_rng(seed)
        orders = [random.permutation(np.flatnonzero(self.names == name)) for name in np.unique(self.names)]
        test = np.stack([order[: self.test] for order in orders])
        return test, np.stack([order[self.test : self.test + self.labels[-1]] for order in orders])


def vehicles() -> Labelled:
    anomalous = np.loadtxt(need(VEHICLES / "test_labels.csv"), delimiter=",", skiprows=1, dtype=int)[:, 1]
    names = np.array(["vehicle", "animal"])[anomalous]
    images, unlabelled = (np.load(VEHICLES / f"{part}.npy") for part in ("test", "train"))
    return Labelled(images, names, 500, (10, 50, 250), 32, unlabelled)


def digits() -> Labelled:
    data = load_digits()
    return Labelled((data.images * 15.9375).astype(np.uint8), data.target.astype(str), 70, (10, 50, 100), 16)


def measure(labelled: Labelled, seed: int, epochs: int) -> dict[tuple[str, int], tuple[float, float]]:
    """Accuracy and CPU seconds of every arm at every number of labels."""
    test, learn = labelled.divide(seed)
    rest = np.delete(labelled.images, test.ravel(), axis=0) if labelled.unlabelled is None else labelled.unlabelled
    detector = Detector(model="conv", size=labelled.size, epochs=10, seed=seed, device="cpu").fit(rest)
    found = {}
    for labels in labelled.labels:
        rows = learn[:, :labels].ravel()
        for arm, choices in ARMS.items():
            start = time.process_time()
            settings = {"finetune": choices}
            classifier = Classifier.from_detector(detector, epochs=epochs, seed=seed, device="cpu", settings=settings)
            classifier.fit(labelled.images[rows], labelled.names[rows])
            seconds = time.process_time() - start
            right = np.array(classifier.predict(labelled.images[test.ravel()]).names) == labelled.names[test.ravel()]
            found[arm, labels] = (float(right.mean()), seconds)
    return found


def table(labelled: Labelled, seeds: int, epochs: int) -> dict:
    runs = [measure(labelled, seed, epochs) for seed in range(seeds)]
    rows = {
        arm: {
            f"{labels} a class": {
                "accuracy": spread([run[arm, labels][0] for run in runs]),
                "cpu_seconds": spread([run[arm, labels][1] for run in runs]),
            }
            for labels in labelled.labels
        }
        for arm in ARMS
    }
    return {"classes": len(np.unique(labelled.names)), "test_images_a_class": labelled.test, **rows}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=40)
    options = parser.parse_args()
    sets = {make.__name__: table(make(), options.seeds, options.epochs) for make in (vehicles, digits)}
    write("finetuning", {"seeds": options.seeds, "epochs": options.epochs, "sets": sets})


if __name__ == "__main__":
    main()
