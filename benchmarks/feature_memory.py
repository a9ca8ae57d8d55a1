"""What it saves that a feature autoencoder looks at each image once: fits of `feature-linear` on transistors, with and without, in turns."""

from __future__ import annotations

import argparse
from functools import partial
from unittest import mock

from common import DATA, cpu_seconds, need, spread, write

from unlike import Detector
from unlike.backbones.feature_cache import FeatureCache
from unlike.models import feature_autoencoder

SET = "mvtec_ad_256/transistor"


def fit(epochs: int, most_bytes: int) -> float:
    """CPU seconds; nothing is cached where nothing may be."""
    settings = {"training": {"epochs": epochs}}
    with mock.patch.object(feature_autoencoder, "FeatureCache", partial(FeatureCache, most_bytes)):
        detector = Detector(preset="feature-autoencoder", settings=settings, device="cpu", cache=False)
        return cpu_seconds(lambda: detector.fit(need(DATA / SET)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=10)
    options = parser.parse_args()
    fit(1, 0)  # imports are on nobody's account
    rounds = [(fit(options.epochs, FeatureCache().most_bytes), fit(options.epochs, 0)) for _ in range(options.rounds)]
    write(
        "feature_memory",
        {
            "epochs": options.epochs,
            "rounds": options.rounds,
            "with_cpu_seconds": spread([kept for kept, _ in rounds]),
            "without_cpu_seconds": spread([anew for _, anew in rounds]),
            "without_to_with": spread([anew / kept for kept, anew in rounds]),
        },
    )


if __name__ == "__main__":
    main()
