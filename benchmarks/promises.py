"""What is promised against what is delivered: false alarms on fresh normal images over many random splits, by images and in series.

Of each set the features of normal and some defective images are computed once, by the frozen model of a preset, averaged to 8 x 8
positions. An image's score is that of PatchCore with a bank of everything: the largest distance of a position from the nearest of any
other image. How far each position is from each image is computed once, too, so a split costs next to nothing, and is exact: each image
that is fitted on is scored as if it, or its group, were not there, and fresh ones by all. In series, each image becomes a burst of
shots: moved, turned, cropped, in more or less light, with noise; a split takes whole bursts, and fresh images are of other bursts. There it is
the fit's own search that must find the bursts. With --whole the preset's own scorer learns anew in each split.

A promise holds on average over splits: the mean must not exceed it by more than two standard errors. Splits of one set share images, so
that these are a little too small.
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
from unlike.data.input_spec import InputSpec
from unlike.data.source import Source, labelled, open_source, training
from unlike.data.tensors import to_tensor
from unlike.detector.building import build_model, spec_for
from unlike.detector.grouping import Grouping, find_by_features
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
SHOTS = 3  # of a burst
SIDE = 8  # positions a side
MOST_NORMAL, MOST_DEFECTIVE, MOST_BURSTS = 300, 60, 120
FITTED_ON = 100  # images of a split,
BURSTS_FITTED_ON = 60  # and bursts


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
        self.model = build_model(self.settings, InputSpec(256, 256, 3), 0, None).eval()

    @property
    def feature_groups(self) -> tuple[int, ...]:
        return self.model.feature_groups

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
            model = build_model(self.settings, spec, 0, None).eval()
            loaded = source.load(spec, None)
            values = value_range_of(loaded, np.arange(1), spec)
            with torch.no_grad():
                for batch in iterate(loaded, np.arange(len(images)), spec):
                    pixels = to_tensor(batch.pixels, values, torch.device("cpu"))
                    yield model.encode(pixels).half().numpy()

    def pipeline(self) -> Pipeline:
        """A fresh one."""
        return Pipeline(self.model, make_scorer(self.settings, self.model.output_spec), self.settings.map)


class Closest:
    """How far each of 64 positions of each image is from the nearest position of each normal image: (n, 64, N), known once."""

    def __init__(self, features: torch.Tensor, defects: torch.Tensor) -> None:
        normal, broken = (_rows(part) for part in (features, defects))
        self.normal, self.broken = _distances(normal, normal), _distances(broken, normal)
        own = np.arange(len(normal))
        self.normal[own, :, own] = np.inf

    def chances(self, fitted: Rows, groups: Rows, fresh: Rows) -> list[Floats]:
        """p-values of fresh and of defective images, by images that were fitted on, `groups` (n,) of which count as one."""
        known = np.empty(len(fitted))
        for place, row in enumerate(fitted):
            known[place] = self.normal[row][:, fitted[groups != groups[place]]].min(axis=1).max()
        found = [self.normal[fresh][:, :, fitted], self.broken[:, :, fitted]]
        return [p_values(part.min(axis=2).max(axis=1), known, group_weights(groups)) for part in found]


def _rows(features: torch.Tensor) -> torch.Tensor:
    """(N, D, h, w) -> (N, 64, D)"""
    pooled = torch.nn.functional.adaptive_avg_pool2d(features.float(), (SIDE, SIDE))
    return pooled.flatten(2).transpose(1, 2).contiguous()


def _distances(one: torch.Tensor, other: torch.Tensor) -> np.ndarray:
    """(n, P, D), (N, P, D) -> (n, P, N)"""
    bank = other.flatten(0, 1)
    lengths = bank.square().sum(dim=1)
    found = []
    for rows in one:
        squares = torch.addmm(lengths, rows, bank.T, alpha=-2) + rows.square().sum(dim=1, keepdim=True)
        found.append(squares.view(len(rows), len(other), -1).amin(dim=2).clamp_min(0).sqrt().half().numpy())
    return np.stack(found).astype(np.float32)


def find_groups(seen: Seen, features: torch.Tensor, ids: list[str], seed: int) -> Grouping:
    """What a fit finds."""
    named = SimpleNamespace(samples=[Sample(name) for name in ids])
    return find_by_features(seen, named, np.arange(len(ids)), features.float(), DecisionConfig(), seed)


def split_once(seen: Seen, closest: Closest, features: torch.Tensor, fitted: Rows, fresh: Rows, seed: int) -> dict:
    """p-values of fresh normal and of defective images where images count, and where groups do as a fit finds them."""
    grouping = find_groups(seen, features[fitted], [f"{row:06}.png" for row in fitted], seed)
    return {
        "images": closest.chances(fitted, np.arange(len(fitted)), fresh),
        "groups": closest.chances(fitted, grouping.used, fresh),
        "count": len(np.unique(grouping.used)),
    }


def whole_once(seen: Seen, features: torch.Tensor, defects: torch.Tensor, fitted: Rows, fresh: Rows, seed: int) -> dict:
    """The same by the preset's own scorer."""
    pipeline, every = seen.pipeline(), np.arange(len(fitted))
    make = partial(make_scorer, seen.settings, seen.model.output_spec)
    learned, nothing = features[fitted].float(), np.zeros(len(fitted), np.intp)
    grouping = find_groups(seen, learned, [f"{row:06}.png" for row in fitted], seed)
    start = time.process_time()
    left = fit_leave_one_out(pipeline.scorer, make, learned, nothing, every, every, seed)
    plain = time.process_time() - start
    left_groups = left
    if len(np.unique(grouping.used)) < len(fitted):
        left_groups = pipeline.scorer.leave_one_out(learned, torch.from_numpy(every), nothing, grouping.used)
    found = {}
    for way, maps, groups in (("images", left, every), ("groups", left_groups, grouping.used)):
        with torch.no_grad():
            known = pipeline.reduce(pipeline.scorer.fit_normalisation(maps, nothing))[1].double().numpy()
            parts = [pipeline.reduce(pipeline.scorer(part.float()))[1] for part in (features[fresh], defects)]
        found[way] = [p_values(part.double().numpy(), known, group_weights(groups)) for part in parts]
    return {**found, "count": len(np.unique(grouping.used)), "seconds": plain}


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
    return {"splits": len(runs), "fitted_on": fitted_on, "groups_median": float(np.median(counts)), **rows}


