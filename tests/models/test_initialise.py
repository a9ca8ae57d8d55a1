"""Where the weights of a model start, and which are left alone."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from unlike.data.randomness import isolated_randomness
from unlike.errors import ConfigError
from unlike.models import MODELS
from unlike.models.initialise import INITIALISATIONS, initialise
from unlike.records import ImageShape


def weights(module: nn.Module) -> dict:
    return {name: value.clone() for name, value in module.state_dict().items()}


def every_layer() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(16, 64, 3),
        nn.ConvTranspose2d(64, 32, 4, bias=False),
        nn.Linear(200, 100),
        nn.BatchNorm2d(8),
        nn.ReLU(),
    )


def test_default_leaves_everything():
    model = every_layer()
    before = weights(model)
    initialise(model, "default")
    torch.testing.assert_close(weights(model), before, rtol=0, atol=0)


def test_kaiming_xavier_is_c4s():
    """Kaiming-normal: variance 2 / (1 + a^2) / inputs; Xavier-normal: variance 2 / (inputs + outputs)."""
    model = every_layer()
    nn.init.constant_(model[3].weight, 7)
    nn.init.constant_(model[3].bias, 7)
    with isolated_randomness(0):
        initialise(model, "kaiming-xavier")
    conv, transposed, linear, norm, _ = model.requires_grad_(False)
    assert conv.weight.std().item() == pytest.approx((2 / (1 + 0.01**2) / (16 * 9)) ** 0.5, rel=0.03)
    assert transposed.weight.std().item() == pytest.approx((2 / (1 + 0.01**2) / (32 * 16)) ** 0.5, rel=0.03)
    assert linear.weight.std().item() == pytest.approx((2 / 300) ** 0.5, rel=0.03)
    assert [float(layer.bias.abs().max()) for layer in (conv, linear, norm)] == [0, 0, 0]
    assert norm.weight.tolist() == [1] * 8
    kurtosis = (conv.weight / conv.weight.std()).pow(4).mean().item()
    assert kurtosis == pytest.approx(3, abs=0.2)  # normal, not uniform (1.8)


def test_random_numbers_are_the_callers():
    drawn = []
    for seed in (0, 0, 1):
        model = every_layer()
        with isolated_randomness(seed):
            initialise(model, "kaiming-xavier")
        drawn.append(model[0].weight)
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])


def test_pretrained_weights_are_left_alone():
    model = nn.ModuleDict({"trunk": every_layer(), "head": nn.Linear(4, 4)})
    model["trunk"].pretrained = True
    before = weights(model)
    initialise(model, "kaiming-xavier")
    after = weights(model)
    assert all(torch.equal(after[name], before[name]) for name in before if name.startswith("trunk"))
    assert not torch.equal(after["head.weight"], before["head.weight"])


@pytest.mark.parametrize("scheme", INITIALISATIONS)
@pytest.mark.parametrize("name", ["conv", "conv-dense", "multi-encoder"])
def test_a_model_still_rebuilds(name, scheme):
    model = MODELS[name](MODELS[name].Config(), ImageShape(3, 16, 16))
    initialise(model, scheme)
    with torch.no_grad():
        assert model.eval().rebuild(torch.rand(2, 3, 16, 16)).isfinite().all()


def test_an_unknown_scheme_is_named():
    with pytest.raises(ConfigError, match="unknown initialisation 'kaiming'; did you mean 'kaiming-xavier'"):
        initialise(nn.Linear(1, 1), "kaiming")
