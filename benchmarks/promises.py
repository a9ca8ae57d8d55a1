"""What is promised against what is delivered: false alarms on fresh normal images over many random splits, by images and in series.

Of each set the features of all normal images are computed once, and of some defective ones; a split takes some normal images to
fit on and the rest as fresh ones. What a fit does from features on is done anew in each: the scorer learns, each image is left
out, thresholds are drawn. In series, each image becomes a burst of shots: moved, cropped, in more or less light, with noise; a split takes whole
bursts, and fresh images are of other bursts. There the promise is held against what it would be if images counted, and it is the fit that
must find the bursts. A promise holds on average over splits: the mean must not exceed it by more than its standard error explains.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import torch
from common import DATA, RESULTS, need, write

from unlike.calibration.conformal import p_values, smallest_promise
from unlike.calibration.groups import group_weights
from unlike.calibration.leave_one_out import fit_leave_one_out
from unlike.data.batches import iterate, value_range_of
from unlike.data.cells import load_cells
from unlike.data.source import Source, labelled, open_source, training
from unlike.data.tensors import to_tensor
from unlike.detector.building import build_model, spec_for
from unlike.detector.grouping import find_by_features
from unlike.detector.pipeline import Pipeline
from unlike.detector.scorers import make_scorer
from unlike.detector.settings import DecisionConfig, Settings
from unlike.records import Floats, Rows, Sample

FILE = RESULTS / "promises.json"
FOLDERS = {
    "transistor": "mvtec_ad_256/transistor",
    "pavement": "pavement",
    "magnetic_tile": "magnetic_tile",
    "pneumonia28": "pneumonia28",
}
SETS = ("elpv-mono", *FOLDERS)
PROMISES = (0.01, 0.05, 0.1)
SHOTS = 4  # of a burst
MOST_NORMAL, MOST_DEFECTIVE, MOST_BURSTS = 450, 60, 160
FITTED_ON = 100  # images of a split, or bursts times shots
BURSTS_FITTED_ON = 40


def sources(name: str) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Normal and defective images of a set, as they are."""
    if name == "elpv-mono":
        cells, probability, kind = load_cells()
        mono = kind == "mono"
        normal, broken = cells[mono & (probability == 0)], cells[mono & (probability == 1)]
        return [*normal[..., None]], [*broken[..., None]]
    source = open_source(str(need(DATA / FOLDERS[name])))
    normal, broken = [], []
    for part in (training(source), labelled(source)):
        for sample in part.samples:
            (broken if sample.anomalous else normal).append(part.read(sample))
    return normal, broken


