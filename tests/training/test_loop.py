"""Training: what is kept, what is repeatable, what goes on after a kill."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
import pytest
import torch

from conftest import stripes
from unlike.data.split import Split
from unlike.errors import ArtifactError, ConfigError, DataError
from unlike.models import MODELS, ImageShape
from unlike.models.conv import ConvConfig
from unlike.training import Checkpoint, TrainingConfig, isolated_randomness, train
from unlike.training.loop import shuffled_batches

SPLIT = Split(np.arange(40), np.arange(40, 48), np.arange(48, 56))


@dataclass
class Pictures:
    """An ImageSet in memory."""

    pixels: np.ndarray
    samples: list = field(default_factory=list)
    unreadable: tuple = ()
    digests: np.ndarray = field(default_factory=lambda: np.arange(0, dtype=np.uint64))
    value_range: tuple = (0.0, 255.0)

    def take(self, rows):
        return self.pixels[rows]


@pytest.fixture
def pictures():
    return Pictures(stripes(56, size=16, channels=1))


def make(seed=0):
    with isolated_randomness(seed):
        return MODELS["conv"](ConvConfig(widths=(8, 8)), ImageShape(1, 16, 16))


def fit(pictures, model=None, config=None, **more):
    model = model or make()
    config = config or TrainingConfig(epochs=6, batch_size=16, learning_rate=5e-3)
    return model, train(model, pictures, SPLIT, config, device="cpu", **more)


def weights(model):
    return torch.cat([value.flatten() for value in model.state_dict().values()])


def test_loss_falls_and_history_has_a_row_an_epoch(pictures):
    _, history = fit(pictures, config=TrainingConfig(epochs=30, batch_size=8, learning_rate=5e-3))
    assert [row["epoch"] for row in history] == list(range(1, 31))
    assert set(history[0]) == {"epoch", "train", "validation", "learning_rate"}
    assert history[-1]["validation"] < history[0]["validation"] / 3


def test_two_runs_are_the_same_and_another_seed_is_not(pictures):
    first, second = fit(pictures)[0], fit(pictures)[0]
    assert torch.equal(weights(first), weights(second))
    assert not torch.equal(weights(first), weights(fit(pictures, seed=1)[0]))


def test_the_callers_random_numbers_are_left_alone(pictures):
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    fit(pictures)
    assert torch.equal(torch.rand(3), expected)


def test_the_best_weights_are_kept_not_the_last(pictures):
    """Fault 11. A learning rate that explodes late leaves a best epoch behind it."""
    config = TrainingConfig(epochs=12, batch_size=16, learning_rate=2.0, schedule="one-cycle")
    model, history = fit(pictures, config=config)
    losses = [row["validation"] for row in history]
    assert min(losses) < losses[-1]
    batch = torch.from_numpy(pictures.take(SPLIT.validation)).permute(0, 3, 1, 2).float() / 127.5 - 1
    with torch.no_grad():
        assert model.loss(batch, torch.nn.functional.mse_loss).item() == pytest.approx(min(losses), rel=1e-5)
    assert not model.training


def test_validation_images_teach_nothing(pictures):
    other = Pictures(pictures.pixels.copy())
    other.pixels[SPLIT.calibration] = 0
    assert torch.equal(weights(fit(pictures)[0]), weights(fit(other)[0]))


def test_early_stopping(pictures):
    config = TrainingConfig(epochs=200, batch_size=16, learning_rate=1e-12, schedule="constant", patience=3)
    other = Pictures(pictures.pixels)
    _, history = fit(other, config=config)
    best = min(range(len(history)), key=lambda i: history[i]["validation"])
    assert len(history) == best + 1 + 3 < 200


class KilledError(Exception):
    pass


@pytest.mark.parametrize("schedule", ["constant", "cosine", "one-cycle"])
def test_resume_gives_what_an_undisturbed_run_gives(pictures, tmp_path, schedule):
    config = TrainingConfig(epochs=6, batch_size=16, schedule=schedule)
    checkpoint = Checkpoint(tmp_path / "state", "same", wait_seconds=0)

    def kill(epoch, epochs, row):
        if epoch == 4:
            raise KilledError

    with pytest.raises(KilledError):
        fit(pictures, config=config, checkpoint=checkpoint, notify=kill)
    assert checkpoint.path.exists()
    seen = []
    resumed, history = fit(
        pictures, config=config, checkpoint=checkpoint, resume=True, notify=lambda epoch, *_: seen.append(epoch)
    )
    whole, expected = fit(pictures, config=config)
    assert seen[0] > 1
    assert history == expected
    assert torch.equal(weights(resumed), weights(whole))


def test_saving_waits_until_it_costs_little(tmp_path):
    checkpoint = Checkpoint(tmp_path / "state", "same", wait_seconds=60)
    checkpoint.save({"epoch": 1})
    assert checkpoint.load() is None
    checkpoint.wait_seconds = 0
    checkpoint.save({"epoch": 2, "weights": torch.arange(3.0), "deep": [{3: torch.zeros(0)}, "word", None]})
    assert checkpoint.wait_seconds > 0
    checkpoint.save({"epoch": 3})
    found = checkpoint.load()
    assert found["epoch"] == 2
    assert found["weights"].tolist() == [0, 1, 2]
    assert found["deep"][0][3].shape == (0,)
    checkpoint.remove()
    assert checkpoint.load() is None


def test_checkpoint_of_another_training_is_refused(pictures, tmp_path):
    fit(pictures, checkpoint=Checkpoint(tmp_path / "state", "one", wait_seconds=0))
    with pytest.raises(ConfigError, match="other settings or images; repeat the same command"):
        fit(pictures, checkpoint=Checkpoint(tmp_path / "state", "two"), resume=True)


def test_damaged_checkpoint_is_refused(pictures, tmp_path):
    (tmp_path / "state").write_bytes(b"nonsense")
    with pytest.raises(ArtifactError, match="damaged; fit again without --resume"):
        fit(pictures, checkpoint=Checkpoint(tmp_path / "state", "one"), resume=True)


def test_resume_without_a_checkpoint_starts_anew(pictures, tmp_path):
    _, history = fit(pictures, checkpoint=Checkpoint(tmp_path / "none", "one"), resume=True)
    assert len(history) == 6


def test_loss_that_is_not_finite_is_an_error(pictures):
    config = TrainingConfig(epochs=3, batch_size=16, learning_rate=1e-3)
    model = make()
    with torch.no_grad():
        next(model.parameters()).fill_(math.inf)
    with pytest.raises(DataError, match=r"not finite in epoch 1: lower training\.learning_rate"):
        fit(pictures, model, config)


def test_model_without_weights_to_train_is_left_alone(pictures):
    model = make().requires_grad_(False)
    assert fit(pictures, model)[1] == []


def test_device_that_is_not_there(pictures):
    with pytest.raises(ConfigError, match="device 'abacus' cannot be used"):
        train(make(), pictures, SPLIT, TrainingConfig(epochs=1), device="abacus")


def test_batches_cover_each_image_once_in_an_order_of_their_own():
    epochs = [np.concatenate(list(shuffled_batches(np.arange(10), 4, 0, epoch))) for epoch in (1, 2)]
    assert all(sorted(rows) == list(range(10)) for rows in epochs)
    assert list(epochs[0]) != list(epochs[1])
    assert [len(rows) for rows in shuffled_batches(np.arange(10), 4, 0, 1)] == [4, 4, 2]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"epochs": 0}, r"training\.epochs: expected 1 or more, came 0"),
        ({"batch_size": 0}, r"training\.batch_size: expected 1 or more"),
        ({"patience": 0}, r"training\.patience: expected 1 or more"),
        ({"learning_rate": -1.0}, r"training\.learning_rate: expected"),
        ({"weight_decay": -1.0}, r"training\.weight_decay: expected 0 to 1000, came -1"),
        ({"schedule": "cosin"}, r"unknown training\.schedule 'cosin'; did you mean 'cosine'"),
        ({"objective": "sim"}, r"unknown training\.objective 'sim'; did you mean 'ssim'"),
    ],
)
def test_settings_that_cannot_be(settings, message):
    with pytest.raises(ConfigError, match=message):
        TrainingConfig(**settings)


def test_auto_settings_suit_the_number_of_images():
    assert TrainingConfig().resolve(1) == (300, 8)
    assert TrainingConfig().resolve(1_000_000) == (10, 128)
    assert TrainingConfig(epochs=7, batch_size=3).resolve(1_000_000) == (7, 3)


@pytest.mark.parametrize("name", ["cosine", "one-cycle", "constant"])
def test_schedules_end_where_they_should(pictures, name):
    _, history = fit(pictures, config=TrainingConfig(epochs=20, batch_size=16, learning_rate=1e-3, schedule=name))
    rates = [row["learning_rate"] for row in history]
    assert max(rates) <= 1e-3 * (1 + 1e-9)
    assert rates[-1] == pytest.approx(1e-3) if name == "constant" else rates[-1] < 2e-5


@pytest.mark.parametrize("name", ["cosine", "one-cycle", "constant"])
@pytest.mark.parametrize("epochs", [1, 2, 3, 4, 7])
def test_few_steps_are_no_trouble(pictures, name, epochs):
    config = TrainingConfig(epochs=epochs, batch_size=40, schedule=name)
    assert len(fit(pictures, config=config)[1]) == epochs
