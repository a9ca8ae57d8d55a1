"""Presets, and anomalib beside them, on any folder of sets in MVTec AD layout: one row a detector and set, and one page.

    python benchmarks/public.py ROOT --presets ensemble patchcore padim [--peer-python PYTHON] [--page page.md]

Each folder below ROOT with `train/good` and `test/good` is a set; `sets.py` writes those that the docs show. `--peer-python` is an
interpreter with anomalib 2.7.0 (see anomalib_peer.py). Every row is kept as it comes, in `benchmarks/results/public.json` or what
`--results` names, and is not measured again until it is gone: a run that was stopped goes on. One process a row and one thread, so
that memory and seconds are its own. Both sides' figures come from the same code, of the scores and maps of each test image.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from common import RESULTS, cpu_seconds, peak_megabytes, write

from unlike.calibration.sweep import sweep
from unlike.data.source import Source, labelled, open_source, training
from unlike.evaluation.metrics import measure_images, wilson
from unlike.records import Estimate

PEER = Path(__file__).with_name("anomalib_peer.py")
PEERS = ("patchcore", "padim")
RATE = 0.01  # of false alarms, that is promised or allowed
FIGURES = {"image.auroc": "auroc", "image.detection_rate": "found", "image.false_alarm_rate": "false_alarms"}
FIGURES |= {"pixel.aupro": "aupro"}


def find_sets(root: Path) -> dict[str, Path]:
    found = {path.name: path for path in sorted(root.iterdir()) if (path / "train" / "good").is_dir()}
    if not found:
        sys.exit(f"{root}: expected folders with train/good and test/good in them, came none; sets.py writes some")
    return found


def as_numbers(estimate: Estimate) -> dict[str, float | None]:
    return {"value": estimate.value, "low": estimate.low, "high": estimate.high}


def found_at_rate(scores: np.ndarray, anomalous: np.ndarray) -> dict[str, float | None]:
    """The share of defects above the lowest threshold that at most 1 % of the test's own normal images exceed: an oracle."""
    swept = sweep(scores, anomalous)
    allowed = swept.false_alarms <= RATE * swept.normal
    return as_numbers(wilson(float(swept.detected[allowed].max()) / swept.anomalous, int(swept.anomalous)))


def measure_ours(preset: str, folder: Path, seed: int) -> dict:
    from unlike import Detector, __version__, evaluate

    whole = open_source(folder)
    learn, test = training(whole), labelled(whole)
    detector = Detector(preset=preset, seed=seed, device="cpu", cache=False)
    fit = cpu_seconds(lambda: detector.fit(learn))
    score = cpu_seconds(lambda: detector.score(test))
    peak = peak_megabytes()
    found = evaluate(detector, test)
    figures = {
        to: as_numbers(found.overall.figures[name]) for name, to in FIGURES.items() if name in found.overall.figures
    }
    sections = {name: values for name, values in detector.settings.to_sections().items() if name in ("model", "scorer")}
    return {
        **figures,
        "found_at_rate": found_at_rate(found.scores.image, found.anomalous),
        "promise": detector.fitted_.decision.false_alarms,
        "fit_cpu_seconds": fit,
        "images_a_cpu_second": len(test) / score,
        "peak_megabytes": peak,
        "learned_from": len(learn),
        "tested": [int((~found.anomalous).sum()), int(found.anomalous.sum())],
        "versions": {"unlike": __version__},
        "settings": {"preset": preset, "size": list(detector.fitted_.spec.size), **sections},
    }


def measure_peer(python: str, model: str, folder: Path, seed: int) -> dict:
    """By a process of anomalib; where it cannot take a set, the row says why."""
    with tempfile.TemporaryDirectory() as out:
        file = Path(out) / "found.npz"
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        command = [python, str(PEER.resolve()), str(folder.resolve()), model, str(file), "--seed", str(seed)]
        done = subprocess.run(command, capture_output=True, text=True, cwd=out, env=environment, check=False)
        if done.returncode:
            return {"failed": done.stderr.strip().splitlines()[-1]}
        return figures_of(file, folder) | json.loads(done.stdout.splitlines()[-1])


def figures_of(file: Path, folder: Path) -> dict:
    """Figures of scores and maps that anomalib left, as `evaluate` has them; it promises nothing about false alarms."""
    whole = open_source(folder)
    test = labelled(whole)
    kept = np.load(file)
    row_of = {name: row for row, name in enumerate(kept["ids"].tolist())}
    rows = np.array([row_of[sample.id] for sample in test.samples])
    scores, anomalous = kept["scores"][rows], np.array([bool(sample.anomalous) for sample in test.samples])
    found = measure_images(scores, anomalous, float("inf"))
    figures = {"auroc": as_numbers(found.image["auroc"]), "found_at_rate": found_at_rate(scores, anomalous)}
    if any(sample.mask is not None for sample in test.samples):
        figures["aupro"] = overlap(test, kept["maps"][rows])
    counts = {"learned_from": len(training(whole)), "tested": [int((~anomalous).sum()), int(anomalous.sum())]}
    return figures | counts


