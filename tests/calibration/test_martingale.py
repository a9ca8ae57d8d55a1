"""Bets on p-values: fair while nothing changes, rich soon after."""

from __future__ import annotations

import json

import numpy as np
import pytest

from unlike.calibration.martingale import BETS, KINDS, PRIOR, Martingale, MartingaleConfig, densities
from unlike.errors import ConfigError


def value_after(p_values, martingale=None):
    martingale = martingale or Martingale()
    return [martingale.see(p) for p in p_values]


def test_every_bet_is_fair():
    middles = (np.arange(1_000_000) + 0.5) / 1_000_000
    factors = densities(middles)
    np.testing.assert_allclose(factors.mean(axis=0), 1, atol=0.003)
    assert (factors >= 0).all()
    assert factors.shape[1] == sum(BETS) == len(PRIOR)
    assert PRIOR.sum() == pytest.approx(1)


def test_what_uniform_p_values_make_exceeds_twenty_once_in_twenty_at_most(rng):
    ever = [max(value_after(rng.uniform(size=250))) >= 20 for _ in range(100)]
    assert np.mean(ever) <= 0.05


@pytest.mark.parametrize(
    ("kind", "draw"),
    [
        ("stranger", lambda rng, count: rng.uniform(size=count) ** 2),
        ("stranger", lambda rng, count: rng.uniform(0, 0.01, size=count)),
        ("defects", lambda rng, count: np.where(rng.uniform(size=count) < 0.1, 0.001, rng.uniform(size=count))),
        ("too normal", lambda rng, count: 1 - rng.uniform(size=count) ** 2),
    ],
)
def test_each_kind_of_change_is_found_and_named(rng, kind, draw):
    martingale = Martingale()
    assert max(value_after(rng.uniform(size=300), martingale)) < 100
    for p in draw(rng, 400):
        if martingale.see(p) >= 100:
            break
    assert martingale.value >= 100
    assert martingale.kind == kind
    assert 100 < martingale.since <= martingale.seen


def test_a_rise_of_defects_makes_no_bet_on_all_images_rich(rng):
    martingale = Martingale()
    value_after(np.where(rng.uniform(size=300) < 0.05, 0.002, rng.uniform(size=300)), martingale)
    assert martingale.kind == "defects"


def test_p_values_of_nothing_and_of_all_are_numbers_too():
    assert np.isfinite(value_after([0.0, 1.0])).all()


def test_it_goes_on_from_its_state(rng):
    p_values = rng.uniform(size=60)
    one, other = Martingale(), Martingale()
    value_after(p_values[:30], one)
    other.resume(json.loads(json.dumps(one.state())))
    assert value_after(p_values[30:], one) == value_after(p_values[30:], other)
    assert (one.kind in KINDS, one.since) == (True, other.since)


@pytest.mark.parametrize("change", [{"stakes": [1.0]}, {"reserve": float("nan")}, {"seen": -1}, {"begun": ["x"]}])
def test_what_is_no_state_is_refused(change):
    with pytest.raises(ValueError, match=r"martingale|convert"):
        Martingale().resume(Martingale().state() | change)


def test_patience_is_of_images():
    with pytest.raises(ConfigError, match="patience: expected 1 image or more, came 0"):
        Martingale(MartingaleConfig(patience=0))
