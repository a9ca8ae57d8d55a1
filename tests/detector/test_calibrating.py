"""Another decision for a fitted detector: by other images, another promise or another rule."""

from __future__ import annotations

import tomllib

import numpy as np
import pytest

from conftest import scratched, stripes, write_png
from unlike import Detector
from unlike.calibration.thresholds import ConformalThreshold
from unlike.data.source import open_source
from unlike.detector.calibrating import recalibrate
from unlike.errors import ConfigError, DataError


@pytest.fixture(scope="module")
def detector():
    settings = {"decision": {"groups": "none"}}
    return Detector("pixels", "gaussian", false_alarms=0.1, settings=settings, device="cpu").fit(
        stripes(40, channels=1)
    )


@pytest.fixture(scope="module")
def fresh():
    return stripes(30, seed=8, channels=1)


@pytest.fixture(scope="module")
def labelled():
    images = np.concatenate([stripes(12, seed=9, channels=1), scratched(stripes(12, seed=10, channels=1))[0]])
    return open_source(images, labels=[0] * 12 + [1] * 12)


def test_fresh_images_calibrate_as_the_rule_says(detector, fresh):
    found = recalibrate(detector, fresh, false_alarms=0.2)
    scores = detector.score(fresh).image
    assert found.fitted_.decision.threshold == ConformalThreshold(0.2).fit(scores).threshold_
    assert found.fitted_.counts["calibration"] == len(found.fitted_.decision.scores) == 30
    assert found.fitted_.calibrated.startswith("on 30 fresh normal images of ")
    np.testing.assert_array_equal(found.score(fresh).image, scores)  # the scores are what they were
    assert detector.fitted_.calibrated == ""  # and so is the detector


def test_copies_count_once(detector, fresh):
    found = recalibrate(detector, np.concatenate([fresh, fresh[:9]]), false_alarms=0.2)
    assert len(found.fitted_.decision.scores) == 30


def test_images_that_were_fitted_on_are_refused_by_content(detector, fresh):
    mixed = np.concatenate([fresh, stripes(40, channels=1)[3:5]])
    with pytest.raises(DataError, match=r"came 2 that it was fitted or calibrated on \(30, 31\).*leave them out"):
        recalibrate(detector, mixed)
    again = recalibrate(detector, fresh)
    with pytest.raises(DataError, match="came 30 that it was fitted or calibrated on"):
        recalibrate(again, fresh)


def test_its_own_images_calibrate_without_some(detector):
    decision = detector.fitted_.decision
    order = np.argsort(-decision.scores, kind="stable")
    dropped = recalibrate(detector, drop=2).fitted_.decision
    np.testing.assert_array_equal(np.sort(dropped.scores), np.sort(decision.scores)[:-2])
    named = recalibrate(detector, without=[str(decision.ids[row]) for row in order[:2]])
    assert named.fitted_.decision.threshold == dropped.threshold
    assert "2 left out by hand: " in named.fitted_.calibrated


@pytest.mark.parametrize(
    ("chosen", "error", "message"),
    [
        (
            {"without": ["nobody.png"]},
            ConfigError,
            r"one of the 40 normal images .*, came 'nobody\.png': there is none",
        ),
        ({"drop": 40}, ConfigError, "drop: expected 0 or more, and fewer than the 40 normal images, came 40"),
        ({"drop": -1}, ConfigError, "drop: expected 0 or more"),
        ({"threshold": "youden"}, ConfigError, "'youden' chooses by images with labels, and none came"),
        ({"threshold": "tial"}, ConfigError, "unknown decision.threshold 'tial'"),
        ({"false_alarms": 0.0}, ConfigError, "decision.false_alarms: expected a share above 0"),
        ({"false_alarms": 0.001}, DataError, "cannot hold false alarms to 0.10%"),
        ({"settings": {"k": 3}}, ConfigError, "conformal has no settings, came k"),
    ],
)
def test_what_cannot_be_is_refused(detector, chosen, error, message):
    with pytest.raises(error, match=message):
        recalibrate(detector, **chosen)