def overlap(test: Source, maps: np.ndarray) -> dict[str, float | None]:
    """AUPRO of maps (N, h, w), in the images' own pixels."""
    from PIL import Image

    from unlike.data.input_spec import InputSpec
    from unlike.evaluation.pixels import PixelSpool

    with PixelSpool(InputSpec(*maps.shape[1:], 3)) as spool:
        for sample, map_ in zip(test.samples, maps, strict=True):
            with Image.open(sample.path) as image:
                shape = image.size[::-1]
            spool.add(sample, map_.astype(np.float32), shape)
        return as_numbers(spool.measure()[""].values["aupro"])


def page_of(results: dict) -> str:
    """Markdown: what each figure is, a table for each set, means over all sets that every detector has, and all settings."""
    rows = results["rows"]
    sets = list(dict.fromkeys(row["set"] for row in rows))
    parts = [OPENING.format(made=results["command"]), _means(rows, sets)]
    parts += [_table(name, [row for row in rows if row["set"] == name]) for name in sets]
    return "\n\n".join([*parts, _settings(rows)]) + "\n"


OPENING = """# Presets and anomalib on public sets

Written by `benchmarks/public.py`. Both sides learned from the same normal images and were tested on the same others, with the same
network and weights (EfficientNet-Lite0, ImageNet), one thread, no accelerator. `ensemble` and `fast` take their size from the images, 128
to 512 pixels (mtoc 512 and 256, cookies 384 and 256, headct 256, others 128); all others have 256. Settings below are of the last set. In brackets
95 % intervals of a test of so many images: two detectors whose intervals overlap by much are not told apart by that set.

- *AUROC* of images, *AUPRO* of maps, in the images' own pixels up to a false-positive rate of 30 %.
- *found* and *false alarms*: at the threshold that each preset calibrates from normal images alone, for the promise that stands
  beside it (1 %, or what three images hold, up to 10 %). anomalib has no such threshold: its own is learned from labelled defects.
- *found at 1 %*: above the threshold that 1 % of the test's own normal images exceed. That is an oracle, for both sides alike.
- *fit*: CPU seconds; *images/s*: scored a CPU second, decoding included; *MB*: peak memory of the process. anomalib's coreset is
  chosen by a faster program than its own.

Command: `{made}`"""
HEAD = (
    "detector",
    "seeds",
    "AUROC",
    "AUPRO",
    "found",
    "false alarms",
    "promise",
    "found at 1 %",
    "fit",
    "images/s",
    "MB",
)


def _table(name: str, rows: list[dict]) -> str:
    learned, (normal, odd) = next(((row["learned_from"], row["tested"]) for row in rows if "auroc" in row), (0, (0, 0)))
    keys = dict.fromkeys((row["side"], row["name"]) for row in rows)
    lines = [_line(HEAD), _line(["---"] * len(HEAD))]
    lines += [_line(_cells(key, [row for row in rows if (row["side"], row["name"]) == key])) for key in keys]
    return f"## {name}\n\n{learned} to learn from; {normal} normal and {odd} defective to test.\n\n" + "\n".join(lines)


def _cells(key: tuple[str, str], rows: list[dict]) -> list[str]:
    label = f"{key[1]}" if key[0] == "unlike" else f"anomalib {key[1]}"
    good = [row for row in rows if "auroc" in row]
    if not good:
        return [label, str(len(rows)), f"cannot take it: {rows[0]['failed']}", *[""] * (len(HEAD) - 3)]
    figures = [_figure(good, name) for name in ("auroc", "aupro", "found", "false_alarms")]
    promise = "" if good[0].get("promise") is None else f"{good[0]['promise']:.1%}"
    costs = [f"{_median(good, name):,.0f}" for name in ("fit_cpu_seconds", "images_a_cpu_second", "peak_megabytes")]
    return [label, str(len(good)), *figures, promise, _figure(good, "found_at_rate"), *costs]


def _figure(rows: list[dict], name: str) -> str:
    """The mean of all seeds, with the interval of the first one."""
    if name not in rows[0]:
        return ""
    first, mean = rows[0][name], np.mean([row[name]["value"] for row in rows])
    return f"{mean:.3f}" if first["low"] is None else f"{mean:.3f} [{first['low']:.3f}, {first['high']:.3f}]"


