"""The numbers and the figure of docs/metrics.md: what AUROC, average precision, F1 and AUPRO say of the same scores.

The scores are those of an autoencoder on the demo's cells: the preset `textbook`, fitted on 438 real solar cells without a
defect, scores 150 others and 313 defective ones. Other shares of defective cells are the same scores with weights: w to each anomalous image and (1 - w) to
each normal one, so that nothing but the mix changes. Everything but the fit follows from the scores, which are kept in the
results; `--again` computes it from those. The pixel examples are made by hand: maps whose figures can be checked on paper.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from common import RESULTS, write
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter
from scipy.integrate import trapezoid

from unlike import Detector, demo
from unlike.calibration.sweep import Sweep, best_f1, sweep
from unlike.data.input_spec import InputSpec
from unlike.evaluation import evaluate
from unlike.evaluation.metrics import auroc, average_precision, measure_images, pr_curve, roc_curve, wilson
from unlike.evaluation.pixels import PixelSpool
from unlike.records import Sample
from unlike.report.figures import INK, NORMAL, QUIET, styled
from unlike.report.wording import percent

PICTURE = Path(__file__).parents[1] / "docs" / "pictures" / "metrics.svg"
PRESET, FALSE_ALARMS = "textbook", 0.05
SHARES = (0.5, 0.1, 0.01)  # of anomalous images, beside the share in the test set
LOOKS = (("#08306b", "-"), ("#2171b5", "--"), ("#4292c6", "-."), ("#6baed6", (0, (1, 1))))  # darker is more anomalous
MVTEC = {  # normal and defective test images: Bergmann et al. 2019, table 1
    "bottle": (20, 63),
    "cable": (58, 92),
    "capsule": (23, 109),
    "pill": (26, 141),
    "toothbrush": (12, 30),
}
DRAWS = 2_000
LABELLED = 30  # images on which somebody chooses a threshold
Facts = dict[str, Any]


def score_cells(seed: int) -> Facts:
    """An autoencoder on the demo's cells: scores to six digits, and the threshold that no label has moved."""
    with tempfile.TemporaryDirectory() as folder:
        images = demo.write_cells(Path(folder), seed)
        detector = Detector(preset=PRESET, false_alarms=FALSE_ALARMS, seed=seed, device="cpu", cache=False)
        found = evaluate(detector.fit(images), images)
    assert not found.leaked  # nor is any of them the twin of one that it was fitted on
    groups = {"normal": ~found.anomalous, "anomalous": found.anomalous}
    return {
        "preset": PRESET,
        "seed": seed,
        "promised_false_alarms": detector.fitted_.decision.false_alarms,
        "held_out_normals": len(detector.fitted_.decision.scores),
        "fitted_on": int(detector.fitted_.counts["train"]),
        "threshold": shorten(detector.fitted_.decision.threshold),
        **{name: sorted(map(shorten, found.scores.image[chosen])) for name, chosen in groups.items()},
    }


def shorten(score: float) -> float:
    return float(f"{score:.6g}")


class Scores:
    """Scores and labels, and how the images are weighed so that a given share of them is anomalous."""

    def __init__(self, facts: Facts) -> None:
        self.scores = np.array(facts["normal"] + facts["anomalous"])
        self.anomalous = np.repeat([False, True], [len(facts["normal"]), len(facts["anomalous"])])
        self.threshold = facts["threshold"]
        self.share = float(self.anomalous.mean())

    def weigh(self, share: float) -> np.ndarray:
        each = np.where(self.anomalous, share / self.anomalous.sum(), (1 - share) / (~self.anomalous).sum())
        return each * len(each)

    def sweep(self, share: float) -> Sweep:
        return sweep(self.scores, self.anomalous, self.weigh(share))


def count(scores: Scores) -> Facts:
    """What the threshold does, as a table of two by two, and what follows."""
    alarms = scores.scores > scores.threshold
    true, missed = int((alarms & scores.anomalous).sum()), int((~alarms & scores.anomalous).sum())
    false, quiet = int((alarms & ~scores.anomalous).sum()), int((~alarms & ~scores.anomalous).sum())
    return {
        "true_alarms": true,
        "missed": missed,
        "false_alarms": false,
        "true_quiet": quiet,
        "detection_rate": true / (true + missed),
        "false_alarm_rate": false / (false + quiet),
        "precision": true / (true + false),
        "f1": 2 * true / (2 * true + false + missed),
        "accuracy": (true + quiet) / len(alarms),
        "accuracy_all_anomalous": scores.share,
        "f1_all_anomalous": f1_all_anomalous(scores.share),
    }


