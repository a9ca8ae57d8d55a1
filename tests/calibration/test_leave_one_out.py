"""Calibration without holding an image back: each is scored by what the others show."""

from __future__ import annotations

import gc
import weakref
from dataclasses import replace

import numpy as np
import pytest
import torch

from conftest import stripes, write_png
from made_features import SPEC, learn
from unlike import Detector
from unlike.calibration.leave_one_out import fit_leave_one_out, maps_out_of_fold
from unlike.calibration.thresholds import ConformalThreshold
from unlike.data.input_spec import InputSpec
from unlike.data.source import open_source
from unlike.detector.building import build_model
from unlike.detector.explain import describe, encode
from unlike.detector.presets import PRESETS
from unlike.detector.scorers import make_scorer
from unlike.detector.splitting import calibrates_cross
from unlike.errors import ConfigError, DataError
from unlike.scoring.base import Scorer
from unlike.scoring.batches import Batches
from unlike.scoring.clusters import KMeansScorer
from unlike.scoring.ensemble import EnsembleConfig, EnsembleScorer
from unlike.scoring.gaussian import GaussianConfig, GaussianScorer
from unlike.scoring.neighbours import NeighboursConfig, NeighboursScorer
from unlike.scoring.pca import PCAConfig, PCAScorer
from unlike.scoring.per_category import PerCategoryScorer


def noise(count: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, 8, 8), np.uint8)


def test_scores_out_of_fold_are_those_of_scorers_of_the_others():
    codes = torch.tensor(np.random.default_rng(0).normal(size=(10, 3, 2, 2)), dtype=torch.float32)
    folds, every = [np.arange(5, 10), np.arange(0, 5)], Batches.of_tensors(codes)
    make = lambda: NeighboursScorer(NeighboursConfig(), SPEC)  # noqa: E731
    maps = maps_out_of_fold(make, every, folds, seed=0)[:, 0]
    for own, others in (folds, folds[::-1]):
        torch.testing.assert_close(maps[own], learn(make(), codes[others])(codes[own]))


def draw(count: int, seed: int = 0, level: float = 0.0) -> torch.Tensor:
    """Codes (N, 4, 2, 3) that vary as wholes, and at each position."""
    random = np.random.default_rng(seed)
    ways = np.random.default_rng(99).normal(size=(3, 4, 2, 3))
    wholes = (random.normal(size=(count, 3)) @ ways.reshape(3, -1)).reshape(count, 4, 2, 3)
    return torch.tensor(level + 2 * wholes + random.normal(size=(count, 4, 2, 3)), dtype=torch.float32)


def left_of(scorer: Scorer, codes: torch.Tensor, chosen: torch.Tensor, groups=None) -> torch.Tensor:
    """Component maps of the chosen, each as if the scorer had not learned from its group; all are of one category."""
    groups = np.arange(len(codes)) if groups is None else groups
    return scorer.leave_one_out(codes, chosen, np.zeros(len(codes), int), groups)


def whole(distance: str, **settings) -> PCAScorer:
    return PCAScorer(PCAConfig(code="vector", components=5, distance=distance, **settings), SPEC)


def each(shrinkage: float) -> GaussianScorer:
    return GaussianScorer(GaussianConfig(positions="each", shrinkage=shrinkage), SPEC)


MANY = NeighboursConfig(least=10_000)  # a bank of everything
LEFT_OUT = {
    "euclidean": (lambda: whole("euclidean"), 1e-3),
    "whitened": (lambda: whole("whitened", shrinkage=0.0), 1e-3),
    "whitened, shrunk": (lambda: whole("whitened", shrinkage=0.2), 0.01),  # but for a bound, from above
    "gaussian": (lambda: each(0.0), 1e-3),
    "gaussian, shrunk": (lambda: each(0.2), 0.01),
    "neighbours": (lambda: NeighboursScorer(MANY, SPEC), 1e-5),
    "two neighbours": (lambda: NeighboursScorer(NeighboursConfig(least=10_000, neighbours=2), SPEC), 1e-5),
}