def by_images(seen: Seen, normal: list, broken: list, splits: int, *, whole: bool) -> dict:
    """Random splits of images that are taken one by one."""
    features, defects = seen.of("normal", normal), seen.of("defective", broken)
    closest = None if whole else Closest(features, defects)
    runs = []
    for seed in range(splits):
        order = np.random.default_rng(seed).permutation(len(normal))
        fitted, fresh = np.sort(order[:FITTED_ON]), order[FITTED_ON:]
        if closest is None:
            runs.append(whole_once(seen, features, defects, fitted, fresh[:MOST_DEFECTIVE], seed))
        else:
            runs.append(split_once(seen, closest, features, fitted, fresh, seed))
    return summarise(runs, FITTED_ON)


def in_series(seen: Seen, normal: list, broken: list, splits: int, *, whole: bool) -> dict:
    """The same where each image is a burst of shots, and fresh ones are of other bursts."""
    random = np.random.default_rng(7)
    some = random.permutation(len(normal))[:MOST_BURSTS]
    shots = [shoot(normal[row], random) for row in some for _ in range(SHOTS)]
    features, defects = seen.of("bursts", shots), seen.of("defective", broken)
    closest = None if whole else Closest(features, defects)
    runs = []
    for seed in range(splits):
        order = np.random.default_rng(seed).permutation(len(some))
        bursts, others = np.sort(order[:BURSTS_FITTED_ON]), order[BURSTS_FITTED_ON:]
        fitted = (bursts[:, None] * SHOTS + np.arange(SHOTS)).ravel()
        fresh = others * SHOTS + seed % SHOTS
        if closest is None:
            runs.append(whole_once(seen, features, defects, fitted, fresh, seed))
        else:
            runs.append(split_once(seen, closest, features, fitted, fresh, seed))
    return summarise(runs, len(fitted))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--splits", type=int, default=100)
    parser.add_argument("--preset", help="the default, if none")
    parser.add_argument("--sets", nargs="*", choices=SETS, default=SETS[:3])
    parser.add_argument("--whole", action="store_true", help="by the preset's own scorer, which learns in each split")
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
            found = {"by images": by_images(seen, normal, broken, options.splits, whole=options.whole)}
            found["in series"] = in_series(seen, normal, broken, options.splits, whole=options.whole)
            key = {
                "set": name,
                "features": seen.preset,
                "scorer": seen.preset if options.whole else "bank of everything",
            }
            rows = [row for row in rows if {part: row[part] for part in key} != key] + [{**key, **found}]
            write("promises", {"promises": PROMISES, "shots_of_a_burst": SHOTS, "rows": rows})


if __name__ == "__main__":
    main()
