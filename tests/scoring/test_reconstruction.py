"""Residuals scaled by what held-out normal images show."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from unlike.errors import ConfigError, DataError
from unlike.models.base import OutputSpec
from unlike.scoring import reconstruction
from unlike.scoring.batches import Batches
from unlike.scoring.reconstruction import ResidualConfig, ResidualScorer


def spec(channels: int) -> OutputSpec:
    """Of a model that rebuilds images of so many channels."""
    return OutputSpec("Flat", ("features", "target", "reconstruction"), target_channels=channels)


def rebuilt(images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Target and reconstruction of a model that rebuilds all as zero: the difference is the image itself, negated."""
    return images, torch.zeros_like(images)


def maps_of(scorer: ResidualScorer, images: torch.Tensor) -> torch.Tensor:
    return scorer(*rebuilt(images))


@pytest.fixture
def held_out(rng):
    """Channels of other strengths and means, of which two go together."""
    values = rng.normal(size=(40, 3, 10, 12))
    values[:, 1] = 0.9 * values[:, 0] + 0.1 * values[:, 1]
    values = values * np.array([10.0, 1.0, 0.1])[:, None, None] + np.array([5.0, 0.0, -2.0])[:, None, None]
    return torch.tensor(values, dtype=torch.float32)


def learn(scorer: ResidualScorer, held_out: torch.Tensor) -> ResidualScorer:
    images = Batches.of_tensors(*rebuilt(held_out), size=15)
    return scorer.fit(images.take(np.arange(0)), images, seed=0)


def fit(held_out: torch.Tensor, **settings) -> ResidualScorer:
    return learn(ResidualScorer(ResidualConfig(**settings), spec(3)), held_out)


@pytest.mark.parametrize("difference", ["squared", "absolute"])
def test_each_channel_is_divided_by_its_spread(held_out, difference):
    scorer = fit(held_out, scale="channel", difference=difference)
    rows = held_out.double().numpy()
    standard = (rows - rows.mean(axis=(0, 2, 3))[:, None, None]) / rows.std(axis=(0, 2, 3))[:, None, None]
    expected = (np.square(standard) if difference == "squared" else np.abs(standard)).mean(axis=1)
    np.testing.assert_allclose(maps_of(scorer, held_out), expected, rtol=1e-3, atol=1e-4)


def test_whitened_squares_are_mahalanobis_distances(held_out):
    scorer = fit(held_out, scale="whitened")
    rows = held_out.double().permute(0, 2, 3, 1).flatten(0, 2).numpy()
    centred = rows - rows.mean(axis=0)
    covariance = np.cov(centred.T, bias=True)
    shrunk = 0.9 * covariance + 0.1 * np.diag(np.diag(covariance))
    expected = np.einsum("nd,de,ne->n", centred, np.linalg.inv(shrunk), centred) / 3
    np.testing.assert_allclose(maps_of(scorer, held_out).flatten(), expected, rtol=1e-3, atol=1e-4)
    unlikely = torch.tensor([15.0, -1.0, -2.0]).view(1, 3, 1, 1).expand(1, 3, 10, 12)  # against what goes together
    likely = torch.tensor([15.0, 0.9, -2.0]).view(1, 3, 1, 1).expand(1, 3, 10, 12)
    assert maps_of(scorer, unlikely).mean() > 5 * maps_of(scorer, likely).mean()


@pytest.mark.parametrize("scale", ["channel", "whitened"])
def test_a_faint_defect_beside_a_busy_channel(held_out, scale):
    """Unscaled, the busy channel drowns it."""
    spoilt = held_out.clone()
    spoilt[:, 2, 4, 4] += 0.6  # six of its deviations
    plain, scaled = fit(held_out), fit(held_out, scale=scale)

    def rank(scorer):
        maps = maps_of(scorer, spoilt).flatten(1)
        return (maps < maps[:, 4 * 12 + 4, None]).float().mean().item()

    assert rank(plain) < 0.6
    assert rank(scaled) > 0.95


