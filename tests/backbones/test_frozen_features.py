"""Frozen features: which stages, in what grid, of which scale; and that nothing is computed, kept or learned in vain."""

from __future__ import annotations

import numpy as np
import pytest
import timm
import torch
from torch.nn import functional

from unlike.backbones.frozen_features import FeatureGrid, FeaturesConfig, make_features
from unlike.backbones.networks import Stages, make_stages, wheel_weights
from unlike.config import from_mapping, to_mapping
from unlike.data.split import Split
from unlike.detector.storage import pack_weights, without_pretrained
from unlike.errors import ConfigError
from unlike.models import Autoencoder
from unlike.models.feature_linear import FeatureLinearConfig
from unlike.models.features import Features
from unlike.models.initialise import initialise
from unlike.models.losses import LOSSES
from unlike.records import ImageShape
from unlike.testing import check_model, example_images
from unlike.training import FinetuneConfig, LabelModel, TrainingConfig, train


def build(channels: int = 3, height: int = 64, width: int = 64, **settings) -> Features:
    settings = {"backbone": "test_efficientnet", "pretrained": False, "runtime": "torch", **settings}
    return Features(FeaturesConfig(**settings), ImageShape(channels, height, width))


def bring(values, size=(32, 32), **settings) -> torch.Tensor:
    """What FeatureGrid makes of the grids that stages gave."""
    stages = torch.nn.Module()
    stages.forward = lambda images: [value.expand(len(images), -1, -1, -1) for value in values]
    stages.grids, stages.widths = [tuple(value.shape[2:]) for value in values], [value.shape[1] for value in values]
    settings = {"averaging": 1, **settings}
    return FeatureGrid(stages, FeaturesConfig(**settings), size)(torch.zeros(1, 3, *size))[0]


def test_default_is_two_stages_of_the_wheels_network_as_timm_itself_gives_them():
    model = Features(FeaturesConfig(averaging=1), ImageShape(3, 96, 128))
    network = timm.create_model("tf_efficientnet_lite0", features_only=True, out_indices=(2, 3)).eval()
    assert not network.load_state_dict(wheel_weights("tf_efficientnet_lite0"), strict=False).missing_keys
    images = example_images(model, 2)
    with torch.no_grad():
        fine, coarse = network(images)
    assert (fine.shape[1:], coarse.shape[1:]) == ((40, 12, 16), (112, 6, 8))
    expected = torch.cat([fine, functional.interpolate(coarse, (12, 16), mode="bilinear")], dim=1)
    assert (model.encode(images) - expected).abs().max() < 1e-4 * expected.abs().max()


def test_weights_of_what_is_not_computed_are_not_kept():
    model = Features(FeaturesConfig(), ImageShape(3, 64, 64))
    assert len(pack_weights(model)) < 3_000_000  # of 19 million
    stages = model.extractor.module.stages
    assert len(stages.network.blocks) == 5  # of 7; timm's blocks.4 is the last that is computed
    features = sum(grid.sum() for grid in stages.requires_grad_()(example_images(model, 1)))
    features.backward()
    assert [name for name, value in stages.named_parameters() if value.grad is None] == []


@pytest.mark.parametrize(
    ("name", "side", "chosen", "widths"),
    [
        ("resnet18", 64, (2, 3), (128, 256)),
        ("wide_resnet50_2", 32, (2, 3), (512, 1024)),
        ("convnext_atto", 64, (1, 2), (80, 160)),
        ("vit_tiny_patch16_224", 64, (5, 8), (192, 192)),
        ("vit_small_patch14_dinov2", 56, (5, 8), (384, 384)),
        ("vit_small_patch16_dinov3", 64, (5, 8), (384, 384)),
    ],
)
def test_networks_by_name(name, side, chosen, widths):
    model = build(1, side, side, backbone=name)
    stages = model.extractor.module.stages
    assert (stages.chosen, stages.widths) == (chosen, widths)
    images = example_images(model, 2)
    code = model.encode(images)
    assert code.shape == (2, sum(widths), *max(stages.grids))
    assert (code[0] - code[1]).abs().max() > 1e-3


@pytest.mark.parametrize("backbone", ["test_efficientnet", "test_resnet", "test_vit", "test_mambaout"])
@pytest.mark.parametrize("channels", [1, 5])
def test_promises_of_a_model(backbone, channels):
    check_model(build(channels, 32, 48, backbone=backbone))


