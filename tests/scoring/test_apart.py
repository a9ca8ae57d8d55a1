"""Several categories, each learned by itself."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from unlike import Detector
from unlike.data.arrays import ImageArray
from unlike.data.index import Index
from unlike.records import Sample
from unlike.scoring.apart import LEAST, Apart, Remembered, Remembering, learn, number_categories, restore_scorer
from unlike.scoring.gaussian import GaussianConfig, GaussianScorer
from unlike.scoring.neighbours import NeighboursConfig, NeighboursScorer

PLACES = (0.0, 8.0, -8.0)  # of the three categories


def codes_of(counts, seed=0):
    """Codes (N, 5, 3, 3) of images of three categories, and their numbers."""
    random = np.random.default_rng(seed)
    parts = [random.normal(place, 1.0, (count, 5, 3, 3)) for place, count in zip(PLACES, counts, strict=True)]
    return torch.tensor(np.concatenate(parts), dtype=torch.float32), np.repeat(np.arange(3), counts)


def make():
    return GaussianScorer(GaussianConfig())


def learned(counts=(40, 30, 50), make=make):
    codes, numbers = codes_of(counts)
    rows = np.arange(len(codes))
    scorer = learn(Apart([make() for _ in range(3)]), Remembered(), Remembering(codes), rows, rows[:0], numbers, 0)
    return scorer, codes, numbers


@pytest.mark.parametrize("make", [make, lambda: NeighboursScorer(NeighboursConfig(least=20))])
def test_each_category_is_scored_as_by_a_scorer_of_it_alone(make):
    scorer, codes, numbers = learned(make=make)
    fresh, own = codes_of((7, 9, 4), seed=1)
    mixed = np.random.default_rng(2).permutation(len(fresh))
    found = torch.empty(len(fresh), 3, 3)
    found[mixed] = scorer.maps(Remembered(), fresh[mixed])
    for number in range(3):
        alone = make().fit(Remembered(), [codes[numbers == number]], [], 0)
        np.testing.assert_allclose(
            found[own == number], alone.maps(Remembered(), fresh[own == number]), rtol=1e-4, atol=1e-4
        )


def test_an_image_goes_to_the_category_it_looks_like_even_if_only_its_contrast_tells():
    random = np.random.default_rng(0)
    codes = torch.tensor(random.normal(size=(80, 4, 6, 6)), dtype=torch.float32)
    codes[40:] *= 3
    numbers, rows = np.repeat([0, 1], 40), np.arange(80)
    scorer = learn(Apart([make(), make()]), Remembered(), Remembering(codes), rows, rows[:0], numbers, 0)
    fresh = torch.tensor(random.normal(size=(60, 4, 6, 6)), dtype=torch.float32)
    assert scorer.choose(fresh).tolist() == [0] * 60
    assert scorer.choose(3 * fresh).tolist() == [1] * 60


def test_it_is_the_same_after_restoring():
    scorer, _, _ = learned()
    copy = restore_scorer(make, {name: np.array(value) for name, value in scorer.state().items()})
    assert len(copy.members) == 3
    fresh, _ = codes_of((3, 3, 3), seed=1)
    torch.testing.assert_close(copy.maps(Remembered(), fresh), scorer.maps(Remembered(), fresh))
    alone = make().fit(Remembered(), [fresh], [], 0)
    assert isinstance(restore_scorer(make, alone.state()), GaussianScorer)


def test_rare_categories_are_learned_together_or_with_the_largest():
    names = np.repeat(["a", "b", "c", "d", "e"], [LEAST, LEAST - 1, 3, 2 * LEAST, 1])
    every = np.arange(len(names))
    expected = np.repeat([0, 2, 2, 1, 2], [LEAST, LEAST - 1, 3, 2 * LEAST, 1])
    assert number_categories(names, every).tolist() == expected.tolist()
    few = np.flatnonzero(names != "b")
    assert set(number_categories(names, few)[names == "c"].tolist()) == {1}  # four are too few for a part of their own
    assert set(number_categories(names, every[:5]).tolist()) == {0}


def index_of(levels, count, random, **facts):
    """Noise of 12 x 12 pixels around a level; of each category `count` images."""
    images = [np.clip(random.normal(level, 12, (count, 12, 12, 1)), 0, 255) for level in levels.values()]
    names = [name for name in levels for _ in range(count)]
    samples = [Sample(f"{name}/{row}", row=row, category=name, **facts) for row, name in enumerate(names)]
    return Index("made", samples, ImageArray(np.concatenate(images).astype(np.uint8)))


@pytest.mark.parametrize("calibration", ["cross", "held-out"])
def test_what_lies_between_two_categories_is_of_neither(calibration, tmp_path):
    random = np.random.default_rng(0)
    normal = index_of({"bright": 200, "dark": 50}, 60, random)
    fresh = index_of({"bright": 200, "dark": 50}, 40, random)
    odd = index_of({"bright": 140, "dark": 110}, 40, random, anomalous=True)
    found = {}
    for apart in (True, False):
        settings = {
            "model": {"side": 4},
            "scorer": {"per_category": apart},
            "decision": {"calibration": calibration, "false_alarms": 0.1},
        }
        detector = Detector("pixels", "gaussian", settings=settings, device="cpu").fit(normal)
        found[apart] = np.array([verdict.anomalous for verdict in detector.judge(odd, regions=False)])
        if apart:
            assert np.mean([verdict.anomalous for verdict in detector.judge(fresh, regions=False)]) < 0.25
            detector.save(tmp_path / "d")
            loaded = Detector.load(tmp_path / "d")
            assert loaded.judge(odd) == detector.judge(odd)
    assert found[True].all()
    assert found[False].mean() < 0.1