def _median(rows: list[dict], name: str) -> float:
    return float(np.median([row[name] for row in rows]))


def _means(rows: list[dict], sets: list[str]) -> str:
    """Over the sets that all detectors could take: mean and least AUROC, and what is found."""
    keys = list(dict.fromkeys((row["side"], row["name"]) for row in rows))
    by = {
        (key, name): [r for r in rows if (r["side"], r["name"]) == key and r["set"] == name and "auroc" in r]
        for key in keys
        for name in sets
    }
    common = [name for name in sets if all(by[key, name] for key in keys)]
    head = ("detector", "mean AUROC", "least AUROC", "mean found at 1 %", "mean fit", "mean images/s")
    lines = [_line(head), _line(["---"] * len(head))]
    for key in keys if common else []:
        means = {
            figure: [np.mean([row[figure]["value"] for row in by[key, name]]) for name in common]
            for figure in ("auroc", "found_at_rate")
        }
        costs = [
            np.mean([_median(by[key, name], cost) for name in common])
            for cost in ("fit_cpu_seconds", "images_a_cpu_second")
        ]
        least = common[int(np.argmin(means["auroc"]))]
        label = key[1] if key[0] == "unlike" else f"anomalib {key[1]}"
        shown = [
            f"{np.mean(means['auroc']):.3f}",
            f"{min(means['auroc']):.3f} ({least})",
            f"{np.mean(means['found_at_rate']):.3f}",
        ]
        lines.append(_line([label, *shown, *(f"{cost:,.0f}" for cost in costs)]))
    return f"## The {len(common)} sets that every detector has a row for\n\n" + "\n".join(lines)


def _settings(rows: list[dict]) -> str:
    lines = []
    for row in {(row["side"], row["name"]): row for row in rows if "settings" in row}.values():
        versions = ", ".join(f"{name} {value}" for name, value in row["versions"].items())
        lines.append(f"- **{row['side']} {row['name']}** ({versions}): `{json.dumps(row['settings'])}`")
    return "## Settings\n\n" + "\n".join(lines)


def _line(cells: list[str] | tuple[str, ...]) -> str:
    return "| " + " | ".join(cells) + " |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("root", type=Path)
    parser.add_argument("--presets", nargs="*", default=["ensemble", "patchcore", "padim"])
    parser.add_argument("--peer-python", help="of an environment with anomalib 2.7.0")
    parser.add_argument("--peers", nargs="*", choices=PEERS, default=PEERS)
    parser.add_argument("--sets", nargs="*", help="names of folders; all, where none is named")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--results", default="public", help="name of the results file")
    parser.add_argument("--page", type=Path, help="where the page goes; none: no page")
    parser.add_argument("--one", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        preset, folder, seed = options.one
        print(json.dumps(measure_ours(preset, Path(folder), int(seed))))
        return
    file = RESULTS / f"{options.results}.json"
    rows = json.loads(file.read_text())["rows"] if file.exists() else []
    known = {(row["side"], row["name"], row["set"], row["seed"]) for row in rows}
    folders = find_sets(options.root)
    wanted = [("unlike", name) for name in options.presets]
    wanted += [("anomalib", name) for name in options.peers] if options.peer_python else []
    for name in options.sets or folders:
        for seed in range(options.seeds):
            for side, detector in wanted:
                if (side, detector, name, seed) in known:
                    continue
                if side == "anomalib":
                    found = measure_peer(options.peer_python, detector, folders[name], seed)
                else:
                    found = run_ours(detector, folders[name], seed)
                rows.append({"side": side, "name": detector, "set": name, "seed": seed, **found})
                print(rows[-1], file=sys.stderr, flush=True)
                keep(options.results, rows)
    if options.page:
        options.page.write_text(page_of(json.loads(file.read_text())))


def run_ours(preset: str, folder: Path, seed: int) -> dict:
    command = [sys.executable, __file__, str(folder.parent), "--one", preset, str(folder), str(seed)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return (
        json.loads(done.stdout.splitlines()[-1])
        if not done.returncode
        else {"failed": done.stderr.strip().splitlines()[-1]}
    )


def keep(name: str, rows: list[dict]) -> None:
    """The results so far, whose command names no folder of a machine."""
    arguments, places = sys.argv, {"--peer-python": "PYTHON", "--page": "PAGE"}
    shown = [places.get(before, now) for before, now in zip(["", *arguments], arguments, strict=False)]
    shown[1:2] = ["ROOT"]
    sys.argv, before = shown, arguments
    try:
        write(name, {"rows": rows})
    finally:
        sys.argv = before


if __name__ == "__main__":
    main()
