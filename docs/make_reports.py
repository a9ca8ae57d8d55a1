"""Write docs/reports.md: what the reports claimed, and what the recipes find; every figure comes from a study's results.csv.

The rows are kept in benchmarks/results/studies, one file a study, and COMMANDS says how each was made.
"""

from __future__ import annotations

import csv
import sys
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from make_page import write_page

from unlike.records import Estimate
from unlike.study.plan import Configuration
from unlike.study.run import Result
from unlike.study.tables import configuration_labels, data_names, mean_over_seeds, summary, values_of

PAGE = Path(__file__).parent / "reports.md"
STUDIES = Path(__file__).parents[1] / "benchmarks" / "results" / "studies"
COMMANDS = {
    "architectures-faces": "unlike study architectures --full --seeds 3 --data faces64 --set training.epochs=5",
    "architectures-vehicles": "unlike study architectures --full --seeds 3 --data vehicles32 --set data.size=32 --set training.epochs=10",
    "code-scorers": "unlike study code-scorers --full --seeds 3 --data faces64 --data vehicles32 --set training.epochs=10",
    "joint-or-separate": "unlike study benchmarks/studies/joint-or-separate.toml --data three",
    "learning-rates": "unlike study learning-rates --full --seeds 3 --data transistor --data magnetic_tile --data cells --set data.size=64 --set training.epochs=15",
    "thresholds": "unlike study thresholds --full --seeds 5",
    "real-or-fake": "unlike study real-or-fake --full --seeds 3",
    "augmentation": "unlike study augmentation --full --seeds 3",
    "pretraining": "unlike study pretraining --full --seeds 3",
    "equilibrium": "unlike study equilibrium --full",
    "encoders": "unlike study benchmarks/studies/encoders.toml",
}
PARTS = ("cell", "data", "seed", "state", "unlike", "python", "torch", "numpy", "error")  # columns that are no figures


@cache
def results_of(name: str) -> list[Result]:
    with (STUDIES / f"{name}.csv").open() as file:
        rows = list(csv.DictReader(file))
    return [_read(row) for row in rows]


