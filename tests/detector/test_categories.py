"""One detector of several categories: a threshold for each, kept on disk, used by every judgement, named by every report."""

from __future__ import annotations

import hashlib
import json
import tomllib
from dataclasses import replace

import numpy as np
import pytest
import tomli_w

from conftest import write_png
from unlike import Detector
from unlike.artifacts import CHECKSUMS
from unlike.calibration.stored import pack_arrays, unpack_arrays
from unlike.cli.console import Console, evaluation_lines
from unlike.data.arrays import ArraySource, ImageArray
from unlike.data.source import open_source
from unlike.detector.explain import describe
from unlike.detector.storage import FORMAT
from unlike.errors import ArtifactError, DataError
from unlike.evaluation import evaluate, to_json
from unlike.records import Sample
from unlike.report import write_evaluation

SIZE = 12
LEVELS = {"calm": 4.0, "wild": 60.0, "odd": 25.0}  # how far pixels stray, and so how high scores are


def noise(random, category, count):
    return np.clip(random.normal(127, LEVELS[category], (count, SIZE, SIZE, 1)), 0, 255).astype(np.uint8)


def several(counts, seed=0, bright=0):
    """A source of so many images of each category; with `bright` a brighter corner makes them anomalous."""
    random = np.random.default_rng(seed)
    images = np.concatenate([noise(random, name, count) for name, count in counts.items()])
    if bright:
        images[:, :6, :6] = np.clip(images[:, :6, :6].astype(int) + bright, 0, 255)
    names = [name for name, count in counts.items() for _ in range(count)]
    samples = [
        Sample(f"{name}/{row}", row=row, anomalous=bool(bright), category=name, kind="bright" if bright else "good")
        for row, name in enumerate(names)
    ]
    return ArraySource("made images", samples, ImageArray(images))


def thresholds_of(detector):
    return {name: threshold.score for name, threshold in detector.fitted_.decision.thresholds.items()}


def fit(source, **decision):
    settings = {"decision": {"calibration": "held-out", **decision}, "model": {"side": 6}}
    return Detector("pixels", "gaussian", settings=settings, device="cpu").fit(source)


@pytest.fixture(scope="module")
def joint():
    return fit(several({"calm": 80, "wild": 80, "odd": 12}), false_alarms=0.1)


def test_each_category_has_images_to_calibrate_and_a_threshold(joint):
    names, counts = np.unique(joint.fitted_.decision.categories, return_counts=True)
    assert dict(zip(names.tolist(), counts.tolist(), strict=True)) == {"calm": 27, "wild": 27, "odd": 4}
    assert list(thresholds_of(joint)) == ["", "calm", "wild"]
    assert thresholds_of(joint)["wild"] > 3 * thresholds_of(joint)["calm"]
    assert joint.fitted_.decision.threshold == thresholds_of(joint)[""]
    assert joint.fitted_.decision.region_threshold == joint.fitted_.decision.thresholds[""].region
    for name in ("calm", "wild"):
        own = joint.fitted_.decision.scores[joint.fitted_.decision.categories == name]
        assert thresholds_of(joint)[name] == np.sort(own)[-2]  # 10 % of 28 is two
    assert describe(joint)["fitted"]["too_few"] == {"odd": 4}


def test_the_promise_is_held_in_each_category_on_average():
    own, shared = {"calm": [], "wild": []}, {"calm": [], "wild": []}
    for seed in range(12):
        fitted = fit(several({"calm": 80, "wild": 80}, seed), false_alarms=0.1)
        fresh = several({"calm": 200, "wild": 200}, 1000 + seed)
        odd = np.array([verdict.anomalous for verdict in fitted.judge(fresh, regions=False)])
        scores, names = fitted.score(fresh).image, np.array([sample.category for sample in fresh.samples])
        for name, shares in own.items():
            shares.append(odd[names == name].mean())
            shared[name].append((scores[names == name] > fitted.fitted_.decision.threshold).mean())
    for shares in own.values():
        assert np.mean(shares) <= 0.1 + 3 * np.std(shares) / np.sqrt(len(shares))
        assert np.mean(shares) > 0.03
    assert np.mean(shared["wild"]) > 0.14  # what the one threshold for all does
    assert np.mean(shared["calm"]) == 0


def test_an_image_is_judged_by_its_own_category_where_that_is_known(joint):
    for name in ("calm", "wild", "odd", "", "never seen"):
        image = noise(np.random.default_rng(5), "calm", 4)
        samples = [Sample(str(row), row=row, category=name) for row in range(4)]
        source = ArraySource("made images", samples, ImageArray(image))
        threshold = joint.fitted_.decision.threshold_of(name)
        for verdict in joint.judge(source):
            assert verdict.threshold == threshold.score
            assert verdict.anomalous == (verdict.score > threshold.score) == (verdict.p_value <= 0.1 + 1e-9)
            assert all(region.peak > threshold.region for region in verdict.regions)


