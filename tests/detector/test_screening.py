"""Fits that leave out what they distrust, end to end on small images."""

from __future__ import annotations

import numpy as np
import pytest

from unlike import Detector
from unlike.detector.settings import Settings
from unlike.detector.splitting import FEWEST as FEWEST_TO_SPLIT
from unlike.errors import ConfigError, DataError

AUTO = {"decision": {"contamination": "auto"}}
ODD = [3, 40, 50]


@pytest.fixture
def images():
    found = np.random.default_rng(0).integers(100, 120, (60, 16, 16), dtype=np.uint8)
    found[3] += 100
    found[40] -= 90
    found[50, 4:9, 4:9] = 250
    return found


def fit(images, model="pixels", scorer="neighbours", settings=AUTO, **more):
    return Detector(model, scorer, false_alarms=0.1, device="cpu", settings=settings, **more).fit(images)


@pytest.mark.parametrize(
    ("model", "scorer", "more"),
    [
        ("pixels", "neighbours", {}),
        ("pixels", "gaussian", {"decision": {"calibration": "held-out"}}),
        ("pixels", "neighbours", {"data": {"tile": 12}}),
        ("conv", "residual", {"training": {"epochs": 4}}),
        ("conv", "neighbours", {"training": {"epochs": 4}}),
    ],
)
def test_what_the_others_find_strange_is_left_out_and_named(images, model, scorer, more):
    settings = {**more, "decision": {**more.get("decision", {}), "contamination": "auto"}}
    fitted = fit(images, model, scorer, settings).fitted_
    assert {"3", "40", "50"} <= set(fitted.distrusted.ids)
    assert len(fitted.distrusted.ids) <= 5
    assert (np.diff(fitted.distrusted.scores) <= 0).all()
    assert fitted.counts["distrusted"] == len(fitted.distrusted.ids)
    assert not set(fitted.distrusted.ids) & set(fitted.decision.ids.tolist())
    assert fitted.distrusted.of == 60


def test_a_fit_of_features_is_that_of_the_images_that_are_trusted(images):
    robust = fit(images)
    names = [int(name) for name in robust.fitted_.distrusted.ids]
    plain = fit(np.delete(images, names, axis=0), settings={})
    assert robust.fitted_.decision.threshold == plain.fitted_.decision.threshold
    assert np.array_equal(robust.score(images).image, plain.score(images).image)
    assert len(robust.fitted_.digests) == 60  # a test image that is one of those left out is known all the same


def test_without_contamination_nobody_is_asked(images):
    plain = fit(images, settings={})
    assert plain.fitted_.distrusted is None
    assert "distrusted" not in plain.fitted_.counts


def test_copies_of_a_distrusted_image_go_with_it(images):
    fitted = fit(np.concatenate([images, images[ODD]])).fitted_
    assert set(fitted.distrusted.ids) == {"3", "40", "50"}
    assert fitted.counts["copies"] == 3
    assert fitted.distrusted.of == 60
    assert fitted.counts["train"] == 57


def test_a_share_is_as_many_as_asked(images):
    fitted = fit(images, settings={"decision": {"contamination": 0.1}}).fitted_
    assert len(fitted.distrusted.ids) == 6
    assert set(fitted.distrusted.ids[:3]) == {"3", "40", "50"}


def test_a_series_is_left_out_as_a_whole(images):
    images[10:14] = 240 + np.random.default_rng(1).integers(0, 9, (4, 16, 16), dtype=np.uint8)
    names = ["same" if 10 <= row < 14 else f"part{row}" for row in range(60)]
    found = Detector("pixels", "neighbours", false_alarms=0.1, device="cpu", settings=AUTO).fit(images, group_by=names)
    assert {"10", "11", "12", "13"} <= set(found.fitted_.distrusted.ids)


def test_what_was_distrusted_is_kept_on_disk(images, tmp_path):
    detector = fit(images)
    detector.save(tmp_path / "d.unlike")
    before, after = detector.fitted_.distrusted, Detector.load(tmp_path / "d.unlike", "cpu").fitted_.distrusted
    assert before.ids == after.ids
    assert before.of == after.of
    assert np.array_equal(before.scores, after.scores)
    assert np.array_equal(before.shown[0].picture, after.shown[0].picture)
    assert after.shown[0].map == pytest.approx(before.shown[0].map, rel=1e-2)


@pytest.mark.parametrize("share", [0.0, -0.1, 0.6])
def test_a_share_beyond_half_is_refused(share):
    with pytest.raises(ConfigError, match=r"expected none, auto, or a share above 0 and up to 0.5 .* came"):
        Settings.resolve(overrides={"decision": {"contamination": share}})


def test_a_word_that_is_none_is_refused():
    with pytest.raises(ConfigError, match=r"decision.contamination"):
        Settings.resolve(overrides={"decision": {"contamination": "some"}})


def test_too_few_images_are_refused_with_the_way_out(images):
    with pytest.raises(DataError, match=r"12 normal images are too few to say which .* --contamination none"):
        fit(images[:12])
    assert FEWEST_TO_SPLIT < 12  # without it they are enough


def test_too_few_groups_are_refused(images):
    names = [f"part{row // 10}" for row in range(60)]
    detector = Detector("pixels", "neighbours", false_alarms=0.2, device="cpu", settings=AUTO)
    with pytest.raises(DataError, match=r"6 groups of normal images \(60 images\) are too few"):
        detector.fit(images, group_by=names)


def test_all_of_one_group_are_refused(images):
    detector = Detector("pixels", "neighbours", false_alarms=0.2, device="cpu", settings=AUTO)
    with pytest.raises(DataError, match="given as one group"):
        detector.fit(images, group_by=["same"] * 60)