def shoot(image: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Another shot of an image: moved by up to 2 % of its sides, cropped by up to 4 %, in up to 6 % more or less light, with noise."""
    height, width = image.shape[:2]
    scale = 1 / random.uniform(0.96, 1.0)
    turn = cv2.getRotationMatrix2D((width / 2, height / 2), random.uniform(-1, 1), scale)
    turn[:, 2] += random.uniform(-0.02, 0.02, 2) * (width, height)
    moved = cv2.warpAffine(image, turn, (width, height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)
    noisy = moved.reshape(image.shape) * random.uniform(0.94, 1.06) + random.normal(0, 1.5, image.shape)
    return np.clip(np.rint(noisy), 0, 255).astype(np.uint8)


class Seen:
    """A frozen model, and the features of the images that it has seen, kept in a folder."""

    def __init__(self, preset: str | None, name: str, folder: Path) -> None:
        self.settings = Settings.resolve(preset=preset)
        self.preset, self.name, self.folder = preset or "default", name, folder

    def of(self, what: str, images: list[np.ndarray]) -> torch.Tensor:
        """(N, D, h, w) in half precision."""
        file = self.folder / f"{self.preset}-{self.name}-{what}.npy"
        if not file.exists():
            np.save(file, np.concatenate([*self._compute(images)]))
        return torch.from_numpy(np.load(file))

    def _compute(self, images: list[np.ndarray]) -> Iterator[np.ndarray]:
        with tempfile.TemporaryDirectory() as folder:
            for number, image in enumerate(images):
                cv2.imwrite(f"{folder}/{number:06}.png", image[..., ::-1] if image.shape[-1] == 3 else image)
            source: Source = open_source(folder)
            spec, _ = spec_for(source, self.settings.data)
            self.model = build_model(self.settings, spec, 0, None).eval()
            loaded = source.load(spec, None)
            values = value_range_of(loaded, np.arange(1), spec)
            with torch.no_grad():
                for batch in iterate(loaded, np.arange(len(images)), spec):
                    pixels = to_tensor(batch.pixels, values, torch.device("cpu"))
                    yield self.model.encode(pixels).half().numpy()

    def pipeline(self, like: np.ndarray) -> Pipeline:
        """A fresh one, for images such as this."""
        if not hasattr(self, "model"):
            list(self._compute([like] * 3))
        return Pipeline(self.model, make_scorer(self.settings, self.model.output_spec), self.settings.map)


def chances(pipeline: Pipeline, left: torch.Tensor, groups: Rows, tested: list[torch.Tensor]) -> list[Floats]:
    """p-values of tested features, by component maps of the images that were fitted on, each as if its group were new."""
    nothing = np.zeros(len(left), np.intp)
    with torch.no_grad():
        known = pipeline.reduce(pipeline.scorer.fit_normalisation(left, nothing))[1].double().numpy()
        found = [pipeline.reduce(pipeline.scorer(part.float()))[1].double().numpy() for part in tested]
    return [p_values(scores, known, group_weights(groups)) for scores in found]


def split_once(
    seen: Seen, like: np.ndarray, fitted: torch.Tensor, ids: list[str], tested: list, seed: int, choice: str
) -> dict:
    """p-values of fresh normal and defective images where images count, and where groups do as a fit finds them."""
    pipeline, count = seen.pipeline(like), len(fitted)
    make = partial(make_scorer, seen.settings, seen.model.output_spec)
    features, every = fitted.float(), np.arange(count)
    named = SimpleNamespace(samples=[Sample(name) for name in ids])
    start = time.process_time()
    decision = DecisionConfig(groups=choice)
    grouping = find_by_features(seen.model, named, every, features, decision, seed)
    looking = time.process_time() - start
    nothing = np.zeros(count, np.intp)
    start = time.process_time()
    left = fit_leave_one_out(pipeline.scorer, make, features, nothing, every, every, seed)
    plain = time.process_time() - start
    found = {"images": chances(pipeline, left, every, tested)}
    if len(np.unique(grouping.used)) < count:
        left = pipeline.scorer.leave_one_out(features, torch.from_numpy(every), nothing, grouping.used)
    found["groups"] = chances(pipeline, left, grouping.used, tested)
    return {**found, "count": len(np.unique(grouping.used)), "seconds": [plain, looking]}


def summarise(runs: list[dict], fitted_on: int) -> dict:
    rows = {}
    counts = [run["count"] for run in runs]
    for way in ("images", "groups"):
        least = smallest_promise(fitted_on if way == "images" else float(np.median(counts)))
        for promise in PROMISES:
            alarms = np.array([(run[way][0] <= promise + 1e-12).mean() for run in runs])
            mean, error = float(alarms.mean()), float(alarms.std(ddof=1) / np.sqrt(len(alarms)))
            found = float(np.mean([(run[way][1] <= promise + 1e-12).mean() for run in runs]))
            rows[f"{way} at {promise:g}"] = {
                "can_hold": bool(least <= promise + 1e-12),
                "delivered": round(mean, 4),
                "standard_error": round(error, 4),
                "kept": bool(mean <= promise + 2 * error),
                "found": round(found, 4),
            }
    seconds = np.array([run["seconds"] for run in runs])
    looked = {
        "fit_and_leave_out": round(float(seconds[:, 0].mean()), 2),
        "find_groups": round(float(seconds[:, 1].mean()), 2),
    }
    return {
        "splits": len(runs),
        "fitted_on": fitted_on,
        "groups_median": float(np.median(counts)),
        "cpu_seconds": looked,
        **rows,
    }


def by_images(seen: Seen, normal: list, broken: list, splits: int) -> dict:
    """Random splits of images that are taken one by one; their names say nothing, as their order is drawn."""
    features, defects = seen.of("normal", normal), seen.of("defective", broken)
    runs = []
    for seed in range(splits):
        order = np.random.default_rng(seed).permutation(len(normal))
        fitted, fresh = np.sort(order[:FITTED_ON]), order[FITTED_ON:][:200]
        ids = [f"{row:06}.png" for row in fitted]
        runs.append(split_once(seen, normal[0], features[fitted], ids, [features[fresh], defects], seed, "auto"))
    return summarise(runs, FITTED_ON)


def in_series(seen: Seen, normal: list, broken: list, splits: int) -> dict:
    """The same where each image is a burst of shots, and fresh ones are of other bursts."""
    random = np.random.default_rng(7)
    some = random.permutation(len(normal))[:MOST_BURSTS]
    shots = [shoot(normal[row], random) for row in some for _ in range(SHOTS)]
    features, defects = seen.of("bursts", shots), seen.of("defective", broken)
    runs = []
    for seed in range(splits):
        order = np.random.default_rng(seed).permutation(len(some))
        bursts, others = np.sort(order[:BURSTS_FITTED_ON]), order[BURSTS_FITTED_ON:]
        fitted = (bursts[:, None] * SHOTS + np.arange(SHOTS)).ravel()
        fresh = others * SHOTS + seed % SHOTS
        ids = [f"{row:06}.png" for row in fitted]
        runs.append(split_once(seen, normal[0], features[fitted], ids, [features[fresh], defects], seed, "auto"))
    return summarise(runs, len(fitted))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--splits", type=int, default=100)
    parser.add_argument("--preset", help="the default, if none")
    parser.add_argument("--sets", nargs="*", choices=SETS, default=SETS[:3])
    parser.add_argument("--keep", type=Path, help="a folder for features, to go on from")
    options = parser.parse_args()
    rows = json.loads(FILE.read_text())["rows"] if FILE.exists() else []
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.keep or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        for name in options.sets:
            normal, broken = sources(name)
            random = np.random.default_rng(3)
            normal = [normal[row] for row in np.sort(random.permutation(len(normal))[:MOST_NORMAL])]
            broken = [broken[row] for row in np.sort(random.permutation(len(broken))[:MOST_DEFECTIVE])]
            seen = Seen(options.preset, name, folder)
            found = {"by images": by_images(seen, normal, broken, options.splits)}
            found["in series"] = in_series(seen, normal, broken, options.splits)
            key = {"set": name, "preset": options.preset or "default"}
            rows = [row for row in rows if {part: row[part] for part in key} != key] + [{**key, **found}]
            write("promises", {"promises": PROMISES, "shots_of_a_burst": SHOTS, "rows": rows})


if __name__ == "__main__":
    main()
