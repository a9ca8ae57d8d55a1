"""What all feature autoencoders share: their target, one pass an image, and what the loss leaves out."""

from __future__ import annotations

import copy
import pickle
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
from unlike.scoring.reconstruction import ResidualConfig, ResidualScorer
from unlike.testing import check_model, example_images
from unlike.training import FinetuneConfig, LabelModel

NAMES = [name for name, family in MODELS.items() if issubclass(family, FeatureAutoencoder)]
TINY = {"backbone": "test_efficientnet", "pretrained": False, "runtime": "torch"}


def build(name="feature-linear", side=32, **settings) -> FeatureAutoencoder:
    with isolated_randomness(0):
        return MODELS[name](MODELS[name].Config(**{**TINY, **settings}), ImageShape(3, side, side * 3 // 2))


def count_seen(model):
    """A list that grows by the number of images whenever the network sees some."""
    seen, module = [], model.extractor.module
    module.register_forward_pre_hook(lambda _, inputs: seen.append(len(inputs[0])))
    return seen


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
    found = model.eval().outputs(images, ("reconstruction", "target"))
    torch.testing.assert_close(found["target"], features.encode(images))
    torch.testing.assert_close(found["reconstruction"], model.rebuild(images))
    model.train().loss(images, LOSSES["squared"]).backward()
    assert all(value.grad is None for value in model.extractor.parameters())


@pytest.mark.parametrize("name", NAMES)
def test_each_image_goes_through_the_network_once_in_a_training(name):
    model = build(name)
    seen, images = count_seen(model), example_images(model)
    objective = LOSSES["squared"]
    with model.during_training():
        first = model.train().loss(images, objective)
        seen.clear()  # a runtime may run it once more to see what it has
        for share in (0.0, 0.5, 1.0):
            model.warm_up(share)
            model.train().loss(images, objective)
            with torch.no_grad():
                model.eval().loss(images, objective)
        assert sum(seen) == 0
        assert len(model.feature_cache) == len(images)
        model.encode(images)
        assert sum(seen) == len(images)  # in use nothing is looked up
        assert len(model.feature_cache) == len(images)
    assert first.isfinite()
    assert model.feature_cache is None


def test_after_a_training_nothing_is_cached_even_where_it_failed():
    model = build()
    images = example_images(model)
    model.loss(images, LOSSES["squared"])
    assert model.feature_cache is None
    with pytest.raises(TypeError), model.during_training():
        model.loss(images, None)
    assert model.feature_cache is None


def test_a_copy_has_no_cache():
    model = build()
    with model.during_training():
        model.loss(example_images(model), LOSSES["squared"])
        assert not any("cache" in name for name in model.state_dict())
        for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
            assert twin.feature_cache is None
            torch.testing.assert_close(twin.state_dict(), model.state_dict())
        assert len(model.feature_cache) == 4


def test_the_cache_of_a_training_serves_a_model_that_names_classes():
    model = build()
    classifier = LabelModel(FinetuneConfig(), model, 2)
    with classifier.during_training():
        assert model.feature_cache is not None
    assert model.feature_cache is None


def test_scoring_takes_one_pass():
    model = build().eval()
    scorer = ResidualScorer(ResidualConfig(), model.output_spec)
    seen, images = count_seen(model), example_images(model)
    model.encode(images)
    seen.clear()
    with torch.no_grad():
        outputs = model.outputs(images, scorer.inputs)
        maps = scorer(*(outputs[name] for name in scorer.inputs))
    assert len(maps) == len(images)
    assert sum(seen) == len(images)


def test_spoilt_images_are_rebuilt_as_they_were():
    model = build().eval()
    clean = example_images(model)
    spoilt = clean + 0.3 * torch.randn(clean.shape, generator=torch.Generator().manual_seed(0))
    expected = (model.rebuild(spoilt) - model.target(clean)).square().mean()
    with model.during_training():
        torch.testing.assert_close(model.loss(spoilt, LOSSES["squared"], clean), expected)
        assert len(model.feature_cache) == len(clean)  # the spoilt ones will not come again


@pytest.mark.parametrize(("chosen", "count", "sizes"), [(3, 1, [3]), (3, 2, [2, 1]), (3, 3, [1, 1, 1]), (4, 2, [2, 2])])
def test_each_group_of_stages_is_compared_by_itself(chosen, count, sizes):
    model = build(stages=tuple(range(chosen)), groups=count).eval()
    widths = model.extractor.module.stages.widths
    ends = np.cumsum([0, *sizes])
    assert model.groups == [sum(widths[a:b]) for a, b in pairwise(ends)]
    images = example_images(model)
    reconstruction, target = model.rebuild(images), model.target(images)
    parts = zip(reconstruction.split(model.groups, 1), target.split(model.groups, 1), strict=True)
    expected = torch.stack([LOSSES["cosine"](a, b) for a, b in parts]).mean()
    torch.testing.assert_close(model.loss(images, LOSSES["cosine"]), expected)


def test_easy_positions_lose_most_of_their_gradient_and_none_of_their_value():
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


def test_the_share_of_easy_positions_grows_over_the_first_tenth():
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