@pytest.mark.parametrize("positions", ["pooled", "each"])
@pytest.mark.parametrize("scale", ["none", "channel", "whitened"])
def test_what_was_learned_survives(held_out, scale, positions):
    scorer = fit(held_out, scale=scale, positions=positions)
    twin = scorer.fresh()
    twin.load_state_dict(scorer.state_dict())
    torch.testing.assert_close(maps_of(twin, held_out), maps_of(scorer, held_out))
    learned = ([] if scale == "none" else ["mean", "scaling"]) + (["usual"] if positions == "each" else [])
    assert sorted(scorer.state_dict()) == learned
    again = learn(scorer, held_out)  # what was learned before has no part in it
    torch.testing.assert_close(maps_of(twin, held_out), maps_of(again, held_out))


@pytest.mark.parametrize("difference", ["absolute", "ssim"])
def test_each_position_is_divided_by_what_is_usual_there(held_out, difference):
    held_out[:, :, :, 6:] *= 20
    plain = maps_of(fit(held_out, difference=difference), held_out).double()
    usual = plain.mean(dim=0)
    scorer = fit(held_out, difference=difference, positions="each")
    expected = plain / (usual + 0.1 * usual.mean())
    torch.testing.assert_close(maps_of(scorer, held_out).double(), expected, rtol=1e-3, atol=1e-5)


def test_a_faint_defect_beside_a_busy_edge(held_out):
    """Pooled, the busy half of the image drowns it."""
    held_out[:, :, :, :6] *= 3
    spoilt = held_out.clone()
    spoilt[:, :, 4, 9] = 4 * held_out[:, :, 4, 9].abs() + 10
    pooled, each = (maps_of(fit(held_out, positions=kind), spoilt) for kind in ("pooled", "each"))
    highest = [(maps.flatten(1).argmax(dim=1) == 4 * 12 + 9).float().mean().item() for maps in (pooled, each)]
    assert highest[0] < 0.3
    assert highest[1] > 0.5


def test_positions_where_nothing_is_ever_left_over_do_not_blow_up(held_out):
    for still in (slice(0, 5), slice(0, 10)):
        images = held_out.clone()
        images[:, :, still] = 0.0
        maps = maps_of(fit(images, positions="each"), images)
        assert maps.isfinite().all()
        assert (maps[:, still] == 0).all()


@pytest.mark.parametrize("scale", ["channel", "whitened"])
def test_channels_that_never_vary_do_not_blow_up(held_out, scale):
    for still in ([2], [0, 1, 2]):
        images = held_out.clone()
        images[:, still] = 1.0
        maps = maps_of(fit(images, scale=scale), images)
        assert maps.isfinite().all()
        assert maps.max() < 100


def test_scales_need_images_that_the_model_has_not_seen():
    with pytest.raises(DataError, match=r"scorer\.scale = 'channel' needs normal images .* was not trained on; add"):
        fit(torch.zeros(0, 3, 10, 12), scale="channel")
    with pytest.raises(DataError, match=r"scorer\.positions = 'each' needs normal images .* was not trained on; add"):
        fit(torch.zeros(0, 3, 10, 12), positions="each")


@pytest.mark.parametrize("settings", [{"scale": "channel"}, {"positions": "each"}])
def test_scales_need_finite_differences(held_out, settings):
    held_out[3, 0, 0, 0] = torch.inf
    with pytest.raises(DataError, match=r"not finite: fit it with a smaller training\.learning_rate"):
        fit(held_out, **settings)


def test_too_many_channels_for_a_covariance(held_out, monkeypatch):
    monkeypatch.setattr(reconstruction, "WIDEST", 2)
    with pytest.raises(ConfigError, match=r"3 channels are too many .* which can have 2; take scale = 'none', or"):
        fit(held_out, scale="whitened")


@pytest.mark.parametrize("difference", ["ssim", "cosine"])
def test_what_is_no_plain_difference_cannot_be_scaled(difference):
    with pytest.raises(ConfigError, match=rf"scorer\.scale = 'channel' scales a plain .* came '{difference}'"):
        ResidualConfig(difference, scale="channel")


def test_one_channel_has_no_direction():
    with pytest.raises(ConfigError, match="compares the directions of several channels, and these images have one"):
        ResidualScorer(ResidualConfig("cosine"), spec(1))
    ResidualScorer(ResidualConfig("cosine"), spec(2))
