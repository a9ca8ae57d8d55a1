"""The network that repairs and marks: what it learns from defects made on purpose, and at which sizes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from conftest import scratched, stripes
from unlike.data.randomness import isolated_randomness
from unlike.data.split import Split
from unlike.data.tensors import to_tensor
from unlike.errors import ConfigError
from unlike.models import MODELS
from unlike.models.losses import LOSSES
from unlike.models.repair import MarksDefects, RepairConfig, RepairNetwork
from unlike.records import ImageShape
from unlike.scoring.batches import Batches
from unlike.scoring.gaussian import GaussianConfig, GaussianScorer
from unlike.scoring.segmentation import SegmentationConfig, SegmentationScorer
from unlike.testing import check_model, check_scorer, example_images
from unlike.training import CorruptionConfig, TrainingConfig, train


def make(channels=3, height=32, width=32, **settings):
    with isolated_randomness(0):
        return RepairNetwork(RepairConfig(**({"widths": (8, 16)} | settings)), ImageShape(channels, height, width))


class Pictures:
    """An ImageSet in memory."""

    samples, unreadable = (), ()
    digests = np.arange(0, dtype=np.uint64)

    def __init__(self, pixels):
        self.pixels = pixels

    def take(self, rows):
        return self.pixels[rows]

    def inside(self, rows):
        return None


@pytest.fixture(scope="module")
def trained():
    model = make()
    chosen = {"objective": "squared", "keep": "last", "statistics": "running"}  # those of images with defects in them
    config = TrainingConfig(epochs=25, batch_size=8, learning_rate=5e-3, **chosen)
    split = Split(np.arange(64), np.arange(64, 72), np.arange(0))
    corruption = CorruptionConfig(defect_share=0.75, defect_size=(0.1, 0.4))
    settings = {"value_range": (0.0, 1.0), "corruption": corruption, "device": "cpu"}
    history = train(model, Pictures(stripes(72)), split, config, **settings)
    return model, history


@pytest.mark.parametrize(("height", "width"), [(32, 32), (37, 50), (3, 5), (1, 1), (64, 8)])
@pytest.mark.parametrize("widths", [(6,), (4, 8), (4, 6, 8, 10)])
def test_it_takes_images_of_any_size(height, width, widths):
    model = make(2, height, width, widths=widths)
    check_model(model)
    check_scorer(SegmentationScorer(SegmentationConfig(), model.output_spec), model)
    images = example_images(model)
    with torch.no_grad():
        code, marks = model.encode(images), model.mark(images)
    assert marks.shape[1:] == tuple(2 * side for side in code.shape[2:])
    assert all(4 * side >= length for side, length in zip(marks.shape[1:], (height, width), strict=True))


def test_what_it_has_not_learned_it_leaves_as_it_is():
    model = make().eval()
    images = example_images(model)
    with torch.no_grad():
        torch.testing.assert_close(model.rebuild(images), images)


def test_an_even_image_is_no_trouble():
    model = make().eval()
    with torch.no_grad():
        assert model.encode(torch.zeros(1, 3, 32, 32)).isfinite().all()
        assert model.mark(torch.ones(1, 3, 32, 32)).isfinite().all()


def test_what_is_to_be_marked_are_the_cells_that_were_changed(monkeypatch):
    """Right marks cost nothing, and each wrong one its share."""
    model = make(1, 32, 32)
    clean = torch.zeros(1, 1, 32, 32)
    images = clean.clone()
    images[..., 8:16, 20:24] = 1.0
    right = torch.full((1, 1, 8, 8), -30.0)
    right[..., 1:5, 4:7] = 30  # and the cells beside, which an average of 3 x 3 pixels brings in
    view = model._view(images)
    shown = {"marks": right}
    monkeypatch.setattr(model, "_view", lambda _: view._replace(change=clean - images, **shown))
    assert model.loss(images, LOSSES["absolute"], clean).item() == pytest.approx(0, abs=1e-6)
    shown["marks"] = right.clone()
    shown["marks"][..., 0, 0] = 30
    assert model.loss(images, LOSSES["absolute"], clean).item() == pytest.approx(30 / 64, rel=1e-3)
    assert model.loss(clean, LOSSES["absolute"]).item() > 1  # nothing was spoilt: nothing is to be marked


def test_it_marks_defects_that_it_was_never_shown(trained):
    model, history = trained
    assert history[-1]["validation"] < history[0]["validation"] / 2
    images, masks = scratched(stripes(30, seed=8))
    with torch.no_grad():
        marks = model.mark(to_tensor(images, (0, 1))).numpy()
    cells = masks.reshape(30, 8, 4, 8, 4).mean(axis=(2, 4))
    clear = (cells == 0) | (cells == 1)
    assert roc_auc_score(cells[clear], marks[clear]) > 0.95


def test_it_repairs_what_was_damaged(trained):
    model, _ = trained
    clean = stripes(30, seed=8)
    images, masks = scratched(clean)
    with torch.no_grad():
        rebuilt = model.rebuild(to_tensor(images, (0, 1)))
    before = np.abs(images.astype(int) - clean)[masks].mean()
    after = (rebuilt - to_tensor(clean, (0, 1))).abs().permute(0, 2, 3, 1)[torch.from_numpy(masks)].mean() * 127.5
    assert after < 0.9 * before


@pytest.mark.parametrize(
    ("kind", "config"),
    [(SegmentationScorer, SegmentationConfig()), (GaussianScorer, GaussianConfig(positions="each"))],
    ids=["segmentation", "gaussian"],
)
def test_scorers_find_what_it_learned_to_see(trained, kind, config):
    model, _ = trained
    scorer = kind(config, model.output_spec)
    normal, defective = stripes(40, seed=3), scratched(stripes(40, seed=4))[0]
    with torch.no_grad():
        known = model.outputs(to_tensor(stripes(64), (0, 1)), scorer.inputs)
        seen = model.outputs(to_tensor(np.concatenate([normal, defective]), (0, 1)), scorer.inputs)
        train = Batches.of_tensors(*known.values())
        scorer.fit(train, train.take(np.arange(0)), 0)
        maps = scorer(*seen.values())
    assert roc_auc_score(np.repeat([0, 1], 40), maps.flatten(1).amax(1)) > 0.95


def test_a_code_alone_cannot_be_decoded():
    model = make().eval()
    assert not model.decodes
    with torch.no_grad(), pytest.raises(ConfigError, match="cannot decode a code alone; take model 'conv'"):
        model.decode(model.encode(example_images(model)))


def test_who_marks_defects_and_who_does_not():
    assert isinstance(make(), MarksDefects)
    conv = MODELS["conv"](MODELS["conv"].Config(), ImageShape(3, 32, 32))
    with pytest.raises(
        ConfigError, match="needs a model that marks defects; ConvAutoencoder does not: take model 'repair'"
    ):
        SegmentationScorer(SegmentationConfig(), conv.output_spec)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"widths": ()}, r"model\.widths: expected one width or more"),
        ({"mark_weight": 0.0}, r"model\.mark_weight: expected 1e-06 to 1e\+06, came 0"),
    ],
)
def test_settings_that_cannot_be(settings, message):
    with pytest.raises(ConfigError, match=message):
        RepairConfig(**settings)