@pytest.mark.parametrize("kind", LEFT_OUT)
@pytest.mark.parametrize("count", [12, 40])
def test_what_is_left_out_is_seen_as_by_a_scorer_of_the_others(kind, count, monkeypatch):
    make, tolerance = LEFT_OUT[kind]
    codes = draw(count)
    codes[3, :, 1, 2] += 9  # an image that the others are not like
    monkeypatch.setattr(  # of the variance of noise, so that it is as large beside fewer images
        "unlike.scoring.pca.noise_for", lambda values, _: 40 / count_now[0]
    )
    count_now = [count]
    scorer = make()
    assert scorer.capabilities.leave_one_out <= count
    learn(scorer, codes, size=7)
    chosen = torch.tensor([0, 3, count - 1])
    found = left_of(scorer, codes, chosen)[:, 0]
    count_now[0] = count - 1
    for row, left in zip(chosen.tolist(), found, strict=True):
        others = learn(make(), codes[np.arange(count) != row])
        expected = others(codes[row : row + 1])[0]
        tight = tolerance if count == 40 else 3 * tolerance
        torch.testing.assert_close(left, expected, rtol=tight, atol=1e-3)
        assert not torch.allclose(left, scorer(codes[row : row + 1])[0], rtol=tight)


@pytest.mark.parametrize("kind", LEFT_OUT)
@pytest.mark.parametrize("size", [2, 9])
def test_a_group_that_is_left_out_is_seen_as_by_a_scorer_of_the_others(kind, size, monkeypatch):
    """Shots of one part, which lie wherever they lie; an image of a group of its own beside them is as before."""
    make, tolerance = LEFT_OUT[kind]
    count = 40
    codes, groups = draw(count), np.arange(count)
    members = np.sort(np.random.default_rng(5).permutation(np.arange(1, count))[:size])
    groups[members] = members[0]
    codes[members] = codes[members[0]] + 0.3 * draw(size, seed=6)
    count_now = [count]  # of the variance of noise, so that it is as large beside fewer images
    monkeypatch.setattr("unlike.scoring.pca.noise_for", lambda values, _: 40 / count_now[0])
    scorer = learn(make(), codes, size=7)
    chosen = torch.tensor([members[-1], 0, members[0]])
    found = left_of(scorer, codes, chosen, groups)[:, 0]
    torch.testing.assert_close(found[1], left_of(scorer, codes, torch.tensor([0]))[0, 0])
    count_now[0] = count - size
    others = learn(make(), codes[np.setdiff1d(np.arange(count), members)])
    expected = others(codes[chosen[[0, 2]]])
    torch.testing.assert_close(found[[0, 2]], expected, rtol=3 * tolerance, atol=2e-3)
    assert (
        found[[0, 2]].mean(dim=(1, 2)) > 1.003 * left_of(scorer, codes, chosen[[0, 2]])[:, 0].mean(dim=(1, 2))
    ).all()


@pytest.mark.parametrize("make", [lambda: each(0.1), lambda: each(0.3)])
@pytest.mark.parametrize("count", [6, 20])
def test_a_position_at_which_one_image_alone_differs_is_new_without_it(make, count):
    """All that varies there is that image's, so that the sphere to which is shrunk is nothing without it."""
    random = np.random.default_rng(0)
    codes = torch.zeros(count, 40, 2, 2)
    codes[:, :, 0] = torch.tensor(random.normal(size=(count, 40, 2))).float()
    codes[1, :, 1, 0] = 3.0
    codes[:, :, 1, 1] = 1e-3 * codes[:, :, 0, 1]
    codes[2, :, 1, 1] += 1.0
    scorer = learn(make(), codes)
    left = left_of(scorer, codes, torch.arange(count))[:, 0]
    for row in range(count):
        others = learn(make(), codes[np.arange(count) != row])
        expected = others(codes[row : row + 1])[0]
        assert (left[row] >= expected.clamp_max(1e4) * 0.99 - 1e-3).all()  # beyond that, by floors of rounding
        assert (left[row] <= expected * 1.3 + 1e-3).all()
    assert left[1, 1, 0] > 100 * scorer(codes[1:2])[0, 1, 0]


@pytest.mark.parametrize("kind", ["gaussian, shrunk", "whitened, shrunk"])
def test_the_promise_is_kept_by_the_highest_of_many_positions(kind):
    """Of few images, of more numbers than there are images, where maps of images are reduced to their highest value."""
    make, _ = LEFT_OUT[kind]
    shares = []
    for seed in range(15):
        random = np.random.default_rng(seed)
        contrast = np.exp(0.5 * random.normal(size=(219, 1, 4, 4)))
        codes = torch.tensor(contrast * random.normal(size=(219, 40, 4, 4))).float()
        normal, fresh = codes[:19], codes[19:]
        scorer = learn(make(), normal)
        left = left_of(scorer, normal, torch.arange(19)).amax(dim=(1, 2, 3))
        threshold = left.sort().values[-2]  # of 20 new ones 2 may lie above the second of 19
        shares.append(float((scorer(fresh).amax(dim=(1, 2)) > threshold).float().mean()))
    margin = 3 * float(np.std(shares)) / np.sqrt(len(shares))
    assert 0.01 < np.mean(shares) <= 0.1 + margin


