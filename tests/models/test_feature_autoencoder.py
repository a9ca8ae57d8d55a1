"""What all feature autoencoders share: their target, one look an image, and what the loss leaves out."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch

from conftest import scratched, stripes
from unlike import Detector
from unlike.backbones.frozen_features import FeaturesConfig
from unlike.config import from_mapping, to_mapping
from unlike.data.randomness import isolated_randomness
from unlike.detector.storage import pack_weights
from unlike.errors import ConfigError
from unlike.models import MODELS
from unlike.models.feature_autoencoder import FeatureAutoencoder
from unlike.models.features import Features
from unlike.models.losses import LOSSES
from unlike.records import ImageShape
from unlike.testing import check_model, example_images

NAMES = [name for name, family in MODELS.items() if issubclass(family, FeatureAutoencoder)]
TINY = {"backbone": "test_efficientnet", "pretrained": False, "runtime": "torch"}


def build(name="feature-linear", side=32, **settings) -> FeatureAutoencoder:
    with isolated_randomness(0):
        return MODELS[name](MODELS[name].Config(**{**TINY, **settings}), ImageShape(3, side, side * 3 // 2))


def count_looks(model):
    """A list that grows by the number of images whenever the network looks at some."""
    looks, module = [], model.extractor.module
    module.register_forward_pre_hook(lambda _, inputs: looks.append(len(inputs[0])))
    return looks


def test_there_are_three():
    assert NAMES == ["feature-attention", "feature-conv", "feature-linear"]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("backbone", ["test_efficientnet", "test_vit"])
def test_promises_on_cells_of_a_cnn_and_tokens_of_a_vit(name, backbone):
    check_model(build(name, backbone=backbone, groups=2))


@pytest.mark.parametrize("name", NAMES)
def test_target_is_what_features_gives_and_learns_nothing(name):
    model = build(name, cell=8)
    features = Features(FeaturesConfig(**TINY, cell=8, averaging=1, scale="unit"), model.shape)
    features.extractor.load_state_dict(model.extractor.state_dict())
    images = example_images(model)
    rebuilt, target = model.eval().compare(images)
    torch.testing.assert_close(target, features.encode(images))
    torch.testing.assert_close(rebuilt, model.rebuild(images))
    model.train().loss(images, LOSSES["squared"]).backward()
    assert all(value.grad is None for value in model.extractor.parameters())


@pytest.mark.parametrize("name", NAMES)
def test_each_image_is_looked_at_once_while_the_model_learns(name):
    model = build(name)
    looks, images = count_looks(model), example_images(model)
    objective = LOSSES["squared"]
    first = model.train().loss(images, objective)
    looks.clear()  # a runtime may look once more to see what it has
    for share in (0.0, 0.5, 1.0):
        model.warm_up(share)
        model.train().loss(images, objective)
        with torch.no_grad():
            model.eval().loss(images, objective)
    assert sum(looks) == 0
    assert len(model.memory) == len(images)
    assert first.isfinite()
    model.encode(images)
    assert len(model.memory) == 0  # in use, nothing is kept
    assert sum(looks) == len(images)


def test_scoring_takes_one_look():
    from unlike.scoring.reconstruction import ResidualConfig, ResidualScorer

    model = build().eval()
    looks, images = count_looks(model), example_images(model)
    model.encode(images)
    looks.clear()
    with torch.no_grad():
        ResidualScorer(ResidualConfig()).maps(model, images)
    assert sum(looks) == len(images)


def test_spoilt_images_are_rebuilt_as_they_were():
    model = build().eval()
    clean = example_images(model)
    spoilt = clean + 0.3 * torch.randn(clean.shape, generator=torch.Generator().manual_seed(0))
    expected = (model.rebuild(spoilt) - model.target(clean)).square().mean()
    torch.testing.assert_close(model.loss(spoilt, LOSSES["squared"], clean), expected)
    assert len(model.memory) == len(clean)  # the spoilt ones will not come again


@pytest.mark.parametrize(("chosen", "count", "sizes"), [(3, 1, [3]), (3, 2, [2, 1]), (3, 3, [1, 1, 1]), (4, 2, [2, 2])])
def test_each_group_of_stages_is_compared_by_itself(chosen, count, sizes):
    model = build(stages=tuple(range(chosen)), groups=count).eval()
    widths = model.extractor.module.stages.widths
    ends = np.cumsum([0, *sizes])
    assert model.groups == [sum(widths[a:b]) for a, b in pairwise(ends)]
    images = example_images(model)
    rebuilt, target = model.compare(images)
    parts = zip(rebuilt.split(model.groups, 1), target.split(model.groups, 1), strict=True)
    expected = torch.stack([LOSSES["cosine"](a, b) for a, b in parts]).mean()
    torch.testing.assert_close(model.loss(images, LOSSES["cosine"]), expected)


def test_easy_places_lose_most_of_their_gradient_and_none_of_their_value():
    model = build(easy_share=0.75, easy_gradient=0.1).train()
    target = torch.randn(1, model.width, 2, 2, generator=torch.Generator().manual_seed(0))
    rebuilt = target.clone()
    rebuilt[..., 1, 1] *= -1  # the hard one
    rebuilt.requires_grad_()
    model.warm_up(0.0)
    assert model._shrink(rebuilt, target) is rebuilt
    for share, left in ((0.1, [0.1, 0.1, 0.1, 1.0]), (1.0, [0.1, 0.1, 0.1, 1.0])):
        model.warm_up(share)
        found = model._shrink(rebuilt, target)
        torch.testing.assert_close(found, rebuilt)
        (gradient,) = torch.autograd.grad(found.sum(), rebuilt)
        torch.testing.assert_close(gradient[0, 0].flatten(), torch.tensor(left))
    assert model.eval()._shrink(rebuilt, target) is rebuilt


def test_the_share_of_easy_places_grows_over_the_first_tenth():
    model = build(easy_share=0.8)
    shares = []
    for share in (0.0, 0.05, 0.1, 0.9):
        model.warm_up(share)
        shares.append(model.easy)
    assert shares == pytest.approx([0, 0.4, 0.8, 0.8])


@pytest.mark.parametrize("name", NAMES)
def test_dropout_is_noise_while_it_learns_only(name):
    model = build(name, dropout=0.5)
    images, objective = example_images(model), LOSSES["squared"]
    with isolated_randomness(0), torch.no_grad():
        learning = {model.train().loss(images, objective).item() for _ in range(3)}
        used = {model.eval().loss(images, objective).item() for _ in range(3)}
    assert len(learning) == 3
    assert len(used) == 1


@pytest.mark.parametrize("name", NAMES)
def test_a_detector_of_it_finds_scratches_and_survives_a_folder(name, tmp_path):
    settings = {
        "model": {**TINY, "name": name, "stages": [0, 1, 2], "cell": 4, "averaging": 3},
        "map": {"reduction": "max"},
        "training": {"epochs": 12, "learning_rate": 5e-3},
        "decision": {"false_alarms": 0.1},
    }
    detector = Detector(settings=settings, device="cpu").fit(stripes(80))
    normal, damaged = detector.score(stripes(20, seed=8)), detector.score(scratched(stripes(20, seed=9))[0])
    assert np.median(damaged.image) > normal.image.max()
    detector.save(tmp_path / "d")
    np.testing.assert_allclose(Detector.load(tmp_path / "d").score(stripes(20, seed=8)).image, normal.image, rtol=1e-5)


def test_the_networks_weights_are_kept_once():
    model = build(code=1, pretrained=True, backbone="efficientnet-lite0", side=64)
    frozen = len(pack_weights(model.extractor))
    learned = sum(4 * value.numel() for value in model.parameters() if value.requires_grad)
    assert len(pack_weights(model)) < frozen + learned + 10_000  # names


@pytest.mark.parametrize("name", NAMES)
def test_config_survives_toml(name):
    kind = MODELS[name].Config
    for config in (kind(), kind(stages=(2, 3), dropout=0.3, groups=2, easy_share=0.5)):
        assert from_mapping(kind, to_mapping(config), "model") == config


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("feature-linear", {"dropout": 0.99}, r"model\.dropout: expected 0 to 0\.95, came 0\.99"),
        ("feature-linear", {"easy_share": 1.0}, r"model\.easy_share: expected 0 to 0\.99, came 1"),
        ("feature-linear", {"easy_gradient": -1.0}, r"model\.easy_gradient: expected 0 to 1, came -1"),
        ("feature-linear", {"groups": 0}, r"model\.groups: expected 1 to 100, came 0"),
        ("feature-linear", {"groups": 3}, r"model\.groups: expected 2 or fewer, the number of stages, came 3"),
        ("feature-linear", {"groups": 2, "dimensions": 8}, r"model\.groups: random directions mix all stages.* came 2"),
        ("feature-linear", {"code": 0}, r"model\.code: expected 1 or more, came 0"),
        ("feature-linear", {"averaging": 2}, r"model\.averaging: expected an odd number"),
        ("feature-conv", {"widths": ()}, r"model\.widths: expected one width or more"),
        ("feature-conv", {"bottleneck": 0}, r"model\.bottleneck: expected 1 or more, or none, came 0"),
        ("feature-attention", {"depth": 0}, r"model\.depth: expected 1 or more, came 0"),
        ("feature-attention", {"width": 12}, r"model\.width: expected a multiple of model\.heads, 8, came 12"),
    ],
)
def test_settings_that_cannot_be(name, settings, message):
    with pytest.raises(ConfigError, match=message):
        build(name, **settings)
