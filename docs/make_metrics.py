"""Write docs/metrics.md from benchmarks/results/metrics_page.json; `--check` fails where it is stale."""

from __future__ import annotations

import sys
from pathlib import Path

from make_measured import load, made_by, table
from make_page import write_page

PAGE = Path(__file__).parent / "metrics.md"


def percent(share: float, decimals: int = 0) -> str:
    return f"{100 * share:.{decimals}f} %"


def opening(results: dict) -> str:
    normal, anomalous = len(results["normal"]), len(results["anomalous"])
    return f"""# Which metric, and why

A detector gives every image a score. Metrics say how well the scores tell anomalous images from normal ones, and they
do not agree. This page shows what each of them says of the *same* scores: those that an autoencoder
(preset `textbook`) gives to {normal} normal and {anomalous} defective solar cells, none of which it was fitted on. It saw {results["fitted_on"]} normal cells in training
and {results["held_out_normals"]} more to draw its threshold, at a promise of {percent(results["promised_false_alarms"])} false alarms.

![ROC curve, precision-recall curves and F1 by threshold of the same scores](pictures/metrics.svg)

*Left: the ROC curve; grey, what you get with its axes swapped. Middle: precision-recall curves of the same scores, if another
share of the images were anomalous. Right: F1 at every threshold, with its maximum. Circles and the dashed line: the
threshold that was drawn from normal images alone.*

**In short:** AUROC first, with its interval, for it depends neither on a threshold nor on how many of the test images happen
to be anomalous. Average precision beside it, where anomalous images are rare and alarms cost something. AUPRO for maps. F1
and accuracy at a threshold that was fixed before the labels were seen, and next to what *calling everything anomalous* gets."""


def counts(results: dict) -> str:
    found, pairs = results["at_threshold"], results["pairs"]
    true, false, missed, quiet = (found[name] for name in ("true_alarms", "false_alarms", "missed", "true_quiet"))
    rows = [
        ["anomalous images", f"TP = {true}", f"FN = {missed}", f"detection rate (recall) TP / (TP + FN) = {true}/{true + missed} = {found['detection_rate']:.3f}"],
        ["normal images", f"FP = {false}", f"TN = {quiet}", f"false-alarm rate FP / (FP + TN) = {false}/{false + quiet} = {found['false_alarm_rate']:.3f}"],
    ]  # fmt: skip
    return f"""## Four counts, two rates, and precision

{table(["at the threshold", "alarm", "no alarm", "share of the row"], rows)}

Each rate is a share of **one** row: neither changes when there are more normal or more anomalous images of the same kinds.
The **ROC curve** has a point for every threshold: the false-alarm rate is x, the detection rate is y. It rises from (0, 0),
where nothing raises an alarm, to (1, 1), where everything does, and the better it is the closer it comes to the upper left corner.

Swap the axes and the area becomes 1 - AUROC, here {pairs["swapped"]:.3f} in place of {pairs["auroc"]:.3f}: with an area below 0.5,
look at the axes first, then at whether higher means stranger; if both are right, the score does rank the wrong way round.

**Precision** is the share of the *alarms* that are right, TP / (TP + FP) = {true}/{true + false} = {found["precision"]:.3f}. It is a share of
a column, so it is no axis of a ROC curve, it is not the detection rate, and 1 - precision is not the false-alarm rate: here
{percent(1 - found["precision"], 1)} of the alarms are false, while {percent(found["false_alarm_rate"], 1)} of the normal images raise one."""


def area(results: dict) -> str:
    pairs = results["pairs"]
    ties = f"{pairs['equal']:,} are tied" if pairs["equal"] else "none is tied"
    return f"""## AUROC: which of the two scores higher?

Take one anomalous and one normal image at random. **AUROC is the chance that the anomalous one has the higher score**, a tie
counting half. That can be checked by counting: of {len(results["anomalous"])} x {len(results["normal"])} = {pairs["pairs"]:,} pairs, the anomalous image is ahead in {pairs["higher"]:,}
({ties}), which is {pairs["share"]:.6f}; the area under the curve is {pairs["auroc"]:.6f}. Guessing gets 0.5, whatever the images.

So it needs no threshold, and more images of either kind make it surer, not larger or smaller. What it does not say:

- how good the *threshold* is: for that there are the detection rate and the false-alarm rate at that threshold;
- how many of the alarms will be right where anomalous images are rare: for that there is average precision;
- how good the useful end of the curve is. It averages over all rates of false alarms, also those that nobody would accept."""