def f1_all_anomalous(share: float) -> float:
    return 2 * share / (1 + share)


def compare_pairs(scores: Scores) -> Facts:
    """AUROC as what it means, pair by pair; as an area; and with the axes swapped."""
    usual, strange = scores.scores[~scores.anomalous][:, None], scores.scores[scores.anomalous]
    higher, equal = int((strange > usual).sum()), int((strange == usual).sum())
    false_alarms, detected = roc_curve(scores.sweep(scores.share))
    return {
        "pairs": usual.size * strange.size,
        "higher": higher,
        "equal": equal,
        "share": (higher + equal / 2) / (usual.size * strange.size),
        "auroc": auroc(scores.sweep(scores.share)),
        "swapped": float(trapezoid(false_alarms, detected)),
    }


def reweigh(scores: Scores, share: float) -> Facts:
    """The figures of the same scores where that share of the images is anomalous."""
    swept = scores.sweep(share)
    best = best_f1(swept)
    rates = count(scores)
    true, false = share * rates["detection_rate"], (1 - share) * rates["false_alarm_rate"]
    return {
        "share": share,
        "auroc": auroc(swept),
        "average_precision": average_precision(swept),
        "f1_max": best.value,
        "f1_max_threshold": best.threshold,
        "f1_max_false_alarms": float((scores.scores[~scores.anomalous] > best.threshold).mean()),
        "f1_all_anomalous": f1_all_anomalous(share),
        "precision": true / (true + false),
        "f1": 2 * true / (true + false + share),
        "accuracy": true + (1 - share) - false,
        "accuracy_none_anomalous": 1 - share,
    }


def choose_on_few(scores: Scores, images: int, seed: int = 0) -> Facts:
    """F1 of the best threshold on a few labelled images, there and on all others, over random draws."""
    random = np.random.default_rng(seed)
    strange = round(images * scores.share)
    there, elsewhere = [], []
    for _ in range(DRAWS):
        rows = (np.flatnonzero(scores.anomalous), np.flatnonzero(~scores.anomalous))
        drawn = [
            random.choice(group, size, replace=False)
            for group, size in zip(rows, (strange, images - strange), strict=True)
        ]
        chosen = np.isin(np.arange(len(scores.scores)), np.concatenate(drawn))
        best = best_f1(sweep(scores.scores[chosen], scores.anomalous[chosen]))
        alarms, truth = scores.scores[~chosen] > best.threshold, scores.anomalous[~chosen]
        there.append(best.value)
        elsewhere.append(2 * (alarms & truth).sum() / (alarms.sum() + truth.sum()))
    return {"images": images, "draws": DRAWS, "there": float(np.mean(there)), "elsewhere": float(np.mean(elsewhere))}


def shrink(scores: Scores, normal: int, anomalous: int, seed: int = 0) -> Facts:
    """What AUROC smaller test sets out of these images would have reported: the middle 95 %."""
    random = np.random.default_rng(seed)
    groups = [scores.scores[chosen] for chosen in (~scores.anomalous, scores.anomalous)]
    labels = np.repeat([False, True], [normal, anomalous])
    found = []
    for _ in range(DRAWS):
        drawn = [
            random.choice(group, size, replace=False) for group, size in zip(groups, (normal, anomalous), strict=True)
        ]
        found.append(auroc(sweep(np.concatenate(drawn), labels)))
    low, high = np.quantile(found, [0.025, 0.975])
    return {"normal": normal, "anomalous": anomalous, "low": float(low), "high": float(high)}


def measure_pixels(map_: np.ndarray, mask: np.ndarray) -> Facts:
    """Pixel AUROC and AUPRO of one image."""
    with PixelSpool(InputSpec(*map_.shape, 1)) as spool:
        spool.add(Sample("0", anomalous=True, mask=mask), map_.astype(np.float32), map_.shape)
        found = spool.measure()[""].values
    return {name: found[name].value for name in ("auroc", "aupro")}