@pytest.mark.parametrize("backbone", ["test_efficientnet", "test_resnet", "test_vit"])
def test_features_lie_in_the_grid_as_in_the_image(backbone):
    model = build(3, 64, 96, backbone=backbone, averaging=1)
    images = torch.zeros(2, 3, 64, 96)
    images[1, :, 32:48, 80:96] = 1
    code = model.encode(images)
    change = (code[0] - code[1]).square().sum(dim=0)  # (h, w)
    row, column = divmod(int(change.argmax()), change.shape[1])
    cell = 64 // change.shape[0]
    assert 32 - cell <= row * cell <= 48  # a network of random weights sees a little beyond the edge
    assert 80 - cell <= column * cell <= 96


def test_coarse_stages_become_smooth_and_fine_ones_means():
    ramp = torch.arange(8.0).expand(1, 1, 8, 8)
    fine = bring([ramp, ramp[..., ::2, ::2]])
    assert fine.shape == (2, 8, 8)
    torch.testing.assert_close(fine[1, :, 2:6], torch.tensor([1.5, 2.5, 3.5, 4.5]).expand(8, 4))
    coarse = bring([ramp], cell=8)
    assert coarse.shape == (1, 4, 4)
    torch.testing.assert_close(coarse[0], torch.tensor([0.5, 2.5, 4.5, 6.5]).expand(4, 4))


@pytest.mark.parametrize(("cell", "grid"), [("auto", (8, 12)), (4, (16, 24)), (16, (4, 6)), (30, (3, 4))])
def test_cell_chooses_the_grid(cell, grid):
    model = build(3, 64, 96, backbone="test_resnet", cell=cell)
    assert model.encode(example_images(model, 1)).shape == (1, 48 + 192, *grid)


def test_averages_at_the_border_are_of_what_is_there_damped_by_how_much_that_is():
    grid = torch.rand(1, 2, 6, 5, generator=torch.Generator().manual_seed(0)) + 5
    expected = torch.stack(
        [
            torch.stack([grid[0, :, max(y - 1, 0) : y + 2, max(x - 1, 0) : x + 2].mean(dim=(1, 2)) for x in range(5)])
            for y in range(6)
        ]
    ).permute(2, 0, 1)
    torch.testing.assert_close(bring([grid], averaging=3, border="keep"), expected)
    inside = torch.full((6, 5), 1.0)
    inside[[0, -1]] *= 2 / 3
    inside[:, [0, -1]] *= 2 / 3
    torch.testing.assert_close(bring([grid], averaging=3), expected * inside)
    torch.testing.assert_close(bring([grid], averaging=1), grid[0])


def test_every_stage_counts_alike_whatever_its_size_and_strength():
    weak, strong = torch.rand(1, 3, 4, 4) + 0.1, torch.rand(1, 50, 2, 2) * 1000 + 1
    features = bring([weak, strong], scale="unit")
    torch.testing.assert_close(features[:3].norm(dim=0), torch.ones(4, 4))
    torch.testing.assert_close(features[3:, ::3, ::3].norm(dim=0), torch.ones(2, 2))  # at corners nothing is between
    assert bring([torch.zeros(1, 3, 2, 2)], scale="unit").abs().max() == 0


def test_kept_channels_are_some_of_all_and_the_same_every_time():
    model, everything = build(dimensions=20), build()
    weights = {name: value for name, value in model.state_dict().items() if not name.endswith("directions")}
    everything.load_state_dict(weights)
    images = example_images(model, 2)
    directions = model.extractor.module.directions[:, :, 0, 0]
    torch.testing.assert_close(directions @ directions.T, torch.eye(20), rtol=0, atol=1e-5)
    assert model.extractor.sizes.width == 20
    expected = torch.einsum("dc,bchw->bdhw", directions, everything.encode(images))
    torch.testing.assert_close(model.encode(images), expected, rtol=1e-4, atol=1e-4)
    assert torch.equal(build(dimensions=20).extractor.module.directions, model.extractor.module.directions)
    other = build(dimensions=20, direction_seed=1)
    assert not torch.equal(other.extractor.module.directions, model.extractor.module.directions)
    other.load_state_dict(model.state_dict())
    torch.testing.assert_close(other.encode(images), model.encode(images))


