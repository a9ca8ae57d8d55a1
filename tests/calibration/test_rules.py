"""Each rule does what it says: promises hold, what is best is best, and nobody is promised what cannot be kept."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import beta, binom, genpareto

from unlike.calibration.conformal import p_values, smallest_promise
from unlike.calibration.sweep import best_f_beta, best_youden, least_cost, sweep
from unlike.calibration.thresholds import THRESHOLDS, ConformalThreshold, make_rule
from unlike.calibration.thresholds.confidence import ConfidenceConfig, ConfidenceThreshold, most_above
from unlike.calibration.thresholds.labelled import CostConfig, CostThreshold, FBetaConfig, ternary_search
from unlike.calibration.thresholds.sigma import SigmaConfig, SigmaThreshold
from unlike.calibration.thresholds.tail import TailConfig, TailThreshold
from unlike.errors import ConfigError, DataError

BY_LABELS = [name for name in THRESHOLDS if THRESHOLDS[name].needs_labels]
BY_NORMALS = [name for name in THRESHOLDS if not THRESHOLDS[name].needs_labels]


@st.composite
def labelled(draw):
    count = draw(st.integers(2, 30))
    scores = np.array(draw(st.lists(st.integers(0, 9), min_size=count, max_size=count)), float)
    anomalous = np.array(draw(st.lists(st.booleans(), min_size=count, max_size=count)))
    anomalous[:2] = True, False
    return scores, anomalous


@st.composite
def grouped(draw):
    sizes = draw(st.lists(st.integers(1, 4), min_size=3, max_size=15))
    weights = np.concatenate([np.full(size, 1 / size) for size in sizes])
    scores = np.array(draw(st.lists(st.integers(0, 20), min_size=len(weights), max_size=len(weights))), float)
    return scores, weights, len(sizes)


@given(grouped(), st.lists(st.integers(-2, 22), min_size=1, max_size=9), st.floats(0.26, 0.9))
@settings(max_examples=100)
def test_groups_count_as_one_in_the_p_value_and_in_the_threshold(held_out, new, promise):
    scores, weights, groups = held_out
    found, fresh = p_values(np.array(new, float), scores, weights), np.array(new, float)
    expected = [(1 + weights[scores >= one].sum()) / (1 + groups) for one in new]
    np.testing.assert_allclose(found, expected)
    threshold = ConformalThreshold(promise).fit(scores, weights).threshold_
    unsure = np.abs(found - promise) < 1e-8
    assert (((fresh > threshold) == (found <= promise)) | unsure).all()


def test_the_promise_rests_on_groups():
    scores, weights = np.arange(40.0), np.full(40, 1 / 4)
    assert ConformalThreshold().fit(scores, weights).promise_.false_alarms == pytest.approx(smallest_promise(10))
    with pytest.raises(
        DataError, match=r"40 normal images in 10 independent groups cannot hold .* 99 are needed\. Add groups"
    ):
        ConformalThreshold(0.01).fit(scores, weights)


def test_the_confidence_is_that_of_calibrations_whose_promise_is_kept(rng):
    """Uniform scores: the share above a threshold is one less it."""
    shares = np.array([1 - ConfidenceThreshold(0.05).fit(rng.random(150)).threshold_ for _ in range(600)])
    assert (shares > 0.05).mean() <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 600)
    assert (shares > 0.05).mean() > 0.01  # not by calling nothing anomalous


@given(st.integers(1, 500), st.floats(0.001, 0.5), st.floats(0.01, 0.5))
@settings(max_examples=100)
def test_as_many_as_possible_are_above(count, share, chance):
    above = most_above(count, share, chance)
    assert above < 0 or binom.cdf(above, count, share) <= chance * (1 + 1e-8)
    assert above == count or binom.cdf(above + 1, count, share) > chance * (1 - 1e-8)
    if 0 <= above < count:  # the same by order statistics
        assert beta.cdf(share, above + 1, count - above) >= (1 - chance) * (1 - 1e-6)


def test_confidence_takes_more_images_and_says_how_many():
    assert ConfidenceThreshold(0.01).fit(np.arange(299.0)).threshold_ == 298
    with pytest.raises(
        DataError,
        match=r"298 independent normal images cannot hold .* to 1\.00% with 0\.95 confidence: 299 are needed.*accept 1\.01%",
    ):
        ConfidenceThreshold(0.01).fit(np.arange(298.0))
    assert "with 90 % confidence" in str(
        ConfidenceThreshold(0.01, ConfidenceConfig(0.9)).fit(np.arange(298.0)).promise_
    )
    assert ConfidenceThreshold().fit(np.arange(20.0)).promise_.false_alarms == pytest.approx(1 - 0.05 ** (1 / 20))
    with pytest.raises(DataError, match=r"no normal image was held out.*add normal images"):
        ConfidenceThreshold().fit(np.empty(0))


def test_a_tail_keeps_its_promise_and_is_steadier_than_the_strangest_image(rng):
    tail, counted = [], []
    for _ in range(60):
        scores = rng.gamma(3.0, size=99)
        tail.append(TailThreshold(0.01).fit(scores).threshold_)
        counted.append(ConformalThreshold(0.01).fit(scores).threshold_)
    fresh = np.sort(rng.gamma(3.0, size=100_000))
    shares = 1 - np.searchsorted(fresh, tail) / len(fresh)
    assert np.mean(shares) <= 0.01 + 3 * np.std(shares) / np.sqrt(60)
    assert np.std(tail) < 0.8 * np.std(counted)


def test_the_interval_of_a_tail_holds_the_truth(rng):
    truth = genpareto.isf(0.02, 0.1)
    ends = [TailThreshold(0.02).fit(genpareto.rvs(0.1, size=150, random_state=rng)).interval_ for _ in range(60)]
    held = np.mean([low <= truth <= high for low, high in ends])
    assert held >= 0.85


@pytest.mark.parametrize(
    ("scores", "promise", "why"),
    [
        (np.arange(15.0), 0.1, "8 different scores in the tail, and 10 are needed"),
        (np.repeat([1.0, 2.0, 3.0], 40), 0.05, "0 different scores in the tail"),
        (np.arange(100.0), 0.5, "50 % is no tail: it begins at 30.7 %"),
    ],
)
def test_where_there_is_no_tail_to_fit_the_conformal_threshold_is_taken_and_it_says_why(scores, promise, why):
    rule = TailThreshold(promise).fit(scores)
    assert rule.threshold_ == ConformalThreshold(promise).fit(scores).threshold_
    assert why in rule.promise_.words
    assert "conformal, not by a tail" in rule.promise_.words
    assert rule.interval_ is None


def test_sigmas_are_those_of_a_gaussian_unless_they_are_named(rng):
    scores = rng.normal(size=4000)
    assert SigmaThreshold(0.05).fit(scores).threshold_ == pytest.approx(1.645, abs=0.08)
    assert SigmaThreshold().fit(scores).threshold_ == pytest.approx(scores.mean() + 3 * scores.std(ddof=1))
    assert SigmaThreshold().fit(scores).promise_.false_alarms is None
    with pytest.raises(ConfigError, match=r"decision\.settings\.k: 2 and decision\.false_alarms = 0\.1 both say"):
        SigmaThreshold(0.1, SigmaConfig(2.0)).fit(scores)
    with pytest.raises(DataError, match="2 independent normal images have no spread: 3 are needed"):
        SigmaThreshold().fit(scores[:2])


@pytest.mark.parametrize("name", BY_NORMALS)
def test_rules_of_normal_images_refuse_what_is_no_number_and_no_share(name):
    with pytest.raises(DataError, match="is not a finite number"):
        make_rule(name).fit(np.array([1.0, np.nan, 2.0, 3.0]))
    for share in (0.0, 1.0, float("nan")):
        with pytest.raises(ConfigError, match=r"decision\.false_alarms: expected"):
            make_rule(name, share).fit(np.arange(50.0))


@pytest.mark.parametrize("name", BY_NORMALS)
def test_equal_scores_are_all_normal(name):
    threshold = make_rule(name, 0.1).fit(np.full(60, 2.0)).threshold_
    assert not (np.full(5, 2.0) > threshold).any()


@given(labelled(), st.floats(0.2, 5))
@settings(max_examples=100)
def test_what_labels_choose_is_the_best_of_all_thresholds(data, weight):
    scores, anomalous = data

    def figures(threshold):
        called = scores > threshold
        right, wrong = (called & anomalous).sum(), (called & ~anomalous).sum()
        missed, normal = (~called & anomalous).sum(), (~anomalous).sum()
        f_beta = (1 + weight**2) * right / ((1 + weight**2) * right + weight**2 * missed + wrong)
        return (
            f_beta,
            right / anomalous.sum() - wrong / normal,
            0.7 * wrong / normal + 0.3 * weight * missed / anomalous.sum(),
        )

    every = np.array([figures(one) for one in (-1.0, *np.unique(scores))])
    swept = sweep(scores, anomalous)
    found = best_f_beta(swept, weight), best_youden(swept), least_cost(swept, 1.0, weight, 0.3)
    best = every[:, 0].max(), every[:, 1].max(), every[:, 2].min()
    np.testing.assert_allclose([one.value for one in found], best, atol=1e-12)
    np.testing.assert_allclose([figures(one.threshold)[n] for n, one in enumerate(found)], best, atol=1e-12)


@pytest.mark.parametrize("name", BY_LABELS)
def test_rules_of_labels_promise_nothing_and_say_what_they_chose_by(name):
    scores, anomalous = np.array([1.0, 2, 3, 7, 8]), np.array([False, False, False, True, True])
    promise = make_rule(name).fit(scores, None, anomalous).promise_
    assert promise.false_alarms is None
    assert "on 5 labelled images (2 of them anomalous)" in promise.words
    with pytest.raises(ConfigError, match=r"chooses by labels and promises nothing, came 0\.01; leave it 'auto'"):
        make_rule(name, 0.01).fit(scores, None, anomalous)
    with pytest.raises(DataError, match="needs a label for each of 5 scores, came 0; give it images with labels"):
        make_rule(name).fit(scores)
    with pytest.raises(DataError, match="needs normal and anomalous images; all 5 are normal"):
        make_rule(name).fit(scores, None, np.zeros(5, bool))


def test_a_dearer_miss_lowers_the_threshold_and_a_rarer_anomaly_raises_it():
    scores, anomalous = np.array([1.0, 3, 2, 4]), np.array([False, False, True, True])

    def draw(**chosen):
        return CostThreshold(config=CostConfig(**chosen)).fit(scores, None, anomalous).threshold_

    assert draw(missed=10.0) < draw(missed=0.5)
    assert draw(missed=10.0, prevalence=0.5) < draw(missed=10.0, prevalence=0.01)


def test_ternary_search_need_not_find_the_best():
    scores, anomalous = np.arange(9.0), np.array([0, 1, 0, 0, 0, 0, 0, 0, 1], bool)
    found = ternary_search(scores, anomalous)
    assert found.value == np.mean((scores > found.threshold) == anomalous)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: ConfidenceConfig(1.0),
            r"decision\.settings\.confidence: expected a share above 0 and below 1, came 1",
        ),
        (lambda: SigmaConfig(0.0), r"decision\.settings\.k: expected a number above 0, or 'auto', came 0"),
        (lambda: TailConfig(share=0.0), r"decision\.settings\.share: expected a share above 0, and at most 1, came 0"),
        (lambda: TailConfig(fewest=2), r"decision\.settings\.fewest: expected 5 or more, came 2"),
        (lambda: FBetaConfig(float("nan")), r"decision\.settings\.beta: expected a number above 0, came nan"),
        (lambda: CostConfig(missed=0.0), r"decision\.settings\.missed: expected a number above 0, came 0"),
        (lambda: CostConfig(prevalence=1.0), r"decision\.settings\.prevalence: expected a share above 0 and below 1"),
        (lambda: make_rule("conformal", settings={"k": 1}), r"decision\.settings: conformal has no settings, came k"),
        (lambda: make_rule("tial"), r"unknown decision\.threshold 'tial'; did you mean 'tail'\?"),
    ],
)
def test_settings_that_mean_nothing_are_refused(make, message):
    with pytest.raises(ConfigError, match=message):
        make()
