"""A threshold for each category that can have one: each keeps the promise for its own images."""

from __future__ import annotations

import numpy as np
import pytest

from unlike.calibration.decision import ALL, Basis, Decision, Threshold, calibrate
from unlike.calibration.thresholds import ConformalThreshold, Promise
from unlike.errors import DataError

NAMES = np.repeat(["calm", "wild", "rare"], [99, 60, 8])


def decide(rule, rng, by_itself=("calm", "rare", "wild")):
    scores = np.where(NAMES == "wild", 100.0, 1.0) * rng.gamma(5, size=len(NAMES))
    return calibrate(scores, 3 * scores, NAMES, rule, by_itself)


def test_each_category_has_the_threshold_that_it_would_have_alone(rng):
    found = decide(ConformalThreshold(0.05), rng)
    assert list(found.thresholds) == [ALL, "calm", "wild"]
    for name in ("calm", "wild"):
        own = found.scores[name == NAMES]
        assert found.threshold_of(name).score == ConformalThreshold(0.05).fit(own).threshold_
        assert found.threshold_of(name).region == 3 * found.threshold_of(name).score
    assert found.threshold_of(ALL).score == ConformalThreshold(0.05).fit(found.scores).threshold_


def test_a_category_with_too_few_images_or_never_seen_is_judged_like_all(rng):
    found = decide(ConformalThreshold(0.05), rng)
    assert found.too_few == {"rare": 8}
    assert found.threshold_of("rare") == found.threshold_of("never seen") == found.thresholds[ALL]


def test_auto_promises_each_category_what_it_can_hold(rng):
    found = decide(ConformalThreshold(), rng)
    assert found.threshold_of("calm").false_alarms == pytest.approx(3 / 100)  # what rests on three images
    assert found.threshold_of("wild").false_alarms == pytest.approx(3 / 61)
    assert found.false_alarms == pytest.approx(3 / 61)
    assert found.too_few == {"rare": 8}  # 1 in 9 is not worth a threshold


def test_p_values_are_of_the_own_category_and_agree_with_its_threshold(rng):
    found = decide(ConformalThreshold(0.05), rng)
    scores = rng.uniform(0, 20, 200)
    for name, others in (("calm", "calm"), ("rare", None), ("never seen", None)):
        chances = found.p_values(scores, [name] * len(scores))
        held_out = found.scores if others is None else found.scores[others == NAMES]
        np.testing.assert_allclose(chances, [(1 + (held_out >= s).sum()) / (len(held_out) + 1) for s in scores])
        assert ((chances <= 0.05 + 1e-12) == (scores > found.threshold_of(name).score)).all()
    mixed = found.p_values(scores[:2], ["wild", "calm"])
    np.testing.assert_array_equal(
        mixed, [found.p_values(scores[:1], ["wild"])[0], found.p_values(scores[1:2], ["calm"])[0]]
    )
    np.testing.assert_array_equal(found.p_values(scores), found.p_values(scores, [ALL] * 200))


def test_where_none_is_wanted_there_is_one_threshold(rng):
    found = decide(ConformalThreshold(0.05), rng, by_itself=())
    assert (list(found.thresholds), found.too_few) == ([ALL], {})
    np.testing.assert_array_equal(found.p_values(np.ones(1), ["calm"]), found.p_values(np.ones(1)))


def test_false_alarms_of_each_category_stay_within_the_promise():
    random, shares = np.random.default_rng(3), {"calm": [], "wild": [], "wild by the threshold for all": []}
    for _ in range(300):
        found = decide(ConformalThreshold(0.05), random)
        fresh = {"calm": random.gamma(5, size=500), "wild": 100 * random.gamma(5, size=500)}
        for name, scores in fresh.items():
            shares[name].append((scores > found.threshold_of(name).score).mean())
        shares["wild by the threshold for all"].append((fresh["wild"] > found.threshold).mean())
    for name in ("calm", "wild"):
        assert np.mean(shares[name]) <= 0.05 + 3 * np.std(shares[name]) / np.sqrt(300)
        assert np.mean(shares[name]) > 0.02  # not by calling nothing anomalous
    assert np.mean(shares["wild by the threshold for all"]) > 0.1


class Sigmas:
    """Another rule: so many deviations above the mean, of any scores, and nothing is promised."""

    def __init__(self, false_alarms):
        self.false_alarms = false_alarms

    def fit(self, scores, weights=None):
        if len(scores) < 2:
            raise DataError("two scores or more")
        self.threshold_ = float(np.mean(scores) + 3 * np.std(scores))
        return self

    @property
    def promise_(self):
        return Promise(None, "three deviations above the mean")


def test_a_rule_that_promises_nothing_has_thresholds_and_no_share(rng):
    found = decide(Sigmas("auto"), rng)
    assert list(found.thresholds) == [ALL, "calm", "rare", "wild"]
    own = found.scores[NAMES == "rare"]
    assert found.threshold_of("rare").score == pytest.approx(own.mean() + 3 * own.std())
    assert found.threshold_of("rare").region == pytest.approx(3 * found.threshold_of("rare").score)
    assert found.false_alarms is None
    assert str(found.threshold_of("rare").promise) == "three deviations above the mean"


