"""Training images per CPU second through `Detector.fit`, against a bare PyTorch loop on a tensor in memory.

The bare loop has the same model, optimiser, batch size, channels_last and number of steps, and no validation, history,
checkpoint or data handling: float images lie ready in memory. The two take turns. `whole` counts everything that `fit`
does (reading, hashing, calibration); `training` only the training loop with its validation.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from functools import partial
from pathlib import Path

import numpy as np
import torch
from common import RESULTS, cpu_seconds, spread, write
from torch.nn import functional

from unlike import Detector
from unlike.data.tensors import to_tensor
from unlike.detector import fitting
from unlike.models import MODELS
from unlike.records import ImageShape

FILE = RESULTS / "training_speed.json"
BATCH = 128
SHAPES = {  # model -> images, side, epochs: those of which a laptop trains some thousands a minute, and a VAE on products
    "conv": (4000, 64, 6),
    "fcn": (4000, 64, 6),
    "multi-encoder": (4000, 64, 3),
    "vae": (400, 128, 4),
}
SIX = {"horizontal_flip": 0.5, "vertical_flip": 0.5, "rotation": 0.5, "crop": 0.5, "jitter": 0.5, "blur": 0.5}


def bare_loop(name: str, images: torch.Tensor, epochs: int) -> None:
    """What one would write by hand."""
    model = MODELS[name](MODELS[name].Config(), ImageShape(*images.shape[1:])).to(memory_format=torch.channels_last)
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.0, fused=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 1e-3, total_steps=epochs * -(-len(images) // BATCH))
    for _ in range(epochs):
        order = torch.randperm(len(images))
        for start in range(0, len(order), BATCH):
            batch = images[order[start : start + BATCH]].contiguous(memory_format=torch.channels_last)
            loss = model.loss(batch, functional.mse_loss)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()


def measure(name: str, pixels: np.ndarray, epochs: int, rounds: int) -> dict:
    train = fitting.train
    inside: list[float] = []

    def timed(*arguments, **named):
        start = time.process_time()
        history = train(*arguments, **named)
        inside.append(time.process_time() - start)
        return history

    fitting.train = timed
    whole, bare, counts = [], [], {}
    for _ in range(rounds):
        with tempfile.TemporaryDirectory() as folder:
            detector = Detector(model=name, epochs=epochs, settings={"training": {"batch_size": BATCH}}, device="cpu")
            whole.append(cpu_seconds(partial(detector.fit, pixels, checkpoint=Path(folder) / "state")))
        counts = detector.fitted_.counts
        images = to_tensor(pixels[: counts["train"]], (0.0, 255.0))
        bare.append(cpu_seconds(partial(bare_loop, name, images, epochs)))
    fitting.train = train
    done = counts["train"] * epochs
    return {
        "images": done,
        "bare_images_per_cpu_second": spread([done / seconds for seconds in bare]),
        "training_images_per_cpu_second": spread([done / seconds for seconds in inside]),
        "whole_images_per_cpu_second": spread([done / seconds for seconds in whole]),
        "training_to_bare": spread([b / seconds for b, seconds in zip(bare, inside, strict=True)]),
        "whole_to_bare": spread([b / seconds for b, seconds in zip(bare, whole, strict=True)]),
    }


def augmented_to_plain(rounds: int) -> dict:
    """CPU seconds of a fit with all six augmentations, to one without, in turns."""
    pixels = make_pixels(4000, 64)
    ratios = []
    for _ in range(rounds):
        seconds = [
            cpu_seconds(partial(Detector(model="conv", epochs=4, settings=settings, device="cpu").fit, pixels))
            for settings in ({"training": {"batch_size": BATCH}}, {"training": {"batch_size": BATCH}, "augment": SIX})
        ]
        ratios.append(seconds[1] / seconds[0])
    return spread(ratios)


def make_pixels(count: int, side: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, side, side, 3), dtype=np.uint8)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--models", nargs="+", default=list(SHAPES), choices=list(SHAPES))
    parser.add_argument("--augmented", action="store_true", help="also an augmented fit against a plain one")
    options = parser.parse_args()
    kept = json.loads(FILE.read_text()) if FILE.exists() else {}  # of models that are not run again
    models = kept.get("models", {})
    more = {name: kept[name] for name in ("augmented_to_plain",) if name in kept}
    for name in options.models:
        count, side, epochs = SHAPES[name]
        models[name] = measure(name, make_pixels(count, side), epochs, options.rounds)
        models[name]["of"] = f"{count} x {side} x {side} x 3 uint8, {epochs} epochs, {options.rounds} rounds"
        write("training_speed", {"batch": BATCH, "models": models, **more})
    if options.augmented:
        more = {"augmented_to_plain": augmented_to_plain(options.rounds)}
        write("training_speed", {"batch": BATCH, "models": models, **more})


if __name__ == "__main__":
    main()
