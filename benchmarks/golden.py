"""Golden figures: what detectors of every preset, model and scorer say, recorded before a change and compared after it.

    python benchmarks/golden.py record FILE.npz     scores, maps, thresholds and p-values of all cases
    python benchmarks/golden.py compare OLD NEW     the largest relative gap of each case; results/golden.json

The cases are small generated images, for everything that is registered, and `transistor`, for the presets. One thread, CPU.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from common import DATA, need, write

SEED = 3
TINY = {"backbone": "efficientnet-lite0", "stages": [2, 3], "cell": 16}
FROZEN = ("padim", "patchcore", "ensemble", "dfr", "feature-pca")  # presets that train nothing
TRAINED = {  # preset -> settings that make it quick
    "textbook": {},
    "autoencoder": {},
    "three-fcn": {},
    "three-conv": {},
    "fcn-fcn-conv": {},
    "three-conv-exact": {},
    "feature-autoencoder": {},
    "feature-attention": {},
    "repair": {"data": {"size": 64}},
    "conv-dense-objects": {},
    "vae-faces": {},
    "vae-products": {"data": {"size": 64}},
}
SCORERS = {  # scorer -> settings, of a conv autoencoder
    "residual": [{}, {"scale": "channel"}, {"scale": "whitened", "positions": "each"}, {"difference": "ssim"}],
    "kmeans": [{"clusters": 3}, {"code": "vector", "scale": "standardise", "clusters": 2}],
    "equilibrium": [{"clusters": 2}],
    "gaussian": [{}, {"code": "mean", "scale": "whiten"}, {"positions": "each", "shrinkage": 0.2}],
    "mixture": [{"components": 2}],
    "neighbours": [{}, {"metric": "mahalanobis"}, {"unit": True, "neighbours": 3}, {"reduce": 4}],
    "pca": [
        {},
        {"components": 2, "distance": "mahalanobis"},
        {"code": "vector", "distance": "euclidean"},
        {"code": "vector", "distance": "whitened", "components": 5},
    ],
    "real-or-fake": [{"steps": 20}],
}


def waves(count: int, size: int, seed: int, channels: int = 3) -> np.ndarray:
    """Smooth diagonal stripes of random phase, (N, size, size, C) uint8."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[:size, :size] / size
    phase = random.uniform(0, 2 * np.pi, (count, 1, 1))
    images = 127 + 80 * np.sin(4 * np.pi * (x + y)[None] + phase) + random.normal(0, 3, (count, size, size))
    return np.repeat(np.clip(images, 0, 255).astype(np.uint8)[..., None], channels, axis=3)