def test_labels_that_a_rule_does_not_look_at_are_refused(detector, labelled):
    with pytest.raises(ConfigError, match=r"'conformal' does not look at labels.*choose one of accuracy, cost, f-beta"):
        recalibrate(detector, labels=labelled)


def test_labels_choose_the_threshold_and_normals_the_p_values(detector, labelled, fresh):
    found = recalibrate(detector, fresh, labelled, threshold="f-beta", settings={"beta": 2.0})
    decision = found.fitted_.decision
    assert len(decision.scores) == 30
    assert decision.false_alarms is None
    assert "highest F2 score on 24 labelled images (12 of them anomalous)" in decision.thresholds[""].promise.words
    scores, anomalous = detector.score(labelled).image, np.arange(24) >= 12
    right = ((scores > decision.threshold) == anomalous).mean()
    assert right >= 0.8
    assert found.settings.decision.false_alarms == "auto"  # no promise can be asked of it
    alone = recalibrate(detector, labelled, threshold="f-beta", settings={"beta": 2.0})
    assert alone.fitted_.decision.threshold == decision.threshold  # one set is the one with labels
    assert len(alone.fitted_.decision.scores) == 40


def test_one_picture_has_one_label(detector, fresh):
    both = open_source(np.concatenate([fresh, fresh[:1]]), labels=[0] * 30 + [1])
    with pytest.raises(DataError, match=r"came both normal and anomalous for 1 \(30\); correct the labels"):
        recalibrate(detector, labels=both, threshold="accuracy")


def test_another_rule_forgets_the_settings_of_the_last(detector):
    sigmas = recalibrate(detector, threshold="k-sigma", false_alarms="auto", settings={"k": 2.0})
    assert recalibrate(sigmas).settings.decision.settings == {"k": 2.0}
    assert recalibrate(sigmas, threshold="conformal").settings.decision.settings == {}


def test_a_calibrated_detector_is_saved_with_what_it_rests_on(detector, fresh, tmp_path):
    found = recalibrate(detector, fresh, threshold="tail", false_alarms=0.05, settings={"share": 0.4})
    found.save(tmp_path / "d")
    loaded = Detector.load(tmp_path / "d")
    facts = tomllib.loads((tmp_path / "d/detector.toml").read_text())
    assert facts["decision"]["threshold"] == "tail"
    assert facts["decision"]["settings"] == {"share": 0.4}
    assert facts["fitted"]["calibrated"] == loaded.fitted_.calibrated == found.fitted_.calibrated
    assert "generalised Pareto tail" in facts["fitted"]["promise"]
    assert loaded.fitted_.decision.threshold == found.fitted_.decision.threshold


def test_a_fit_has_no_labels_to_choose_by():
    with pytest.raises(ConfigError, match=r"'youden' chooses by images with labels.*then `unlike calibrate DETECTOR"):
        Detector("pixels", "gaussian", settings={"decision": {"threshold": "youden"}}).fit(stripes(9, channels=1))


def test_categories_have_thresholds_of_their_own_where_labels_allow(tmp_path):
    for part, seed in (("a", 1), ("b", 2)):
        for n, image in enumerate(stripes(24, seed=seed)):
            write_png(tmp_path / f"{part}/train/good/{n}.png", image)
        for n, image in enumerate(stripes(9, seed=seed + 10)):
            write_png(tmp_path / f"{part}/test/good/{n}.png", image)
    for n, image in enumerate(scratched(stripes(9, seed=20))[0]):
        write_png(tmp_path / f"a/test/cut/{n}.png", image)
    fitted = Detector("pixels", "gaussian", false_alarms=0.1, device="cpu").fit(tmp_path)
    decision = recalibrate(fitted, tmp_path, threshold="youden").fitted_.decision
    assert set(decision.thresholds) == {"", "a"}
    assert decision.too_few == {"b": 9}
