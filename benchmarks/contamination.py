"""Defects among the training images: a plain fit against one that leaves out what it distrusts.

    python benchmarks/contamination.py --work FOLDER [--sets transistor cookies] [--draws 3]

Of each set some defects of the test part are mixed among the images to learn from, as 0, 5, 10 and 20 % of them, and are not tested;
the other defects are, in a draw the same for all shares. Draws differ in the defects and in the normal images. Normal images that
are not drawn are fresh ones like those, beside the normal ones of the test part. What is learned is preset `fast` in fewer cells
and with smaller banks, so that draws are cheap: features are computed once for each set and kept under --work, as are the figures
of each draw. A run that was killed goes on where it was.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from choice import open_some
from common import write
from sklearn.metrics import roc_auc_score

from unlike.calibration.conformal import smallest_promise
from unlike.calibration.contamination import MOST as MOST_DISTRUSTED
from unlike.calibration.contamination import ROUNDS, TAIL, WRONG, settle, worst_promise
from unlike.calibration.decision import is_anomalous
from unlike.calibration.thresholds import ConformalThreshold
from unlike.data.batches import iterate
from unlike.data.tensors import to_tensor
from unlike.detector.building import build_model, spec_for
from unlike.detector.scorers import make_scorer
from unlike.detector.screening import Witnesses
from unlike.detector.settings import Settings
from unlike.models.base import OutputSpec
from unlike.scoring.base import Scorer
from unlike.scoring.maps import reduce_maps, smooth

SETS = ("transistor", "cookies", "solar cells", "magnetic_tile", "pavement", "vehicles")
SHARES = (0.0, 0.05, 0.1, 0.2)
MOST = 120  # images to learn from, defects among them
TESTED = {"good": 60, "fresh": 100, "bad": 60}
OF_DEFECTS = 0.6  # of those that there are, mixed among them at most
PROMISE = 0.01
LIMITS = {"most": MOST_DISTRUSTED, "wrong": WRONG, "tail": TAIL, "rounds": ROUNDS}
BANK = {"candidates": 10_000, "most": 500, "least": 500}
SETTINGS = {
    "model": {"most_cells": 8},
    "data": {"size": 256},
    "scorer": {"settings": dict.fromkeys(("neighbours", "neighbours_unit", "neighbours_deep"), BANK)},
}


def look(name: str, settings: Settings, file: Path) -> None:
    """Keep the features of a set's images, those to learn from first."""
    with tempfile.TemporaryDirectory() as folder:
        learn, test = open_some(name, Path(folder))
        spec, _ = spec_for(learn, settings.data)
        model, found = build_model(settings, spec, 0, None).eval(), []
        for source in (learn, test):
            images = source.load(spec, None, lambda *_: None)
            for batch in iterate(images, np.arange(len(images.samples)), spec):
                with torch.no_grad():
                    found.append(model.encode(to_tensor(batch.pixels, spec.value_range, "cpu")).half().numpy())
    odd = [False] * len(learn) + [bool(sample.anomalous) for sample in test.samples]
    np.savez(file, features=np.concatenate(found), anomalous=odd, learn=len(learn), groups=model.feature_groups)


class Draw:
    """Images to learn from at several shares of defects, and those to test, of a set."""

    def __init__(self, data: dict[str, np.ndarray], seed: int) -> None:
        random = np.random.default_rng(seed)
        odd, learn = data["anomalous"], int(data["learn"])
        self.features = torch.from_numpy(data["features"].astype(np.float32))
        normal, bad = random.permutation(learn), random.permutation(np.flatnonzero(odd))
        most = int(min(max(SHARES) * MOST, OF_DEFECTS * len(bad), max(SHARES) * learn))
        self.count = round(most / max(SHARES))
        self.normal, self.mixed = normal[: self.count], bad[:most]
        self.fresh, self.bad = normal[self.count :][: TESTED["fresh"]], bad[most:][: TESTED["bad"]]
        self.good = random.permutation(learn + np.flatnonzero(~odd[learn:]))[: TESTED["good"]]

    def rows(self, share: float) -> tuple[np.ndarray, np.ndarray]:
        """Those to learn from, and which of them are defects."""
        mixed = round(share * self.count)
        return np.concatenate([self.normal[: self.count - mixed], self.mixed[:mixed]]), np.arange(
            self.count
        ) >= self.count - mixed