def precision(results: dict) -> str:
    rows = []
    for cell in results["shares"]:
        name = percent(cell["share"]) + (" (the test)" if cell["share"] == results["share"] else "")
        figures = ("auroc", "average_precision", "precision", "f1", "f1_max", "f1_all_anomalous")
        rows.append([name, *(f"{cell[figure]:.3f}" for figure in figures)])
    head = ["anomalous", "AUROC", "average precision", "precision at the threshold", "F1 at the threshold", "best F1 (oracle)", "F1 of calling all anomalous"]  # fmt: skip
    quiet, rare = results["no_false_alarm_of"], results["shares"][-1]
    return f"""## Average precision: how many alarms will be right?

**Average precision** is the area under the precision-recall curve: the mean, over the anomalous images, of the precision at the
threshold that just finds each of them. Guessing gets the share of images that are anomalous, so the figure means something only
together with that share. The same scores, with the images weighed so that another share of them is anomalous:

{table(head, rows)}

Nothing about the detector has changed from row to row. AUROC says so; the other figures do not. In five categories of MVTec AD {percent(results["mvtec"]["accuracy_mean"])}
of the test images are anomalous; on a production line it may be 1 %. There, {percent(rare["precision"])} of this detector's alarms would be right,
where the test set said {percent(results["shares"][0]["precision"])}. Compare average precisions on the same test set only; and if you know how rare defects are
with you, that is the row to look at.

The last row must be taken with care. {percent(quiet["detected"])} of the defective cells score higher than *every* one of the {quiet["normal"]} normal cells, so the curve
claims a precision of 1 up to there. But no false alarm among {quiet["normal"]} images can be a rate of {percent(quiet["possible_rate"], 1)} (Wilson's interval), and with that a
precision of {quiet["precision"]:.2f}. Rare anomalies take many normal test images to judge."""


def harmonic(results: dict) -> str:
    found, mvtec, few = results["at_threshold"], results["mvtec"], results["chosen_on_few"]
    whole, half = results["shares"][0], results["shares"][1]
    bottle, images = mvtec["bottle"], mvtec["bottle"]["normal"] + mvtec["bottle"]["anomalous"]
    names = ", ".join(mvtec["categories"])
    ends = (results["shares"][-1]["f1"], whole["f1"])
    return f"""## What F1 at one threshold hides

F1 = 2 TP / (2 TP + FP + FN), the harmonic mean of precision and detection rate. It takes no notice of the normal images that are
rightly left alone (TN), and it hides three things.

**How many images are anomalous.** The table above: at the same threshold, with the same rates, F1 is {ends[1]:.2f} or {ends[0]:.2f}. A test set
with few normal images makes false alarms cheap.

**That no detector at all does well.** Where a share p of the images is anomalous, calling *everything* anomalous has an accuracy of
p and an F1 of 2p / (1 + p). The bottles of MVTec AD have {bottle["anomalous"]} defective images of {images}: accuracy {percent(bottle["accuracy"], 1)}, F1 {mvtec["bottle_f1"]:.3f}, AUROC 0.5.
Over {names} the accuracy of that is {percent(mvtec["accuracy_mean"], 1)} on average. On the cells it has
an F1 of {found["f1_all_anomalous"]:.3f}: *more* than the {found["f1"]:.3f} of the detector, which finds {percent(found["detection_rate"])} of the defects with {percent(found["false_alarm_rate"])} false alarms. That is why
`unlike evaluate` prints `accuracy_all_anomalous` and `improvement` beside the accuracy ({percent(found["accuracy"], 1)} against {percent(found["accuracy_all_anomalous"], 1)} here). And where
1 % is anomalous, calling *nothing* anomalous has an accuracy of {percent(results["shares"][-1]["accuracy_none_anomalous"])}.

**Who chose the threshold.** The best F1 over all thresholds, {whole["f1_max"]:.3f} here, belongs to somebody who knew the labels of the test images:
an oracle's number. Its threshold calls {percent(whole["f1_max_false_alarms"])} of the normal cells defective, because in this mix that pays; with half of the
images normal, the best threshold is another ({percent(half["f1_max_false_alarms"])} false alarms). The threshold drawn from held-out *normal* images has an F1 of {found["f1"]:.3f} and
a promise about false alarms that no mix of images changes. Even somebody with a few labels should not report
the F1 on those: of the best threshold for {few["images"]} random cells, F1 is {few["there"]:.3f} on them and {few["elsewhere"]:.3f} on all others (mean of {few["draws"]:,} draws).
`unlike` prints F1, precision and recall at the threshold, and the best F1 as what it is, an oracle's."""


