"""Which images count as one: as given, as found where they follow each other, or each by itself."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from unlike import Detector
from unlike.detector.grouping import find_by_features
from unlike.detector.settings import DecisionConfig, Settings
from unlike.errors import ConfigError, DataError
from unlike.records import Sample

SIDE = {"model": {"side": 8}}


def bursts(parts: int, shots: int, seed: int = 0) -> np.ndarray:
    """(parts * shots, 8, 8, 3) shots of each part, one after the other."""
    random = np.random.default_rng(seed)
    wholes = random.integers(40, 216, (parts, 1, 8, 8, 3))
    moved = wholes + random.integers(-3, 4, (parts, shots, 8, 8, 3))
    return moved.reshape(-1, 8, 8, 3).astype(np.uint8)


def detect(images, model="pixels", scorer="neighbours", group_by=None, **decision) -> Detector:
    settings = (SIDE if model == "pixels" else {}) | {"decision": {"false_alarms": 0.1, **decision}}
    return Detector(model, scorer, settings=settings, cache=False).fit(images, group_by=group_by)


def test_images_that_come_in_no_series_have_the_thresholds_that_they_had():
    """To the last bit, found or not looked for; in either way of calibrating."""
    images = bursts(60, 1)
    for calibration in ("cross", "held-out"):
        found, none = (detect(images, calibration=calibration, groups=how) for how in ("auto", "none"))
        assert found.fitted_.decision.thresholds == none.fitted_.decision.thresholds
        np.testing.assert_array_equal(found.fitted_.decision.scores, none.fitted_.decision.scores)
        assert found.fitted_.decision.otherwise is None
        assert found.fitted_.notes == none.fitted_.notes == ()


def test_series_that_follow_each_other_are_left_out_as_wholes_and_fresh_ones_are_no_alarm():
    images, fresh = bursts(30, 4), bursts(100, 1, seed=1)
    grouped, plain = detect(images), detect(images, groups="none")
    decision = grouped.fitted_.decision
    assert decision.independent == 30
    assert decision.weights.sum() == pytest.approx(30)
    assert decision.otherwise.by == "images"
    assert decision.otherwise.independent == 120
    assert decision.otherwise.threshold.score == pytest.approx(plain.fitted_.decision.threshold, rel=1e-5)
    alarms = [(found.score(fresh).image > found.fitted_.decision.threshold).mean() for found in (grouped, plain)]
    assert alarms[0] <= 0.25  # one set of 30 parts that promises 10 %
    assert alarms[1] > 0.9
    said = " ".join(grouped.fitted_.notes)
    assert "120 images in 30 groups of one part or scene, the largest of 4 (0, 1, 2, ...)" in said
    assert "let images count with --set decision.groups=none" in said


def test_series_in_any_order_are_told_and_do_not_count_unless_it_is_asked_for():
    images = np.random.default_rng(3).permutation(bursts(30, 4))
    plain, asked = detect(images), detect(images, groups="found")
    decision = plain.fitted_.decision
    assert decision.independent == 120
    assert decision.otherwise.by == "groups"
    assert decision.otherwise.threshold.score > 2 * decision.threshold
    assert "120 images in 30 groups that look alike" in plain.fitted_.notes[0]
    assert "--set decision.groups=found" in plain.fitted_.notes[0]
    assert asked.fitted_.decision.threshold == pytest.approx(decision.otherwise.threshold.score, rel=1e-5)


def test_what_was_not_found_is_said_where_it_was_asked_for():
    assert detect(bursts(40, 1), groups="found").fitted_.notes == (
        "No series of one part or scene was found: each image counts.",
    )


def test_groups_that_are_given_are_taken_as_they_are():
    images = bursts(40, 1)
    named = [str(number // 2) for number in range(40)]
    decision = detect(images, group_by=named).fitted_.decision
    assert decision.groups.tolist() == [number // 2 for number in range(40)]
    assert decision.independent == 20
    assert detect(images, group_by=named, groups="none").fitted_.decision.independent == 40


def test_a_copy_joins_the_groups_that_it_is_given_to():
    images = bursts(30, 1)
    images = np.concatenate([images, images[:1]])
    names = [str(number // 2) for number in range(30)] + ["14"]  # a copy of the first image, in the last group
    decision = detect(images, group_by=names).fitted_.decision
    assert decision.independent == 14
    assert decision.groups[0] == decision.groups[1] == decision.groups[28]


def test_no_group_is_on_both_sides_of_a_split():
    images = bursts(40, 3)
    found = detect(images, group_by=[str(number // 3) for number in range(120)], calibration="held-out").fitted_
    groups = np.array([int(name) // 3 for name in found.decision.ids])
    counts = np.bincount(groups, minlength=40)
    assert set(counts.tolist()) == {0, 3}
    assert found.decision.independent == (counts > 0).sum() == 13


def test_near_copies_stay_together_where_a_model_is_trained():
    images = np.repeat(bursts(24, 1), 2, axis=0)
    images[1::2, 0, 0] ^= 1  # no copies, but the same pictures
    settings = {"training": {"epochs": 1}, "decision": {"false_alarms": 0.2, "groups": "found"}}
    decision = Detector("fcn", "residual", settings=settings, cache=False).fit(images).fitted_.decision
    pairs = np.array([int(name) // 2 for name in decision.ids])
    assert (np.bincount(pairs) != 1).all()
    assert decision.independent == len(decision.ids) / 2


@pytest.mark.parametrize(
    ("how", "names", "message"),
    [
        ({"groups": "given"}, None, "decision.groups = 'given': no image has a group; expected a column named group"),
        ({}, ["a"] * 40, "all 40 normal images are given as one group: none is new to the others, so nothing can be"),
        (
            {"calibration": "held-out"},
            ["a", "b"] * 20,
            "40 normal images of 2 groups cannot be split; at least 3 groups",
        ),
        (
            {"false_alarms": 0.05},
            list("abcdefghij") * 4,
            "of 40 different normal images in 10 groups, 10 groups can be held",
        ),
        ({}, ["a", "b"], "expected the name of a group for each of 40 images, came 2"),
    ],
)
def test_groups_that_cannot_be_are_refused(how, names, message):
    with pytest.raises(DataError) as caught:
        detect(bursts(40, 1), group_by=names, **how)
    assert message in str(caught.value)


def test_series_too_few_for_what_was_asked_say_the_way_out():
    with pytest.raises(DataError) as caught:
        detect(bursts(10, 5), false_alarms=0.05)
    assert "50 normal images in 10 independent groups cannot hold false alarms to 5.00%" in str(caught.value)
    assert str(caught.value).endswith("Or let each image count, with --set decision.groups=none.")


def test_a_choice_that_contradicts_itself_is_refused():
    with pytest.raises(ConfigError) as caught:
        Settings.resolve(overrides={"decision": {"group_by": "folder", "groups": "none"}})
    assert str(caught.value).startswith(
        "decision.group_by = 'folder' gives the groups: expected decision.groups = 'auto'"
    )


@pytest.mark.parametrize("count", [0, 1, 2])
def test_too_few_images_are_refused_before_anything_is_grouped(count):
    with pytest.raises(DataError, match=r"normal|no image|empty|at least"):
        detect(bursts(5, 1)[:count])


def test_five_images_and_ties_have_a_threshold():
    five = detect(bursts(5, 1), false_alarms="auto").fitted_.decision
    assert five.false_alarms == pytest.approx(1 / 6)
    flat = np.zeros((30, 8, 8, 3), np.uint8)
    flat[np.arange(30), np.arange(30) % 8, np.arange(30) // 8] = 200  # each as far from its nearest as any
    tied = detect(flat, false_alarms=0.1).fitted_.decision
    assert tied.independent == 30
    assert np.isfinite(tied.threshold)


def group_of(images, categories=None, groups="auto"):
    """What a fit finds by features that are the pixels themselves."""
    names = categories or [""] * len(images)
    listed = SimpleNamespace(samples=[Sample(f"{row:03}", category=name) for row, name in enumerate(names)])
    features = torch.from_numpy(images.astype(np.float32)).permute(0, 3, 1, 2)
    model, every = SimpleNamespace(feature_groups=()), np.arange(len(images))
    return find_by_features(model, listed, every, features, DecisionConfig(groups=groups), seed=0)


def test_a_small_category_has_no_say_in_whether_series_of_another_count():
    images = np.concatenate([bursts(30, 4), bursts(3, 1, seed=2)])
    grouping = group_of(images, ["a"] * 120 + ["b"] * 3)
    counted = len(np.unique(grouping.used))
    assert 31 <= counted <= 33  # two that follow each other may be alike by chance
    assert f"the promise rests on {counted} groups" in " ".join(grouping.words)


def test_one_long_series_counts_image_by_image_and_it_is_said():
    steps = np.random.default_rng(0).normal(0, 3, (60, 8, 8, 3))
    grouping = group_of(np.clip(128 + np.cumsum(steps, axis=0), 0, 255).astype(np.uint8))
    assert len(np.unique(grouping.used)) == 60
    assert grouping.words[0].startswith("The images are like one long series ("), grouping.words
