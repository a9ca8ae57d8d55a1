"""ensemble: several scorers on one scale, learned from images that are held out, or from scores out of fold."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch.nn import functional

from conftest import stripes
from made_features import SPEC, learn
from unlike import Detector
from unlike.config import from_mapping
from unlike.data.arrays import ArraySource, ImageArray
from unlike.data.randomness import random_directions
from unlike.detector.explain import describe
from unlike.detector.presets import DEFAULT_PRESET, PRESETS
from unlike.errors import ConfigError, DataError
from unlike.models.base import OutputSpec
from unlike.records import Sample
from unlike.scoring import SCORERS
from unlike.scoring.batches import Batches, PrecomputedFeatures
from unlike.scoring.ensemble import EnsembleConfig, EnsembleScorer, steadiness, stretch
from unlike.scoring.gaussian import GaussianConfig, GaussianScorer
from unlike.scoring.neighbours import NeighboursConfig, NeighboursScorer
from unlike.scoring.pca import PCAConfig, PCAScorer
from unlike.scoring.per_category import PerCategoryScorer

TWO = EnsembleConfig(scorers=("kmeans", "gaussian"), settings={"kmeans": {"clusters": 2}})


def vectors(count: int, seed: int, factor: float = 1.0) -> torch.Tensor:
    """Codes (N, D, 1, 1), off the origin, of unequal scales."""
    rows = np.random.default_rng(seed).normal(size=(count, 6)) * 3.0 ** np.arange(6) * factor + 5
    return torch.tensor(rows[:, :, None, None], dtype=torch.float32)


def grids(count: int, seed: int = 0) -> torch.Tensor:
    return torch.tensor(np.random.default_rng(seed).normal(size=(count, 3, 4, 4)), dtype=torch.float32)


def scores(scorer, codes) -> np.ndarray:
    return scorer(codes).mean(dim=(1, 2)).numpy()


def levels_of(ensemble) -> list[tuple[float, float]]:
    """Of each scorer the score that becomes 1, and the distance from there to what becomes 2."""
    return list(zip(ensemble.middle.tolist(), ensemble.spread.tolist(), strict=True))


def test_scorers_are_brought_to_one_scale():
    normal, held_out, others = vectors(300, 0), vectors(100, 1), vectors(50, 2, factor=3)
    ensemble = learn(EnsembleScorer(TWO, SPEC), normal, held_out)
    parts = np.stack([scores(member, others) for member in ensemble.members])
    for member, (middle, spread) in zip(ensemble.scorers, levels_of(ensemble), strict=True):
        np.testing.assert_allclose(
            np.quantile(scores(member, held_out), [0.5, 0.95]), [middle, middle + spread], rtol=1e-5
        )
    stretched = [
        stretch(torch.tensor(part), *map(torch.tensor, levels)).numpy()
        for part, levels in zip(parts, levels_of(ensemble), strict=True)
    ]
    np.testing.assert_allclose(scores(ensemble, others), np.mean(stretched, axis=0), rtol=1e-4)
    config = EnsembleConfig(scorers=TWO.scorers, settings=TWO.settings, combine="max")
    np.testing.assert_allclose(
        scores(learn(EnsembleScorer(config, SPEC), normal, held_out), others), np.max(stretched, axis=0), rtol=1e-4
    )


def test_by_the_median_alone_nothing_else_is_brought_to_one():
    normal, held_out, others = vectors(300, 0), vectors(100, 1), vectors(50, 2, factor=3)
    config = EnsembleConfig(scorers=TWO.scorers, settings=TWO.settings, normalisation="median")
    ensemble = learn(EnsembleScorer(config, SPEC), normal, held_out)
    divided = [scores(member, others) / np.median(scores(member, held_out)) for member in ensemble.members]
    np.testing.assert_allclose(scores(ensemble, others), np.mean(divided, axis=0), rtol=1e-4)


def test_a_mean_may_be_weighted():
    normal, held_out, others = vectors(300, 0), vectors(100, 1), vectors(50, 2, factor=3)
    config = EnsembleConfig(scorers=TWO.scorers, settings=TWO.settings, weights=(3, 1))
    ensemble = learn(EnsembleScorer(config, SPEC), normal, held_out)
    parts = [
        stretch(torch.tensor(scores(member, others)), *map(torch.tensor, levels)).numpy()
        for member, levels in zip(ensemble.scorers, levels_of(ensemble), strict=True)
    ]
    np.testing.assert_allclose(scores(ensemble, others), 0.75 * parts[0] + 0.25 * parts[1], rtol=1e-4)
    wrong = [{"weights": weights} for weights in ((1,), (1, 0), (1, math.nan), (math.inf, 1))]
    for chosen in (*wrong, {"weights": (1, 2), "combine": "max"}, {"weights": "steady", "combine": "max"}):
        with pytest.raises(
            ConfigError, match=r"scorer\.weights: expected a number above 0 for each of 2 scorers, or steady"
        ):
            EnsembleConfig(scorers=TWO.scorers, **chosen)


@pytest.mark.parametrize("weights", [None, (3, 1)])
def test_geometric_mean_is_the_mean_of_logarithms(weights):
    normal, held_out, others = vectors(300, 0), vectors(100, 1), vectors(50, 2, factor=3)
    config = EnsembleConfig(
        scorers=TWO.scorers, settings=TWO.settings, combine="geometric", normalisation="median", weights=weights
    )
    ensemble = learn(EnsembleScorer(config, SPEC), normal, held_out)
    parts = [scores(member, others) / np.median(scores(member, held_out)) for member in ensemble.members]
    first = 0.5 if weights is None else 0.75
    np.testing.assert_allclose(scores(ensemble, others), parts[0] ** first * parts[1] ** (1 - first), rtol=1e-4)


def test_geometric_mean_has_no_veto_and_wants_agreement():
    config = EnsembleConfig(scorers=TWO.scorers, settings=TWO.settings, combine="geometric", normalisation="median")
    scorer = EnsembleScorer(config, SPEC)
    maps = torch.tensor([[0.0, 4.0], [20.0, 1.0], [5.0, 5.0]])[:, :, None, None]
    joined = scorer._combine(maps)[:, 0, 0]
    assert torch.isfinite(joined).all()
    assert joined[0] > 0
    assert joined[2] > joined[1]  # in the mean it would be the other way round
    assert maps[2].mean() < maps[1].mean()


def test_maps_and_vectors_have_the_finest_map():
    config = EnsembleConfig(scorers=("kmeans", "gaussian"), settings={"kmeans": {"code": "mean"}})
    codes = grids(40)
    assert learn(EnsembleScorer(config, SPEC), codes, codes[:20])(codes).shape == (40, 4, 4)


def test_few_held_out_images_keep_their_scale():
    normal = vectors(300, 0)
    ensemble = learn(EnsembleScorer(EnsembleConfig(scorers=("gaussian", "pca")), SPEC), normal, normal[:1])
    assert ((ensemble.middle + ensemble.spread) / ensemble.middle >= 1.05 - 1e-6).all()


def test_where_none_is_held_out_values_stay_as_they_are_until_a_scale_is_learned():
    normal, others = vectors(60, 0), vectors(9, 1)
    for normalisation in ("quantiles", "median"):
        config = EnsembleConfig(scorers=TWO.scorers, settings=TWO.settings, normalisation=normalisation)
        ensemble = learn(EnsembleScorer(config, SPEC), normal)
        plain = [scores(member, others) for member in ensemble.members]
        np.testing.assert_allclose(scores(ensemble, others), np.mean(plain, axis=0), rtol=1e-5)
        held_out = vectors(30, 2)
        maps = ensemble.fit_normalisation(ensemble.component_maps(held_out), np.zeros(30, int))
        asked = learn(EnsembleScorer(config, SPEC), normal, held_out)  # the same as if they had been held out at once
        np.testing.assert_allclose(levels_of(ensemble), levels_of(asked))
        torch.testing.assert_close(maps, asked(held_out))


def test_scorers_of_more_than_features_need_held_out_images():
    rebuilds = OutputSpec("Made", ("features", "target", "reconstruction"), target_channels=3)
    ensemble = EnsembleScorer(EnsembleConfig(scorers=("residual", "kmeans")), rebuilds)
    assert ensemble.inputs == ("target", "reconstruction", "features")
    assert ensemble.capabilities.held_out == "needed"
    images = grids(60)
    train = Batches.of_tensors(images, torch.zeros_like(images), vectors(60, 0))
    with pytest.raises(DataError, match="an ensemble needs normal images that the model was not trained on"):
        ensemble.fit(train, train.take(np.arange(0)), 0)


def test_the_levels_of_a_detector_are_those_of_scores_out_of_fold():
    """Whichever way the files alternate, and however few they are: two kinds in turn, and three images alone."""
    images = stripes(60)
    images[1::2] = images[1::2] // 2
    settings = {"model": {"side": 8}, "scorer": {"scorers": ["gaussian", "neighbours"], "normalisation": "median"}}
    mixed, sorted_ = (
        levels_of(Detector("pixels", "ensemble", settings=settings).fit(found).fitted_.pipeline.scorer)
        for found in (images, np.concatenate([images[::2], images[1::2]]))
    )
    np.testing.assert_allclose(mixed, sorted_, rtol=0.25)
    few = Detector("pixels", "ensemble", settings=settings).fit(stripes(3))
    assert np.isfinite(few.score(stripes(2, seed=4)).image).all()


def test_each_scorer_takes_its_inputs_by_name_and_none_comes_twice():
    rebuilds = OutputSpec("Made", ("features", "target", "reconstruction"), target_channels=3)
    ensemble = EnsembleScorer(EnsembleConfig(scorers=("gaussian", "residual", "kmeans")), rebuilds)
    assert ensemble.inputs == ("features", "target", "reconstruction")
    codes, target = grids(60), grids(60, seed=1)
    every = Batches.of_tensors(codes, target, 0.5 * target)
    ensemble.fit(every, every.take(np.arange(20)), 0)
    expected = [learn(scorer.fresh(), codes)(codes[:5]) for scorer in ensemble.scorers[::2]]
    expected.insert(1, (0.5 * target[:5]).square().mean(dim=1))
    torch.testing.assert_close(
        ensemble.component_maps(codes[:5], target[:5], 0.5 * target[:5]), torch.stack(expected, dim=1)
    )


def test_the_default_is_the_geometric_mean_of_six_maps_the_steadier_the_more():
    """By hand: what each scorer makes of its feature groups alone, over its usual level, by how far peaks of normal images lie apart."""
    default = {key: value for key, value in PRESETS[DEFAULT_PRESET].sections["scorer"].items() if key != "name"}
    random, widths = np.random.default_rng(0), (110, 120, 80, 120)
    codes, held_out, fresh = (
        torch.tensor(random.normal(size=(count, sum(widths), 4, 4)) + 1).float() for count in (40, 15, 5)
    )
    several = OutputSpec("Made", ("features",), widths)
    ensemble = learn(EnsembleScorer(from_mapping(EnsembleConfig, default, "scorer"), several), codes, held_out)
    directions = torch.from_numpy(random_directions(310, 300, seed=0))

    def coarse(features: torch.Tensor) -> torch.Tensor:
        return functional.avg_pool2d(features, 2)

    def unit(features: torch.Tensor) -> torch.Tensor:
        parts = [functional.normalize(part, dim=1) for part in torch.split(features[:, :310], widths[:3], dim=1)]
        averaged = functional.avg_pool2d(coarse(torch.cat(parts, dim=1)), 3, stride=1, padding=1)
        return torch.einsum("dc,bchw->bdhw", directions, averaged)

    def neighbours(**settings) -> NeighboursScorer:
        return NeighboursScorer(NeighboursConfig(**settings), SPEC)

    cover = {"candidates": 150_000, "coreset_directions": "all", "most": 4000, "least": 1000}
    whole = PCAConfig(code="vector", components=0.99, distance="whitened")
    parts, peaks = [], []
    for scorer, take in (
        (neighbours(**cover), lambda features: features[:, :230]),
        (neighbours(**cover), lambda features: coarse(features[:, :310])),
        (neighbours(), unit),
        (neighbours(**cover), lambda features: coarse(features[:, 230:310])),
        (neighbours(**cover), lambda features: features[:, 310:]),
        (PCAScorer(whole, SPEC), unit),
    ):
        learn(scorer, take(codes))
        found, new = (
            functional.interpolate(scorer(take(some))[:, None], (4, 4), mode="bilinear")[:, 0].numpy()
            for some in (held_out, fresh)
        )
        parts.append(new / np.median(found.mean(axis=(1, 2))))
        peaks.append(found.max(axis=(1, 2)))
    gaps = [np.quantile(np.log(one), 0.9) - np.quantile(np.log(one), 0.5) for one in peaks]
    weights = 1 / np.maximum(gaps, 0.02)
    weights /= weights.sum()
    np.testing.assert_allclose(list(ensemble.learned_weights.values()), weights, rtol=1e-3)
    assert list(ensemble.learned_weights) == list(default["scorers"])
    np.testing.assert_allclose(ensemble(fresh), np.exp(np.einsum("m,mbhw->bhw", weights, np.log(parts))), rtol=1e-3)


def test_the_shares_of_steady_scorers_are_over_the_spread_of_their_peaks():
    peaks = torch.exp(torch.tensor([[0.0, 0.0], [0.0, 0.0], [0.1, 0.3]]))
    np.testing.assert_allclose(steadiness(peaks), [0.75, 0.25], rtol=1e-6)
    np.testing.assert_allclose(steadiness(torch.tensor([[1.0, 1.0], [1.0, 2.0]])), [0.9327, 0.0673], atol=1e-4)
    np.testing.assert_allclose(steadiness(torch.tensor([[3.0, 7.0]])), [0.5, 0.5])  # of one image nothing is known
    assert np.isfinite(steadiness(torch.zeros(3, 2))).all()


def test_weights_are_learned_from_what_is_left_out_too_and_are_kept():
    normal, held_out, others = vectors(300, 0), vectors(100, 1), vectors(50, 2, factor=3)
    config = EnsembleConfig(scorers=TWO.scorers, settings=TWO.settings, weights="steady")
    ensemble = learn(EnsembleScorer(config, SPEC), normal)
    assert ensemble.shares.tolist() == [0.5, 0.5]  # until something is known
    maps = ensemble.fit_normalisation(ensemble.component_maps(held_out), np.zeros(100, int))
    asked = learn(EnsembleScorer(config, SPEC), normal, held_out)
    torch.testing.assert_close(asked.shares, ensemble.shares)
    torch.testing.assert_close(maps, asked(held_out))
    torch.testing.assert_close(ensemble.normalise(ensemble.component_maps(others), np.zeros(50, int)), ensemble(others))
    peaks = torch.stack([member(held_out).flatten(1).amax(dim=1) for member in ensemble.scorers], dim=1)
    np.testing.assert_allclose(ensemble.shares, steadiness(peaks), rtol=1e-5)
    assert ensemble.learned_weights == dict(zip(TWO.scorers, ensemble.shares.tolist(), strict=True))
    copy = EnsembleScorer(config, SPEC)
    copy.load_state_dict(ensemble.state_dict())
    torch.testing.assert_close(copy(others), ensemble(others), rtol=0, atol=0)
    given = EnsembleConfig(scorers=TWO.scorers, settings=TWO.settings, weights=(3, 1))
    assert learn(EnsembleScorer(given, SPEC), normal, held_out).learned_weights == {}


def test_the_weights_of_categories_are_said_on_average():
    codes = torch.cat([grids(30), grids(30, seed=1) + 9])
    both = Batches.of_tensors(codes, categories=np.repeat([0, 1], 30))
    config = EnsembleConfig(scorers=("gaussian", "neighbours"), weights="steady")
    several = PerCategoryScorer(lambda: EnsembleScorer(config, SPEC), [("a",), ("b",)]).fit(both, both, 0)
    first, second = (member.learned_weights["gaussian"] for member in several.scorers)
    assert several.learned_weights["gaussian"] == pytest.approx((first + second) / 2)
    assert sum(several.learned_weights.values()) == pytest.approx(1)
    plain = PerCategoryScorer(lambda: GaussianScorer(GaussianConfig(), SPEC), [("a",), ("b",)])
    assert plain.learned_weights == {}


def test_a_scorer_comes_again_with_other_settings_and_is_loaded():
    config = EnsembleConfig(scorers=("neighbours", "neighbours_mean"), settings={"neighbours_mean": {"code": "mean"}})
    codes, fresh = grids(40), grids(5, seed=1)
    ensemble = learn(EnsembleScorer(config, SPEC), codes)
    assert [member.config.code for member in ensemble.scorers] == ["grid", "mean"]
    copy = EnsembleScorer(config, SPEC)
    copy.load_state_dict(ensemble.state_dict())
    torch.testing.assert_close(copy(fresh), ensemble(fresh))
    with pytest.raises(ConfigError, match=r"unknown scorer\.scorers 'neighbour'; did you mean 'neighbours'"):
        EnsembleScorer(EnsembleConfig(scorers=("pca", "neighbour_fine")), SPEC)


def test_a_plug_in_whose_name_has_a_word_after_it_is_meant_as_it_stands(monkeypatch):
    monkeypatch.setitem(SCORERS._places, "ensemble_pca", "unlike.scoring.pca:PCAScorer")
    theirs = EnsembleScorer(EnsembleConfig(scorers=("ensemble_pca", "neighbours")), SPEC)
    assert type(theirs.members[0]) is PCAScorer


def two_categories(dark: int, bright: int) -> ArraySource:
    random = np.random.default_rng(0)
    images = np.concatenate([random.normal(level, 5, (n, 8, 8, 1)) for level, n in ((60, dark), (200, bright))])
    samples = [Sample(str(row), row=row, category="ab"[row >= dark]) for row in range(dark + bright)]
    return ArraySource("made", samples, ImageArray(images.clip(0, 255).astype(np.uint8)))


def parts_of(index: ArraySource, calibration: str = "auto", **scorer) -> list[list[str]] | None:
    settings = {
        "model": {"side": 4},
        "scorer": {"scorers": ["gaussian", "neighbours"], "normalisation": "median", **scorer},
        "decision": {"calibration": calibration},
    }
    detector = Detector("pixels", "ensemble", settings=settings, device="cpu").fit(index)
    return describe(detector)["fitted"].get("per_category")


def test_categories_are_learned_by_themselves_where_all_scorers_want_features_alone():
    assert parts_of(two_categories(30, 30)) == [["a"], ["b"]]
    assert parts_of(two_categories(30, 30), per_category=False) is None
    rebuilds = OutputSpec("Made", ("features", "target", "reconstruction"), target_channels=3)
    scorers = ("residual", "gaussian")
    assert not EnsembleScorer(EnsembleConfig(scorers=scorers), rebuilds).capabilities.per_category


@pytest.mark.parametrize(("few", "parts"), [(120, [["a"], ["b"]]), (21, None)])
def test_where_images_are_held_out_each_part_needs_some_to_scale_by(few, parts):
    assert parts_of(two_categories(200, few), "held-out") == parts


def test_an_ensemble_is_calibrated_by_leaving_out_saved_and_loaded(tmp_path):
    settings = {
        "model": {"side": 8},
        "scorer": {"scorers": ["gaussian", "neighbours"], "normalisation": "median"},
        "decision": {"calibration": "cross", "false_alarms": 0.1},
    }
    images = stripes(40)
    detector = Detector("pixels", "ensemble", settings=settings, device="cpu").fit(images)
    np.testing.assert_allclose(detector.fitted_.decision.p_values(np.array([1e9])), 1 / 41)  # all have calibrated
    detector.save(tmp_path / "d")
    fresh = stripes(8, seed=5)
    np.testing.assert_array_equal(Detector.load(tmp_path / "d").score(fresh).image, detector.score(fresh).image)
    with pytest.raises(ConfigError, match=r"scorer\.normalisation: expected .*'median'"):
        Detector("pixels", "ensemble", settings={"scorer": {"normalisation": "medians"}})


def test_no_rows_give_no_batches():
    assert list(Batches.of_tensors(grids(4)).take(np.arange(0))) == []
    few = Batches.of_tensors(grids(5), size=2).take(np.array([4, 0, 1]))
    assert [len(codes) for (codes,) in few] == [2, 1]
    assert list(PrecomputedFeatures(lambda rows: [(grids(len(rows)),)], 10**9)(np.arange(0))) == []


def test_the_settings_of_one_scorer_leave_those_of_the_others():
    chosen = {"scorer": {"settings": {"neighbours": {"least": 70}}}}
    found = Detector(preset="ensemble", settings=chosen).settings.scorer.settings
    usual = PRESETS["ensemble"].sections["scorer"]["settings"]
    assert found == usual | {"neighbours": {**usual["neighbours"], "least": 70}}
    with pytest.raises(ConfigError, match=r"scorer\.settings"):
        Detector(preset="ensemble", settings={"scorer": {"settings": {"neighbours": 3}}})


def test_of_a_presets_scorers_some_can_be_chosen():
    chosen = {"scorer": {"scorers": ["neighbours", "gaussian"], "settings": {"gaussian": {"shrinkage": 0.2}}}}
    scorer = Detector(preset="ensemble", settings=chosen).settings.scorer
    usual = PRESETS["ensemble"].sections["scorer"]["settings"]
    assert scorer.scorers == ("neighbours", "gaussian")
    assert scorer.settings == {"neighbours": usual["neighbours"], "gaussian": {"shrinkage": 0.2}}
    chosen["scorer"]["settings"] |= {"pca": {"feature_group": 0}}  # asked for, of a scorer that is not there
    with pytest.raises(ConfigError, match=r"unknown scorer\.settings 'pca'"):
        Detector(preset="ensemble", settings=chosen)


def test_what_a_member_cannot_do_is_said_of_that_member():
    settings = {"neighbours_fine": {"feature_group": 1}}
    with pytest.raises(ConfigError, match=r"^scorer\.settings\.neighbours_fine\.feature_group: expected 0, .* came 1"):
        EnsembleScorer(EnsembleConfig(scorers=("neighbours", "neighbours_fine"), settings=settings), SPEC)


def test_each_image_is_noted_once_though_two_scorers_learn_from_it():
    codes = torch.cat([grids(30), grids(30, seed=1) + 9])
    both = Batches.of_tensors(codes, categories=np.repeat([0, 1], 30))
    make = lambda: EnsembleScorer(EnsembleConfig(scorers=("gaussian", "neighbours")), SPEC)  # noqa: E731
    several, alone = (
        PerCategoryScorer(kind, [("a",), ("b",)]).fit(both, both.take(np.arange(0)), 0)
        for kind in (make, lambda: GaussianScorer(GaussianConfig(), SPEC))
    )
    torch.testing.assert_close(several.descriptors, alone.descriptors)


def test_steady_weights_are_forgotten_by_another_fit_and_none_at_all_are_refused():
    config = EnsembleConfig(
        scorers=("neighbours", "neighbours_mean"), settings={"neighbours_mean": {"code": "mean"}}, weights="steady"
    )
    codes = torch.tensor(np.random.default_rng(0).normal(size=(40, 3, 2, 2)), dtype=torch.float32)
    scorer, nothing = EnsembleScorer(config, SPEC), Batches.of_tensors(codes[:0])
    scorer.fit(Batches.of_tensors(codes), Batches.of_tensors(codes[:20] + 1), seed=0)
    assert scorer.shares.tolist() != [0.5, 0.5]
    assert scorer.fit(Batches.of_tensors(codes), nothing, seed=0).shares.tolist() == [0.5, 0.5]
    with pytest.raises(ConfigError, match=r"scorer\.weights: expected a number above 0 for each of 2 scorers"):
        EnsembleConfig(scorers=("neighbours", "pca"), weights=())
