"""Several categories, each learned by itself."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from made_features import SPEC, learn
from unlike import Detector
from unlike.cli.console import Console
from unlike.data.arrays import ArraySource, ImageArray
from unlike.detector.explain import describe
from unlike.errors import ConfigError, DataError
from unlike.records import Sample
from unlike.scoring import per_category
from unlike.scoring.batches import Batches
from unlike.scoring.clusters import KMeansConfig, KMeansScorer
from unlike.scoring.gaussian import GaussianConfig, GaussianScorer
from unlike.scoring.neighbours import NeighboursConfig, NeighboursScorer
from unlike.scoring.per_category import LEAST, PerCategoryScorer, number_categories

LEVELS = (0.0, 8.0, -8.0)  # of the three categories


def codes_of(counts, seed=0):
    """Codes (N, 5, 3, 3) of images of three categories, and their numbers."""
    random = np.random.default_rng(seed)
    parts = [random.normal(level, 1.0, (count, 5, 3, 3)) for level, count in zip(LEVELS, counts, strict=True)]
    return torch.tensor(np.concatenate(parts), dtype=torch.float32), np.repeat(np.arange(3), counts)


def make():
    return GaussianScorer(GaussianConfig(), SPEC)


def learned(counts=(40, 30, 50), make=make):
    codes, numbers = codes_of(counts)
    return learn_all(codes, numbers, make), codes, numbers


def learn_all(codes, numbers, make=make):
    every = Batches.of_tensors(codes, categories=numbers)
    scorer = PerCategoryScorer(make, [(f"{number}",) for number in range(numbers.max() + 1)])
    return scorer.fit(every, every.take(np.arange(0)), 0)


@pytest.mark.parametrize("make", [make, lambda: NeighboursScorer(NeighboursConfig(least=20), SPEC)])
def test_each_category_is_scored_as_by_a_scorer_of_it_alone(make):
    scorer, codes, numbers = learned(make=make)
    fresh, own = codes_of((7, 9, 4), seed=1)
    mixed = np.random.default_rng(2).permutation(len(fresh))
    found = torch.empty(len(fresh), 3, 3)
    found[mixed] = scorer(fresh[mixed])
    for number in range(3):
        alone = learn(make(), codes[numbers == number])
        np.testing.assert_allclose(found[own == number], alone(fresh[own == number]), rtol=1e-4, atol=1e-4)


def test_an_image_goes_to_the_category_it_looks_like_even_if_only_its_contrast_tells():
    random = np.random.default_rng(0)
    codes = torch.tensor(random.normal(size=(80, 4, 6, 6)), dtype=torch.float32)
    codes[40:] *= 3
    scorer = learn_all(codes, np.repeat([0, 1], 40))
    fresh = torch.tensor(random.normal(size=(60, 4, 6, 6)), dtype=torch.float32)
    assert scorer.choose(fresh).tolist() == [0] * 60
    assert scorer.choose(3 * fresh).tolist() == [1] * 60


def test_a_category_of_several_kinds_is_not_taken_for_what_lies_between_them():
    random = np.random.default_rng(0)
    levels = np.repeat([0.0, -6.0, 6.0], [40, 20, 20])  # the second category is half dark, half bright
    codes = torch.tensor(random.normal(levels[:, None, None, None], 1.0, (80, 3, 4, 4)), dtype=torch.float32)
    scorer = learn_all(codes, np.repeat([0, 1], 40))
    assert scorer.categories == [("0",), ("1",)]
    assert scorer.choose(codes).tolist() == [0] * 40 + [1] * 40


def test_categories_that_look_alike_are_learned_together():
    random = np.random.default_rng(0)
    codes = torch.tensor(random.normal(size=(120, 3, 2, 2)), dtype=torch.float32)
    codes[80:] += 9
    numbers = np.repeat([0, 1, 2], 40)
    scorer = learn_all(codes, numbers)
    assert scorer.categories == [("0", "1"), ("2",)]
    assert scorer.part_of.tolist() == [0, 0, 1]
    together = learn(make(), codes[:80])
    fresh = torch.tensor(random.normal(size=(10, 3, 2, 2)), dtype=torch.float32)
    torch.testing.assert_close(scorer(fresh), together(fresh))
    copy = PerCategoryScorer(make, scorer.categories)
    copy.load_state_dict(scorer.state_dict())
    assert len(copy.members) == 2
    torch.testing.assert_close(copy(fresh), scorer(fresh))
    every = Batches.of_tensors(
        codes + torch.tensor([0.0, 30.0, 60.0]).repeat_interleave(40).view(-1, 1, 1, 1), categories=numbers
    )
    again = scorer.fit(
        every, every.take(np.arange(0)), 0
    )  # of what it learned before nothing is left, nor what was joined
    assert again.categories == [("0",), ("1",), ("2",)]
    assert again.part_of.tolist() == [0, 1, 2]


def test_a_score_of_one_is_usual_in_every_part():
    scorer, codes, numbers = learned()
    codes[numbers == 1] = codes[numbers == 1].mean() + 5 * (codes[numbers == 1] - codes[numbers == 1].mean())
    scorer = learn_all(codes, numbers, lambda: NeighboursScorer(NeighboursConfig(least=20), SPEC))
    fresh = codes + 0.3
    before = scorer(fresh).mean(dim=(1, 2)).numpy()
    scores = before / scorer.fit_score_scale(before, numbers)
    assert [np.median(scores[numbers == number]) for number in range(3)] == pytest.approx([1, 1, 1])
    np.testing.assert_allclose(scorer(fresh).mean(dim=(1, 2)), scores, rtol=1e-4)


def test_it_is_the_same_after_it_was_loaded():
    scorer, codes, numbers = learned()
    scorer.fit_score_scale(np.arange(1.0, 1 + len(codes)), numbers)
    copy = PerCategoryScorer(make, scorer.categories)
    copy.load_state_dict(scorer.state_dict())
    assert scorer.categories == [("0",), ("1",), ("2",)]
    fresh, _ = codes_of((3, 3, 3), seed=1)
    torch.testing.assert_close(copy(fresh), scorer(fresh))


def test_what_cannot_be_learned_names_the_category_and_the_way_out(monkeypatch):
    codes, numbers = codes_of((40, 30, 50))
    wanted = lambda: KMeansScorer(KMeansConfig(clusters=300), SPEC)  # noqa: E731
    with pytest.raises(DataError, match=r"of 1, learned by itself; scorer\.per_category = false learns all categories"):
        learn_all(codes, numbers, wanted)
    monkeypatch.setattr(per_category, "MOST_BYTES", 100)
    with pytest.raises(
        ConfigError,
        match=r"3 categories, each learned by itself, take 0\.0 GB, more than 1e-07; .*per_category = false",
    ):
        learned()


def test_rare_categories_are_learned_together_or_with_the_largest():
    names = np.repeat(["a", "b", "c", "d", "e"], [LEAST, LEAST - 1, 3, 2 * LEAST, 1])
    every = np.arange(len(names))
    expected = np.repeat([0, 2, 2, 1, 2], [LEAST, LEAST - 1, 3, 2 * LEAST, 1])
    assert number_categories(names, every).tolist() == expected.tolist()
    just_enough = np.repeat(["a", "b", "c"], [2 * LEAST, LEAST - 1, 1])
    assert set(number_categories(just_enough, np.arange(3 * LEAST))[2 * LEAST :].tolist()) == {1}
    few = np.flatnonzero(names != "b")
    assert set(number_categories(names, few)[names == "c"].tolist()) == {1}  # four are too few for a part of their own
    assert set(number_categories(names, every[:5]).tolist()) == {0}


def index_of(levels, count, random, **facts):
    """Noise of 12 x 12 pixels around a level; of each category `count` images."""
    images = [np.clip(random.normal(level, 12, (count, 12, 12, 1)), 0, 255) for level in levels.values()]
    names = [name for name in levels for _ in range(count)]
    samples = [Sample(f"{name}/{row}", row=row, category=name, **facts) for row, name in enumerate(names)]
    return ArraySource("made", samples, ImageArray(np.concatenate(images).astype(np.uint8)))


@pytest.mark.parametrize("calibration", ["cross", "held-out"])
def test_what_lies_between_two_categories_is_of_neither(calibration, tmp_path):
    random = np.random.default_rng(0)
    normal = index_of({"bright": 200, "dark": 50}, 60, random)
    fresh = index_of({"bright": 200, "dark": 50}, 40, random)
    odd = index_of({"bright": 140, "dark": 110}, 40, random, anomalous=True)
    found = {}
    for by_itself in (True, False):
        settings = {
            "model": {"side": 4},
            "scorer": {"per_category": by_itself},
            "decision": {"calibration": calibration, "false_alarms": 0.1},
        }
        detector = Detector("pixels", "gaussian", settings=settings, device="cpu").fit(normal)
        found[by_itself] = np.array([verdict.anomalous for verdict in detector.judge(odd, regions=False)])
        if by_itself:
            assert np.mean([verdict.anomalous for verdict in detector.judge(fresh, regions=False)]) < 0.25
            detector.save(tmp_path / "d")
            loaded = Detector.load(tmp_path / "d")
            assert loaded.judge(odd) == detector.judge(odd)
    assert found[True].all()
    assert found[False].mean() < 0.1


def test_defects_of_rare_categories_are_found_though_a_large_one_is_harder(capsys):
    random = np.random.default_rng(0)
    levels = {"calm": 60, "wild": 200}
    rare = {"one": 20, "two": 100, "three": 140}

    def index(count, few, shift=0, **facts):
        parts = [
            np.clip(random.normal(level + shift, 3 if name == "calm" else 25, (count, 8, 8, 1)), 0, 255)
            for name, level in levels.items()
        ]
        parts += [np.clip(random.normal(level + shift, 3, (few, 8, 8, 1)), 0, 255) for level in rare.values()]
        names = [name for name in levels for _ in range(count)] + [name for name in rare for _ in range(few)]
        samples = [Sample(str(row), row=row, category=name, **facts) for row, name in enumerate(names)]
        return ArraySource("made", samples, ImageArray(np.concatenate(parts).astype(np.uint8)))

    settings = {"model": {"side": 4}, "decision": {"false_alarms": 0.05}}
    detector = Detector("pixels", "neighbours", settings=settings, device="cpu").fit(index(60, 8))
    assert describe(detector)["fitted"]["per_category"] == [["calm"], ["wild"], ["one", "three", "two"]]
    assert set(detector.fitted_.decision.thresholds) == {"", "calm", "wild"}
    Console().say_fit(detector, Path("d"))
    said = " ".join(capsys.readouterr().err.split())
    assert "Learned 2 categories, each by itself; together: one, three, two. An image is held against what" in said
    odd = index(0, 8, shift=15, anomalous=True)
    assert np.mean([verdict.anomalous for verdict in detector.judge(odd, regions=False)]) > 0.9
    good = index(0, 8)
    assert np.mean([verdict.anomalous for verdict in detector.judge(good, regions=False)]) < 0.2


@pytest.mark.parametrize("count", [19, 20])
@pytest.mark.parametrize("calibration", ["cross", "held-out"])
def test_twenty_images_make_a_category_that_is_learned_by_itself_however_they_are_split(count, calibration):
    random = np.random.default_rng(0)
    normal = index_of({"bright": 200, "dark": 50}, count, random)
    for seed in range(3):
        settings = {"model": {"side": 4}, "decision": {"calibration": calibration, "false_alarms": 0.2}}
        detector = Detector("pixels", "neighbours", settings=settings, device="cpu", seed=seed).fit(normal)
        assert ("per_category" in describe(detector)["fitted"]) == (count == 20)


def test_tiles_are_no_images():
    random = np.random.default_rng(0)
    normal = index_of({"bright": 200, "dark": 50}, 8, random)
    settings = {"data": {"size": 12, "tile": 4}, "model": {"side": 4}, "decision": {"false_alarms": 0.2}}
    detector = Detector("pixels", "neighbours", settings=settings, device="cpu").fit(normal)
    assert "per_category" not in describe(detector)["fitted"]
    many = Detector("pixels", "neighbours", settings=settings, device="cpu").fit(
        index_of({"bright": 200, "dark": 50}, 30, random)
    )
    assert describe(many)["fitted"]["per_category"] == [["bright"], ["dark"]]