def test_what_is_left_out_lies_where_the_codes_do():
    """As after a fit on an accelerator; `meta` stands for one."""
    codes = draw(20)
    bank = learn(NeighboursScorer(MANY, SPEC), codes).to("meta")
    assert left_of(bank, codes.to("meta"), torch.arange(3, device="meta")).device.type == "meta"


def test_images_of_a_category_are_noted_once_though_whitening_goes_through_them_twice():
    both = Batches.of_tensors(torch.cat([draw(40), draw(40, 1, level=50.0)]), categories=np.repeat([0, 1], 40))
    scorer = PerCategoryScorer(lambda: whole("whitened"), [("a",), ("b",)])
    assert scorer.capabilities.passes == 2
    scorer.fit(both, both.take(np.arange(0)), 0)
    assert len(torch.unique(scorer.descriptors, dim=0)) == 80


@pytest.mark.parametrize(
    "scorer",
    [
        whole("whitened", shrinkage="auto"),
        whole("error"),
        whole("euclidean", unit=True),
        PCAScorer(PCAConfig(), SPEC),
        GaussianScorer(GaussianConfig(), SPEC),
        GaussianScorer(GaussianConfig(positions="each"), SPEC),
        NeighboursScorer(NeighboursConfig(metric="mahalanobis"), SPEC),
        NeighboursScorer(NeighboursConfig(scale="whiten"), SPEC),
        NeighboursScorer(NeighboursConfig(reduce=2), SPEC),
        NeighboursScorer(NeighboursConfig(least=99), SPEC),  # a bank so small that all of it may be one image's
        PCAScorer(PCAConfig(code="vector", components=0.9999, distance="euclidean"), SPEC),
        EnsembleScorer(EnsembleConfig(scorers=("neighbours", "kmeans")), SPEC),
    ],
    ids=lambda scorer: f"{scorer.config}",
)
def test_what_has_to_learn_again_says_so(scorer):
    assert scorer.capabilities.leave_one_out is None


def test_two_images_are_too_few_to_leave_one_out():
    assert whole("whitened").capabilities.leave_one_out == each(0.1).capabilities.leave_one_out == 3
    assert NeighboursScorer(MANY, SPEC).capabilities.leave_one_out == 2


@pytest.mark.parametrize("kind", ["kmeans", "pca, whitened"])
def test_what_knows_no_closed_form_learns_again_without_each(kind):
    make = {
        "kmeans": lambda: KMeansScorer(KMeansScorer.Config(clusters=2), SPEC),
        "pca, whitened": lambda: whole("whitened", shrinkage="auto"),
    }[kind]
    codes, chosen = draw(9), torch.tensor([8, 2])
    scorer = learn(make(), codes)
    found, again = left_of(scorer, codes, chosen), lambda: make().settle(scorer.choices())
    expected = [learn(again(), codes[np.arange(9) != row]).component_maps(codes[row : row + 1]) for row in (8, 2)]
    torch.testing.assert_close(found, torch.cat(expected))


class Watched(KMeansScorer):
    """One that can leave out in closed form, if there are five images, and notes how often it was asked to."""

    asked = 0

    @property
    def capabilities(self):
        return replace(super().capabilities, leave_one_out=5)

    def leave_one_out(self, features, chosen, categories, groups):
        Watched.asked += 1
        return self.component_maps(features[chosen])


@pytest.mark.parametrize(("fewest", "asked"), [(5, 1), (4, 0)])
def test_images_are_left_out_in_closed_form_where_each_category_has_enough(fewest, asked, monkeypatch):
    monkeypatch.setattr(Watched, "asked", 0)
    make = lambda: Watched(Watched.Config(clusters=2), SPEC)  # noqa: E731
    numbers = np.repeat([0, 2], [20, fewest])  # of the second category there is none
    codes = draw(len(numbers))
    maps = fit_leave_one_out(make(), make, codes, numbers, np.arange(3, len(codes)), np.arange(len(codes)), seed=0)
    assert maps.shape == (len(codes) - 3, 1, 2, 3)
    assert Watched.asked == asked


