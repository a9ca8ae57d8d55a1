"""fusion: several scorers on one scale, learned from images that are held out, or settled by scores out of fold."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from unlike.calibration.precomputed import Remembered, Remembering

from conftest import stripes
from unlike import Detector
from unlike.config import from_mapping
from unlike.data.arrays import ArraySource, ImageArray
from unlike.detector.settings import DEFAULT_PRESET, PRESETS
from unlike.errors import ConfigError, DataError
from unlike.records import Sample
from unlike.scoring.ensemble import EnsembleConfig, EnsembleScorer, stretch
from unlike.scoring.gaussian import GaussianConfig, GaussianScorer
from unlike.scoring.neighbours import NeighboursConfig, NeighboursScorer
from unlike.scoring.pca import PCAConfig, PCAScorer
from unlike.scoring.per_category import Apart, learn

SETS = ((40, 0), (15, 2), (5, 4))  # of how many codes, and their seed
TWO = EnsembleConfig(scorers=("kmeans", "gaussian"), settings={"kmeans": {"clusters": 2}})


def vectors(count: int, seed: int, factor: float = 1.0) -> torch.Tensor:
    """Codes (N, D, 1, 1), off the origin, of unequal scales."""
    rows = np.random.default_rng(seed).normal(size=(count, 6)) * 3.0 ** np.arange(6) * factor + 5
    return torch.tensor(rows[:, :, None, None], dtype=torch.float32)


def grids(count: int, seed: int = 0) -> torch.Tensor:
    return torch.tensor(np.random.default_rng(seed).normal(size=(count, 3, 4, 4)), dtype=torch.float32)


def fit(scorer, codes, held_out=()):
    return scorer.fit(Remembered(), list(codes.split(7)), list(held_out), 0)


def scores(scorer, codes) -> np.ndarray:
    return scorer(codes).mean(dim=(1, 2)).numpy()


def test_scorers_are_brought_to_one_scale():
    normal, held_out, others = vectors(300, 0), vectors(100, 1), vectors(50, 2, factor=3)
    fused = fit(EnsembleScorer(TWO, SPEC), normal, [held_out])
    parts = np.stack([scores(member, others) for member in fused.members])
    for member, (middle, high) in zip(fused.members, fused.levels, strict=True):
        np.testing.assert_allclose(np.quantile(scores(member, held_out), [0.5, 0.95]), [middle, high], rtol=1e-5)
    stretched = [stretch(torch.tensor(part), *levels).numpy() for part, levels in zip(parts, fused.levels, strict=True)]
    np.testing.assert_allclose(scores(fused, others), np.mean(stretched, axis=0), rtol=1e-4)
    config = EnsembleConfig(scorers=TWO.scorers, settings=TWO.settings, combine="max")
    np.testing.assert_allclose(
        scores(fit(EnsembleScorer(config, SPEC), normal, [held_out]), others), np.max(stretched, axis=0), rtol=1e-4
    )


def test_in_a_line_only_the_median_is_brought_to_one():
    normal, held_out, others = vectors(300, 0), vectors(100, 1), vectors(50, 2, factor=3)
    config = EnsembleConfig(scorers=TWO.scorers, settings=TWO.settings, scale="line")
    fused = fit(EnsembleScorer(config, SPEC), normal, [held_out])
    divided = [scores(member, others) / np.median(scores(member, held_out)) for member in fused.members]
    np.testing.assert_allclose(scores(fused, others), np.mean(divided, axis=0), rtol=1e-4)


def test_a_mean_may_be_weighted():
    normal, held_out, others = vectors(300, 0), vectors(100, 1), vectors(50, 2, factor=3)
    config = EnsembleConfig(scorers=TWO.scorers, settings=TWO.settings, weights=(3, 1))
    fused = fit(EnsembleScorer(config, SPEC), normal, [held_out])
    parts = [
        stretch(torch.tensor(scores(member, others)), *levels).numpy()
        for member, levels in zip(fused.members, fused.levels, strict=True)
    ]
    np.testing.assert_allclose(scores(fused, others), 0.75 * parts[0] + 0.25 * parts[1], rtol=1e-4)
    wrong = [{"weights": weights} for weights in ((1,), (1, 0), (1, math.nan), (math.inf, 1))]
    for chosen in (*wrong, {"weights": (1, 2), "combine": "max"}):
        with pytest.raises(ConfigError, match=r"scorer\.weights: expected a number above 0 for each of 2 scorers"):
            EnsembleConfig(scorers=TWO.scorers, **chosen)


@pytest.mark.parametrize("weights", [None, (3, 1)])
def test_geometric_mean_is_the_mean_of_logarithms(weights):
    normal, held_out, others = vectors(300, 0), vectors(100, 1), vectors(50, 2, factor=3)
    config = EnsembleConfig(
        scorers=TWO.scorers, settings=TWO.settings, combine="geometric", scale="line", weights=weights
    )
    fused = fit(EnsembleScorer(config, SPEC), normal, [held_out])
    parts = [scores(member, others) / np.median(scores(member, held_out)) for member in fused.members]
    first = 0.5 if weights is None else 0.75
    np.testing.assert_allclose(scores(fused, others), parts[0] ** first * parts[1] ** (1 - first), rtol=1e-4)


def test_geometric_mean_has_no_veto_and_wants_agreement():
    config = EnsembleConfig(scorers=TWO.scorers, settings=TWO.settings, combine="geometric", scale="line")
    scorer = EnsembleScorer(config, SPEC)
    scorer.levels = np.array([[1.0, 2.0], [1.0, 2.0]])
    views = torch.tensor([[0.0, 4.0], [20.0, 1.0], [5.0, 5.0]])[:, :, None, None]
    joined = scorer._join(views)[:, 0, 0]
    assert torch.isfinite(joined).all()
    assert joined[0] > 0
    assert joined[2] > joined[1]  # in the mean it would be the other way round
    assert views[2].mean() < views[1].mean()


def test_maps_and_vectors_have_the_finest_map():
    config = EnsembleConfig(scorers=("kmeans", "gaussian"), settings={"kmeans": {"code": "mean"}})
    codes = grids(40)
    assert fit(EnsembleScorer(config, SPEC), codes, [codes[:20]])(codes).shape == (40, 4, 4)


def test_few_held_out_images_keep_their_scale():
    normal = vectors(300, 0)
    fused = fit(EnsembleScorer(EnsembleConfig(scorers=("gaussian", "pca")), SPEC), normal, [normal[:1]])
    assert (fused.levels[:, 1] / fused.levels[:, 0] >= 1.05 - 1e-9).all()


def test_where_none_is_held_out_values_stay_as_they_are_until_it_settles():
    normal, others = vectors(60, 0), vectors(9, 1)
    for scale in ("levels", "line"):
        config = EnsembleConfig(scorers=TWO.scorers, settings=TWO.settings, scale=scale)
        fused = fit(EnsembleScorer(config, SPEC), normal)
        plain = [scores(member, others) for member in fused.members]
        np.testing.assert_allclose(scores(fused, others), np.mean(plain, axis=0), rtol=1e-5)
        held_out = vectors(30, 2)
        maps = fused.settle(fused.views(Remembered(), held_out))
        asked = fit(EnsembleScorer(config, SPEC), normal, [held_out])  # the same as if they had been held out at once
        np.testing.assert_allclose(fused.levels, asked.levels)
        torch.testing.assert_close(maps, asked(held_out))


def test_scorers_of_more_than_codes_need_held_out_images():
    with pytest.raises(DataError, match="fusion needs normal images that the model was not trained on"):
        fit(EnsembleScorer(EnsembleConfig(scorers=("residual", "kmeans")), SPEC), vectors(60, 0))


def test_the_levels_of_a_detector_are_those_of_scores_out_of_fold():
    """Whichever way the files alternate, and however few they are: two kinds in turn, and three images alone."""
    images = stripes(60)
    images[1::2] = images[1::2] // 2
    settings = {"model": {"side": 8}, "scorer": {"scorers": ["gaussian", "neighbours"], "scale": "line"}}
    mixed, sorted_ = (
        Detector("pixels", "ensemble", settings=settings).fit(found)._fitted.scorer.levels
        for found in (images, np.concatenate([images[::2], images[1::2]]))
    )
    np.testing.assert_allclose(mixed, sorted_, rtol=0.25)
    few = Detector("pixels", "ensemble", settings=settings).fit(stripes(3))
    assert np.isfinite(few.score(stripes(2, seed=4)).image).all()


def test_codes_are_looked_at_once_for_all_scorers():
    class Counting(Remembered):
        seen = 0

        def encode(self, images):
            self.seen += 1
            return images

    model = Counting()
    fit(fused := EnsembleScorer(TWO, SPEC), vectors(60, 0))(vectors(5, 1))
    assert [member.config.code for member in fused.members] == ["grid", "grid"]
    assert model.seen == 1


def test_the_default_is_the_geometric_mean_of_four_maps_of_two_looks_each_over_its_usual_level():
    """By hand: what each scorer makes of its look alone, over the median of what held-out images score."""
    default = {key: value for key, value in PRESETS[DEFAULT_PRESET]["scorer"].items() if key != "name"}
    codes, held_out, fresh = (torch.cat([grids(count, seed), grids(count, seed + 1)], 1) for count, seed in SETS)
    model = Remembered((3, 3))
    fused = EnsembleScorer(from_mapping(EnsembleConfig, default, "scorer"), SPEC)
    fused.check(model)
    fused.fit(model, [codes], [held_out], 0)
    parts = []
    for look, make in (
        (0, lambda: PCAScorer(PCAConfig(code="vector", components=0.99, distance="whitened", shrinkage=0.2), SPEC)),
        (0, lambda: NeighboursScorer(NeighboursConfig(least=4000), SPEC)),
        (1, lambda: NeighboursScorer(NeighboursConfig(least=4000), SPEC)),
        (1, lambda: PCAScorer(PCAConfig(code="vector", components=0.99, distance="euclidean"), SPEC)),
    ):
        ours, theirs, new = (part[:, 3 * look : 3 * look + 3] for part in (codes, held_out, fresh))
        alone = fit(make(), ours)
        parts.append(alone(new).numpy() / np.median(scores(alone, theirs)))
    np.testing.assert_allclose(fused(fresh), np.prod(parts, axis=0) ** (1 / 4), rtol=1e-4)


def test_a_scorer_comes_again_with_other_settings_and_is_restored():
    config = EnsembleConfig(scorers=("neighbours", "neighbours_mean"), settings={"neighbours_mean": {"code": "mean"}})
    codes, fresh = grids(40), grids(5, seed=1)
    fused = fit(EnsembleScorer(config, SPEC), codes)
    assert [member.config.code for member in fused.members] == ["grid", "mean"]
    copy = EnsembleScorer(config, SPEC)
    copy.restore(fused.state())
    torch.testing.assert_close(copy(fresh), fused(fresh))
    own = {"my_scorer": NeighboursScorer, "pca": PCAScorer}  # somebody's, whose name has a word after it
    assert (
        type(EnsembleScorer(EnsembleConfig(scorers=("my_scorer", "pca")), lambda: own).members[0]) is NeighboursScorer
    )
    with pytest.raises(ConfigError, match=r"unknown scorer\.scorers 'neighbour'; did you mean 'neighbours'"):
        EnsembleScorer(EnsembleConfig(scorers=("pca", "neighbour_fine")), SPEC)


def two_categories(dark: int, bright: int) -> ArraySource:
    random = np.random.default_rng(0)
    images = np.concatenate([random.normal(level, 5, (n, 8, 8, 1)) for level, n in ((60, dark), (200, bright))])
    samples = [Sample(str(row), row=row, category="ab"[row >= dark]) for row in range(dark + bright)]
    return ArraySource("made", samples, ImageArray(images.clip(0, 255).astype(np.uint8)))


def parts_of(index: ArraySource, calibration: str = "auto", **scorer) -> list[list[str]] | None:
    settings = {
        "model": {"side": 4},
        "scorer": {"scorers": ["gaussian", "neighbours"], "scale": "line", **scorer},
        "decision": {"calibration": calibration},
    }
    detector = Detector("pixels", "ensemble", settings=settings, device="cpu").fit(index)
    return detector.describe()["fitted"].get("learned_apart")


def test_categories_are_learned_apart_where_all_scorers_want_codes_alone():
    assert parts_of(two_categories(30, 30)) == [["a"], ["b"]]
    assert parts_of(two_categories(30, 30), per_category=False) is None
    assert not EnsembleScorer(EnsembleConfig(scorers=("residual", "gaussian")), SPEC).learns_apart


@pytest.mark.parametrize(("few", "parts"), [(120, [["a"], ["b"]]), (21, None)])
def test_where_images_are_held_out_each_part_needs_some_to_scale_by(few, parts):
    assert parts_of(two_categories(200, few), "held-out") == parts


def test_a_fused_detector_is_calibrated_crosswise_saved_and_loaded(tmp_path):
    settings = {
        "model": {"side": 8},
        "scorer": {"scorers": ["gaussian", "neighbours"], "scale": "line"},
        "decision": {"calibration": "cross", "false_alarms": 0.1},
    }
    images = stripes(40)
    detector = Detector("pixels", "ensemble", settings=settings, device="cpu").fit(images)
    np.testing.assert_allclose(detector.p_values(np.array([1e9])), 1 / 41)  # all have calibrated
    detector.save(tmp_path / "d")
    fresh = stripes(8, seed=5)
    np.testing.assert_array_equal(Detector.load(tmp_path / "d").score(fresh).image, detector.score(fresh).image)
    with pytest.raises(ConfigError, match=r"scorer\.scale: expected .*'line'"):
        Detector("pixels", "ensemble", settings={"scorer": {"scale": "lines"}})


def test_remembering_no_rows_gives_no_batches():
    assert list(Remembering(grids(4))(np.arange(0))) == []
    assert [len(batch) for batch in Remembering(grids(5), size=2)(np.array([4, 0, 1]))] == [2, 1]


def test_the_settings_of_one_scorer_leave_those_of_the_others():
    chosen = {"scorer": {"settings": {"neighbours": {"least": 70}}}}
    found = Detector(preset="ensemble", settings=chosen).settings.scorer.settings
    usual = PRESETS["ensemble"]["scorer"]["settings"]
    assert found == usual | {"neighbours": {"look": 0, "least": 70}}
    with pytest.raises(ConfigError, match=r"scorer\.settings"):
        Detector(preset="ensemble", settings={"scorer": {"settings": {"neighbours": 3}}})


def test_of_a_presets_scorers_some_can_be_chosen():
    chosen = {"scorer": {"scorers": ["neighbours", "gaussian"], "settings": {"gaussian": {"shrinkage": 0.2}}}}
    scorer = Detector(preset="ensemble", settings=chosen).settings.scorer
    usual = PRESETS["ensemble"]["scorer"]["settings"]
    assert scorer.scorers == ("neighbours", "gaussian")
    assert scorer.settings == {"neighbours": usual["neighbours"], "gaussian": {"shrinkage": 0.2}}
    chosen["scorer"]["settings"] |= {"pca": {"look": 0}}  # asked for, of a scorer that is not there
    with pytest.raises(ConfigError, match=r"unknown scorer\.settings 'pca'"):
        Detector(preset="ensemble", settings=chosen)


def test_what_a_member_cannot_do_is_said_of_that_member():
    settings = {"neighbours_fine": {"look": 1}}
    fused = EnsembleScorer(EnsembleConfig(scorers=("neighbours", "neighbours_fine"), settings=settings), SPEC)
    with pytest.raises(ConfigError, match=r"^scorer\.settings\.neighbours_fine\.look: expected 0, .* came 1"):
        fused.check(Remembered())


def test_each_image_is_noted_once_though_two_scorers_learn_from_it():
    codes = torch.cat([grids(30), grids(30, seed=1) + 9])
    numbers, rows = np.repeat([0, 1], 30), np.arange(60)
    make = lambda: EnsembleScorer(EnsembleConfig(scorers=("gaussian", "neighbours")), SPEC)  # noqa: E731
    fused, alone = Apart(make, ["a", "b"]), Apart(lambda: GaussianScorer(GaussianConfig(), SPEC), ["a", "b"])
    for scorer in (fused, alone):
        learn(scorer, Remembered(), Remembering(codes), rows, rows[:0], numbers, 0)
    torch.testing.assert_close(fused.looks, alone.looks)