def miss_small_defects(side: int = 256, large: int = 100, small: int = 5, many: int = 19) -> Facts:
    """One large defect that stands out, and many small ones that look like the background."""
    map_ = np.random.default_rng(0).permutation(side * side).reshape(side, side) / side**2  # every value once
    mask = np.zeros((side, side), bool)
    mask[20 : 20 + large, 20 : 20 + large] = True
    map_[mask] += 1
    for place in range(many):
        top, left = 140 + 20 * (place // 10), 10 + 24 * (place % 10)
        mask[top : top + small, left : left + small] = True
    share = large**2 / mask.sum()
    return {
        "side": side,
        "large_side": large,
        "small_side": small,
        "small": many,
        "large_share_of_pixels": float(share),
        "regions_found": 1 / (1 + many),
        **measure_pixels(map_, mask),
        "expected_auroc": float(share + (1 - share) / 2),
        "expected_aupro": (1 + many * 0.15) / (1 + many),  # by chance a small one is covered as far as the background
    }


def grow_background(sides: tuple[int, ...] = (128, 256, 1024), defect: int = 20, false: int = 40) -> Facts:
    """The same defect and the same larger false alarm, which is stranger than it, before ever more background."""
    found = []
    for side in sides:
        map_, mask = np.zeros((side, side)), np.zeros((side, side), bool)
        map_[60 : 60 + false, 60 : 60 + false] = 2
        mask[10 : 10 + defect, 10 : 10 + defect] = True
        map_[mask] = 1
        found.append({"side": side, **measure_pixels(map_, mask)})
    return {"defect_side": defect, "false_side": false, "images": found}


def compute(facts: Facts) -> Facts:
    scores = Scores(facts)
    measured = measure_images(scores.scores, scores.anomalous, scores.threshold).image
    return {
        **facts,
        "share": scores.share,
        "at_threshold": count(scores),
        "pairs": compare_pairs(scores),
        "shares": [reweigh(scores, share) for share in (scores.share, *SHARES)],
        "intervals": {name: str(estimate) for name, estimate in measured.items()},
        "chosen_on_few": choose_on_few(scores, LABELLED),
        "small_test": shrink(scores, *MVTEC["bottle"]),
        "no_false_alarm_of": quiet_stretch(scores),
        "mvtec": all_anomalous_on_mvtec(),
        "small_defects": miss_small_defects(),
        "background": grow_background(),
    }


def quiet_stretch(scores: Scores) -> Facts:
    """The detection rate that costs no false alarm among these normal images, and the rate that they cannot rule out."""
    normals = scores.scores[~scores.anomalous]
    detected = float((scores.scores[scores.anomalous] > normals.max()).mean())
    rate = wilson(0.0, len(normals)).high
    assert rate is not None
    share = min(SHARES)
    precision = share * detected / (share * detected + (1 - share) * rate)
    return {"normal": len(normals), "detected": detected, "possible_rate": rate, "share": share, "precision": precision}


def all_anomalous_on_mvtec() -> Facts:
    shares = {name: anomalous / (normal + anomalous) for name, (normal, anomalous) in MVTEC.items()}
    bottle = MVTEC["bottle"]
    return {
        "bottle": {"normal": bottle[0], "anomalous": bottle[1], "accuracy": shares["bottle"]},
        "bottle_f1": f1_all_anomalous(shares["bottle"]),
        "categories": list(MVTEC),
        "accuracy_mean": float(np.mean(list(shares.values()))),
    }


@styled
def draw(facts: Facts) -> Figure:
    scores = Scores(facts)
    figure = Figure(figsize=(11.4, 4.1), layout="constrained", facecolor="white")
    panels = figure.subplots(1, 3)
    draw_roc(panels[0], scores, facts)
    for row, (look, cell) in enumerate(zip(LOOKS, facts["shares"], strict=True)):
        draw_share(panels[1:], scores, look, cell, first=row == 0)
    panels[1].set(
        title="Precision-recall curve",
        xlabel="Detection rate (recall), TP / (TP + FN)",
        ylabel="Precision, TP / (TP + FP)",
    )
    panels[2].set(title="F1 by threshold", xlabel="Threshold (score, logarithmic)", ylabel="F1", xscale="log")
    panels[2].axvline(scores.threshold, color=INK, linewidth=1, linestyle="--", zorder=1)
    panels[2].text(scores.threshold * 1.08, 1.0, "threshold from\nnormal images", fontsize=8.5, va="top", color=INK)
    panels[2].set_xlim(*np.quantile(scores.scores, [0, 0.99]))
    panels[2].xaxis.set_major_locator(LogLocator(subs=(1.0, 3.0)))
    panels[2].xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    panels[2].xaxis.set_minor_formatter(NullFormatter())
    for axes in panels:
        axes.set_ylim(-0.02, 1.02)
        axes.yaxis.set_major_locator(MaxNLocator(5))
        axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=2, fontsize=8.5, handlelength=2.6)
    for axis in (panels[0].xaxis, panels[0].yaxis, panels[1].xaxis, panels[1].yaxis):
        axis.set_major_locator(MaxNLocator(5))
        axis.set_major_formatter(FuncFormatter(lambda value, _: percent(value, 0)))
    for axes in panels[:2]:
        axes.set_xlim(-0.02, 1.02)
    return figure