def test_images_of_which_no_components_are_made_are_left_out_of_what_whitens(monkeypatch):
    """Of very many a sample shows the components; the others have a part in what is usually left, and in the mean."""
    monkeypatch.setattr("unlike.scoring.pca.MOST_WHOLE", 25)
    codes = draw(60)
    scorer = learn(whole("whitened", shrinkage=0.0), codes)
    left = left_of(scorer, codes, torch.arange(60))[:, 0]
    fresh = scorer(draw(300, seed=1))
    learned = np.isin(np.arange(60), scorer.origins)
    assert learned.sum() == 25
    for some in (learned, ~learned):
        assert left[some].median() == pytest.approx(float(fresh.median()), rel=0.15)
        assert left[some].median() > scorer(codes[some]).median()


def test_the_maps_of_an_ensemble_are_those_of_its_scorers():
    config = EnsembleConfig(
        scorers=("gaussian", "neighbours"),
        settings={"gaussian": {"positions": "each", "shrinkage": 0.1}, "neighbours": {"code": "mean"}},
    )
    codes, chosen = draw(30), torch.tensor([2, 5])
    ensemble = EnsembleScorer(config, SPEC)
    assert ensemble.capabilities.leave_one_out == 3  # the most that any needs
    maps = left_of(learn(ensemble, codes), codes, chosen)
    assert maps.shape == (2, 2, 2, 3)
    for place, member in enumerate(ensemble.scorers):
        alone = left_of(member, codes, chosen)[:, 0]
        torch.testing.assert_close(maps[:, place], alone.expand_as(maps[:, place]))


def test_of_several_categories_an_image_is_left_out_of_its_own():
    """Or is new to another, where it looks like that one's."""
    codes = torch.cat([draw(30), draw(40, 1, level=50.0)])
    codes[4] = codes[40] + 0.1  # of the first, by its name
    numbers = np.repeat([0, 1], [30, 40])
    make = lambda: PerCategoryScorer(lambda: each(0.1), [("a",), ("b",)])  # noqa: E731
    scorer, chosen = make(), np.array([1, 4, 29, 30, 69])
    assert scorer.capabilities.leave_one_out == 3
    maps = fit_leave_one_out(scorer, make, codes, numbers, chosen, np.arange(70), seed=0)
    first, second = scorer.members
    expected = [
        left_of(first, codes[:30], torch.tensor([1])),
        second.component_maps(codes[4:5]),
        left_of(first, codes[:30], torch.tensor([29])),
        left_of(second, codes[30:], torch.tensor([0, 39])),
    ]
    torch.testing.assert_close(maps, torch.cat(expected))


@pytest.mark.parametrize(
    ("scorer", "count"), [("neighbours", 60), ("ensemble", 40), ("ensemble", 130), ("ensemble", 200)]
)
def test_the_promise_is_kept_on_average(scorer, count):
    """The scorers of an ensemble must be on one scale in all folds and at the end, however many images there are."""
    default = {key: value for key, value in PRESETS["ensemble"].sections["scorer"].items() if key != "name"}
    alike = {
        name: {**part, "feature_group": "none", "dimensions": "none"} for name, part in default["settings"].items()
    }  # pixels are one group, of few numbers
    together = {"scorer": {**default, "settings": alike}}
    settings = {"model": {"side": 4}, **(together if scorer == "ensemble" else {})}
    shares = []
    for seed in range(20):
        detector = Detector("pixels", scorer, false_alarms=0.1, seed=seed, settings=settings).fit(noise(count, seed))
        shares.append(np.mean(detector.score(noise(200, 1000 + seed)).image > detector.fitted_.decision.threshold))
    margin = 3 * float(np.std(shares)) / np.sqrt(len(shares))
    assert 0.02 < np.mean(shares) <= 0.1 + margin


def pixel_codes(count: int, seed: int) -> torch.Tensor:
    """(N, 64, 1, 1) of images that vary in one way, and hardly in any other."""
    images = torch.from_numpy(stripes(count, seed=seed, channels=1)[..., 0]).float() / 127.5 - 1
    return torch.nn.functional.adaptive_avg_pool2d(images, 8).flatten(1)[..., None, None]


