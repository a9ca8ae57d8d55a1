"""Write docs/pictures/cells.jpg from what `unlike demo` left behind: the four most unusual cells, explained."""

from __future__ import annotations

import sys
from pathlib import Path

import cv2
import numpy as np

from unlike import Detector
from unlike.data.source import open_source
from unlike.detector.explain import explain
from unlike.report.gallery import colour_limit, colour_start, overlay

PICTURE = Path(__file__).parent / "pictures" / "cells.jpg"
SIDE, GAP = 150, 6


def tile(image: np.ndarray) -> np.ndarray:
    colour = image if image.shape[2] == 3 else np.repeat(image, 3, axis=2)
    return cv2.resize(colour, (SIDE, SIDE), interpolation=cv2.INTER_CUBIC)


def main(folder: Path) -> None:
    detector = Detector.load(folder / "cells.unlike")
    broken = open_source(folder.parent / "cells" / "test" / "defective")
    scores = detector.score(broken).image
    chosen = [broken.samples[row] for row in np.argsort(-scores)[:4]]
    found = explain(detector, broken, chosen)
    limit = colour_limit([item.map for item in found])
    good = open_source(folder.parent / "cells" / "test" / "good")
    start = colour_start([item.map for item in explain(detector, good, list(good.samples[:20]))], limit)
    columns = []
    for item in found:
        shown = (item.image, item.rebuilt, overlay(item.image, item.map, limit, start))
        gap = np.full((GAP, SIDE, 3), 255, np.uint8)
        columns += [np.concatenate([part for image in shown for part in (tile(image), gap)][:-1])]
        columns += [np.full((len(columns[0]), GAP * 2, 3), 255, np.uint8)]
    picture = np.concatenate(columns[:-1], axis=1)
    PICTURE.parent.mkdir(exist_ok=True)
    cv2.imwrite(str(PICTURE), picture[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 88])


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path("unlike-demo/autoencoder"))