def intervals(results: dict) -> str:
    names = {
        "auroc": "AUROC",
        "average_precision": "average precision",
        "detection_rate": "detection rate",
        "false_alarm_rate": "false-alarm rate",
        "f1_max": "best F1 (oracle)",
        "accuracy": "accuracy",
    }
    small = results["small_test"]
    rows = [[label, results["intervals"][name]] for name, label in names.items()]
    return f"""## Intervals

{table(["figure", "value and 95 % interval"], rows)}

Every figure is of *these* images. With {small["normal"]} normal and {small["anomalous"]} anomalous cells, as many as the bottles have, the same scores would have been reported as an AUROC
anywhere from {small["low"]:.2f} to {small["high"]:.2f} (the middle 95 % of random draws). Two detectors whose intervals overlap widely have not been told
apart by them. An interval speaks of other images from the same source; another seed of the training is another matter. [How they are
made](why.md#why-the-numbers-have-brackets)."""


def pixels(results: dict) -> str:
    small, grown = results["small_defects"], results["background"]
    rows = [
        [f"{cell['side']} x {cell['side']}", f"{cell['auroc']:.3f}", f"{cell['aupro']:.3f}"] for cell in grown["images"]
    ]
    area_share = small["large_share_of_pixels"]
    return f"""## Maps: pixel AUROC and AUPRO

*Pixel AUROC* is the same chance, of a defective against a normal **pixel**. So a defect counts by its area. An example to check on paper:
an image of {small["side"]} x {small["side"]} pixels has one large defect ({small["large_side"]} x {small["large_side"]}), which the map marks perfectly, and {small["small"]} small ones
({small["small_side"]} x {small["small_side"]}), which look to the map like any background. {small["small"]} of {small["small"] + 1} defects are missed, but {percent(area_share, 1)} of the defective pixels
are in the large one:

- pixel AUROC **{small["auroc"]:.3f}** (by arithmetic: {area_share:.4f} x 1 + {1 - area_share:.4f} x 0.5 = {small["expected_auroc"]:.3f});
- AUPRO **{small["aupro"]:.3f}** (by arithmetic, on average over such backgrounds: (1 + {small["small"]} x 0.15) / {small["small"] + 1} = {small["expected_aupro"]:.3f}).

*AUPRO* (area under the per-region overlap curve, [Bergmann et al. 2020](https://arxiv.org/abs/1911.02357)) takes the share of **each connected defect** that lies above a threshold,
averages over the defects, each alike, and over the thresholds up to a false-positive rate of 30 % of the normal pixels; a defect that
looks like background is covered by chance, 15 % on average over that range.

Both count false alarms as a share of all normal pixels, so **both flatter on large backgrounds**. The same defect ({grown["defect_side"]} x {grown["defect_side"]}) and the
same false alarm ({grown["false_side"]} x {grown["false_side"]}, stranger than the defect) before ever more background:

{table(["image", "pixel AUROC", "AUPRO"], rows)}

AUPRO is the stricter at every size, because its scale ends at 30 %, but in the end it is flattered too. Compare either
between images of the same size only."""


def advice() -> str:
    rows = [
        ["Does the score tell anomalous from normal?", "AUROC"],
        ["How many alarms will be right, at my share of defects?", "precision at the threshold and average precision, weighed to that share"],
        ["What will be found, and how often am I disturbed for nothing?", "detection rate and false-alarm rate at the threshold from normal images"],
        ["Is it better than no detector?", "improvement over calling everything anomalous"],
        ["Does the map show every defect?", "AUPRO, and the regions themselves"],
        ["What could the best threshold do?", "best F1, best accuracy: oracles, to compare with papers that report them"],
    ]  # fmt: skip
    return f"""## What to look at

{table(["question", "figure"], rows)}"""


def page() -> str:
    results = load("metrics_page")
    parts = [opening, counts, area, precision, harmonic, intervals, pixels]
    written = [part(results) for part in parts]
    made = f"Written by `make docs`; scores, figures and picture by {made_by(results)}"
    return "\n\n".join([*written, advice(), made]) + "\n"


if __name__ == "__main__":
    sys.exit(write_page(PAGE, page()))
