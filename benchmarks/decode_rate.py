"""CPU seconds to read an image file and bring it to 256 x 256, by its kind and size: how soon decoding is the bottleneck."""

from __future__ import annotations

import tempfile
from pathlib import Path

import cv2
import numpy as np
from common import cpu_seconds, write

from unlike.data.input_spec import InputSpec, conform
from unlike.data.readers import decode

SPEC, REPEATS = InputSpec(256, 256, 3), 20


def make(path: Path, side: int) -> int:
    """A picture with as much detail as photographs have, roughly; its bytes."""
    draw = np.random.default_rng(0)
    rough = cv2.resize(
        draw.integers(0, 256, (side // 8, side // 8, 3), dtype=np.uint8), (side, side), interpolation=cv2.INTER_CUBIC
    )
    cv2.imwrite(str(path), np.clip(rough + draw.normal(0, 4, rough.shape), 0, 255).astype(np.uint8))
    return path.stat().st_size


def main() -> None:
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for kind in ("jpg", "png"):
            for side in (256, 1024, 2048):
                path = Path(folder) / f"{side}.{kind}"
                size = make(path, side)
                conform(decode(path), SPEC)
                seconds = cpu_seconds(lambda path=path: [conform(decode(path), SPEC) for _ in range(REPEATS)]) / REPEATS
                rows.append({"kind": kind, "side": side, "kilobytes": size / 1e3, "cpu_milliseconds": 1e3 * seconds})
    write("decode_rate", {"to": list(SPEC.size), "rows": rows})


if __name__ == "__main__":
    main()