TRUSTS = {  # scorers of whole images that choose by their number how far a covariance is trusted
    "gaussian": lambda: GaussianScorer(GaussianConfig(), SPEC),
    "gaussian, unit": lambda: GaussianScorer(GaussianConfig(unit=True), SPEC),
    "ensemble": lambda: EnsembleScorer(EnsembleConfig(scorers=("gaussian", "neighbours")), SPEC),
}


@pytest.mark.parametrize("kind", TRUSTS)
@pytest.mark.parametrize("count", [60, 150])
def test_the_promise_is_kept_by_covariances_of_few_images(kind, count):
    """Of more images a covariance is shrunk less, so that images are farther: folds must not shrink by themselves."""
    shares, every = [], np.arange(count)
    for seed in range(10):
        codes, scorer = pixel_codes(count + 200, seed), TRUSTS[kind]()
        maps = fit_leave_one_out(scorer, TRUSTS[kind], codes[:count], 0 * every, every, every, seed)
        known = scorer.fit_normalisation(maps, 0 * every)[:, 0, 0].double().numpy()
        threshold = ConformalThreshold(0.1).fit(known).threshold_
        shares.append(float((scorer(codes[count:]).flatten().double().numpy() > threshold).mean()))
    margin = 3 * float(np.std(shares)) / np.sqrt(len(shares))
    assert 0.01 < np.mean(shares) <= 0.1 + margin


CHOOSING = {
    "each": lambda: GaussianScorer(GaussianConfig(positions="each"), SPEC),
    "gaps": lambda: NeighboursScorer(NeighboursConfig(metric="mahalanobis", shrinkage="auto"), SPEC),
    "left over": lambda: whole("whitened", shrinkage="auto"),
    "ensemble": TRUSTS["ensemble"],
    "categories": lambda: PerCategoryScorer(TRUSTS["gaussian"], [("dark",), ("bright",), ("dim",)]),
}


@pytest.mark.parametrize("kind", CHOOSING)
def test_what_all_images_chose_is_settled_for_others(kind):
    """Of three categories two are alike, and learned together."""
    levels, categories = torch.tensor([0.0, 90.0, 0.0]), np.arange(90) % 3
    codes = draw(90) + levels[torch.from_numpy(categories)][:, None, None, None]
    codes, categories = (codes, categories) if kind == "categories" else (draw(90), categories * 0)
    first, fewer = (Batches.of_tensors(codes, categories=categories).take(np.arange(n)) for n in (90, 60))
    none, make = first.take(np.empty(0, np.intp)), CHOOSING[kind]
    chosen = {name: value / 2 for name, value in make().fit(first, none, 0).choices().items()}
    assert chosen
    anew, settled = make().fit(fewer, none, 0), make().settle(chosen).fit(fewer, none, 0)
    assert make().capabilities.chooses
    assert settled.choices().keys() == chosen.keys() == anew.choices().keys()
    for name, value in chosen.items():
        np.testing.assert_array_equal(settled.choices()[name], value)
    assert not torch.equal(settled.component_maps(codes), anew.component_maps(codes))


def test_no_image_is_held_back_where_nothing_is_trained():
    images = stripes(40)
    counts = Detector("pixels", "gaussian").fit(images).fitted_.counts
    assert counts == {"train": 40, "validation": 0, "calibration": 40, "copies": 0, "unreadable": 0}
    both = np.concatenate([images, images[:3]])
    assert Detector("pixels", "gaussian").fit(both).fitted_.counts["copies"] == 3


@pytest.mark.parametrize(
    ("model", "decision"),
    [("fcn", {}), ("pixels", {"calibration": "held-out"}), ("pixels", {"calibration_share": 0.3})],
)
def test_images_are_held_out_where_a_model_learns_or_it_is_asked_for(model, decision):
    settings = {"decision": decision, "training": {"epochs": 1}}
    counts = Detector(model, "gaussian", settings=settings).fit(stripes(40)).fitted_.counts
    assert counts["train"] + counts["validation"] + counts["calibration"] == 40