def generated(size: int, channels: int = 3) -> tuple[np.ndarray, np.ndarray]:
    """Normal images to fit on, and others of which the last half have a bright square."""
    good, new = waves(48, size, 0, channels), waves(12, size, 1, channels)
    new[6:, size // 4 : size // 2, size // 3 : size // 2] = 255
    return good, new


def ensemble_name() -> str:
    from unlike.scoring import SCORERS as KNOWN

    return "ensemble" if "ensemble" in KNOWN else "fusion"


def cases() -> Iterator[tuple[str, dict[str, Any], Any, Any]]:
    """Name, what a Detector is made with, images to fit on, and images to score."""
    good, new = generated(64)
    for preset in FROZEN:
        yield f"generated/{preset}", {"preset": preset, "settings": {"data": {"size": 96}}}, good, new
        yield (
            f"generated/{preset}, held out",
            {"preset": preset, "settings": {"data": {"size": 96}, "decision": {"calibration": "held-out"}}},
            good,
            new,
        )
    for preset, settings in TRAINED.items():
        size = settings.get("data", {})
        epochs = {"training": {"epochs": 2}}
        yield (
            f"generated/{preset}",
            {"preset": preset, "settings": {**epochs, **({"data": size} if size else {})}},
            good,
            new,
        )
    few, few_new = generated(32)
    for model in ("conv", "conv-dense", "fcn", "multi-encoder", "pixels", "repair", "residual-unet", "resnet", "vae"):
        sizes = {"residual-unet": {"widths": [8, 16], "bottleneck": 32}, "vae": {"widths": [8, 16], "latent": 8}}
        training = {} if model == "pixels" else {"training": {"epochs": 2}}
        yield f"models/{model}", {"model": model, "settings": {"model": sizes.get(model, {}), **training}}, few, few_new
    for model in ("feature-linear", "feature-conv", "feature-attention", "features"):
        training = {} if model == "features" else {"training": {"epochs": 2}}
        yield f"models/{model}", {"model": model, "settings": {"model": TINY, **training}}, good, new
    for scorer, choices in SCORERS.items():
        for number, settings in enumerate(choices):
            yield (
                f"scorers/{scorer}/{number}",
                {"model": "conv", "scorer": scorer, "settings": {"scorer": settings, "training": {"epochs": 2}}},
                few,
                few_new,
            )
    yield (
        "scorers/ensemble",
        {
            "model": "conv",
            "scorer": ensemble_name(),
            "settings": {"scorer": {"settings": {"kmeans": {"clusters": 2}}}, "training": {"epochs": 2}},
        },
        few,
        few_new,
    )
    yield (
        "scorers/segmentation",
        {"model": "repair", "scorer": "segmentation", "settings": {"training": {"epochs": 2}}},
        few,
        few_new,
    )
    large, large_new = waves(30, 192, 4), waves(6, 192, 5)
    large_new[3:, 100:130, 60:80] = 0
    yield (
        "tiles/patchcore",
        {"preset": "patchcore", "settings": {"data": {"size": 192, "tile": 96}}},
        large,
        large_new,
    )
    yield (
        "tiles/conv",
        {"model": "conv", "settings": {"data": {"tile": 64}, "training": {"epochs": 2}}},
        large,
        large_new,
    )
    for preset in ("patchcore", "ensemble", "padim"):
        for calibration in ("auto", "held-out"):
            choices = {"data": {"size": 64}, "decision": {"calibration": calibration}}
            yield (
                f"categories/{preset}/{calibration}",
                {"preset": preset, "settings": choices},
                "categories",
                "categories",
            )
    yield (
        "categories/conv",
        {"model": "conv", "scorer": "residual", "settings": {"data": {"size": 64}, "training": {"epochs": 2}}},
        "categories",
        "categories",
    )


def on_transistor() -> Iterator[tuple[str, dict[str, Any], Any, Any]]:
    folder = need(DATA / "mvtec_ad_256" / "transistor")
    for preset in (*FROZEN, *TRAINED):
        settings = {} if preset in FROZEN else {"training": {"epochs": 1}}
        if preset == "vae-products":
            settings["data"] = {"size": 64}
        yield f"transistor/{preset}", {"preset": preset, "settings": settings}, str(folder), str(folder / "test")


def write_categories(folder: Path) -> Path:
    """Two kinds of images, in MVTec AD layout."""
    import cv2

    good, new = generated(64)
    for name, turn in (("plain", lambda image: image), ("turned", lambda image: 255 - image[:, ::-1] // 2)):
        for part, images in (("train/good", good), ("test/good", new[:6]), ("test/bad", new[6:])):
            target = folder / name / part
            target.mkdir(parents=True)
            for number, image in enumerate(images):
                cv2.imwrite(str(target / f"{number:03}.png"), np.ascontiguousarray(turn(image)))
    return folder


def record(file: Path) -> None:
    import tempfile

    from unlike import Detector

    found: dict[str, np.ndarray] = {}
    with tempfile.TemporaryDirectory() as folder:
        categories = str(write_categories(Path(folder)))
        for name, choices, good, others in [*cases(), *on_transistor()]:
            images, new = (
                categories if isinstance(what, str) and what == "categories" else what for what in (good, others)
            )
            detector = Detector(seed=SEED, device="cpu", cache=False, **choices).fit(images)
            scores, verdicts = detector.score(new, maps=True), detector.judge(new, regions=False)
            maps = scores.maps if scores.maps.nbytes < 4_000_000 else scores.maps[::4]
            found |= {
                f"{name}|scores": scores.image,
                f"{name}|maps": maps.astype(np.float32),
                f"{name}|thresholds": np.array([verdict.threshold for verdict in verdicts]),
                f"{name}|p_values": np.array([verdict.p_value for verdict in verdicts]),
            }
            print(f"{name}: {scores.image[:2]}", flush=True)
            np.savez(file, **found)


def compare(old: Path, new: Path) -> None:
    """The largest gap of each case, relative to the largest value of its kind."""
    before, after = np.load(old), np.load(new)
    gaps: dict[str, float] = {}
    for key in before.files:
        case = key.partition("|")[0]
        if key not in after.files or before[key].shape != after[key].shape:
            gaps[case] = float("inf")
            continue
        scale = float(np.abs(before[key]).max()) or 1.0
        gap = float(np.abs(before[key].astype(np.float64) - after[key]).max()) / scale
        gaps[case] = max(gaps.get(case, 0.0), gap)
    for case, gap in sorted(gaps.items(), key=lambda item: -item[1]):
        print(f"{gap:8.1e}  {case}")
    sys.argv[1:] = ["compare", old.name, new.name]  # as the results file says it: no folder of a machine
    within = sum(gap <= 1e-6 for gap in gaps.values())
    write("golden", {"cases": len(gaps), "within_1e-6": within, "largest_relative_gap": gaps})


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["record", "compare"])
    parser.add_argument("files", nargs="+", type=Path)
    options = parser.parse_args()
    sys.exit(record(*options.files) if options.what == "record" else compare(*options.files))