def draw_roc(axes: Axes, scores: Scores, facts: Facts) -> None:
    false_alarms, detected = roc_curve(scores.sweep(scores.share))
    pairs, rates = facts["pairs"], facts["at_threshold"]
    axes.plot([0, 1], [0, 1], color=QUIET, linestyle=":", linewidth=1, label="guessing: area 0.5")
    axes.plot(detected, false_alarms, color="#c9c9c9", linewidth=1.4, label=f"axes swapped: {pairs['swapped']:.3f}")
    axes.fill_between(false_alarms, detected, color=NORMAL, alpha=0.08, linewidth=0)
    axes.plot(false_alarms, detected, color=NORMAL, linewidth=1.8, label=f"ROC: area {pairs['auroc']:.3f}")
    mark(axes, rates["false_alarm_rate"], rates["detection_rate"], label="the threshold")
    axes.set(title="ROC curve", xlabel="False-alarm rate, FP / (FP + TN)", ylabel="Detection rate, TP / (TP + FN)")


def draw_share(panels: list[Axes], scores: Scores, look: tuple[str, Any], cell: Facts, *, first: bool) -> None:
    """One mix of images: its precision-recall curve, and its F1 at every threshold."""
    swept = scores.sweep(cell["share"])
    colour, line = look
    name = percent(cell["share"], 0) + (" (the test)" if first else "")
    recall, precision = pr_curve(swept)
    style: dict[str, Any] = {"color": colour, "linestyle": line, "linewidth": 1.7}
    panels[0].plot(recall, precision, **style, label=f"{name}: AP {cell['average_precision']:.2f}")
    mark(panels[0], float((scores.scores[scores.anomalous] > scores.threshold).mean()), cell["precision"])
    f1 = 2 * swept.detected / (swept.detected + swept.false_alarms + swept.anomalous)
    panels[1].plot(swept.thresholds, f1, **style, label=f"{name}: best {cell['f1_max']:.2f}")
    panels[1].plot([cell["f1_max_threshold"]], [cell["f1_max"]], "o", color=colour, markersize=5, zorder=4)


def mark(axes: Axes, across: float, up: float, label: str | None = None) -> None:
    look: dict[str, Any] = {"markersize": 6, "markerfacecolor": "white", "markeredgewidth": 1.5, "color": INK}
    axes.plot([across], [up], "o", linestyle="none", label=label, zorder=5, clip_on=False, **look)


@styled
def save(figure: Figure) -> None:
    PICTURE.parent.mkdir(exist_ok=True)
    figure.savefig(PICTURE, metadata={"Creator": None, "Date": None, "Format": None, "Type": None})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--again", action="store_true", help="compute from the scores in the results, without a fit")
    options = parser.parse_args()
    kept = RESULTS / "metrics_page.json"
    facts = json.loads(kept.read_text()) if options.again else score_cells(options.seed)
    results = compute(facts)
    save(draw(results))
    write("metrics_page", results)


if __name__ == "__main__":
    main()