def test_images_that_a_model_never_saw_teach_the_scorer_of_its_codes():
    """Each calibrates by a scorer of all others; the last scorer has learned from all."""
    images = noise(60, 0)
    settings = {"training": {"epochs": 1}, "scorer": {"least": 10_000}}  # a bank of everything
    cross, held_out = (
        Detector("fcn", "neighbours", false_alarms=0.1, settings=settings | {"decision": {"calibration": how}}).fit(
            images
        )
        for how in ("auto", "held-out")
    )
    counts = held_out.fitted_.counts
    assert cross.fitted_.counts == counts
    assert 0 < counts["calibration"] < 60
    assert len(cross.fitted_.pipeline.scorer.bank) == 60
    assert len(held_out.fitted_.pipeline.scorer.bank) == counts["train"]
    assert cross.fitted_.decision.p_values(np.array([1e9])) == pytest.approx(1 / (counts["calibration"] + 1))
    assert cross.score(images).image.max() < 1e-3  # it knows them all
    assert cross.fitted_.decision.threshold > 0.01  # but its threshold is as if it did not


@pytest.mark.parametrize("model", ["repair", "conv-dense"])
def test_what_a_training_starts_from_does_not_depend_on_how_it_will_calibrate(model):
    """Asking how large a code is must change no statistic of the untrained model, and draw no random number."""
    detector = Detector(model, "neighbours", size=32)
    spec = InputSpec(32, 32, 3, floating=False, aspect="stretch", convert=False)
    images, built = open_source(stripes(40)).load(spec, None), build_model(detector.settings, spec, 0)
    before, state = {name: value.clone() for name, value in built.state_dict().items()}, torch.get_rng_state()
    assert calibrates_cross(built, make_scorer(detector.settings, built.output_spec), detector.settings, images)
    assert built.training
    assert all(torch.equal(value, before[name]) for name, value in built.state_dict().items())
    assert torch.equal(torch.get_rng_state(), state)


def test_categories_of_which_none_is_held_out_are_learned_with_the_others(tmp_path):
    """Else nothing would say what is usual in them, and their scores would be on no scale."""
    images = stripes(140)
    for row, image in enumerate(images):
        write_png(tmp_path / ("big" if row < 100 else f"rare{row // 2}") / "train/good" / f"{row}.png", image)
    settings = {"training": {"epochs": 1}, "scorer": {"scorers": ["neighbours", "kmeans"], "normalisation": "median"}}
    detector = Detector("conv", "ensemble", size=32, settings=settings).fit(tmp_path)
    assert "per_category" not in describe(detector)["fitted"]


def test_a_trained_model_keeps_its_promise_by_cross_conformal_scores():
    shares = []
    settings = {"training": {"epochs": 2}, "model": {"widths": [32, 8]}}
    for seed in range(20):
        detector = Detector("fcn", "gaussian", false_alarms=0.1, seed=seed, settings=settings).fit(noise(80, seed))
        shares.append(np.mean(detector.score(noise(200, 1000 + seed)).image > detector.fitted_.decision.threshold))
    margin = 3 * float(np.std(shares)) / np.sqrt(len(shares))
    assert 0.02 < np.mean(shares) <= 0.1 + margin


def test_large_sets_have_images_to_hold_out():
    counts = Detector("pixels", "kmeans").fit(noise(501, 0)).fitted_.counts
    assert counts["calibration"] < 200
    settings = {"decision": {"calibration": "cross"}}
    asked = Detector("pixels", "kmeans", settings=settings).fit(noise(501, 0)).fitted_.counts
    assert asked["calibration"] == 501


def test_cross_conformal_calibration_that_cannot_be():
    settings = {"decision": {"calibration": "cross"}}
    with pytest.raises(ConfigError, match=r"decision\.calibration = 'cross' is for scorers of features"):
        Detector("fcn", "residual", settings=settings).fit(stripes(40))
    with pytest.raises(ConfigError, match=r"'cross' is for scorers of features, .* without tiles"):
        Detector("pixels", "neighbours", settings=settings | {"data": {"tile": 16}}).fit(stripes(40))


def test_cross_conformal_calibration_that_is_asked_for_has_its_limits(monkeypatch):
    settings = {"decision": {"calibration": "cross", "calibration_share": 0.5}}
    with pytest.raises(ConfigError, match=r"holds no image back: leave decision\.calibration_share out"):
        Detector("pixels", "gaussian", settings=settings).fit(stripes(40))
    monkeypatch.setattr("unlike.detector.splitting.CROSS_BYTES", 1000)
    settings = {"decision": {"calibration": "cross"}}
    with pytest.raises(ConfigError, match=r"the features of 40 images take .* take 'held-out'"):
        Detector("pixels", "gaussian", settings=settings).fit(stripes(40))


