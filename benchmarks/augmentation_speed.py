"""Images of 64 x 64 x 3 that the six augmentations change in a CPU second, against torchvision's v2 on an image at a time.

Both have the same probabilities and ranges, and bilinear rotation; hue, which costs torchvision a way through HSV, is
measured apart. CPU seconds count all threads of OpenCV, so one
thread and OpenCV's own choice are measured apart; torch has one. The three take turns.
"""

from __future__ import annotations

import argparse
from functools import partial

import cv2
import numpy as np
import torch
from common import cpu_seconds, spread, write

from unlike.data.augment import CHANCES, AugmentConfig, augment

BATCH, SIDE = 128, 64
OWN_THREADS = cv2.getNumThreads()


def ours(pixels: np.ndarray, config: AugmentConfig, threads: int) -> None:
    cv2.setNumThreads(threads)
    random = np.random.default_rng(0)
    for start in range(0, len(pixels), BATCH):
        augment(pixels[start : start + BATCH], config, random)


def theirs(images: torch.Tensor, change: torch.nn.Module) -> None:
    for image in images:
        change(image)


def torchvision_like(config: AugmentConfig) -> torch.nn.Module:
    """The same six of torchvision; its jitter takes factors, its crop a share of the area."""
    from torchvision.transforms import v2

    bilinear = v2.InterpolationMode.BILINEAR
    factors = [list(getattr(config, f"jitter_{name}")) for name in ("brightness", "contrast", "saturation")]
    hue = [degrees / 360 for degrees in config.jitter_hue_degrees]
    taps = round(6 * config.blur_pixels[1] + 1) | 1
    return v2.Compose(
        [
            v2.RandomHorizontalFlip(config.horizontal_flip),
            v2.RandomVerticalFlip(config.vertical_flip),
            v2.RandomApply([v2.RandomRotation(list(config.rotation_degrees), bilinear)], config.rotation),
            v2.RandomApply([v2.RandomResizedCrop(SIDE, config.crop_area, (1.0, 1.0), bilinear)], config.crop),
            v2.RandomApply([v2.ColorJitter(*factors, hue if any(hue) else 0)], config.jitter),
            v2.RandomApply([v2.GaussianBlur(taps, list(config.blur_pixels))], config.blur),
        ]
    )


def measure(config: AugmentConfig, pixels: np.ndarray, few: torch.Tensor, rounds: int) -> dict:
    change = torchvision_like(config)
    theirs(few[:16], change)  # what is loaded on the first call is not counted
    rates: dict[str, list[float]] = {"one_thread": [], "own_threads": [], "torchvision": []}
    for _ in range(rounds):
        for name, threads in (("one_thread", 1), ("own_threads", OWN_THREADS)):
            rates[name].append(len(pixels) / cpu_seconds(partial(ours, pixels, config, threads)))
        rates["torchvision"].append(len(few) / cpu_seconds(partial(theirs, few, change)))
    ratios = [own / other for own, other in zip(rates["one_thread"], rates["torchvision"], strict=True)]
    return {name: spread(values) for name, values in rates.items()} | {"one_thread_to_torchvision": spread(ratios)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=2048)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    pixels = np.random.default_rng(0).integers(0, 256, (options.images, SIDE, SIDE, 3), dtype=np.uint8)
    few = torch.from_numpy(pixels[: options.images // 8]).permute(0, 3, 1, 2).contiguous()
    configs = {f"{name}, always": AugmentConfig(**{name: 1.0}) for name in CHANCES}
    for p in (0.5, 1.0):
        six = dict.fromkeys(CHANCES, p)
        configs[f"all six, probability {p:g}"] = AugmentConfig(**six)
        configs[f"all six and hue, probability {p:g}"] = AugmentConfig(**six, jitter_hue_degrees=(-18.0, 18.0))
    results = {name: measure(config, pixels, few, options.rounds) for name, config in configs.items()}
    facts = {"images": f"{len(pixels)} x {SIDE} x {SIDE} x 3 uint8", "batch": BATCH, "opencv_own_threads": OWN_THREADS}
    write("augmentation_speed", facts | {"images_per_cpu_second": results})


if __name__ == "__main__":
    main()
