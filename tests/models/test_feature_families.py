"""What is particular to each feature autoencoder: its code, its grids, its attention."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from unlike.data.randomness import isolated_randomness
from unlike.models import MODELS
from unlike.models.feature_attention import attend_linearly
from unlike.models.losses import LOSSES
from unlike.records import ImageShape
from unlike.testing import example_images

TINY = {"backbone": "test_efficientnet", "pretrained": False, "runtime": "torch"}


def build(name, rows=32, columns=48, **settings):
    with isolated_randomness(0):
        return MODELS[name](MODELS[name].Config(**{**TINY, **settings}), ImageShape(3, rows, columns))


def learn(model, features, steps=600, rate=5e-3):
    """Train on features as they are."""
    optimiser = torch.optim.Adam(model.parameters(), lr=rate, fused=True)
    for step in range(steps):
        optimiser.param_groups[0]["lr"] = rate * (1 - step / steps)
        loss = (model.decode(model.squeeze(features)) - features).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return model.eval()


def test_linear_code_spans_the_principal_components():
    """Baldi & Hornik (1989): no linear autoencoder is better, and gradient descent gets there."""
    model = build("feature-linear", code=5)
    size = model.width * model.grid[0] * model.grid[1]
    random = np.random.default_rng(0)
    spread = random.normal(size=(60, 8)) * np.repeat([1.0, 0.2], [5, 3])  # five ways that matter
    rows = spread @ random.normal(size=(8, size)) + 0.3 * random.normal(size=size)
    features = torch.tensor(rows, dtype=torch.float32).view(60, model.width, *model.grid)
    learn(model, features)
    with torch.no_grad():
        found = (model.decode(model.squeeze(features)) - features).square().sum().item()
    centred = rows - rows.mean(axis=0)
    left = np.square(np.linalg.svd(centred, compute_uv=False))[5:].sum()
    assert 0.999 * left <= found <= 1.05 * left


def test_a_local_change_does_not_pass_through_the_linear_code():
    """A defect at one position is rebuilt as a normal position, since no normal image differed there alone."""
    model = build("feature-linear", code=5)
    normal = torch.randn(5, model.width, *model.grid, generator=torch.Generator().manual_seed(0))
    learn(model, normal)
    spoilt = normal[:1].clone()
    spoilt[..., 1, 2] = 3.0
    with torch.no_grad():
        gaps = (model.decode(model.squeeze(spoilt)) - spoilt).square().mean(dim=1)[0]
    assert gaps.argmax().item() == 1 * model.grid[1] + 2
    assert gaps[1, 2] > 10 * gaps.flatten().sort().values[-2]


@pytest.mark.parametrize(("height", "width"), [(32, 32), (37, 50), (3, 5), (96, 32)])
@pytest.mark.parametrize("bottleneck", [None, 7])
@pytest.mark.parametrize("widths", [(6,), (8, 6, 4, 4)])
def test_grids_of_any_size_are_halved_and_grow_again(height, width, bottleneck, widths):
    model = build("feature-conv", height, width, widths=widths, bottleneck=bottleneck, code=5, cell=4).eval()
    images = example_images(model, 2)
    code = model.encode(images)
    rows, columns = (-(-side // 2 ** (len(widths) - 1)) for side in model.grid)
    assert code.shape == ((2, 7, 1, 1) if bottleneck else (2, 5, rows, columns))
    assert model.decode(code).shape == model.target(images).shape


def test_linear_attention_is_the_weighted_mean_of_the_paper():
    random = torch.Generator().manual_seed(0)
    queries, keys, values = (torch.randn(2, 3, 7, 4, generator=random) for _ in range(3))
    feature = [np.where(x > 0, x + 1, np.exp(np.minimum(x, 0))) for x in (queries.numpy(), keys.numpy())]
    weights = np.einsum("bhnd,bhmd->bhnm", *feature)
    expected = weights / weights.sum(axis=-1, keepdims=True) @ values.numpy()
    np.testing.assert_allclose(attend_linearly(queries, keys, values), expected, rtol=1e-4, atol=1e-5)


def test_attention_sees_all_places_and_tokens_keep_theirs():
    model = build("feature-attention", 32, 64, cell=8).eval()
    code = torch.zeros(1, model.config.width, *model.grid)
    changed = code.clone()
    changed[..., 1, 2] = torch.randn(model.config.width, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        change = (model.decode(changed) - model.decode(code)).abs().amax(dim=1)[0]
    assert change.argmax().item() == 1 * model.grid[1] + 2
    assert change.min() > 0


def test_easy_places_are_shrunk_by_default_and_the_loss_falls():
    model = build("feature-attention", width=32, dropout=0.1, averaging=3)
    images = example_images(model)
    optimiser = torch.optim.Adam(model.train().parameters(), lr=3e-3)
    losses = []
    with isolated_randomness(0):
        for step in range(60):
            model.warm_up(step / 59)
            losses.append(model.loss(images, LOSSES["cosine"]))
            optimiser.zero_grad()
            losses[-1].backward()
            optimiser.step()
    assert model.easy == pytest.approx(0.9)
    assert losses[-1].item() < losses[0].item() / 2
