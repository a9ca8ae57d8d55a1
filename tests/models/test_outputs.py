"""What a model gives by name: what its methods give, computed together, without a trace, and in a graph that can be exported."""

from __future__ import annotations

import copy
from itertools import chain, combinations

import pytest
import torch
from torch import nn

from unlike.backbones.lazy_network import materialise
from unlike.data.randomness import isolated_randomness
from unlike.errors import ConfigError
from unlike.models import MODELS, Autoencoder
from unlike.models.losses import LOSSES
from unlike.records import ImageShape
from unlike.testing import example_images

TINY = {"backbone": "test_efficientnet", "pretrained": False, "runtime": "torch"}
SMALL = {
    "feature-attention": TINY | {"width": 16},
    "feature-conv": TINY | {"widths": (16, 32)},
    "feature-linear": TINY | {"code": 16},
    "features": TINY | {"stages": (1, 2), "fine": (1,)},
    "residual-unet": {"widths": (4, 8), "bottleneck": 16},
    "vae": {"widths": (8, 16), "latent": 8},
}
OTHERS = {  # of a family whose outputs depend on its settings
    "residual-unet with skips": ("residual-unet", {"widths": (4, 8), "bottleneck": 16, "skips": True}),
    "vae of a cnn": ("vae", {"widths": (8, 16), "latent": 8, "encoder": "test_efficientnet"}),
    "vae of a vit": ("vae", {"widths": (8, 16), "latent": 8, "encoder": "test_vit"}),
    "features of a vit": ("features", TINY | {"backbone": "test_vit"}),
    "conv with a vector": ("conv", {"bottleneck": 8}),
}
CASES = {**{name: (name, SMALL.get(name, {})) for name in MODELS}, **OTHERS}
PLAIN = (bool, int, float, str, tuple, list, type(None))
METHODS = {"features": "encode", "target": "target", "reconstruction": "rebuild", "marks": "mark"}


def build(case: str):
    name, settings = CASES[case]
    with isolated_randomness(0):
        return MODELS[name].build(MODELS[name].Config(**settings), ImageShape(3, 32, 48)).eval()


class Outputs(nn.Module):
    """A model's outputs as a tuple, as an exported graph has them."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, images):
        return tuple(self.model.outputs(images, self.model.output_spec.names).values())


@pytest.mark.parametrize("case", CASES)
def test_outputs_are_what_the_methods_give_in_any_company(case):
    model = build(case)
    images, names = example_images(model, 2), model.output_spec.names
    with torch.no_grad():
        expected = {name: getattr(model, METHODS[name])(images) for name in names}
        for chosen in chain.from_iterable(combinations(names[::-1], count) for count in range(1, len(names) + 1)):
            found = model.outputs(images, chosen)
            assert tuple(found) == chosen
            for name in chosen:
                torch.testing.assert_close(found[name], expected[name], rtol=0, atol=0)


@pytest.mark.parametrize("case", CASES)
def test_spec_says_what_there_is(case):
    model = build(case)
    spec, images = model.output_spec, example_images(model, 2)
    with torch.no_grad():
        found = model.outputs(images, spec.names)
        assert spec.model == type(model).__name__
        assert sum(spec.feature_groups) in (0, found["features"].shape[1])
        if not isinstance(model, Autoencoder):
            assert (spec.names, spec.decode, spec.skips, spec.target_channels) == (("features",), None, False, None)
            return
        assert {"features", "target", "reconstruction"} <= set(spec.names)
        assert spec.target_channels == found["target"].shape[1] == found["reconstruction"].shape[1]
        assert spec.images == (found["target"] is images)
        assert (spec.decode is None) == spec.skips == (not model.decodes)
        if spec.decode is not None:
            torch.testing.assert_close(spec.decode(found["features"]), found["reconstruction"])


def test_spec_of_each_kind():
    assert build("features").output_spec.feature_groups == build("features").extractor.sizes.feature_groups != ()
    assert build("repair").output_spec.names == ("features", "target", "reconstruction", "marks")
    assert not build("feature-linear").output_spec.images
    assert build("residual-unet with skips").output_spec.skips
    assert not build("residual-unet").output_spec.skips


@pytest.mark.parametrize(
    ("case", "names", "message"),
    [
        (
            "conv",
            ["marks"],
            r"ConvAutoencoder does not give 'marks'; expected some of: features, target, reconstr.*\. Take",
        ),
        (
            "pixels",
            ["features", "target", "wonders"],
            r"Pixels does not give 'target', 'wonders'; expected some of: features\. ",
        ),
    ],
)
def test_outputs_that_a_model_does_not_have(case, names, message):
    model = build(case)
    with pytest.raises(ConfigError, match=message):
        model.outputs(example_images(model), names)


def count_calls(module: nn.Module) -> list:
    calls = []
    module.register_forward_pre_hook(lambda _, inputs: calls.append(len(inputs[0])))
    return calls


@pytest.mark.parametrize(
    ("case", "part"),
    [
        ("conv", lambda model: model.encoder),
        ("vae", lambda model: model.encoder),
        ("repair", lambda model: model.stem),
        ("residual-unet with skips", lambda model: model.bottleneck),
        ("feature-conv", lambda model: model.encoder),
        ("feature-conv", lambda model: model.extractor),
    ],
)
def test_outputs_take_one_pass(case, part):
    model = build(case)
    calls = count_calls(part(model))
    model.outputs(example_images(model), model.output_spec.names)
    assert calls == [4]


def test_a_target_alone_takes_no_pass_through_the_rest():
    model = build("feature-conv")
    calls = count_calls(model.encoder)
    model.outputs(example_images(model), ("target",))
    assert calls == []


def attributes(model: nn.Module) -> dict:
    """What each part of a model holds beside its weights: plain values, and of what kind the others are."""
    held = ((name, key, value) for name, part in model.named_modules() for key, value in vars(part).items())
    return {(name, key): value if isinstance(value, PLAIN) else type(value) for name, key, value in held}


@pytest.mark.parametrize("case", CASES)
def test_use_leaves_a_model_as_it_is(case):
    model = build(case)
    images = example_images(model, 2)
    model.warm_up(0.5)
    before, weights = attributes(model), copy.deepcopy(model.state_dict())
    with torch.no_grad():
        model.outputs(images, model.output_spec.names)
        for name in model.output_spec.names:
            getattr(model, METHODS[name])(images)
        model.loss(images, LOSSES["squared"])
    assert attributes(model) == before
    torch.testing.assert_close(model.state_dict(), weights, rtol=0, atol=0)


@pytest.mark.parametrize("case", CASES)
def test_outputs_can_be_exported_for_any_number_of_images(case):
    model = build(case)
    outputs = Outputs(materialise(model)).eval()
    batch = torch.export.Dim("batch")
    program = torch.export.export(outputs, (example_images(model, 2),), dynamic_shapes=({0: batch},), strict=False)
    for count in (1, 5):
        images = example_images(model, count, seed=1)
        with torch.no_grad():
            found, expected = program.module()(images), outputs(images)
        assert len(found) == len(model.output_spec.names)
        for one, other in zip(found, expected, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)
