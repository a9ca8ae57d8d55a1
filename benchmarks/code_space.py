"""Every model by every scorer on faces64 and vehicles32: AUROC, and how much a score is the complexity of the image.

A model is trained once a seed; all scorers look at the same codes. Settings are the same for all models and both sets;
which columns there are was settled with the labels of vehicles32 seen. `complexity` is Spearman's correlation, over normal test images alone, of the
score with the mean absolute difference of neighbouring pixels: a score that follows it measures how busy an image is.
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
import time
from pathlib import Path

import numpy as np
import torch
from common import DATA, RESULTS, need, spread, write
from scipy.stats import spearmanr
from torch import Tensor

from unlike import Detector
from unlike.errors import UnlikeError
from unlike.evaluation.metrics import measure_images
from unlike.models import Autoencoder, Model
from unlike.study.figures import heat

FILE = RESULTS / "code_space.json"
PICTURES = Path(__file__).parents[1] / "docs" / "pictures"
SETS = {
    "faces64": ("faces64/trainingset.npy", "faces64/testingset.npy", "faces64/testing_labels.csv"),
    "vehicles32": ("vehicles32/train.npy", "vehicles32/test.npy", "vehicles32/test_labels.csv"),
}
FEATURES = {"model": {"stages": [2, 3, 4], "cell": 32}, "data": {"size": 96}}
ROWS = {  # name -> model, settings, view of its code
    "pixels": ("pixels", {}, "grid"),
    "fcn": ("fcn", {"training": {"epochs": 20}}, "grid"),
    "conv": ("conv", {"training": {"epochs": 12}}, "vector"),  # of 64 x 64 a row of 3,072 numbers: slow
    "conv, bottleneck 64": ("conv", {"model": {"bottleneck": 64}, "training": {"epochs": 12}}, "grid"),
    "vae": ("vae", {"model": {"widths": [32, 64, 128], "latent": 64}, "training": {"epochs": 5}}, "grid"),
    "features": ("features", FEATURES, "mean"),
}
UNIT, WHITE = {"unit": True}, {"scale": "whiten", "unit": True}
COLUMNS = {  # name -> scorer, settings
    "residual": ("residual", {}),
    "kmeans": ("kmeans", {}),
    "kmeans, unit": ("kmeans", UNIT),
    "equilibrium": ("equilibrium", {}),
    "equilibrium, unit": ("equilibrium", UNIT),
    "pca": ("pca", {}),
    "pca, unit": ("pca", UNIT),
    "gaussian": ("gaussian", {}),
    "gaussian, unit": ("gaussian", UNIT),
    "neighbours": ("neighbours", {}),
    "neighbours, unit": ("neighbours", UNIT),
    "neighbours, whitened, unit": ("neighbours", WHITE),
    "5 neighbours, whitened, unit": ("neighbours", {**WHITE, "neighbours": 5}),
    "mixture": ("mixture", {"shape": "diagonal"}),
    "residual + kmeans": ("ensemble", {"scorers": ["residual", "kmeans"]}),
}


def remember(model: Model) -> Model:
    """The same model, but an image that it has seen is not looked at again: scorers share the work."""
    seen: dict[bytes, Tensor] = {}
    encode = model.encode

    def encode_once(images: Tensor) -> Tensor:
        keys = [image.contiguous().numpy().tobytes() for image in images]
        if not all(key in seen for key in keys):
            seen.update(zip(keys, encode(images), strict=True))
        return torch.stack([seen[key] for key in keys])

    model.encode = encode_once  # type: ignore[method-assign]
    return model


def draw(rows: list[dict]) -> None:
    """A heat map a set: models down, scorers across."""
    for data in dict.fromkeys(row["set"] for row in rows):
        found = {(row["scorer"], row["model"]): row["auroc"]["median"] for row in rows if row["set"] == data}
        down, across = (list(dict.fromkeys(pair[side] for pair in found)) for side in (0, 1))
        medians = np.array([[found.get((one, other), np.nan) for other in across] for one in down])
        figure = heat(down, across, medians, f"AUROC on {data}, median over seeds", ("scorer", "model"))
        figure.savefig(PICTURES / f"code_space_{data}.svg", metadata={"Date": None})


def read_set(name: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    train, test, labels = (need(DATA / path) for path in SETS[name])
    with labels.open() as file:
        anomalous = np.array([row["anomaly"] == "1" for row in csv.DictReader(file)])
    return np.load(train), np.load(test), anomalous


def busyness(images: np.ndarray) -> np.ndarray:
    values = images.astype(np.float32)
    return np.abs(np.diff(values, axis=1)).mean(axis=(1, 2, 3)) + np.abs(np.diff(values, axis=2)).mean(axis=(1, 2, 3))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--sets", nargs="*", default=list(SETS))
    parser.add_argument("--models", nargs="*", default=list(ROWS))
    options = parser.parse_args()
    cells: dict[tuple[str, str, str], list[dict]] = {}
    for data in options.sets:
        train, test, anomalous = read_set(data)
        busy = busyness(test[~anomalous])
        for row in options.models:
            model, settings, view = ROWS[row]
            for seed in range(options.seeds):
                start = time.process_time()
                first = Detector(model, "kmeans", seed=seed, settings=settings, device="cpu", cache=False).fit(train)
                if not isinstance(first.fitted_.pipeline.model, Autoencoder):
                    remember(first.fitted_.pipeline.model)
                for column, (scorer, more) in COLUMNS.items():
                    views = {"code": view} if scorer not in ("residual", "ensemble") else {}
                    if scorer == "ensemble":
                        views = {"settings": {"kmeans": {"code": view}}}
                    chosen = {**settings, "scorer": {**views, **more}}
                    try:
                        detector = Detector(model, scorer, seed=seed, settings=chosen, device="cpu", cache=False)
                        scores = detector.fit(train, model=first.fitted_.pipeline.model).score(test).image
                    except UnlikeError as error:
                        print(data, row, column, error, file=sys.stderr)
                        continue
                    found = measure_images(scores, anomalous, detector.fitted_.decision.threshold, seed).image["auroc"]
                    complexity = float(spearmanr(scores[~anomalous], busy).statistic)
                    cells.setdefault((data, row, column), []).append(
                        {"auroc": found.value, "interval": str(found), "complexity": complexity}
                    )
                print(data, row, seed, f"{time.process_time() - start:.0f} CPU s", file=sys.stderr, flush=True)
            write_rows(cells, options.seeds)


def write_rows(cells: dict[tuple[str, str, str], list[dict]], seeds: int) -> None:
    """What there is so far, beside what earlier runs of other models left."""
    rows = [
        {
            "set": data,
            "model": row,
            "scorer": column,
            "auroc": spread([one["auroc"] for one in found]),
            "intervals": [one["interval"] for one in found],
            "complexity": spread([one["complexity"] for one in found]),
        }
        for (data, row, column), found in cells.items()
    ]
    fresh = {(row["set"], row["model"]) for row in rows}
    kept = json.loads(FILE.read_text())["rows"] if FILE.exists() else []
    rows += [row for row in kept if (row["set"], row["model"]) not in fresh]
    rows.sort(key=lambda row: (row["set"], list(ROWS).index(row["model"]), list(COLUMNS).index(row["scorer"])))
    draw(rows)
    write("code_space", {"seeds": seeds, "models": ROWS, "scorers": COLUMNS, "rows": rows})


if __name__ == "__main__":
    main()
