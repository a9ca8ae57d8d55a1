"""Fit anomalib as `anomalib_peer.py` does, have it write its own ONNX, and keep what its own torch says of the test images.

    PEER_PYTHON anomalib_export.py FOLDER patchcore|padim OUT [--size 256] [--seed 0]

OUT becomes a folder: `weights/onnx/model.onnx`, as anomalib writes it, and `torch.npz` with the images as they go in and the scores and
maps of each image by itself. `export.py --peer` holds both against each other, and times the graph beside ours in one process.
"""

from __future__ import annotations

import argparse
import json
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from anomalib.models.components.sampling.k_center_greedy import KCenterGreedy
from anomalib_peer import SETTINGS, fit, make_model, read, select_coreset


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("model", choices=list(SETTINGS))
    parser.add_argument("out", type=Path)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(options.seed)
    KCenterGreedy.select_coreset_idxs = select_coreset
    model = make_model(options.model, options.size)
    kinds = [path for path in sorted((options.folder / "test").iterdir()) if path.is_dir()]
    fit(model, options.folder, kinds, options.seed)
    files = [path for kind in kinds for path in sorted(kind.iterdir())]
    pixels = torch.stack([read(path, options.size) for path in files])
    model.eval()
    with torch.inference_mode():
        found = [model(pixels[row : row + 1]) for row in range(len(files))]
    scores = torch.cat([one.pred_score.flatten() for one in found]).numpy()
    maps = torch.cat([one.anomaly_map.reshape(1, *one.anomaly_map.shape[-2:]) for one in found]).numpy()
    path = model.to_onnx(options.out, input_size=(options.size, options.size))
    np.savez(options.out / "torch.npz", pixels=pixels.numpy(), scores=scores, maps=maps)
    versions = {name: version(name) for name in ("anomalib", "torch", "onnx")}
    print(json.dumps({"model": str(path), "versions": versions}))


if __name__ == "__main__":
    main()
