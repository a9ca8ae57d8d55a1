"""The pieces that families share."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from unlike.errors import ConfigError
from unlike.models import MODELS
from unlike.models.blocks import BatchNorm


@pytest.mark.parametrize("shape", [(4, 3), (4, 3, 2, 5), (1, 3, 1, 2)])
def test_batch_norm_is_torchs(shape, rng):
    values = torch.tensor(rng.normal(size=shape), dtype=torch.float32)
    ours, theirs = BatchNorm(3), (nn.BatchNorm1d if len(shape) == 2 else nn.BatchNorm2d)(3)
    torch.testing.assert_close(ours(values), theirs(values))
    torch.testing.assert_close(ours.running_var, theirs.running_var)
    torch.testing.assert_close(ours.eval()(values), theirs.eval()(values))


@pytest.mark.parametrize("shape", [(1, 3), (1, 3, 1, 1)])
def test_batch_norm_of_a_single_value_is_that_of_use(shape, rng):
    norm = BatchNorm(3)
    norm(torch.tensor(rng.normal(2, 3, size=(50, 3)), dtype=torch.float32))
    before = {name: value.clone() for name, value in norm.state_dict().items()}
    values = torch.tensor(rng.normal(size=shape), dtype=torch.float32)
    learning = norm(values)
    assert learning.requires_grad
    torch.testing.assert_close(norm.state_dict(), before)
    torch.testing.assert_close(norm.eval()(values), learning)


@pytest.mark.parametrize(
    ("model", "names"),
    [
        ("conv-dense", ["hidden", "code"]),
        ("feature-attention", ["width", "depth", "heads", "growth"]),
        ("feature-conv", ["code"]),
        ("feature-linear", ["code"]),
        ("pixels", ["side"]),
        ("residual-unet", ["bottleneck"]),
        ("resnet", ["code"]),
    ],
)
def test_a_count_below_one_is_refused(model, names):
    for name in names:
        with pytest.raises(ConfigError, match=rf"^model\.{name}: expected 1 or more, came 0$"):
            MODELS[model].Config(**{name: 0})