def test_saved_weights_need_no_wheel_and_no_hub():
    config = FeaturesConfig(dimensions=30, runtime="torch")
    model = Features(config, ImageShape(1, 64, 64))
    again = Features(without_pretrained(config), ImageShape(1, 64, 64))
    images = example_images(model, 2)
    assert (again.encode(images) - model.encode(images)).abs().max() > 0.01
    again.load_state_dict(model.state_dict())
    torch.testing.assert_close(again.encode(images), model.encode(images))


def test_initialisation_leaves_pretrained_weights_alone():
    model, drawn = Features(FeaturesConfig(), ImageShape(3, 32, 32)), build()
    for network, stays in ((model, True), (drawn, False)):
        before = {name: value.clone() for name, value in network.state_dict().items()}
        initialise(network, "kaiming-xavier")
        assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items()) == stays


def test_nothing_is_trained():
    model = build()
    assert not isinstance(model, Autoencoder)
    assert not any(value.requires_grad for value in model.parameters())
    assert model.loss(example_images(model), LOSSES["squared"]) == 0
    split = Split(np.arange(2), np.arange(2, 3), np.arange(3, 4))
    assert train(model, None, split, TrainingConfig(), value_range=(0.0, 1.0), device="cpu") == []


def test_use_is_the_only_mode():
    """Batch norms neither see the batch nor learn from it."""
    model = build(backbone="test_resnet")
    images = example_images(model)
    before, state = model.eval().encode(images), {k: v.clone() for k, v in model.state_dict().items()}
    torch.testing.assert_close(model.train().encode(images), before)
    torch.testing.assert_close(model.state_dict(), state)


def test_a_head_on_frozen_features_learns_by_itself():
    network = LabelModel(FinetuneConfig(head_width=16), build(), 2).train()
    loss = network.loss(example_images(network), LOSSES["squared"], None, torch.tensor([0, 1, 0, 1]))
    loss.backward()
    reached = {name.partition(".")[0] for name, value in network.named_parameters() if value.grad is not None}
    assert reached == {"head"}


def test_extractor_by_itself_is_the_models():
    model = build(dimensions=20)
    extractor = make_features(model.config, model.shape)
    extractor.load_state_dict(model.extractor.state_dict())
    images = example_images(model)
    torch.testing.assert_close(extractor(images), model.encode(images))


def test_stages_by_number_from_either_end():
    for chosen in ((1, 3), (3, 1), (-4, -2), (1, 1, 3)):
        assert make_stages("test_resnet", False, 3, (64, 64), chosen).chosen == (1, 3)
    grids = make_stages("test_resnet", False, 3, (64, 64), (4,))(torch.zeros(1, 3, 64, 64))
    assert [grid.shape[1:] for grid in grids] == [(96, 2, 2)]


def test_config_survives_toml():
    for config in (FeaturesConfig(), FeaturesConfig(stages=(-1, 2), cell=16, dimensions=5, runtime="torch")):
        assert from_mapping(FeaturesConfig, to_mapping(config), "model") == config


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"stages": ()}, r"model\.stages: expected one stage or more, or auto, came none"),
        (
            {"stages": (7,)},
            r"model\.stages: test_efficientnet has 5, from 0 to 4, .* came \[7\]\. .*: 0 \(16 x 1/2\), 1",
        ),
        ({"stages": (0, -6)}, r"came \[0, -6\]"),
        ({"cell": 0}, r"model\.cell: expected 1 to 1024, came 0"),
        ({"averaging": 0}, r"model\.averaging: expected 1 to 99, came 0"),
        ({"averaging": 4}, r"model\.averaging: expected an odd number, which has a middle, came 4"),
        ({"dimensions": 0}, r"model\.dimensions: expected 1 or more, or none, came 0"),
        ({"most_cells": 0}, r"model\.most_cells: expected 1 or more, or none, came 0"),
        (
            {"separate": True, "dimensions": 20},
            r"model\.separate keeps the stages apart: expected no model\.dimensions, .*, came 20; scorer\.dimensions reduces",
        ),
        (
            {"dimensions": 1000},
            r"model\.dimensions: expected \d+ or less, the channels of .* test_efficientnet, came 1000",
        ),
        ({"direction_seed": -1}, r"model\.direction_seed: expected 0 to"),
        ({"runtime": "onnx"}, r"unknown model\.runtime 'onnx'; did you mean 'onnxruntime'\?"),
        ({"border": "dump"}, r"unknown model\.border 'dump'; did you mean 'damp'\?"),
        ({"scale": "unity"}, r"unknown model\.scale 'unity'; did you mean 'unit'\?"),
        ({"backbone": "resnet-18"}, r"unknown backbone 'resnet-18'; did you mean 'resnet18'"),
        ({"backbone": "test_vit", "height": 60}, r"patches of 16 x 16, which do not cover 60 x 64"),
    ],
)
def test_settings_that_cannot_be(settings, message):
    with pytest.raises(ConfigError, match=message):
        build(**settings)


