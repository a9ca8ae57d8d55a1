"""What each experiment measures, and where it cannot."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from conftest import scratched, stripes, write_png
from fakes import decision_of
from unlike.errors import ConfigError, DataError
from unlike.records import Sample
from unlike.study.datasets import DataSource, open_images
from unlike.study.experiments import EXPERIMENTS, Choices, Task
from unlike.study.experiments.base import read_losses
from unlike.study.experiments.equilibrium import EquilibriumOptions
from unlike.study.experiments.pretraining import PretrainingOptions
from unlike.study.experiments.thresholds import _half, choose_threshold, thresholds_of

FAST = {"model": "conv", "training.epochs": 1, "decision.false_alarms": 0.2}


def run(name, source=None, seed=0, **choices):
    experiment = EXPERIMENTS[name]
    arranged = Choices.arrange({**FAST, **{key.replace("__", "."): value for key, value in choices.items()}})
    experiment.check(arranged)
    source = source or DataSource(collection="textures", most_train=12, most_test=6).named(Path())
    outcome = experiment.run(Task(source, arranged, experiment.read_options(arranged), seed, "cpu"))
    assert {metric.partition("@")[0] for metric in outcome.metrics} <= set(experiment.known)
    assert {metric.partition("@")[0] for metric in experiment.metrics} <= set(experiment.known)
    return outcome


def digits(**parts):
    return DataSource(collection="digits", **{"most_train": 20, "most_test": 10, **parts}).named(Path())


def test_a_cell_that_names_no_model_is_the_default_preset_whatever_it_sets():
    default = Choices.arrange({"preset": "ensemble"}).resolve()
    assert Choices.arrange({}).resolve() == default
    trained = Choices.arrange({"training.epochs": 3, "augment.rotation": 0.5}).resolve()
    assert (trained.model_name, trained.scorer_name) == (default.model_name, default.scorer_name)
    assert trained.training.epochs == 3
    assert Choices.arrange({"scorer": "pca"}).resolve().model_name == default.model_name
    assert Choices.arrange({"model": "conv", "training.epochs": 3}).resolve().model_name == "conv"
    source = DataSource(collection="digits").named(Path())
    detector = Task(source, Choices.arrange({"training.epochs": 3}), None, seed=0).detector()
    assert detector.settings == Choices.arrange({"training.epochs": 3}).resolve()


def test_fit_and_evaluate_measures_categories_too():
    outcome = run("fit-and-evaluate")
    assert set(outcome.metrics) >= {"image.auroc", "image.improvement@rings", "epochs", "loss.validation"}
    assert [row["epoch"] for row in outcome.histories[""]] == [1]
    assert run("fit-and-evaluate").metrics == outcome.metrics
    assert run("fit-and-evaluate", model="pixels", scorer="kmeans").histories == {}


@pytest.mark.parametrize(("keep", "losses"), [("validation", (4.0, 1.0)), ("train", (2.0, 5.0)), ("last", (3.0, 6.0))])
def test_the_losses_are_those_of_the_epoch_that_was_kept(keep, losses):
    rows = [(4.0, 1.0), (2.0, 5.0), (3.0, 6.0)]
    history = [{"epoch": n, "train": train, "validation": held} for n, (train, held) in enumerate(rows, 1)]
    expected = {"epochs": 3.0, "loss.train": losses[0], "loss.validation": losses[1]}
    assert read_losses(history, keep) == expected
    assert read_losses([], keep) == {}


@pytest.mark.parametrize("name", ["fit-and-evaluate", "pretraining"])
def test_a_study_reads_the_setting_that_keeps_an_epoch(name):
    parts = {"training__epochs": 3, "training__keep": "last", "data__size": 16, "training__learning_rate": 0.03}
    if name == "pretraining":
        parts |= {"experiment__labels": 5, "experiment__finetune_epochs": 3, "finetune__head_width": 16}
    outcome = run(name, digits(), **parts)
    history = outcome.histories["fine-tuning" if name == "pretraining" else ""]
    assert len(history) == 3
    assert outcome.metrics["loss.train"] == history[-1]["train"]
    assert outcome.metrics["loss.validation"] == history[-1]["validation"]


def test_masks_are_measured(mvtec):
    outcome = run("fit-and-evaluate", DataSource(root=str(mvtec)).named(Path()), data__size=16)
    assert 0 <= outcome.metrics["pixel.auroc"] <= 1


@pytest.mark.parametrize(("training", "parts"), [("joint", ["all"]), ("separate", ["checks", "rings", "stripes"])])
def test_joint_or_separate(training, parts):
    outcome = run("joint-or-separate", experiment__training=training)
    assert list(outcome.histories) == parts
    values = [outcome.metrics[f"image.auroc@{name}"] for name in ("checks", "rings", "stripes")]
    assert outcome.metrics["image.auroc@average"] == pytest.approx(np.mean(values))


def test_averages_are_weighed_by_images(tmp_path):
    for category, count in (("a", 3), ("b", 9)):
        images = stripes(20 + count, seed=count)
        for number, image in enumerate(images[:20]):
            write_png(tmp_path / category / f"train/good/{number}.png", image)
        for number, image in enumerate(images[20:]):
            write_png(tmp_path / category / f"test/good/{number}.png", image)
        for number, image in enumerate(scratched(images[:count])[0]):
            write_png(tmp_path / category / f"test/bad/{number}.png", image)
    found = run("joint-or-separate", DataSource(root=str(tmp_path)).named(Path()), data__size=16).metrics
    plain, weighted = found["image.accuracy@average"], found["image.accuracy@weighted by images"]
    a, b = found["image.accuracy@a"], found["image.accuracy@b"]
    assert (plain, weighted) == pytest.approx(((a + b) / 2, (a + 3 * b) / 4))


def test_one_category_cannot_be_joined(mvtec):
    with pytest.raises(DataError, match="expected two categories or more, each with train and test, came 0"):
        run("joint-or-separate", DataSource(root=str(mvtec)).named(Path()))


def test_pretraining_starts_where_it_is_told():
    parts = {"experiment__labels": 5, "experiment__finetune_epochs": 2, "finetune__head_width": 16, "data__size": 16}
    found = {
        start: run("pretraining", digits(), experiment__start=start, **parts) for start in ("fine-tuned", "scratch")
    }
    assert set(found["fine-tuned"].histories) == {"pretraining", "fine-tuning"}
    assert set(found["scratch"].histories) == {"fine-tuning"}
    for outcome in found.values():
        assert outcome.metrics["accuracy_largest_class"] == pytest.approx(0.1)
        assert outcome.metrics["lowest_recall"] <= outcome.metrics["accuracy"]
    assert found["fine-tuned"].histories["fine-tuning"] != found["scratch"].histories["fine-tuning"]


def test_pretraining_compares_residuals_of_normal_and_damaged_images_before_and_after():
    parts = {"experiment__labels": 5, "experiment__finetune_epochs": 2, "finetune__head_width": 16, "data__size": 16}
    parts |= {"training__epochs": 8}
    before, after = (
        run("pretraining", digits(), experiment__start=start, **parts) for start in ("frozen", "fine-tuned")
    )
    for figure in ("residual_normal", "residual_anomalous", "auroc"):
        assert before.metrics[f"pretrained.{figure}"] == after.metrics[f"pretrained.{figure}"]
        assert before.metrics[f"finetuned.{figure}"] == pytest.approx(before.metrics[f"pretrained.{figure}"], rel=1e-4)
        assert after.metrics[f"finetuned.{figure}"] != pytest.approx(after.metrics[f"pretrained.{figure}"], rel=1e-4)
    assert after.metrics["pretrained.residual_anomalous"] > after.metrics["pretrained.residual_normal"]
    assert all(picture.startswith("data:image/jpeg;base64,") for picture in after.pictures.values())
    assert len(after.pictures) == 1
    scratch = run("pretraining", digits(), experiment__start="scratch", **parts)
    assert {name.partition(".")[0] for name in scratch.metrics if "auroc" in name} == {"finetuned"}


def test_labels_that_are_not_there():
    with pytest.raises(DataError, match="80 labelled images of each class are wanted; 0 has 20"):
        run("pretraining", digits(), experiment__labels=80, data__size=16)


@pytest.mark.parametrize("method", ["kmeans", "equilibrium", "softmax"])
def test_clusters_are_compared_with_classes(method):
    choices = {"model": "pixels", "scorer": "kmeans", "experiment__method": method}
    outcome = run("equilibrium", digits(most_train=60), **choices)
    sizes = [outcome.metrics[f"size.{number}"] for number in (1, 2, 3)]
    assert sum(sizes) == 120
    assert sizes == sorted(sizes, reverse=True)
    assert len(outcome.points) == 120
    assert outcome.metrics["accuracy"] >= 0.5  # all in one cluster would give that
    assert run("equilibrium", digits(most_train=60), **choices).metrics == outcome.metrics


def test_what_cannot_be_clustered():
    choices = {"model": "pixels", "scorer": "kmeans"}
    with pytest.raises(DataError, match="11 classes are wanted, came 10: 0, 1, 2"):
        run("equilibrium", digits(), experiment__shares=[1] * 11, **choices)
    with pytest.raises(DataError, match="codes of 1 numbers of 40 images have no plane to be clustered in"):
        run("equilibrium", digits(), experiment__shares=[1, 1], model__side=1, **choices)


@pytest.mark.parametrize("rule", ["conformal", "sweep", "ternary", "f1-max"])
def test_a_threshold_is_promised_on_one_half_and_delivered_on_the_other(rule):
    source = DataSource(collection="textures", most_train=20, most_test=12).named(Path())
    found = run("thresholds", source, experiment__rule=rule).metrics
    looked = rule != "conformal"
    assert ("promised.accuracy" in found) is looked
    assert found["labels"] == 36 * looked
    if looked:
        assert found["surprise.accuracy"] == pytest.approx(found["delivered.accuracy"] - found["promised.accuracy"])
    else:
        assert found["promised.false_alarm_rate"] == pytest.approx(0.2)


def test_each_image_is_judged_by_the_threshold_that_promises_something_of_it():
    source = DataSource(collection="textures", most_train=24, most_test=30).named(Path())
    found = run("thresholds", source, seed=1, experiment__rule="conformal").metrics
    train, test = open_images(source)
    arranged = Choices.arrange(FAST)
    detector = Task(source, arranged, None, 1, "cpu").detector().fit(train)
    assert len({threshold.score for threshold in detector.fitted_.decision.thresholds.values()}) == 4
    verdicts = np.array([verdict.anomalous for verdict in detector.judge(test, regions=False)])
    anomalous = np.array([bool(sample.anomalous) for sample in test.samples])
    fresh = ~_half(anomalous, seed=1)
    assert found["delivered.false_alarm_rate"] == pytest.approx(verdicts[fresh & ~anomalous].mean())
    assert found["delivered.detection_rate"] == pytest.approx(verdicts[fresh & anomalous].mean())
    scores = np.concatenate([batch.image for batch in detector.stream(test)])
    by_one_threshold = scores > detector.fitted_.decision.threshold
    assert by_one_threshold[fresh & ~anomalous].mean() != verdicts[fresh & ~anomalous].mean()


def test_thresholds_and_what_they_promise_are_those_of_the_category():
    samples = [Sample(name, category=name) for name in ("a", "b", "")]
    thresholds, shares = thresholds_of(decision_of({"": 3.0, "b": 5.0}, [1.0], false_alarms=0.1), samples)
    assert thresholds.tolist() == [3, 5, 3]
    assert shares.tolist() == [0.1] * 3
    assert np.isnan(thresholds_of(decision_of({"": 3.0}, [1.0], false_alarms=None), samples)[1]).all()


def test_no_threshold_promises_more_accuracy_than_the_sweep(rng):
    for _ in range(20):
        scores, anomalous = rng.normal(size=40), rng.random(40) < 0.5
        anomalous[:2] = True, False
        best = choose_threshold("sweep", scores, anomalous)
        others = [choose_threshold(rule, scores, anomalous) for rule in ("f1-max", "ternary")]
        accuracies = [np.mean((scores > threshold) == anomalous) for threshold in (best, *others)]
        assert accuracies[0] >= max(accuracies)


def test_too_few_to_halve():
    source = DataSource(collection="digits", most_train=20, most_test=3).named(Path())
    with pytest.raises(DataError, match="3 normal test images cannot be halved; at least 4 are needed"):
        run("thresholds", source, data__size=16)


@pytest.mark.parametrize(
    ("options", "parts", "message"),
    [
        (EquilibriumOptions, {"shares": (2,)}, r"experiment.shares: expected two whole numbers or more, came \[2\]"),
        (EquilibriumOptions, {"alpha_factor": 0.0}, "experiment.alpha_factor: expected 1e-06"),
        (EquilibriumOptions, {"components": 1}, "experiment.components: expected 2"),
        (PretrainingOptions, {"labels": 1}, "experiment.labels: expected 2"),
        (PretrainingOptions, {"finetune_epochs": 0}, "experiment.finetune_epochs: expected 1"),
    ],
)
def test_options_that_cannot_be(options, parts, message):
    with pytest.raises(ConfigError, match=message):
        options(**parts)


def test_images_are_opened_when_a_run_starts_not_before(tmp_path):
    source = DataSource(root="nowhere").named(tmp_path)
    with pytest.raises(DataError, match="no such file or folder"):
        open_images(source)