def test_a_fold_too_small_says_so():
    settings = {"scorer": {"clusters": 9}}
    with pytest.raises(DataError, match=r"came 8; .* \(each image calibrates by the other four fifths; .* does not\)"):
        Detector("pixels", "kmeans", settings=settings).fit(stripes(10))
    with pytest.raises(DataError, match=r"came 5; lower \S+ or add images$"):  # nor would all of them do
        Detector("pixels", "kmeans", settings=settings).fit(stripes(5))


def test_too_few_other_images_to_be_held_against_say_so():
    settings = {"scorer": {"neighbours": 9}}
    Detector("pixels", "neighbours", settings=settings).fit(stripes(10))
    with pytest.raises(
        DataError, match=r"9 neighbours of other images need .* came 8; lower scorer\.neighbours or add"
    ):
        Detector("pixels", "neighbours", settings=settings).fit(stripes(9))


def test_a_bank_of_one_images_codes_has_too_few_of_others():
    """An image of one shade has one code in the bank, and the other image all the rest."""
    codes = torch.zeros(2, 3, 20, 20)
    codes[0] = torch.tensor(np.random.default_rng(0).normal(size=(3, 20, 20)))
    scorer = learn(NeighboursScorer(NeighboursConfig(neighbours=2, least=200), SPEC), codes)
    with pytest.raises(DataError, match=r"2 neighbours of other images need .* came 1;"):
        left_of(scorer, codes, torch.arange(2))


def test_no_scorer_is_kept_while_another_learns(monkeypatch):
    """Each may be as large as memory allows."""
    learned, alive = [], []

    class Counted(KMeansScorer):
        def fit(self, *parts):
            gc.collect()
            alive.append(sum(one() is not None and one().centres.numel() > 0 for one in learned))
            learned.append(weakref.ref(self))
            return super().fit(*parts)

    monkeypatch.setattr("unlike.scoring.clusters.KMeansScorer", Counted)
    Detector("pixels", "kmeans").fit(stripes(20))
    assert alive == [0] * 6


def test_one_model_serves_several_scorers():
    images = stripes(40)
    first = Detector("fcn", "residual", epochs=2).fit(images)
    other = Detector("fcn", "kmeans", epochs=2).fit(images, model=first.fitted_.pipeline.model)
    np.testing.assert_array_equal(encode(first, images).grids, encode(other, images).grids)
    assert other.fitted_.history == []
    with pytest.raises(ConfigError, match=r"the model given to fit is a DenseAutoencoder .* need a ConvAutoencoder"):
        Detector("conv", "kmeans").fit(images, model=first.fitted_.pipeline.model)
    with pytest.raises(ConfigError, match="the model given to fit"):
        Detector("fcn", "kmeans").fit(stripes(40, size=16), model=first.fitted_.pipeline.model)


def test_a_scorer_is_chosen_to_suit_the_model():
    assert Detector(model="features").settings.scorer_name == "neighbours"
    assert Detector(model="conv").settings.scorer_name == "residual"
    assert Detector(scorer="pca").settings.model_name == "features"
    assert Detector(size=64, false_alarms=0.1).settings.scorer_name == "ensemble"


def glaring(count: int, seed: int) -> np.ndarray:
    """Floats of no usual range, a few of them far brighter than the rest."""
    random = np.random.default_rng(seed)
    light = np.exp(random.normal(size=(count, 1, 1)))
    return (light * random.normal(500, 100, (count, 8, 8))).astype(np.float32)


def test_a_range_is_of_all_images_and_the_promise_is_kept():
    """The range is that of all, and new images that go beyond it, at most 2 in n + 1, are no reason to break the promise."""
    settings = {"scorer": {"unit": True}}  # angles: what the values stand for matters
    shares, beyond = [], []
    for seed in range(40):
        images, fresh = glaring(40, seed), glaring(200, 1000 + seed)
        detector = Detector("pixels", "neighbours", false_alarms=0.1, seed=seed, settings=settings).fit(images)
        low, high = detector.fitted_.spec.value_range
        assert (low, high) == (images.min(), images.max())
        shares.append(np.mean(detector.score(fresh).image > detector.fitted_.decision.threshold))
        beyond.append(np.mean((fresh.min(axis=(1, 2)) < low) | (fresh.max(axis=(1, 2)) > high)))
    assert np.mean(beyond) == pytest.approx(2 / 41, rel=0.3)
    margin = 3 * float(np.std(shares)) / np.sqrt(len(shares))
    assert 0.02 < np.mean(shares) <= 0.1 + margin