def test_it_is_the_same_after_saving(joint, tmp_path):
    joint.save(tmp_path / "d")
    loaded = Detector.load(tmp_path / "d")
    assert thresholds_of(loaded) == thresholds_of(joint)
    assert describe(loaded) == describe(joint)
    fresh = several({"calm": 5, "wild": 5, "odd": 5}, 7)
    assert loaded.judge(fresh) == joint.judge(fresh)
    facts = tomllib.loads((tmp_path / "d/detector.toml").read_text())
    assert facts["format"] == FORMAT
    assert facts["fitted"]["categories"]["wild"]["threshold"] == thresholds_of(joint)["wild"]


def rewrite(folder, change_facts, change_arrays):
    """What somebody would have written otherwise, with checksums that agree."""
    facts = tomllib.loads((folder / "detector.toml").read_text())
    arrays = unpack_arrays((folder / "calibration.npz").read_bytes())
    change_facts(facts)
    change_arrays(arrays)
    (folder / "detector.toml").write_text(tomli_w.dumps(facts))
    (folder / "calibration.npz").write_bytes(pack_arrays(arrays))
    names = ("detector.toml", "weights.safetensors", "scorer.safetensors", "calibration.npz")
    lines = [f"{hashlib.sha256((folder / name).read_bytes()).hexdigest()}  {name}\n" for name in names]
    (folder / CHECKSUMS).write_text("".join(lines))


def test_parts_of_different_images_are_refused(joint, tmp_path):
    joint.save(tmp_path / "d")
    rewrite(tmp_path / "d", lambda _: None, lambda arrays: arrays.update(categories=arrays["categories"][1:]))
    with pytest.raises(ArtifactError, match="held-out scores, peaks and categories are not of the same images"):
        Detector.load(tmp_path / "d")


def test_where_no_image_is_held_back_all_of_a_category_find_its_threshold():
    fitted = fit(several({"calm": 40, "wild": 30, "odd": 5}), calibration="cross", false_alarms=0.1)
    assert list(thresholds_of(fitted)) == ["", "calm", "wild"]
    for name, count in (("calm", 40), ("wild", 30)):
        own = fitted.fitted_.decision.scores[fitted.fitted_.decision.categories == name]
        assert len(own) == count
        assert thresholds_of(fitted)[name] == np.sort(own)[count - int(0.1 * (count + 1))]


def test_one_threshold_for_all_where_that_is_wanted_or_there_is_one_category():
    both = several({"calm": 40, "wild": 40})
    assert list(thresholds_of(fit(both, per_category=False))) == [""]
    alone = several({"calm": 40})
    named, unnamed = fit(alone), fit(alone.array.array)
    assert thresholds_of(named) == thresholds_of(unnamed)
    assert "categories" not in describe(named)["fitted"]


def test_names_that_are_no_utf8_are_kept(tmp_path):
    source = several({"calm": 40, "wild": 40})
    samples = [replace(sample, category=f"{sample.category}\udcff") for sample in source.samples]
    fitted = fit(ArraySource("made\udcff", samples, source.array))
    fitted.save(tmp_path / "d")
    assert thresholds_of(Detector.load(tmp_path / "d")) == thresholds_of(fitted)
    assert list(thresholds_of(fitted)) == ["", "calm\udcff", "wild\udcff"]


def test_images_without_a_category_are_held_against_all():
    source = several({"calm": 60, "wild": 60})
    nobody_said = [
        Sample(s.id, row=s.row, anomalous=False, category=s.category * (s.category == "calm")) for s in source.samples
    ]
    assert list(thresholds_of(fit(ArraySource("made", nobody_said, source.array)))) == ["", "calm"]


def test_categories_that_are_all_too_small_are_fitted_as_one():
    source = several({"calm": 40})
    samples = [Sample(s.id, row=s.row, anomalous=False, category=s.id) for s in source.samples]
    fitted = fit(ArraySource("made", samples, source.array))
    assert list(thresholds_of(fitted)) == [""]
    assert len(describe(fitted)["fitted"]["too_few"]) == 40


def test_a_promise_that_all_together_cannot_hold_is_refused():
    with pytest.raises(
        DataError, match=r"of 80 different normal images 40 can be held out, and 40 normal .* 99 are needed"
    ):
        fit(several({"calm": 40, "wild": 40}), false_alarms=0.01)


@pytest.fixture(scope="module")
def judged(joint):
    good, bad = several({"calm": 40, "wild": 40}, 50), several({"calm": 20, "wild": 20}, 51, bright=40)
    samples = [
        *good.samples,
        *(
            Sample(f"bad/{s.id}", row=80 + s.row, anomalous=True, category=s.category, kind="bright")
            for s in bad.samples
        ),
    ]
    source = ArraySource("made images", samples, ImageArray(np.concatenate([good.array.array, bad.array.array])))
    return source, evaluate(joint, source)