class Refit:
    """Plain and robust fits on the images of a draw at a share of defects; none is made twice."""

    def __init__(self, draw: Draw, share: float, settings: Settings, groups: tuple[int, ...]) -> None:
        self.draw, self.settings = draw, settings
        self.spec = OutputSpec("FrozenFeatures", ("features",), groups)
        rows, self.odd = draw.rows(share)
        self.groups, none = np.arange(len(rows)), np.zeros(len(rows), np.intp)
        features = draw.features[torch.from_numpy(rows)]
        self.witnesses = Remembering(self.make, lambda maps, _: self.reduce(maps), features, none, self.groups, 0)

    def make(self) -> Scorer:
        return make_scorer(self.settings, self.spec)

    def reduce(self, maps: torch.Tensor) -> np.ndarray:
        return reduce_maps(smooth(maps, self.settings.map), self.settings.map).double().numpy()

    @torch.no_grad()
    def judge(self, doubtful: np.ndarray) -> dict:
        """What is found, and falsely called, without the doubtful images."""
        scorer, known = self.witnesses.learn(~doubtful)
        draw = self.draw
        good, fresh, bad = (self.look_at(scorer, rows) for rows in (draw.good, draw.fresh, draw.bad))
        promise = max(PROMISE, smallest_promise(len(known)))
        line = ConformalThreshold(promise).fit(known).threshold_
        truth = np.arange(len(good) + len(bad)) >= len(good)
        rates = {"found": bad, "false_alarms": good, "false_alarms_fresh": fresh}
        return {
            "auroc": float(roc_auc_score(truth, np.concatenate([good, bad]))),
            "promise": promise,
            "worst": worst_promise(promise, int(doubtful.sum()), len(doubtful)),
            **{key: float(is_anomalous(some, line).mean()) if len(some) else None for key, some in rates.items()},
            "defects": int(self.odd.sum()),
            "distrusted_defects": int((doubtful & self.odd).sum()),
            "distrusted_normals": int((doubtful & ~self.odd).sum()),
        }

    def look_at(self, scorer: Scorer, rows: np.ndarray) -> np.ndarray:
        maps = [scorer(part) for part in torch.split(self.draw.features[torch.from_numpy(rows)], 16)]
        return self.reduce(torch.cat(maps)) if len(rows) else np.empty(0)


class Remembering(Witnesses):
    """Learns once from the same images."""

    def learn(self, trusted: np.ndarray) -> tuple[Scorer, np.ndarray]:
        return _learn(self, trusted.tobytes())


@lru_cache(maxsize=8)
def _learn(witnesses: Remembering, trusted: bytes) -> tuple[Scorer, np.ndarray]:
    return Witnesses.learn(witnesses, np.frombuffer(trusted, bool))


def compare(draw: Draw, share: float, settings: Settings, groups: tuple[int, ...]) -> dict:
    """Plain, by auto, and where the share is known."""
    fit = Refit(draw, share, settings, groups)
    found = {"plain": fit.judge(np.zeros(len(fit.odd), bool))}
    for name, asked in {"auto": "auto", **({"share": share} if share else {})}.items():
        doubtful = settle(fit.witnesses.score, fit.groups, asked)
        found[name] = fit.judge(doubtful) if doubtful.any() else found["plain"]
    return found


def summarise(rows: list[dict]) -> dict:
    """Means over draws, by share of defects and way to fit, with the standard deviation between draws."""
    table: dict[str, dict] = {}
    for share in SHARES:
        own = [row["fits"] for row in rows if row["share"] == share]
        for way in own[0] if own else ():
            found = {}
            for key in own[0][way]:
                values = [fit[way][key] for fit in own if fit[way][key] is not None]
                found[key] = {"mean": float(np.mean(values)), "deviation": float(np.std(values))} if values else None
            table.setdefault(f"{share:g}", {})[way] = found
    return {"draws": len({row["draw"] for row in rows}), "shares": table}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--sets", nargs="*", default=list(SETS))
    parser.add_argument("--draws", type=int, default=3)
    options = parser.parse_args()
    settings = Settings.resolve(preset="fast", overrides=SETTINGS)
    options.work.mkdir(parents=True, exist_ok=True)
    for seed in range(options.draws):
        for name in options.sets:
            run(name, seed, settings, options.work)
    tables = {}
    for name in options.sets:
        rows = [json.loads(line) for line in (options.work / f"{name}.jsonl").read_text().splitlines()]
        tables[name] = {"learn": rows[0]["learn"], "tested": rows[0]["tested"], **summarise(rows)}
    write("contamination", {"preset": "fast", "settings": SETTINGS, "limits": LIMITS, "sets": tables})


def run(name: str, seed: int, settings: Settings, work: Path) -> None:
    """One draw of a set at all shares, unless it is there."""
    features, done = work / f"{name}.npz", work / f"{name}.jsonl"
    known = [json.loads(line) for line in done.read_text().splitlines()] if done.exists() else []
    missing = [share for share in SHARES if (seed, share) not in {(row["draw"], row["share"]) for row in known}]
    if not missing:
        return
    if not features.exists():
        look(name, settings, features)
    with np.load(features) as archive:
        data = dict(archive)
    draw = Draw(data, seed)
    for share in missing:
        fits = compare(draw, share, settings, tuple(data["groups"].tolist()))
        tested = {"normal": len(draw.good), "fresh": len(draw.fresh), "defects": len(draw.bad)}
        row = {"draw": seed, "share": share, "learn": draw.count, "tested": tested, "fits": fits}
        with done.open("a") as file:
            file.write(json.dumps(row) + "\n")


if __name__ == "__main__":
    main()