def test_of_one_rule_that_promises_and_one_that_does_not_nothing_is_promised():
    one, none = Threshold(1.0, 1.0, Promise(0.1, "a tenth")), Threshold(1.0, 1.0, Promise(None, "nothing"))
    scores = np.arange(3.0)
    assert Decision(scores, scores, np.array(["a"] * 3), {ALL: one, "a": none}).false_alarms is None
    assert Decision(scores, scores, np.array(["a"] * 3), {ALL: one}).false_alarms == 0.1


def test_a_verdict_has_the_threshold_of_its_category_and_the_regions_above_that(rng):
    found = decide(ConformalThreshold(0.05), rng)
    calm, wild = found.threshold_of("calm"), found.threshold_of("wild")
    map_ = np.zeros((4, 5))
    map_[1, 2:4] = 1.01 * calm.region
    verdicts = found.judge(["a", "b"], np.array([1.01 * calm.score] * 2), ["calm", "wild"], [map_, map_])
    assert [verdict.anomalous for verdict in verdicts] == [True, False]
    assert [verdict.threshold for verdict in verdicts] == [calm.score, wild.score]
    assert [[(region.x, region.y, region.area) for region in verdict.regions] for verdict in verdicts] == [
        [(2, 1, 2)],
        [],
    ]
    assert verdicts[0].p_value <= 0.05 < verdicts[1].p_value
    assert found.judge(["a"], np.array([0.0]), ["calm"])[0].regions == ()


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"peaks": np.zeros(2)}, "are not of the same images"),
        ({"categories": np.array(["a"])}, "are not of the same images"),
        ({"thresholds": {"a": Threshold(1.0, 1.0, Promise(0.1, ""))}}, "no threshold for images without a category"),
        ({"thresholds": {ALL: Threshold(np.nan, 1.0, Promise(0.1, ""))}}, "is not a finite number"),
        ({"thresholds": {ALL: Threshold(1.0, np.inf, Promise(0.1, ""))}}, "is not a finite number"),
        ({"scores": np.array([0.0, np.nan, 1.0])}, "is not a finite number"),
    ],
)
def test_parts_that_make_no_decision(parts, message):
    """As they may come from a folder."""
    whole = {"scores": np.arange(3.0), "peaks": np.arange(3.0), "categories": np.array(["a"] * 3)}
    whole["thresholds"] = {ALL: Threshold(1.0, 1.0, Promise(0.1, "a tenth"))}
    with pytest.raises(ValueError, match=message):
        Decision(**(whole | parts))


def grouped(scores, groups, share=0.2):
    scores = np.asarray(scores, float)
    nobody, ids = np.full(len(scores), ""), [f"{number}.png" for number in range(len(scores))]
    return calibrate(scores, scores, nobody, ConformalThreshold(share), ids=ids, groups=np.asarray(groups))


def test_images_of_a_group_count_as_one():
    """Of five groups one may lie above at a third: all images of the highest, or one of two and one of three."""
    decision = grouped([1, 2, 3, 4, 9, 8, 7, 6], [0, 1, 2, 3, 4, 4, 4, 4], share=1 / 3)
    assert decision.independent == 5
    np.testing.assert_allclose(decision.weights, [1, 1, 1, 1, 0.25, 0.25, 0.25, 0.25])
    assert decision.threshold == 4.0
    np.testing.assert_allclose(decision.p_values(np.array([8.5, 3.5])), [1.25 / 6, 3 / 6])
    plain = grouped([1, 2, 3, 4, 9, 8, 7, 6], np.arange(8), share=1 / 3)
    assert plain.threshold == 7.0


def test_the_promise_by_groups_is_kept_for_new_groups():
    """Where images of a group are alike, counting images promises what is not delivered."""
    random = np.random.default_rng(0)
    alarms = {"groups": [], "images": []}
    for _ in range(200):
        sizes = random.integers(1, 8, 40)
        groups = np.repeat(np.arange(40), sizes)
        scores = random.normal(size=40)[groups] + 0.05 * random.normal(size=len(groups))
        fresh = random.normal(size=100)
        for way, numbers in (("groups", groups), ("images", np.arange(len(groups)))):
            alarms[way].append((fresh > grouped(scores, numbers, 0.05).threshold).mean())
    error = np.std(alarms["groups"]) / np.sqrt(200)
    assert 0.03 < np.mean(alarms["groups"]) <= 0.05 + 2 * error
    assert np.std(alarms["images"]) > np.std(alarms["groups"]) * 0.9


def test_at_a_promise_the_images_are_named_that_it_rests_on():
    decision = grouped([5, 1, 4, 2, 3], np.arange(5))
    assert decision.at(0.2)[ALL] == Basis(5.0, ("0.png",))
    assert decision.at(0.5)[ALL] == Basis(3.0, ("0.png", "2.png", "4.png"))
    assert decision.at(0.1) == {}
    np.testing.assert_array_equal(decision.thresholds_at(0.2, ["", "any"]), [5.0, 5.0])
    assert np.isinf(decision.thresholds_at(0.1, ["any"])).all()


def test_ids_and_groups_are_of_the_same_images():
    with pytest.raises(ValueError, match="ids or groups of held-out images are not of the images that have scores"):
        Decision(
            np.ones(3), np.ones(3), np.full(3, ""), {ALL: Threshold(1.0, 1.0, Promise(0.5, ""))}, ids=np.array(["a"])
        )
    decision = Decision(np.ones(3), np.ones(3), np.full(3, ""), {ALL: Threshold(1.0, 1.0, Promise(0.5, ""))})
    assert decision.ids.tolist() == ["0", "1", "2"]
    assert decision.independent == 3
