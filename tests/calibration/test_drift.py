"""A monitor of scores: no alarm while they stay, one of the right kind when they change."""

from __future__ import annotations

import json

import numpy as np
import pytest

from fakes import decision_of
from unlike.calibration.drift import DriftConfig, DriftMonitor
from unlike.errors import ArtifactError, ConfigError, DataError


def watch(monitor, scores, identities=None):
    names = identities or [""] * len(scores)
    return [
        monitor.see(f"{n}", score, identity=name) for n, (score, name) in enumerate(zip(scores, names, strict=True))
    ]


def alarms(seen):
    return [one for one in seen if one.alarm]


@pytest.mark.parametrize("usual", [10, 100])
def test_few_usual_images_do_not_make_more_false_alarms(usual):
    ever = 0
    for seed in range(60):
        random = np.random.default_rng(seed)
        monitor = DriftMonitor(random.gamma(2, size=usual), DriftConfig(false_alarms=0.05))
        ever += bool(alarms(watch(monitor, random.gamma(2, size=250))))
    assert ever <= 6  # 60 at .05 are 3 on average; 7 or more have a chance of .03


def test_ranks_among_all_that_came_are_uniform_where_many_are_equal():
    random = np.random.default_rng(0)
    p_values = [
        one.p_value for one in watch(DriftMonitor(random.integers(0, 3, 20) * 1.0), random.integers(0, 3, 2000) * 1.0)
    ]
    np.testing.assert_allclose(np.histogram(p_values, 5, (0, 1))[0], 400, atol=70)


@pytest.mark.parametrize(
    ("kind", "change"),
    [
        ("stranger", lambda random, count: random.normal(1, size=count)),
        ("stranger", lambda random, count: random.normal(9, size=count)),
        ("too normal", lambda random, count: random.normal(-1, size=count)),
        ("defects", lambda random, count: np.where(random.uniform(size=count) < 0.1, 9, random.normal(size=count))),
    ],
)
def test_a_change_is_found_named_and_dated(kind, change):
    random = np.random.default_rng(3)
    monitor = DriftMonitor(random.normal(size=200))
    seen = watch(monitor, np.concatenate([random.normal(size=300), change(random, 200)]))
    first = alarms(seen)[0]
    assert first.alarm == kind
    assert 300 < first.number <= 450
    assert 200 < first.since <= first.number
    assert first.martingale >= monitor.limit == 100


def test_it_begins_again_after_an_alarm_and_says_so_again_while_the_change_stays():
    random = np.random.default_rng(0)
    monitor = DriftMonitor(random.normal(size=200))
    first, second, *_ = alarms(watch(monitor, random.normal(3, size=60)))
    assert first.alarm == second.alarm == "stranger"
    assert first.number < second.since <= second.number
    assert not alarms(watch(monitor, random.normal(size=100))[20:])


def test_what_was_usual_first_can_be_learned_from_the_stream():
    random = np.random.default_rng(0)
    scores = np.concatenate([random.normal(7, size=300), random.normal(9, size=60)])  # all strange to the detector
    seen = watch(DriftMonitor(config=DriftConfig(learn=100)), scores)
    assert [one.p_value for one in seen[:100]] == [None] * 100
    assert 300 < alarms(seen)[0].number < 330
    assert alarms(watch(DriftMonitor(random.normal(size=100)), scores))[0].number < 20


def test_the_same_image_again_and_again_is_an_alarm_once():
    random = np.random.default_rng(0)
    names = [*map(str, range(20)), *["same"] * 12, *map(str, range(20, 40))]
    scores = np.concatenate([random.normal(size=20), np.zeros(12), random.normal(size=20)])
    seen = watch(DriftMonitor(random.normal(size=100)), scores, names)
    assert [(one.number, one.alarm, one.since) for one in alarms(seen)] == [(25, "repeated", 21)]
    assert seen[30].p_value is None
    assert seen[35].p_value is not None
    assert not alarms(watch(DriftMonitor(random.normal(size=100), DriftConfig(repeats=0)), scores[:25], names[:25]))


@pytest.mark.parametrize("learn", [0, 40])
def test_a_state_goes_on_as_if_nothing_had_been(learn):
    random = np.random.default_rng(0)
    usual, scores = random.normal(size=50), random.normal(1, size=400).round(1)
    whole = watch(DriftMonitor(usual, DriftConfig(learn=learn, false_alarms=0.2)), scores)
    monitor = DriftMonitor(usual, DriftConfig(learn=learn, false_alarms=0.2))
    parts = []
    for piece in np.split(scores, [7, 33, 200]):
        parts += watch(monitor, piece)
        monitor = DriftMonitor.resume(json.loads(json.dumps(monitor.state())))
    assert [(one.p_value, one.martingale, one.alarm) for one in whole] == [
        (one.p_value, one.martingale, one.alarm) for one in parts
    ]
    assert learn or alarms(whole)


def test_the_seed_decides_between_equal_scores():
    first, second = (watch(DriftMonitor(np.ones(20), DriftConfig(seed=seed)), np.ones(5)) for seed in (0, 1))
    assert first == watch(DriftMonitor(np.ones(20)), np.ones(5))
    assert [one.p_value for one in first] != [one.p_value for one in second]


def test_of_a_decision_each_group_counts_once_and_each_category_by_itself():
    decision = decision_of({"": 9.0, "a": 2.0}, [1.0, 1.1, 2.0, 8.0, 9.0], ["a", "a", "a", "b", "b"])
    monitor = DriftMonitor.of(decision)
    assert monitor.usual == 5
    assert monitor.see("x", 5.0, "a").p_value <= 1 / 4
    assert monitor.see("y", 5.0, "b").p_value > 2 / 6
    object.__setattr__(decision, "groups", np.array([0, 0, 1, 2, 2]))
    assert DriftMonitor.of(decision).usual == 3


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"false_alarms": 0.0}, "false_alarms: expected a share above 0 and below 1, such as 0.01, came 0"),
        ({"false_alarms": 1.0}, "false_alarms: expected a share above 0 and below 1, such as 0.01, came 1"),
        ({"learn": 3}, "learn: expected 0, or 20 images or more, came 3"),
        ({"repeats": 1}, "repeats: expected 2 images or more, or 0 for never, came 1"),
        ({"seed": -1}, "seed: expected a whole number from 0, came -1"),
        ({"repeats": -1}, "repeats: expected 2 images or more, or 0 for never, came -1"),
    ],
)
def test_wrong_choices_are_refused(settings, message):
    with pytest.raises(ConfigError, match=message):
        DriftConfig(**settings)


def test_scores_that_are_no_numbers_are_refused():
    with pytest.raises(DataError, match="no score of a usual image; give some, or learn them"):
        DriftMonitor()
    with pytest.raises(DataError, match="a score of a usual image is not a finite number"):
        DriftMonitor(np.array([1.0, np.nan]))
    with pytest.raises(DataError, match=r"b\.png: expected a finite score, came inf"):
        DriftMonitor(np.ones(3)).see("b.png", np.inf)


@pytest.mark.parametrize("change", [{"ranks": None}, {"martingale": {}}, {"number": "x"}, {"config": {"other": 1}}])
def test_what_is_no_state_is_refused(change):
    with pytest.raises(ArtifactError, match="is not the state of a monitor"):
        DriftMonitor.resume(DriftMonitor(np.ones(3)).state() | change)


def test_a_state_of_another_version_is_refused():
    with pytest.raises(ArtifactError, match="format 9 of another version; expected 1"):
        DriftMonitor.resume(DriftMonitor(np.ones(3)).state() | {"format": 9})
