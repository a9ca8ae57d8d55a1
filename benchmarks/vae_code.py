"""Whether the code of a variational autoencoder says anything of faces: nats an image, and elements that differ.

An element is active where its mean varies by more than 0.01 from image to image (Burda et al. 2016, section 5). A collapsed code
has no nats and no active element, and scores every image by its distance to one average face.
"""

from __future__ import annotations

import argparse

import numpy as np
import torch
from common import DATA, need, spread, write

from unlike import Detector, evaluate
from unlike.data.tensors import to_tensor
from unlike.models.vae import VariationalAutoencoder, divergence

FEW = 500  # test faces that are encoded
ACTIVE = 0.01


@torch.no_grad()
def measure_code(model: VariationalAutoencoder, pixels: np.ndarray) -> dict:
    mean, log_variance = model.posterior(to_tensor(pixels, (0.0, 255.0)))
    return {
        "nats": float(divergence(mean, log_variance).sum()),
        "active": int((mean.var(dim=0) > ACTIVE).sum()),
        "elements": mean[0].numel(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=4)
    options = parser.parse_args()
    folder = need(DATA / "faces64")
    labels = folder / "testing_labels.csv"
    normal = np.loadtxt(labels, delimiter=",", skiprows=1, usecols=1) == 0
    pixels = np.load(folder / "testingset.npy", mmap_mode="r")[normal][:FEW]
    runs = []
    for seed in range(options.seeds):
        detector = Detector(preset="vae-faces", epochs=options.epochs, seed=seed, device="cpu", cache=False)
        detector.fit(folder / "trainingset.npy")
        auroc = evaluate(detector, folder / "testingset.npy", labels).overall.image["auroc"]
        runs.append(measure_code(detector.fitted_.pipeline.model, pixels) | {"auroc": auroc.value})
        print(runs[-1], flush=True)
    spreads = {key: spread([run[key] for run in runs]) for key in runs[0]}
    write("vae_code", {"preset": "vae-faces", "epochs": options.epochs, "seeds": options.seeds, **spreads})


if __name__ == "__main__":
    main()
