"""How fast image files are decoded, by this source and by another, in turn: CPU milliseconds an image, medians.

    python benchmarks/decoding.py [OTHER_SRC]

Each round runs a process for each source, so that what the machine is busy with meets both.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

ROUNDS, REPEATS = 7, 40
WORK = """
import json, sys, time
from pathlib import Path
try:
    from unlike.data.readers import decode
except ImportError:
    from unlike.data.images import decode
found = {}
for path in sorted(Path(sys.argv[1]).iterdir()):
    decode(path)
    start = time.process_time()
    for _ in range(int(sys.argv[2])):
        decode(path)
    found[path.name] = 1000 * (time.process_time() - start) / int(sys.argv[2])
print(json.dumps(found))
"""


def make_files(folder: Path) -> None:
    random = np.random.default_rng(0)
    large = cv2.resize(random.integers(0, 256, (40, 40, 3), np.uint8), (600, 500), interpolation=cv2.INTER_CUBIC)
    large = np.clip(large.astype(int) + random.integers(-8, 9, large.shape), 0, 255).astype(np.uint8)
    deep, alpha = large.astype(np.uint16) * 257, np.dstack([large, large[..., 0]])
    small = cv2.resize(large, (28, 28))
    files = {"colour.png": large, "grey.png": large[..., 0], "deep.png": deep, "alpha.png": alpha, "small.png": small}
    files |= {"colour.jpg": large, "small.jpg": small, "colour.bmp": large, "colour.webp": large, "colour.tif": large}
    files |= {
        "grey.tif": large[..., 0],
        "deep.tif": deep,
        "float.tif": large.astype(np.float32),
        "colour.jp2": large,
        "grey.pgm": large[..., 0],
    }
    for name, pixels in files.items():
        assert cv2.imwrite(str(folder / name), pixels)
    Image.fromarray(alpha).save(folder / "alpha.tif")
    Image.fromarray(large).save(folder / "colour.gif")


def measure(source: Path, folder: Path) -> dict[str, float]:
    environment = {**os.environ, "PYTHONPATH": str(source), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", WORK, str(folder), str(REPEATS)]
    return json.loads(subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout)


def main() -> None:
    sources = [Path(__file__).parents[1] / "src", *map(Path, sys.argv[1:])]
    with tempfile.TemporaryDirectory() as made:
        make_files(Path(made))
        rounds = [[measure(source, Path(made)) for source in sources] for _ in range(ROUNDS)]
    print("| file | " + " | ".join(map(str, sources)) + " |\n|---|" + "---|" * len(sources))
    for name in rounds[0][0]:
        medians = [np.median([turn[place][name] for turn in rounds]) for place in range(len(sources))]
        print(f"| {name} | " + " | ".join(f"{value:.3f}" for value in medians) + " |")


if __name__ == "__main__":
    main()
