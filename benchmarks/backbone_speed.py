"""Frozen features of EfficientNet-Lite0 at 256 px in each runtime: images per CPU second, one by one and 32 at a time.

The runtimes take turns, so that whatever else the machine does meets all of them. Beside each stands how far its
features are from those of the plain torch module, relative to the largest.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import importlib.util
from functools import partial

from common import cpu_seconds, spread, write

SIDE, BATCH = 256, 32


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--backbone", default="efficientnet-lite0")
    parser.add_argument("--random", action="store_true", help="random weights, for a backbone whose own are not here")
    options = parser.parse_args()
    import torch

    from unlike.backbones.frozen_features import FeaturesConfig, make_features
    from unlike.backbones.runtimes import PACKAGES, RUNTIMES
    from unlike.records import ImageShape

    make = partial(FeaturesConfig, backbone=options.backbone, pretrained=not options.random)
    shape = ImageShape(3, SIDE, SIDE)
    here = [name for name in RUNTIMES if name not in PACKAGES or importlib.util.find_spec(PACKAGES[name][0])]
    plain = make_features(make(), shape).module
    models = {"plain torch": plain}
    for name in here:
        models[name] = make_features(make(runtime=name), shape)
        models[name].load_state_dict({f"module.{key}": value for key, value in plain.state_dict().items()})
    noise = torch.rand(BATCH, SIDE, SIDE, 3, generator=torch.Generator().manual_seed(0))
    images = (noise * 2 - 1).permute(0, 3, 1, 2)  # channels last in memory, as they come from disk

    def one_by_one(name):
        for image in images:
            models[name](image[None])

    with torch.inference_mode():
        expected = plain(images)
        gaps = {
            name: float((model(images) - expected).abs().max() / expected.abs().max()) for name, model in models.items()
        }
        speeds = {name: {"alone": [], "batch": []} for name in models}
        for name in models:  # what is slow the first few times only
            one_by_one(name)
        for _ in range(options.rounds):
            for name, model in models.items():
                speeds[name]["alone"].append(BATCH / cpu_seconds(partial(one_by_one, name)))
                speeds[name]["batch"].append(BATCH / cpu_seconds(partial(model, images)))
    results = {
        name: {
            "images_per_cpu_second_alone": spread(rates["alone"]),
            f"images_per_cpu_second_of_{BATCH}": spread(rates["batch"]),
            "relative_difference": gaps[name],
        }
        for name, rates in speeds.items()
    }
    packages = {name: importlib.metadata.version(PACKAGES[name][0]) for name in here if name in PACKAGES}
    write("backbone_speed", {"backbone": options.backbone, "side": SIDE, "packages": packages, "runtimes": results})


if __name__ == "__main__":
    main()
