"""fusion: several scorers on one scale, learned from images that are held out, or from one half of them and the other."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from conftest import stripes
from unlike import Detector
from unlike.data.arrays import ImageArray
from unlike.data.index import Index
from unlike.errors import ConfigError, DataError
from unlike.models import ImageShape
from unlike.records import Sample
from unlike.scoring import fusion
from unlike.scoring.fusion import FusionConfig, FusionScorer, stretch
from unlike.scoring.gaussian import GaussianConfig, GaussianScorer
from unlike.scoring.neighbours import NeighboursConfig, NeighboursScorer
from unlike.scoring.remembered import Remembered, Remembering

TWO = FusionConfig(scorers=("kmeans", "gaussian"), settings={"kmeans": {"clusters": 2}})


def vectors(count: int, seed: int, factor: float = 1.0) -> torch.Tensor:
    """Codes (N, D, 1, 1), off the origin, of unequal scales."""
    rows = np.random.default_rng(seed).normal(size=(count, 6)) * 3.0 ** np.arange(6) * factor + 5
    return torch.tensor(rows[:, :, None, None], dtype=torch.float32)


def grids(count: int, seed: int = 0) -> torch.Tensor:
    return torch.tensor(np.random.default_rng(seed).normal(size=(count, 3, 4, 4)), dtype=torch.float32)


def fit(scorer, codes, held_out=()):
    return scorer.fit(Remembered(), list(codes.split(7)), list(held_out), 0)


def scores(scorer, codes) -> np.ndarray:
    return scorer.maps(Remembered(), codes).mean(dim=(1, 2)).numpy()


def test_scorers_are_brought_to_one_scale():
    normal, held_out, others = vectors(300, 0), vectors(100, 1), vectors(50, 2, factor=3)
    fused = fit(FusionScorer(TWO), normal, [held_out])
    parts = np.stack([scores(member, others) for member in fused.members])
    for member, (middle, high) in zip(fused.members, fused.levels, strict=True):
        np.testing.assert_allclose(np.quantile(scores(member, held_out), [0.5, 0.95]), [middle, high], rtol=1e-5)
    stretched = [stretch(torch.tensor(part), *levels).numpy() for part, levels in zip(parts, fused.levels, strict=True)]
    np.testing.assert_allclose(scores(fused, others), np.mean(stretched, axis=0), rtol=1e-4)
    config = FusionConfig(scorers=TWO.scorers, settings=TWO.settings, combine="max")
    np.testing.assert_allclose(
        scores(fit(FusionScorer(config), normal, [held_out]), others), np.max(stretched, axis=0), rtol=1e-4
    )


def test_in_a_line_only_the_median_is_brought_to_one():
    normal, held_out, others = vectors(300, 0), vectors(100, 1), vectors(50, 2, factor=3)
    config = FusionConfig(scorers=TWO.scorers, settings=TWO.settings, scale="line")
    fused = fit(FusionScorer(config), normal, [held_out])
    divided = [scores(member, others) / np.median(scores(member, held_out)) for member in fused.members]
    np.testing.assert_allclose(scores(fused, others), np.mean(divided, axis=0), rtol=1e-4)


def test_maps_and_vectors_have_the_finest_map():
    config = FusionConfig(scorers=("kmeans", "gaussian"), settings={"kmeans": {"code": "mean"}})
    codes = grids(40)
    assert fit(FusionScorer(config), codes, [codes[:20]]).maps(Remembered(), codes).shape == (40, 4, 4)


def test_few_held_out_images_keep_their_scale():
    normal = vectors(300, 0)
    fused = fit(FusionScorer(FusionConfig(scorers=("gaussian", "pca"))), normal, [normal[:1]])
    assert (fused.levels[:, 1] / fused.levels[:, 0] >= 1.05 - 1e-9).all()


def test_where_none_is_held_out_one_half_teaches_the_levels_of_the_other():
    normal = vectors(60, 0)
    fused = fit(FusionScorer(TWO), normal)
    half = fit(FusionScorer(TWO), normal[::2], [normal[1::2]])
    np.testing.assert_allclose(fused.levels, half.levels)
    whole = fit(FusionScorer(TWO), normal, [normal[:5]])
    for one, other in zip(fused.members, whole.members, strict=True):  # and then all of them have taught
        np.testing.assert_allclose(scores(one, normal), scores(other, normal), rtol=1e-5)


def test_of_many_images_a_few_evenly_spaced_ones_teach_the_levels(monkeypatch):
    monkeypatch.setattr(fusion, "FEW", 10)
    codes = torch.arange(95.0)[:, None, None, None]
    assert fusion._collect_few(Remembered(), codes.split(7)).flatten().tolist() == list(range(0, 95, 16))
    assert fusion._collect_few(Remembered(), codes[:10].split(3)).flatten().tolist() == list(range(10))


def test_levels_need_three_images_and_scorers_of_codes():
    with pytest.raises(DataError, match=r"expected 3 or more, came 2; add images, or take one scorer alone"):
        fit(FusionScorer(TWO), vectors(2, 0))
    with pytest.raises(DataError, match="fusion needs normal images that the model was not trained on"):
        fit(FusionScorer(FusionConfig(scorers=("residual", "kmeans"))), vectors(60, 0))


def test_codes_are_looked_at_once_for_all_scorers():
    class Counting(Remembered):
        looks = 0

        def encode(self, images):
            self.looks += 1
            return images

    model = Counting()
    model.shape = ImageShape(6, 1, 1)
    fit(fused := FusionScorer(TWO), vectors(60, 0)).maps(model, vectors(5, 1))
    assert [member.config.code for member in fused.members] == ["grid", "grid"]
    assert model.looks == 1


def test_the_default_is_the_mean_of_both_maps_each_over_its_usual_level():
    """By hand: a Gaussian at each position and the nearest of a bank, whose levels are the medians of every other image."""
    settings = {
        "scorers": ("gaussian", "neighbours"),
        "settings": {"gaussian": {"positions": "each", "shrinkage": 0.1}, "neighbours": {"least": 50}},
        "scale": "line",
    }
    codes, fresh = grids(40), grids(5, seed=1)
    fused = fit(FusionScorer(FusionConfig(**settings)), codes)
    parts = []
    for make in (
        lambda: GaussianScorer(GaussianConfig(positions="each", shrinkage=0.1)),
        lambda: NeighboursScorer(NeighboursConfig(least=50)),
    ):
        middle = np.median(scores(fit(make(), codes[::2]), codes[1::2]))
        parts.append(fit(make(), codes).maps(Remembered(), fresh).numpy() / middle)
    np.testing.assert_allclose(fused.maps(Remembered(), fresh), np.mean(parts, axis=0), rtol=1e-4)


def test_categories_are_learned_apart_where_all_scorers_want_codes_alone():
    random = np.random.default_rng(0)
    images = np.concatenate([random.normal(level, 5, (30, 8, 8, 1)) for level in (60, 200)]).clip(0, 255)
    samples = [Sample(str(row), row=row, category="ab"[row // 30]) for row in range(60)]
    index = Index("made", samples, ImageArray(images.astype(np.uint8)))
    for wanted, parts in ((True, [["a"], ["b"]]), (False, None)):
        settings = {
            "model": {"side": 4},
            "scorer": {"scorers": ["gaussian", "neighbours"], "scale": "line", "per_category": wanted},
        }
        detector = Detector("pixels", "fusion", settings=settings, device="cpu").fit(index)
        assert detector.describe()["fitted"].get("learned_apart") == parts
    assert not FusionScorer(FusionConfig(scorers=("residual", "gaussian"))).learns_apart


def test_a_fused_detector_is_calibrated_crosswise_saved_and_loaded(tmp_path):
    settings = {
        "model": {"side": 8},
        "scorer": {"scorers": ["gaussian", "neighbours"], "scale": "line"},
        "decision": {"calibration": "cross", "false_alarms": 0.1},
    }
    images = stripes(40)
    detector = Detector("pixels", "fusion", settings=settings, device="cpu").fit(images)
    np.testing.assert_allclose(detector.p_values(np.array([1e9])), 1 / 41)  # all have calibrated
    detector.save(tmp_path / "d")
    fresh = stripes(8, seed=5)
    np.testing.assert_array_equal(Detector.load(tmp_path / "d").score(fresh).image, detector.score(fresh).image)
    with pytest.raises(ConfigError, match=r"scorer\.scale: expected .*'line'"):
        Detector("pixels", "fusion", settings={"scorer": {"scale": "lines"}})


def test_remembering_no_rows_gives_no_batches():
    assert list(Remembering(grids(4))(np.arange(0))) == []
    assert [len(batch) for batch in Remembering(grids(5), size=2)(np.array([4, 0, 1]))] == [2, 1]
