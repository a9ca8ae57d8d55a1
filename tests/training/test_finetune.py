"""A head on a model's code: what its loss is, what learns, and what is refused."""

import numpy as np
import pytest
import torch
from torch.nn import functional

from unlike.config import from_mapping
from unlike.errors import ConfigError
from unlike.models import MODELS, Model
from unlike.models.conv import ConvConfig
from unlike.records import ImageShape
from unlike.training import FinetuneConfig, LabelModel, class_probabilities

IMAGES = torch.rand(6, 1, 16, 16, generator=torch.Generator().manual_seed(0)) * 2 - 1
LABELS = torch.tensor([0, 1, 2, 0, 1, 0])


class Looker(Model):
    """A model with a code and nothing else."""

    def __init__(self):
        super().__init__(None, ImageShape(1, 16, 16))
        self.layer = torch.nn.Conv2d(1, 4, 3)

    def encode(self, images):
        return self.layer(images)

    def loss(self, images, objective, clean=None):
        raise NotImplementedError


def make(model=None, **choices):
    torch.manual_seed(0)
    model = model or MODELS["conv"](ConvConfig(widths=(8, 8)), ImageShape(1, 16, 16))
    return LabelModel(FinetuneConfig(head_width=32, **choices), model, 3)


def learn(network, steps=3):
    optimiser = torch.optim.SGD([p for p in network.parameters() if p.requires_grad], lr=0.1)
    network.train()
    for _ in range(steps):
        network.loss(IMAGES, functional.mse_loss, None, LABELS).backward()
        optimiser.step()
        optimiser.zero_grad()


def changed(network, before):
    after = network.state_dict()
    return {name for name in before if not torch.equal(before[name], after[name])}


def snapshot(network):
    return {name: value.clone() for name, value in network.state_dict().items()}


@pytest.mark.parametrize(("rebuild", "label"), [(0.0, 1.0), (1.0, 1.0), (0.3, 2.0)])
def test_the_loss_is_the_stated_sum(rebuild, label):
    network = make(reconstruction_weight=rebuild, label_weight=label, dropout=0.0).eval()
    clean = IMAGES * 0.5
    named = functional.cross_entropy(network.head(network.encode(IMAGES).flatten(1)), LABELS)
    rebuilt = functional.mse_loss(network.model.rebuild(IMAGES), clean)
    found = network.loss(IMAGES, functional.mse_loss, clean, LABELS)
    torch.testing.assert_close(found, rebuild * rebuilt + label * named)


def test_balanced_weights_make_rare_classes_count_alike():
    network = make(reconstruction_weight=0, dropout=0.0).eval()
    plain = network.loss(IMAGES, functional.mse_loss, None, LABELS)
    network.balance(LABELS.numpy())
    torch.testing.assert_close(network.class_weights, torch.tensor([6 / 9, 1.0, 2.0]))
    each = functional.cross_entropy(network.name(IMAGES), LABELS, reduction="none")
    means = torch.stack([each[code == LABELS].mean() for code in range(3)])
    balanced = network.loss(IMAGES, functional.mse_loss, None, LABELS)
    torch.testing.assert_close(balanced, means.mean())
    assert balanced != plain


def test_a_frozen_encoder_does_not_change_and_a_trained_one_does():
    frozen = make(freeze_encoder=True)
    assert frozen.reconstruction_weight == 0
    before = snapshot(frozen)
    learn(frozen)
    assert changed(frozen, before) == {"head.0.weight", "head.0.bias", "head.3.weight", "head.3.bias"}
    trained = make()
    assert trained.reconstruction_weight == 1
    before = snapshot(trained)
    learn(trained)
    assert changed(trained, before) == set(before) - {"class_weights"}


def test_a_frozen_batch_norm_learns_nothing_either():
    norm = MODELS["conv-dense"](MODELS["conv-dense"].Config(widths=(4, 8), hidden=8, code=4), ImageShape(1, 16, 16))
    network = make(norm, freeze_encoder=True)
    before = snapshot(network)
    learn(network)
    assert {name.split(".")[0] for name in changed(network, before)} == {"head"}
    assert network.head.training
    assert not network.model.training


def test_without_reconstruction_the_decoder_does_not_learn():
    network = make(reconstruction_weight=0)
    before = snapshot(network)
    learn(network)
    assert {".".join(name.split(".")[:2]) for name in changed(network, before)} == {
        "model.encoder",
        "head.0",
        "head.3",
    }


def test_an_encoder_that_never_learns_is_no_obstacle():
    model = MODELS["conv"](ConvConfig(widths=(8, 8)), ImageShape(1, 16, 16))
    model.encoder.requires_grad_(False)
    network = make(model, reconstruction_weight=0)
    assert not any(parameter.requires_grad for parameter in network.model.parameters())


def test_a_large_code_is_averaged_to_a_grid():
    assert make(grid=2).head[0].in_features == 8 * 2 * 2
    assert make(grid=100).head[0].in_features == 8 * 4 * 4


def test_a_model_that_rebuilds_nothing():
    network = make(Looker())
    assert network.reconstruction_weight == 0
    learn(network)
    with pytest.raises(ConfigError, match=r"this detector's model rebuilds nothing; expected 0 or auto, came 0\.5"):
        make(Looker(), reconstruction_weight=0.5)


def test_a_model_without_weights_can_have_a_head():
    network = make(MODELS["pixels"](MODELS["pixels"].Config(), ImageShape(1, 16, 16)))
    before = snapshot(network)
    learn(network)
    assert {name.split(".")[0] for name in changed(network, before)} == {"head"}


def test_probabilities_sum_to_one_and_each_image_has_its_own():
    network = make().eval()
    found = class_probabilities(network, IMAGES)
    torch.testing.assert_close(found.sum(dim=1), torch.ones(6))
    alone = torch.cat([class_probabilities(network, image[None]) for image in IMAGES])
    torch.testing.assert_close(alone, found, rtol=1e-5, atol=1e-6)


def test_the_share_of_training_that_is_over_reaches_the_model():
    network = make()
    told = []
    network.model.warm_up = told.append
    network.warm_up(0.5)
    assert told == [0.5]


@pytest.mark.parametrize(
    ("choices", "message"),
    [
        ({"dropout": 1.0}, "finetune.dropout: expected 0 to 0.95, came 1"),
        ({"head_width": 0}, "finetune.head_width: expected 1 to"),
        ({"grid": 0}, "finetune.grid: expected 1 to"),
        ({"label_weight": 0.0}, "finetune.label_weight: expected 1e-06 to"),
        ({"reconstruction_weight": -1.0}, "finetune.reconstruction_weight: expected 0 to"),
        ({"validation_share": 1.0}, "finetune.validation_share: expected 0.01 to 0.9, came 1"),
        ({"class_weights": "some"}, "finetune.class_weights: expected 'none' or 'balanced', came 'some'"),
        ({"freeze_encoder": True, "reconstruction_weight": 1.0}, "has nothing to teach where finetune.freeze_encoder"),
        ({"heads": 2}, "unknown setting 'finetune.heads'; did you mean 'finetune.head_width'"),
    ],
)
def test_settings_out_of_range_are_refused(choices, message):
    with pytest.raises(ConfigError, match=message):
        from_mapping(FinetuneConfig, choices, "finetune")


def test_class_weights_of_a_large_set_keep_the_mean_image_at_one():
    network = make()
    codes = np.repeat([0, 1, 2], [90, 9, 1])
    network.balance(codes)
    assert network.class_weights[torch.from_numpy(codes)].mean().item() == pytest.approx(1.0)
