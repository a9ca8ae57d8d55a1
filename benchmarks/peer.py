"""Against anomalib 2.7.0: the same images and backbone weights, one thread, in turns; and the choice of a coreset alone.

`--python` is the interpreter of an environment that has anomalib 2.7.0 and can import unlike; `--script` a program that fits and
scores anomalib on a folder and prints one JSON line (fit_cpu_s, score_images_per_cpu_s, auroc, peak_mb). Its coreset is replaced
there by the same choice at one matrix-vector product a pick, which favours it; what its own costs a pick is measured here.
Fitting and scoring alone count, decoding included: no report, no figures. Imports count on neither side. Ours is measured on a machine
where unlike has been used before, so that its compiled backbone is kept there; the first use is measured once, before the rounds.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from common import DATA, cpu_seconds, need, peak_megabytes, spread, write

SETS = {"transistor": "mvtec_ad_256/transistor", "magnetic_tile": "magnetic_tile"}
ROWS, NUMBERS = 61_440, 152  # of a grid of features of 60 images
PICKS = (20, 60)
SOURCE = Path(__file__).parents[1] / "src"


def measure_ours(preset: str, folder: Path, use: str) -> dict:
    """`use` is the first or a later one on a machine: of a later one the backbone is kept, but no decoded image."""
    if use == "first":
        import timm  # noqa: F401  (this and OpenVINO would otherwise be imported by the fit)

    from unlike import Detector
    from unlike.backbones.telemetry import import_openvino
    from unlike.cache import Cache
    from unlike.calibration.sweep import sweep
    from unlike.data.source import labelled, open_source
    from unlike.evaluation.metrics import auroc

    import_openvino()
    for entry in Cache.default().folder.glob("decoded-*"):
        shutil.rmtree(entry)
    tests = labelled(open_source(folder))
    detector = Detector(preset=preset, device="cpu")
    fit = cpu_seconds(lambda: detector.fit(folder))
    start = time.process_time()
    scores = detector.score(tests)
    rate = len(tests) / (time.process_time() - start)
    found = auroc(sweep(scores.image, np.array([sample.anomalous for sample in tests.samples])))
    return {"fit_cpu_s": fit, "score_images_per_cpu_s": rate, "auroc": found, "peak_mb": peak_megabytes()}


def measure_coreset() -> dict:
    """CPU seconds a pick of 1 %: ours all in all, theirs from two small sizes, so that what stands before the first cancels."""
    import torch
    from anomalib.models.components.sampling.k_center_greedy import KCenterGreedy

    from unlike.scoring.neighbours import choose_coreset

    torch.set_num_threads(1)
    rows = torch.randn(ROWS, NUMBERS, generator=torch.Generator().manual_seed(0))
    theirs, ours = [], []
    for _ in range(3):
        few, many = (
            cpu_seconds(lambda picks=picks: KCenterGreedy(rows, picks / ROWS).select_coreset_idxs()) for picks in PICKS
        )
        theirs.append((many - few) / (PICKS[1] - PICKS[0]))
        ours.append(cpu_seconds(lambda: choose_coreset(rows, ROWS // 100, 0)) / (ROWS // 100))
    ratios = [a / b for a, b in zip(theirs, ours, strict=True)]
    return {
        "rows": f"{ROWS} x {NUMBERS}",
        "anomalib_cpu_ms_a_pick": spread([1000 * value for value in theirs]),
        "unlike_cpu_ms_a_pick": spread([1000 * value for value in ours]),
        "ratio": spread(ratios),
    }


def run(*command: str, **more: str) -> dict:
    """The JSON that a program prints last, from a folder that is thrown away; `more` goes into its environment."""
    paths = os.pathsep.join([str(SOURCE), str(Path(__file__).parent)])
    environment = {**os.environ, "PYTHONPATH": paths, **more}
    with tempfile.TemporaryDirectory() as folder:
        found = subprocess.run(command, check=True, capture_output=True, text=True, cwd=folder, env=environment)
    result: dict = json.loads(found.stdout.splitlines()[-1])
    print(command[-2:], result, file=sys.stderr, flush=True)
    return result


def compare(preset: str, folder: Path, options: argparse.Namespace) -> dict:
    ours, theirs = [], []
    with tempfile.TemporaryDirectory() as cache:

        def fit_ours(use: str) -> dict:
            return run(
                sys.executable, str(Path(__file__).resolve()), "--ours", preset, str(folder), use, UNLIKE_CACHE=cache
            )

        first = fit_ours("first")
        for _ in range(options.rounds):
            theirs.append(run(options.python, str(options.script.resolve()), str(folder), preset))
            ours.append(fit_ours("later"))
    facts = {
        side: {key: spread([found[key] for found in runs]) for key in ours[0]}
        for side, runs in (("unlike", ours), ("anomalib", theirs))
    }
    pairs = list(zip(ours, theirs, strict=True))
    ratios = {
        "fit_theirs_to_ours": spread([b["fit_cpu_s"] / a["fit_cpu_s"] for a, b in pairs]),
        "score_rate_ours_to_theirs": spread(
            [a["score_images_per_cpu_s"] / b["score_images_per_cpu_s"] for a, b in pairs]
        ),
        "peak_ours_to_theirs": spread([a["peak_mb"] / b["peak_mb"] for a, b in pairs]),
    }
    return {"preset": preset, "set": folder.name, "unlike_first": first, **facts, "ratios": ratios}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--python", help="of the environment with anomalib")
    parser.add_argument("--script", type=Path, help="that fits and scores anomalib")
    parser.add_argument("--sets", nargs="+", default=["transistor"], choices=list(SETS))
    parser.add_argument("--presets", nargs="+", default=["patchcore", "padim"])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--ours", nargs=3, help=argparse.SUPPRESS)
    parser.add_argument("--coreset", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.ours:
        print(json.dumps(measure_ours(options.ours[0], Path(options.ours[1]), options.ours[2])))
        return
    if options.coreset:
        print(json.dumps(measure_coreset()))
        return
    if not (options.python and options.script):
        parser.error("needs --python and --script, and anomalib 2.7.0 in that environment")
    results: dict = {"rounds": options.rounds, "rows": []}
    results["coreset"] = run(options.python, str(Path(__file__).resolve()), "--coreset")
    for preset in options.presets:
        for name in options.sets:
            results["rows"].append(compare(preset, need(DATA / SETS[name]).resolve(), options))
    sys.argv[1:] = [f"--rounds={options.rounds}", "--sets", *options.sets, "--presets", *options.presets]
    write("peer", results)


if __name__ == "__main__":
    main()
