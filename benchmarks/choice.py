"""How the default was chosen: mixtures of its views, each judged by sets that it was not chosen by.

A detector of each set, at most 300 normal images to learn from and 100 normal and 150 anomalous ones to test, with all views; the
map that each view has of each image, as if it were new, is kept under --work. A candidate is a mixture of these maps: some of the
views, a way to weigh them, and a score of the map. What is chosen by the mean AUROC of all families of sets but one is judged by
that one, in turns. A run that was killed goes on where it was.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Callable
from itertools import combinations
from pathlib import Path
from unittest.mock import patch

import numpy as np
import torch
from common import cpu_seconds, write
from sets import SETS, open_set
from sklearn.metrics import roc_auc_score

from unlike import Detector
from unlike.data.batches import iterate
from unlike.data.source import Source
from unlike.data.tensors import to_tensor
from unlike.scoring.ensemble import EnsembleScorer, steadiness

FAMILIES = {
    "transistors": ("transistor", "turned transistors"),
    "tiles": ("magnetic_tile",),
    "cells": ("solar cells", "polycrystalline cells"),
    "faces": ("faces",),
    "vehicles": ("vehicles",),
    "lenses": ("mtoc",),
    "cookies": ("cookies",),
    "pavement": ("pavement",),
    "medical": ("headct", "pneumonia28"),
    "spectra": ("hyper205",),
}
MOST = {"train": 300, "good": 100, "bad": 150}
PROMISES = (0.01, 0.05)
SMALL = 1e-6
VIEWS = ("neighbours", "neighbours_coarse", "neighbours_unit", "neighbours_deep", "neighbours_fine", "pca")


def some(source: Source, most: int, seed: int) -> np.ndarray:
    return np.sort(np.random.default_rng(seed).permutation(len(source))[:most])


def open_some(data: str, folder: Path) -> tuple[Source, Source]:
    learn, test = open_set(data, folder)
    odd = np.array([bool(sample.anomalous) for sample in test.samples])
    parts = [np.flatnonzero(odd == kind) for kind in (False, True)]
    random = np.random.default_rng(1)
    rows = [random.permutation(part)[:most] for part, most in zip(parts, (MOST["good"], MOST["bad"]), strict=True)]
    return learn.take(some(learn, MOST["train"], 0)), test.take(np.sort(np.concatenate(rows)))


def look(data: str, preset: str, seed: int, file: Path) -> None:
    """Keep what each view of a preset sees: component maps of normal images as if they were new, and of those to test."""
    seen: list[torch.Tensor] = []
    learned = EnsembleScorer.fit_normalisation

    def noting(scorer: EnsembleScorer, maps: torch.Tensor, categories: np.ndarray) -> torch.Tensor:
        seen.append(maps)
        return learned(scorer, maps, categories)

    with tempfile.TemporaryDirectory() as folder:
        learn, test = open_some(data, Path(folder))
        detector = Detector(preset=preset, seed=seed, device="cpu", cache=False)
        with patch.object(EnsembleScorer, "fit_normalisation", noting):
            seconds = cpu_seconds(lambda: detector.fit(learn))
        fitted = detector.fitted_
        images, pipeline, found = test.load(fitted.spec, None, lambda *_: None), fitted.pipeline, []
        with torch.no_grad():
            for batch in iterate(images, np.arange(len(images.samples)), fitted.spec):
                outputs = pipeline.model.outputs(
                    to_tensor(batch.pixels, fitted.spec.value_range, pipeline.device), pipeline.scorer.inputs
                )
                found.append(pipeline.scorer.component_maps(*outputs.values()))
        rate = len(test) / cpu_seconds(lambda: detector.score(test))
    np.savez(
        file,
        normal=seen[-1].numpy().astype(np.float32),
        test=torch.cat(found).numpy().astype(np.float32),
        anomalous=np.array([bool(sample.anomalous) for sample in images.samples]),
        size=fitted.spec.height,
        seconds=seconds,
        rate=rate,
    )


Weigh = Callable[[np.ndarray], np.ndarray]  # peaks (N, M) of normal images -> weights (M,)


def alike(peaks: np.ndarray) -> np.ndarray:
    return np.full(peaks.shape[1], 1 / peaks.shape[1])


def steady(power: float) -> Weigh:
    def weigh(peaks: np.ndarray) -> np.ndarray:
        weights = steadiness(torch.from_numpy(peaks)) ** power
        return weights / weights.sum()

    return weigh


WEIGHTS: dict[str, Weigh] = {"all alike": alike, "root of steadiness": steady(0.5), "steadiness": steady(1.0)}


def judge(maps: dict[str, np.ndarray], views: tuple[str, ...], weigh: Weigh) -> dict[str, float]:
    """AUROC, and what is found and falsely called at each promise, of a mixture."""
    chosen = [VIEWS.index(view) for view in views]
    normal, test = maps["normal"][:, chosen], maps["test"][:, chosen]
    middle = np.median(normal.mean(axis=(2, 3)), axis=0)[:, None, None]
    weights = weigh(normal.max(axis=(2, 3)))[:, None, None]
    known, new = (
        np.exp((weights * np.log(np.maximum(part / middle, SMALL))).sum(axis=1)).max(axis=(1, 2))
        for part in (normal, test)
    )
    odd = maps["anomalous"]
    figures = {"auroc": float(roc_auc_score(odd, new))}
    for promise in PROMISES:
        rank = max(int(promise * (len(known) + 1) + 1e-9), 1)
        line = np.sort(known)[-rank]
        figures[f"found at {promise:g}"] = float((new[odd] > line).mean())
        figures[f"false alarms at {promise:g}"] = float((new[~odd] > line).mean())
    return figures


def candidates() -> dict[str, tuple[tuple[str, ...], Weigh]]:
    subsets = [views for count in range(1, len(VIEWS) + 1) for views in combinations(VIEWS, count)]
    return {
        f"{' + '.join(views)}; {name}": (views, weigh)
        for views in subsets
        for name, weigh in WEIGHTS.items()
        if len(views) > 1 or name == "all alike"
    }


def shown() -> list[str]:
    """Those on the page: each view alone, all of them, all but one, and the four of `fast`."""
    every = " + ".join(VIEWS)
    fewer = [" + ".join(view for view in VIEWS if view != one) for one in VIEWS]
    names = [f"{view}; all alike" for view in VIEWS] + [f"{every}; {name}" for name in WEIGHTS]
    fast = " + ".join((*VIEWS[1:4], "pca"))
    return names + [f"{views}; steadiness" for views in (*fewer, fast)]


def left_out(table: dict[str, dict[str, float]], families: dict[str, tuple[str, ...]]) -> list[dict]:
    """For each family, what the others choose, and how it does there: `table` has the AUROC of each candidate on each set."""
    rows = []
    for family, members in families.items():
        others = [name for kind, names in families.items() if kind != family for name in names]
        chosen = max(table, key=lambda one: np.mean([table[one][name] for name in others]))
        rows.append(
            {
                "left out": family,
                "chosen": chosen,
                "mean of the others": float(np.mean([table[chosen][name] for name in others])),
                "judged": {name: table[chosen][name] for name in members},
            }
        )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "unlike-choice")
    parser.add_argument("--preset", default="ensemble")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--sets", nargs="*", choices=SETS, default=list(SETS))
    parser.add_argument("--look", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    if options.look:
        data, seed = options.look
        look(data, options.preset, int(seed), options.work / f"{data}-{seed}.npz")
        return
    results: dict[str, dict[str, list[dict[str, float]]]] = {name: {} for name in candidates()}
    costs: dict[str, list[dict[str, float]]] = {}
    for data in options.sets:
        for seed in range(options.seeds):
            file = options.work / f"{data}-{seed}.npz"
            if not file.exists():
                more = ["--work", str(options.work), "--preset", options.preset, "--look", data, str(seed)]
                subprocess.run([sys.executable, __file__, *more], check=True)
            maps = dict(np.load(file))
            costs.setdefault(data, []).append(
                {"size": int(maps["size"]), "fit_cpu_seconds": float(maps["seconds"]), "rate": float(maps["rate"])}
            )
            for name, (views, weigh) in candidates().items():
                results[name].setdefault(data, []).append(judge(maps, views, weigh))
        print(data, results[list(results)[-1]][data], file=sys.stderr, flush=True)
    mean = {
        name: {data: float(np.mean([run["auroc"] for run in runs])) for data, runs in found.items()}
        for name, found in results.items()
    }
    families = {name: tuple(one for one in sets if one in options.sets) for name, sets in FAMILIES.items()}
    write(
        "choice",
        {
            "seeds": options.seeds,
            "most": MOST,
            "costs": costs,
            "left_out": left_out(mean, {name: sets for name, sets in families.items() if sets}),
            "tried": len(results),
            "candidates": {name: results[name] for name in shown()},
        },
    )


if __name__ == "__main__":
    main()