def _read(row: dict[str, str]) -> Result:
    figures = {key: float(value) for key, value in row.items() if key not in PARTS and _is_number(value)}
    return Result(0, Configuration(row["cell"], {}, {}), row["data"], int(row["seed"]), figures, error=row["error"])


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def table(name: str, columns: dict[str, tuple[str, str | None]]) -> str:
    """A row for each cell; a column is a figure on one set of images, or the mean over all sets."""
    results = results_of(name)
    found = {head: summary(results, metric, data) for head, (metric, data) in columns.items()}
    rows = [
        [configuration, *(written(found[head].get(configuration)) for head in columns)]
        for configuration in configuration_labels(results)
    ]
    lines = [["", *columns], ["---"] * (len(columns) + 1), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def written(value: Estimate | None) -> str:
    if value is None:
        return ""
    return f"{value.value:.3f}" if value.low is None else f"{value.value:.3f} ({value.low:.3f} to {value.high:.3f})"


def difference(name: str, one: str, other: str, metric: str, data: str | None = None) -> str:
    """How much higher `one` is than `other`, seed by seed, with its interval, and whether that is clear of nothing."""
    results = results_of(name)
    first, second = (values_of(results, metric, configuration, data) for configuration in (one, other))
    found = mean_over_seeds([first[seed] - second[seed] for seed in first if seed in second])
    assert found.low is not None
    assert found.high is not None
    verdict = "clear" if found.low > 0 or found.high < 0 else "not clear"
    return f"{found.value:+.3f} ({found.low:+.3f} to {found.high:+.3f}; {verdict})"


def by_data(name: str, metric: str = "image.auroc") -> dict[str, tuple[str, str | None]]:
    return {f"{label(metric)}, {data}": (metric, data) for data in data_names(results_of(name))}


def label(metric: str) -> str:
    return {"image.auroc": "AUROC", "image.accuracy": "accuracy", "image.accuracy_max": "best accuracy"}.get(
        metric, metric
    )


def made_by(name: str) -> str:
    results = results_of(name)
    seeds = len({result.seed for result in results})
    failed = sum(bool(result.error) for result in results)
    lost = f", {failed} of which failed" * bool(failed)
    return f"`{COMMANDS[name]}`; {seeds} seeds, {len(results)} runs{lost}."


def claim(title: str, claimed: str, name: str, found: Sequence[str], holds: str) -> str:
    """One claim: what was said, what the recipe finds, and what is left of it."""
    assert holds, f"{title}: the results are there, and nobody has said what they mean"
    parts = [
        f"## {title}",
        f"**Claimed.** {claimed}",
        "**Found.**",
        *found,
        f"**Does it hold?** {holds}",
        made_by(name),
    ]
    return "\n\n".join(parts)


def code_scorers() -> str:
    name = "code-scorers"
    pairs = [
        f"{data}: {difference(name, 'k-means of 3, fcn', 'residual, fcn', 'image.auroc', data)}"
        for data in data_names(results_of(name))
    ]
    return claim(
        "Scores from the code (B2)",
        "The residual (AUC .644) finds more than distances in the code: k-means .562 and .543, PCA .595 and .561; one run each.",
        name,
        [table(name, by_data(name)), f"k-means of 3 less the residual, for `fcn`: {'; '.join(pairs)}."],
        "It depends on the images, and more than on the scorer. Where anomalies are harder to rebuild (faces against anything), the "
        "residual wins; where they are plainer than what is normal (animals against vehicles) it is below chance, and every "
        "distance in the code of `fcn` beats it. **Of `conv-dense` this is no verdict**: ten epochs are too few where the report trained 2,000, "
        "and these runs were judged with batch norm's running statistics, which dropout shifts "
        "([why](models.md#batch-norm-and-dropout)). PCA of 3 could not be had of `fcn`, whose code had 3 numbers: those runs failed and "
        "are counted as such; the recipe has codes of 32 now.",
    )


def architectures() -> str:
    faces, vehicles = "architectures-faces", "architectures-vehicles"
    columns = {"AUROC": ("image.auroc", None), "validation loss": ("loss.validation", None)}
    pairs = [
        f"{one} less {other}: {difference(faces, one, other, 'image.auroc')} on faces64, "
        f"{difference(vehicles, one, other, 'image.auroc')} on vehicles32"
        for one, other in (
            ("fcn 1024-256-64", "fcn 128-64-12-3"),
            ("three conv", "conv"),
            ("three fcn", "fcn 128-64-12-3"),
            ("resnet", "conv"),
        )
    ]
    found = ["faces64, 64 x 64:", table(faces, columns), made_by(faces)]
    found += ["vehicles32, 32 x 32:", table(vehicles, columns), "; ".join(pairs) + "."]
    return claim(
        "Wider, deeper, several encoders (A2 to A6)",
        "Wide fully-connected networks are better than narrow ones; codes of several encoders, added, are better than one; a ResNet "
        "is better than both. One run each, on the leaderboard of a course; a published variant had 98.7 % on a task of its own.",
        vehicles,
        found,
        "In part, and on faces alone. Wide is better than narrow there, clearly. Of the codes of several encoders no more can be said than "
        "that they do not harm: the differences are small or not clear. A ResNet is not clearly better than `conv`, and on faces it is "
        "behind the wide fully-connected network. On vehicles32 every one of them is below chance, for animals are plainer than vehicles, "
        "and no architecture changes that, though validation losses differ threefold: what rebuilds better need not find more. **Of the order "
        "among them this is no verdict**: all had the same few epochs, which is kind to the small ones, and validation had flattened in none; "
        "five epochs are so few that one of three trainings of `conv` on faces is far behind the others, and that the batch norms of the "
        "exact variant, judged by running statistics, were still half untrained ([why](models.md#batch-norm-and-dropout)).",
    )


def joint_or_separate() -> str:
    name = "joint-or-separate"
    columns = {
        "AUROC, average": ("image.auroc@average", None),
        "AUROC, weighted by images": ("image.auroc@weighted by images", None),
        "accuracy": ("image.accuracy@average", None),
        "best accuracy, chosen on test labels": ("image.accuracy_max@average", None),
        "accuracy less that of predict-all-anomalous": ("image.improvement@average", None),
    }
    pairs = [
        f"{cell}: {difference(name, f'{cell}, joint', f'{cell}, separate', 'image.auroc@average')}"
        for cell in ("vae", "ensemble", "padim", "patchcore", "dfr")
    ]
    return claim(
        "One model for all categories (C6, C7)",
        "A joint model is as good as separate ones: 85.3 against 84.2 % average accuracy, 82.9 against 83.3 % weighted by images, where "
        "calling everything defective gives 75.1 and 75.8 %. Thresholds were chosen on the test labels.",
        name,
        [
            "Transistors, magnetic tiles and solar cells:",
            table(name, columns),
            f"AUROC, joint less separate: {'; '.join(pairs)}.",
        ],
        "For the autoencoder joint and separate cannot be told apart, as in the report. Where codes of frozen features are scored, one "
        "detector learns each category by itself and holds an image against the one it looks like, so it is as good as separate ones by "
        "design. Accuracy at an honest threshold, from normal images alone, is far below the "
        "best one that test labels allow; the autoencoder's is below that of calling everything defective.",
    )


def learning_rates() -> str:
    name = "learning-rates"
    pairs = [
        f"{data}: {difference(name, '0.0005', '0.001', 'image.auroc', data)}" for data in data_names(results_of(name))
    ]
    return claim(
        "Learning rates (C5)",
        "On one category (bottle, 83 test images) 1e-3, 5e-4 and 1e-4 gave 80.1, 90.4 and 85.3 % accuracy: 5e-4 is best. One run each, "
        "with the threshold chosen on the test labels; of 83 images a share near 85 % has a 95 % interval of 8 points to each side.",
        name,
        [table(name, by_data(name)), f"AUROC of 5e-4 less 1e-3: {'; '.join(pairs)}."],
        "No two rates differ clearly. What the images are matters more: at 64 x 64 pixels and 15 epochs the residual is below chance on "
        "transistors and at chance on tiles, whatever the rate. The report's differences cannot be told from chance either.",
    )


def thresholds() -> str:
    name = "thresholds"
    columns = {
        "accuracy promised": ("promised.accuracy", None),
        "accuracy delivered": ("delivered.accuracy", None),
        "false alarms promised": ("promised.false_alarm_rate", None),
        "false alarms delivered": ("delivered.false_alarm_rate", None),
        "detected": ("delivered.detection_rate", None),
    }
    surprises = [f"{rule}: {written(surprise(name, rule))}" for rule in ("sweep", "ternary", "f1-max")]
    return claim(
        "Which threshold (C9)",
        "The threshold is searched for by ternary search, first for the highest accuracy, then for the highest F1, on the test set "
        "itself, and its accuracy is reported as the model's.",
        name,
        [
            (
                "Solar cells, residual of an autoencoder; promised is what holds on the half of the labelled images on which the threshold was "
                "drawn, or, for `conformal`, what it says without a label; delivered what holds on the other half:"
            ),
            table(name, columns),
            (
                f"Accuracy delivered less promised: {'; '.join(surprises)}. Promised by the sweep less by ternary search: "
                f"{difference(name, 'sweep', 'ternary', 'promised.accuracy')}."
            ),
        ],
        "The fault is in the design more than in the figures found here. With 230 labelled images to search on, what a search promises "
        "is higher than what it delivers in every row, by about a point, which five seeds cannot tell from chance; a set of 83 images, as "
        "in the report, has a third of that. Ternary search finds less than trying every threshold, but little less. What shows is what "
        "such a threshold buys: two thirds of these images are defective, so the highest accuracy calls about a third of the good cells "
        "defective, and the highest F1 more. The threshold from normal images alone promised 5 % and kept it.",
    )


def surprise(name: str, configuration: str) -> Estimate:
    """How much more accuracy a rule delivers than it promised, over seeds."""
    return mean_over_seeds(list(values_of(results_of(name), "surprise.accuracy", configuration, None).values()))


def real_or_fake() -> str:
    name = "real-or-fake"
    pairs = [
        f"{kind} noise of {size}: {difference(name, f'{kind} noise of {size}', 'residual', 'image.auroc')}"
        for kind in ("gaussian", "uniform")
        for size in ("0.3", "1", "3")
    ]
    return claim(
        "Real or fake (A7)",
        "A small network that tells reconstructions of training images from reconstructions of noisy codes scores anomalies by the "
        "chance that their reconstruction is fake. No figure against the residual of the same autoencoder is given.",
        name,
        ["Solar cells:", table(name, by_data(name)), f"AUROC less that of the residual: {'; '.join(pairs)}."],
        VERDICTS[name],
    )


def pretraining() -> str:
    name = "pretraining"
    columns = {
        "accuracy": ("accuracy", None),
        "residual of normal images": ("finetuned.residual_normal", None),
        "of damaged ones": ("finetuned.residual_anomalous", None),
        "AUROC of the residual": ("finetuned.auroc", None),
    }
    pairs = [
        f"{labels} labels: {difference(name, f'fine-tuned, {labels}', f'scratch, {labels}', 'accuracy')}"
        for labels in (5, 20, 80)
    ]
    before = summary(results_of(name), "pretrained.auroc", None)["fine-tuned, 5"]
    return claim(
        "Pretrained, then fine-tuned (D2, D5)",
        "An encoder that was pretrained by reconstruction is a better start for a classifier. After fine-tuning the anomaly check "
        "still works: mean residual .00022 of normal images, .00192 of anomalous ones.",
        name,
        [
            (
                "Handwritten digits, by where the encoder starts and how many labelled images of each class there are; accuracy on images that "
                "nobody has seen, and the residual of the fine-tuned model, of test images and of copies with synthetic defects:"
            ),
            table(name, columns),
            f"Accuracy of fine-tuned less from scratch: {'; '.join(pairs)}. AUROC of the residual before fine-tuning: {written(before)}.",
        ],
        VERDICTS[name],
    )


VERDICTS = {
    "encoders": "Not here: no encoder is clearly better than another, and weights that know ImageNet change nothing in either direction; two seeds "
    "of one encoder differ by more than the encoders do. The report's 90.4 against 83.1 % are 75 and 69 of 83 images, one training each. The "
    "vision transformer is not among them for its training time.",
    "real-or-fake": "Not here. With no kind and no size of noise is it better than guessing on average, and one training of a cell gives .22, "
    "another .78: what tells a noisy code from a clean one is another thing in each training, and a defect need not have it. The "
    "residual of the very same autoencoders finds as much each time.",
    "pretraining": "The better start it may be with five labels a class (.873 against .807), and three seeds do not make that clear; with eighty "
    "there is nothing between them, and keeping the encoder as it is does as well. The anomaly check survives fine-tuning, a little "
    "weakened: damaged digits are rebuilt worse, at a ratio of the means of 1.7 to 1.9 where it was 2.2 before, not the 8.7 that follows from the "
    "report's two figures, whose anomalous images were of another kind altogether.",
}


def encoders() -> str:
    name = "encoders"
    pairs = [
        f"{cell}: {difference(name, cell, 'conv', 'image.auroc')}"
        for cell in ("ResNet-18", "EfficientNet-Lite0", "EfficientNet-Lite0, pretrained")
    ]
    return claim(
        "Which encoder (C8)",
        "On one category a convolutional encoder of its own gives 90.4 % accuracy, a pretrained ResNet-18 83.1, a pretrained ViT 79.5. One "
        "run each, 83 test images, the threshold chosen on their labels.",
        name,
        [
            "Solar cells of 64 x 64, a variational autoencoder, 15 epochs:",
            table(name, by_data(name) | {"best accuracy, chosen on test labels": ("image.accuracy_max", None)}),
            f"AUROC less that of conv: {'; '.join(pairs)}.",
        ],
        VERDICTS[name],
    )


def equilibrium() -> str:
    name = "equilibrium"
    return claim(
        "Equilibrium k-means (D4)",
        "On three classes of images in the proportion 2 : 1 : 1 it finds the small ones, which k-means does not; alpha matters.",
        name,
        [
            "Agreement with the classes (adjusted Rand index; 1 is all, 0 is chance), digits in the plane of two components:",
            table(name, {"ARI": ("adjusted_rand", None)}),
            f"Equilibrium at alpha less k-means: {difference(name, 'equilibrium, alpha', 'k-means', 'adjusted_rand')}.",
        ],
        "Not at 2 : 1 : 1, which is not unbalanced enough to hurt k-means. At 10 : 1 : 1 and 40 : 1 it does, by much: see "
        "[equilibrium k-means](equilibrium.md). Alpha matters as claimed: at a tenth of it all centres fall together. The "
        "report's softmax, without the term that makes centres repel each other, is worse at alpha itself.",
    )


def augmentation() -> str:
    name = "augmentation"
    return claim(
        "Augmentation (D3)",
        "Two submissions to a leaderboard, with and without: with is better. The ids of one were those of a loop over unsorted files.",
        name,
        [
            table(name, by_data(name)),
            f"AUROC of all together less without: {difference(name, 'all together', 'without', 'image.auroc')}.",
        ],
        "Not here. No kind by itself is clearly better or worse than none; all together are clearly worse, after as many epochs. "
        "Solar cells all lie the same way and are lit the same way: there is little in these changes that new normal cells would have.",
    )


# system, figure, what the report had, and ours: study, cell, metric, data (None: the mean over all sets)
GLANCE = (
    ("B1", "AUROC, `conv-dense`, residual", ".644", "code-scorers", "residual, conv-dense", "image.auroc", None),
    ("B1", "AUROC, `fcn`, residual", ".593", "code-scorers", "residual, fcn", "image.auroc", None),
    ("B2", "AUROC, k-means of 3", ".562", "code-scorers", "k-means of 3, conv-dense", "image.auroc", None),
    ("B2", "AUROC, k-means of 5", ".543", "code-scorers", "k-means of 5, conv-dense", "image.auroc", None),
    ("B2", "AUROC, PCA of 2", ".595", "code-scorers", "PCA of 2, conv-dense", "image.auroc", None),
    ("B2", "AUROC, PCA of 3", ".561", "code-scorers", "PCA of 3, conv-dense", "image.auroc", None),
    ("C5", "best accuracy, rate 1e-3", ".801", "learning-rates", "0.001", "image.accuracy_max", None),
    ("C5", "best accuracy, rate 5e-4", ".904", "learning-rates", "0.0005", "image.accuracy_max", None),
    ("C5", "best accuracy, rate 1e-4", ".853", "learning-rates", "0.0001", "image.accuracy_max", None),
    ("C6", "best accuracy, joint, plain", ".853", "joint-or-separate", "vae, joint", "image.accuracy_max@average", None),
    ("C6", "best accuracy, joint, weighted", ".829", "joint-or-separate", "vae, joint", "image.accuracy_max@weighted by images", None),
    ("C6", "best accuracy, separate, plain", ".842", "joint-or-separate", "vae, separate", "image.accuracy_max@average", None),
    ("C6", "best accuracy, separate, weighted", ".833", "joint-or-separate", "vae, separate", "image.accuracy_max@weighted by images", None),
    ("C7", "accuracy of calling all defective, plain", ".751", "joint-or-separate", "vae, joint", "image.accuracy_all_anomalous@average", None),
    ("C7", "the same, weighted", ".758", "joint-or-separate", "vae, joint", "image.accuracy_all_anomalous@weighted by images", None),
    ("C8", "best accuracy, conv encoder", ".904", "encoders", "conv", "image.accuracy_max", None),
    ("C8", "best accuracy, ResNet-18", ".831", "encoders", "ResNet-18", "image.accuracy_max", None),
)  # fmt: skip


def glance() -> str:
    """Every figure of the reports beside ours."""
    lines = [
        "| system | figure | report | ours, mean and interval | images, seeds |",
        "| --- | --- | --- | --- | --- |",
    ]
    for system, figure, theirs, name, cell, metric, data in GLANCE:
        results = results_of(name)
        sets = [data] if data else data_names(results)
        for one in sets:
            ours = written(summary(results, metric, one).get(cell))
            seeds = len(values_of(results, metric, cell, one))
            lines.append(f"| {system} | {figure} | {theirs} | {ours} | {SETS.get(one, one)}, {seeds} |")
    ratios = {part: _ratio(part) for part in ("pretrained", "finetuned")}
    lines.append(
        f"| D5 | mean residual of anomalous images over that of normal ones, pretrained | 8.7 | {ratios['pretrained']} | digits with made defects, 3 |"
    )
    lines.append(f"| D5 | the same, fine-tuned | not given | {ratios['finetuned']} | digits with made defects, 3 |")
    return "\n\n".join(
        [
            "## The figures side by side",
            (
                "Theirs are of one run each, on other images; accuracies are of the best threshold on the test labels, which is why `best accuracy` "
                "stands beside them. C8's ViT (.795) and A6's variant (.987, on a task of its own) have no row: the one trains ten images a second here, of "
                "the other's images nothing is known. **`conv-dense` had 10 of its report's 2,000 epochs, the autoencoders of faces 5**: these rows say "
                "what such a training gives, and are no verdict on the model."
            ),
            "\n".join(lines),
        ]
    )


SETS = {"joint": "three categories"}


def _ratio(part: str) -> str:
    """Residual of damaged images over that of normal ones, of one stage, over seeds."""
    results = results_of("pretraining")
    upper, lower = (
        values_of(results, f"{part}.residual_{kind}", "fine-tuned, 80", None) for kind in ("anomalous", "normal")
    )
    found = mean_over_seeds([upper[seed] / lower[seed] for seed in upper])
    return f"{found.value:.2f} ({found.low:.2f} to {found.high:.2f})"


SECTIONS = {
    "architectures-faces": architectures,
    "code-scorers": code_scorers,
    "joint-or-separate": joint_or_separate,
    "learning-rates": learning_rates,
    "real-or-fake": real_or_fake,
    "thresholds": thresholds,
    "augmentation": augmentation,
    "pretraining": pretraining,
    "encoders": encoders,
    "equilibrium": equilibrium,
}


def page() -> str:
    intro = """# What the reports claimed, and what is left of it

`unlike` grew out of five reports. Each compared its models by one run, most of them on data that is not at hand. Their
comparisons are recipes of [`unlike study`](studies.md) now; here is what they find at full size on the data we have: several seeds, intervals of
Student's t over seeds, differences seed by seed. An interval over seeds says nothing of other test images. Letters and numbers
are those of the systems in the reports: A faces, B objects, C products, D pretraining and clusters.

Written from `benchmarks/results/studies` by `make docs`. Commands take the folders of [real images](../benchmarks) that are not
part of this repository; without `--data` a recipe takes images that are generated or come from a package."""
    return (
        "\n\n".join(
            [intro, glance(), *(section() for name, section in SECTIONS.items() if (STUDIES / f"{name}.csv").exists())]
        )
        + "\n"
    )


if __name__ == "__main__":
    sys.exit(write_page(PAGE, page()))