def test_every_image_is_evaluated_by_its_own_threshold(joint, judged):
    source, found = judged
    verdicts = joint.judge(source, regions=False)
    assert found.alarms.tolist() == [verdict.anomalous for verdict in verdicts]
    assert found.image_thresholds.tolist() == [verdict.threshold for verdict in verdicts]
    assert found.p_values.tolist() == [verdict.p_value for verdict in verdicts]
    right = found.alarms == found.anomalous
    names = np.array([sample.category for sample in source.samples])
    assert found.overall.image["accuracy"].value == right.mean()
    for name in ("calm", "wild"):
        assert found.categories[name].image["accuracy"].value == right[names == name].mean()
        assert (
            found.categories[name].image["detection_rate"].value
            == found.alarms[(names == name) & found.anomalous].mean()
        )
    assert found.promised_false_alarms == 0.1
    assert to_json(found)["thresholds"] == {name: thresholds_of(joint)[name] for name in ("calm", "wild")}
    assert to_json(found)["threshold"] == joint.fitted_.decision.threshold


def test_ranking_is_by_the_scores_as_they_are(joint, judged):
    from sklearn.metrics import roc_auc_score

    _, found = judged
    assert found.overall.image["auroc"].value == pytest.approx(roc_auc_score(found.anomalous, found.scores.image))


def test_reports_name_the_thresholds(joint, judged, tmp_path, capsys):
    _, found = judged
    write_evaluation(joint, found, tmp_path)
    page = (tmp_path / "report.html").read_text()
    assert "Each category below has one of its own" in page
    assert all(f"{threshold:.4g}" in page for threshold in thresholds_of(joint).values())
    assert json.loads((tmp_path / "metrics.json").read_text())["thresholds"]["wild"] == thresholds_of(joint)["wild"]
    rows = [line.split(",") for line in (tmp_path / "scores.csv").read_text().splitlines()[1:]]
    assert [row[-1] == "1" for row in rows] == found.alarms.tolist()
    line = f"  judged by the threshold of each category: calm {thresholds_of(joint)['calm']:.4g}, wild "
    assert any(text.startswith(line) for text in evaluation_lines(found))
    Console().say_fit(joint, tmp_path)
    Console().say_scores(joint, 3, 1, None)
    said = capsys.readouterr().err
    assert (
        "at most 10 % of normal images of a category are called anomalous (58 held-out normal images); thresholds: calm"
        in said
    )
    assert "Too few held-out images for a threshold of their own: odd (4); the one for all is theirs." in said
    assert "1 of 3 images anomalous (score above the threshold of its category, at most 10 % false alarms)" in said


def test_a_lone_strange_image_is_blamed_on_its_category(capsys, tmp_path):
    source = several({"calm": 60, "wild": 60})
    fitted = fit(source, false_alarms=0.05)  # of 20 held-out images, so the threshold is the highest of them
    decision = fitted.fitted_.decision
    strangest = np.flatnonzero((decision.categories == "calm") & (decision.scores == thresholds_of(fitted)["calm"]))
    scores = decision.scores.copy()
    scores[strangest] *= 50
    strange = replace(decision.thresholds["calm"], score=float(scores[strangest][0]))
    decision = replace(decision, scores=scores, thresholds={**decision.thresholds, "calm": strange})
    fitted._fitted = replace(fitted.fitted_, decision=decision)
    Console().say_fit(fitted, tmp_path)
    said = capsys.readouterr().err
    name = decision.ids[strangest[0]]
    assert name.startswith("calm/")
    assert f"The threshold of calm is the strangest of them, {name}, far above the next" in said


def test_a_root_of_categories_is_scored_by_its_folders(tmp_path):
    random = np.random.default_rng(0)
    for name in ("calm", "wild"):
        for part, count in (("train", 30), ("test", 3)):
            for number, image in enumerate(noise(random, name, count)):
                write_png(tmp_path / f"root/{name}/{part}/good/{number:02}.png", image[..., 0])
    settings = {"model": {"side": 6}, "data": {"size": SIZE}, "decision": {"calibration": "held-out"}}
    fitted = Detector("pixels", "gaussian", settings=settings, device="cpu").fit(tmp_path / "root")
    thresholds = {
        verdict.id.split("/")[0]: verdict.threshold for verdict in fitted.judge(tmp_path / "root", regions=False)
    }
    assert thresholds == {name: thresholds_of(fitted)[name] for name in ("calm", "wild")}
    alone = open_source(tmp_path / "root/calm/test/good")  # nobody says of what category these are
    assert {verdict.threshold for verdict in fitted.judge(alone, regions=False)} == {fitted.fitted_.decision.threshold}