@pytest.mark.parametrize("scale", ["none", "unit"])
def test_a_second_feature_group_has_some_stages_as_they_are_not_averaged(scale):
    settings = {"stages": (1, 2, 3), "cell": 8, "dimensions": 20, "averaging": 3, "scale": scale}
    once, twice = build(**settings), build(**settings, fine=(3, -3))
    twice.load_state_dict(once.state_dict())
    images = example_images(once)
    with torch.no_grad():
        code, stages = twice.encode(images), once.extractor.module.stages(images)
        torch.testing.assert_close(code[:, :20], once.encode(images))
    widths = twice.extractor.module.stages.widths
    assert twice.feature_groups == (20, widths[2] + widths[1])
    assert code.shape[1] == sum(twice.feature_groups)
    assert once.feature_groups == ()
    middle, last = (functional.normalize(stages[n], dim=1) if scale == "unit" else stages[n] for n in (1, 2))
    torch.testing.assert_close(code[:, -widths[1] :], middle)  # whose cells are 8 pixels across, as they were asked for
    torch.testing.assert_close(code[:, 20 : -widths[1]], functional.interpolate(last, code.shape[2:], mode="bilinear"))


def test_each_stage_may_be_a_feature_group_and_those_that_come_again_too():
    settings = {"stages": (1, 2, 3), "averaging": 3, "fine": (2, 3)}
    together, apart = build(**settings), build(**settings, separate=True)
    apart.load_state_dict(together.state_dict())
    images = example_images(apart)
    torch.testing.assert_close(apart.encode(images), together.encode(images))  # the same numbers, named otherwise
    first, second, third = apart.extractor.module.stages.widths
    assert apart.feature_groups == (first, second, third, second, third)
    assert together.feature_groups == (first + second + third, second + third)
    assert build(stages=(1, 2), separate=True).feature_groups == (first, second)
    check_model(apart)


@pytest.mark.parametrize(
    ("size", "most", "grid"),
    [
        ((64, 96), 12, (8, 12)),
        ((64, 96), 6, (4, 6)),
        ((64, 96), 7, (4, 6)),
        ((64, 96), 1, (1, 1)),
        ((64, 72), 5, (4, 5)),
    ],
)
def test_a_grid_of_more_cells_than_wanted_is_averaged_to_fewer(size, most, grid):
    plain, fewer = (build(3, *size, stages=(2,), averaging=1, most_cells=count) for count in (None, most))
    assert fewer.extractor.sizes.grid == grid
    fewer.load_state_dict(plain.state_dict())
    images = example_images(fewer)
    expected = functional.adaptive_avg_pool2d(plain.encode(images), grid)
    torch.testing.assert_close(fewer.encode(images), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("number", [0, 9, -9])
def test_a_second_feature_group_is_of_chosen_stages(number):
    with pytest.raises(
        ConfigError, match=rf"model\.fine: expected some of model\.stages, \[1, 2\], or none, came {number}"
    ):
        build(stages=(1, 2), fine=(number,))
    with pytest.raises(
        ConfigError, match=r"model\.fine: a feature autoencoder rebuilds one feature group: expected none, came \[2\]"
    ):
        FeatureLinearConfig(fine=(2,))


def test_networks_of_others_may_have_no_stages():
    network = torch.nn.Conv2d(3, 3, 3)
    network.pretrained_cfg = {"architecture": "my_own"}
    with pytest.raises(ConfigError, match="backbone my_own does not give its stages one by one; choose another"):
        Stages(network, 3, (8, 8), pretrained=False)


def test_weights_of_a_file_are_pretrained_ones():
    with pytest.raises(ConfigError, match=r"leave model\.pretrained = false out"):
        FeaturesConfig(pretrained=False, weights="w.safetensors")
    bare = without_pretrained(FeaturesConfig(weights="w.safetensors"))
    assert (bare.pretrained, bare.weights) == (False, None)
