"""Training: what is kept, what is repeatable, what goes on after a kill."""

from __future__ import annotations

import dataclasses
import logging
import math
from dataclasses import dataclass, field

import numpy as np
import pytest
import torch

from conftest import stripes
from unlike.data.augment import AugmentConfig
from unlike.data.randomness import isolated_randomness
from unlike.data.split import Split
from unlike.errors import ArtifactError, ConfigError, DataError
from unlike.models import MODELS
from unlike.models.conv import ConvConfig
from unlike.models.conv_dense import ConvDenseAutoencoder, ConvDenseConfig
from unlike.records import ImageShape, kept_epoch
from unlike.training import Checkpoint, CorruptionConfig, TrainingConfig, loop, train
from unlike.training.corruption import spoil
from unlike.training.loop import shuffled_batches
from unlike.training.statistics import estimated_statistics

SPLIT = Split(np.arange(40), np.arange(40, 48), np.arange(48, 56))


@dataclass
class Pictures:
    """An ImageSet in memory."""

    pixels: np.ndarray
    samples: list = field(default_factory=list)
    unreadable: tuple = ()
    digests: np.ndarray = field(default_factory=lambda: np.arange(0, dtype=np.uint64))
    shown: np.ndarray | None = None  # (H, W) what is no bar

    def take(self, rows):
        return self.pixels[rows]

    def inside(self, rows):
        return None if self.shown is None else np.repeat(self.shown[None], len(rows), axis=0)


@pytest.fixture
def pictures():
    return Pictures(stripes(56, size=16, channels=1))


def make(seed=0):
    with isolated_randomness(seed):
        return MODELS["conv"](ConvConfig(widths=(8, 8)), ImageShape(1, 16, 16))


def fit(pictures, model=None, config=None, **more):
    model = model or make()
    config = config or TrainingConfig(epochs=6, batch_size=16, learning_rate=5e-3)
    return model, train(model, pictures, SPLIT, config, value_range=(0.0, 255.0), device="cpu", **more)


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


def test_validation_and_calibration_images_teach_nothing(pictures):
    last = TrainingConfig(epochs=4, batch_size=16, learning_rate=5e-3, keep="last")
    other = Pictures(pictures.pixels.copy())
    other.pixels[SPLIT.validation] = 0
    other.pixels[SPLIT.calibration] = 255
    first, second = fit(pictures, config=last), fit(other, config=last)
    assert torch.equal(weights(first[0]), weights(second[0]))
    assert first[1][-1]["validation"] != second[1][-1]["validation"]


@pytest.mark.parametrize("keep", ["validation", "last"])
def test_early_stopping(keep, pictures):
    chosen = {"learning_rate": 1e-12, "schedule": "constant", "keep": keep}
    config = TrainingConfig(epochs=200, batch_size=16, patience=3, **chosen)
    other = Pictures(pictures.pixels)
    _, history = fit(other, config=config)
    best = min(range(len(history)), key=lambda i: history[i]["validation"])
    assert len(history) == best + 1 + 3 < 200


class KilledError(Exception):
    pass


def test_a_training_that_had_stopped_early_is_not_gone_on_with(pictures, tmp_path):
    """The kill comes after the last epoch, before anything else was saved."""
    config = TrainingConfig(epochs=100, batch_size=16, learning_rate=0.5, schedule="constant", patience=2)
    checkpoint = Checkpoint(tmp_path / "state", "same", wait_seconds=0)

    def save_every_epoch(*_):
        checkpoint.wait_seconds = 0

    stopped, history = fit(pictures, config=config, checkpoint=checkpoint, notify=save_every_epoch)
    assert len(history) < 100
    resumed, same = fit(pictures, config=config, checkpoint=checkpoint, resume=True)
    assert same == history
    assert torch.equal(weights(resumed), weights(stopped))


@pytest.mark.parametrize(("count", "processes", "parts"), [(7, 2, 2), (3, 2, 2), (1, 4, 3), (16, 1, 5), (10, 3, 2)])
def test_shares_of_a_batch_are_as_many_for_each_process_and_sum_to_the_whole(count, processes, parts):
    rows = np.arange(count)
    shares = [loop._shares(rows, rank, processes, parts) for rank in range(processes)]
    assert len({len(share) for share in shares}) == 1
    weight = np.zeros(count)
    for share in shares:
        for part, value in share:
            weight[part] += value / processes / len(part)
    np.testing.assert_allclose(weight, 1 / count)


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
    with pytest.raises(ConfigError, match="other settings, images or versions; repeat the same command"):
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
        train(make(), pictures, SPLIT, TrainingConfig(epochs=1), value_range=(0.0, 255.0), device="abacus")


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
        ({"momentum": 1.0}, r"training\.momentum: expected 0 to 0\.9999, came 1"),
        ({"clip_norm": 0.0}, r"training\.clip_norm: expected"),
        ({"accumulate": 0}, r"training\.accumulate: expected 1 or more"),
        ({"t_max": 0}, r"training\.t_max: expected 1 or more"),
        ({"objective": "sim"}, r"unknown training\.objective 'sim'; did you mean 'ssim'"),
    ],
)
def test_settings_that_cannot_be(settings, message):
    with pytest.raises(ConfigError, match=message):
        TrainingConfig(**settings)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"noise": -1.0}, r"corruption\.noise: expected 0 to 10, came -1"),
        ({"hole_share": 1.0}, r"corruption\.hole_share: expected 0 to 0\.95, came 1"),
        ({"hole_pixels": 0}, r"corruption\.hole_pixels: expected 1 or more, came 0"),
        ({"defect_share": 1.5}, r"corruption\.defect_share: expected 0 to 1, came 1\.5"),
        ({"defect_size": (0.5, 0.1)}, r"corruption\.defect_size: expected the lower end first"),
        ({"defect_kinds": ("scrach",)}, r"unknown corruption\.defect_kinds 'scrach'; did you mean 'scratch'"),
    ],
)
def test_corruption_that_cannot_be(settings, message):
    with pytest.raises(ConfigError, match=message):
        CorruptionConfig(**settings)


@pytest.mark.parametrize("optimiser", ["sgd", "adam", "adamw"])
def test_every_optimiser_learns_and_resumes_exactly(pictures, tmp_path, optimiser):
    rate = 1.0 if optimiser == "sgd" else 5e-3
    config = TrainingConfig(epochs=8, batch_size=8, learning_rate=rate, optimiser=optimiser)
    whole, history = fit(pictures, config=config)
    assert history[-1]["train"] < 0.9 * history[0]["train"]
    checkpoint = Checkpoint(tmp_path / "state", "same", wait_seconds=0)

    def kill(epoch, epochs, row):
        if epoch == 5:
            raise KilledError

    with pytest.raises(KilledError):
        fit(pictures, config=config, checkpoint=checkpoint, notify=kill)
    assert torch.equal(weights(fit(pictures, config=config, checkpoint=checkpoint, resume=True)[0]), weights(whole))


def test_momentum_and_weight_decay_reach_the_optimiser(pictures):
    plain = fit(pictures, config=TrainingConfig(epochs=2, optimiser="sgd", momentum=0.0))[0]
    for more in ({"momentum": 0.9}, {"momentum": 0.0, "weight_decay": 0.1}):
        other = fit(pictures, config=TrainingConfig(epochs=2, optimiser="sgd", **more))[0]
        assert not torch.equal(weights(plain), weights(other))


def test_a_batch_taken_in_parts_teaches_the_same(pictures):
    whole = TrainingConfig(epochs=3, batch_size=16, optimiser="sgd", learning_rate=0.1)
    model, history = fit(pictures, config=whole)
    parted, same = fit(pictures, config=dataclasses.replace(whole, accumulate=5))
    torch.testing.assert_close(weights(parted), weights(model), rtol=1e-4, atol=1e-6)
    assert [row["train"] for row in same] == pytest.approx([row["train"] for row in history], rel=1e-5)


def test_clipping_bounds_what_one_step_moves(pictures):
    free = TrainingConfig(
        epochs=1, batch_size=40, optimiser="sgd", momentum=0.0, learning_rate=1.0, schedule="constant"
    )
    start = weights(make())
    moved = [
        (weights(fit(pictures, config=dataclasses.replace(free, keep="last", clip_norm=norm))[0]) - start).norm().item()
        for norm in (None, 1e-3)
    ]
    assert moved[1] == pytest.approx(1e-3, rel=1e-2)
    assert moved[0] > 1e-2


@pytest.mark.parametrize("keep", ["validation", "train", "last"])
def test_what_is_kept(pictures, keep):
    """Noise of its own each epoch makes the best epochs of the two losses differ, and neither the last."""
    config = TrainingConfig(
        epochs=12, batch_size=16, learning_rate=0.3, schedule="constant", optimiser="adam", keep=keep
    )
    kept, history = fit(pictures, config=config)
    best = 12 if keep == "last" else 1 + int(np.argmin([row[keep] for row in history]))
    stopped, _ = fit(pictures, config=dataclasses.replace(config, epochs=best, keep="last"))
    assert torch.equal(weights(kept), weights(stopped))


def test_plateau_cuts_the_rate_when_nothing_improves(pictures):
    config = TrainingConfig(
        epochs=26, batch_size=40, learning_rate=1e-6, schedule="plateau", optimiser="sgd", momentum=0.0
    )
    rates = [row["learning_rate"] for row in fit(pictures, config=config)[1]]
    assert rates[0] == pytest.approx(1e-6)
    assert rates[-1] == pytest.approx(1e-8)


def test_cosine_of_t_max_epochs_comes_back(pictures):
    config = TrainingConfig(epochs=20, batch_size=40, learning_rate=1e-3, schedule="cosine", t_max=10)
    rates = [row["learning_rate"] for row in fit(pictures, config=config)[1]]
    assert rates[9] == pytest.approx(0, abs=1e-9)
    assert rates[19] == pytest.approx(1e-3, rel=1e-6)


def test_a_spoilt_image_is_to_be_rebuilt_as_it_was(pictures):
    """Denoising: with noise at the input, the loss is against the clean image, and validation sees no noise."""
    shown = []

    class Watcher(type(make())):
        def loss(self, images, objective, clean=None):
            shown.append((images.detach().clone(), None if clean is None else clean.clone(), self.training))
            return super().loss(images, objective, clean)

    with isolated_randomness(0):
        model = Watcher(ConvConfig(widths=(8, 8)), ImageShape(1, 16, 16))
    fit(
        pictures,
        model,
        TrainingConfig(epochs=1, batch_size=20),
        corruption=CorruptionConfig(noise=0.3, hole_share=0.2, hole_pixels=4),
    )
    training = [item for item in shown if item[2]]
    assert len(training) == 2
    for images, clean, _ in training:
        assert clean is not None
        gap = (images - clean).abs()
        assert 0.15 < gap.mean() < 0.6
    assert all(clean is None for _, clean, training in shown if not training)


class Recorder(type(make())):
    """A model that remembers what it was shown."""

    def loss(self, images, objective, clean=None):
        self.shown = [*getattr(self, "shown", []), (images.detach(), clean, self.training)]
        return super().loss(images, objective, clean)


def record(pictures, epochs, augmentation=None, **corruption):
    with isolated_randomness(0):
        model = Recorder(ConvConfig(widths=(8, 8)), ImageShape(1, 16, 16))
    config = TrainingConfig(epochs=epochs, batch_size=20)
    fit(pictures, model, config, augmentation=augmentation, corruption=CorruptionConfig(**corruption))
    return model.shown


def test_defects_come_with_the_image_as_it_was_and_are_new_in_each_epoch(pictures):
    shown = [item[:2] for item in record(pictures, 2, defect_share=1.0, defect_kinds=("scratch",)) if item[2]]
    assert len(shown) == 4
    for images, clean in shown:
        changed = (images != clean).flatten(1).float().mean(dim=1)
        assert (changed > 0).float().mean() > 0.9
        assert 0 < changed.mean() < 0.5
    rows = [torch.cat([clean for _, clean in shown[half : half + 2]]) for half in (0, 2)]
    assert torch.equal(*(part.flatten(1).sort(dim=0).values for part in rows))  # the same forty images twice
    damage = [
        torch.cat([images - clean for images, clean in shown[half : half + 2]]).abs().sum().item() for half in (0, 2)
    ]
    assert damage[0] != damage[1]


def test_held_out_images_get_the_same_defects_after_each_epoch_and_no_noise(pictures):
    shown = [item[:2] for item in record(pictures, 3, defect_share=0.5, noise=0.5, hole_share=0.5) if not item[2]]
    assert len(shown) == 3
    for images, clean in shown:
        assert torch.equal(images, shown[0][0])
        changed = (images != clean).flatten(1).any(dim=1)
        assert 0 < changed.sum() < len(changed)
        assert (images != clean).float().mean() < 0.5


@pytest.mark.parametrize("turned", [False, True])
def test_defects_fall_on_the_image_and_not_on_the_bars_beside_it(pictures, turned):
    """Images lie in the upper half of their specs, or in the left one where augmentation has turned them."""
    pictures.shown = np.arange(16)[:, None] < np.full(16, 8)
    augmentation = AugmentConfig(rotation=1.0, rotation_degrees=(90.0, 90.0)) if turned else None
    seen = record(pictures, 1, augmentation=augmentation, defect_share=1.0)
    for images, clean, training in seen:
        changed = (images != clean).any(dim=1)
        assert changed.flatten(1).any(dim=1).float().mean() > 0.9
        shown = torch.from_numpy(np.rot90(pictures.shown).copy() if training and turned else pictures.shown)
        assert not (changed & ~shown).any()


def test_a_training_on_defects_is_repeatable_and_resumes_exactly(pictures, tmp_path):
    config = TrainingConfig(epochs=4, batch_size=16, keep="validation")
    corruption = CorruptionConfig(defect_share=0.7)
    whole = fit(pictures, config=config, corruption=corruption)
    checkpoint = Checkpoint(tmp_path / "state", "same", wait_seconds=0)

    def kill(epoch, epochs, row):
        if epoch == 3:
            raise KilledError

    with pytest.raises(KilledError):
        fit(pictures, config=config, corruption=corruption, checkpoint=checkpoint, notify=kill)
    resumed = fit(pictures, config=config, corruption=corruption, checkpoint=checkpoint, resume=True)
    assert resumed[1] == whole[1]
    assert torch.equal(weights(resumed[0]), weights(whole[0]))


def test_noise_has_the_size_that_was_asked_and_holes_their_share():
    images = torch.full((64, 1, 32, 32), 0.5)
    noisy = spoil(images, CorruptionConfig(noise=0.25))
    assert (noisy - images).std().item() == pytest.approx(0.25, rel=0.02)
    holed = spoil(images, CorruptionConfig(hole_share=0.3, hole_pixels=4))
    assert set(holed.unique().tolist()) == {0.0, 0.5}
    assert (holed == 0).float().mean().item() == pytest.approx(0.3, abs=0.03)
    assert spoil(images, CorruptionConfig()) is images


def test_augmentation_varies_training_images_alone(pictures):
    plain = fit(pictures)[0]
    same = fit(pictures, augmentation=AugmentConfig())[0]
    varied = fit(pictures, augmentation=AugmentConfig(horizontal_flip=0.5))[0]
    again = fit(pictures, augmentation=AugmentConfig(horizontal_flip=0.5))[0]
    assert torch.equal(weights(plain), weights(same))
    assert not torch.equal(weights(plain), weights(varied))
    assert torch.equal(weights(varied), weights(again))


@pytest.mark.slow
def test_a_compiled_training_learns_the_same(pictures):
    config = TrainingConfig(epochs=3, batch_size=20)
    plain = [row["validation"] for row in fit(pictures, config=config)[1]]
    compiled = [row["validation"] for row in fit(pictures, config=dataclasses.replace(config, compile=True))[1]]
    assert compiled == pytest.approx(plain, rel=1e-3)


def test_mixed_precision_learns_and_is_off_where_it_does_not_pay(pictures, monkeypatch):
    mixed = fit(pictures, config=TrainingConfig(epochs=3, batch_size=20, precision="bf16"))
    plain = fit(pictures, config=TrainingConfig(epochs=3, batch_size=20, precision="32"))
    assert mixed[1][-1]["train"] == pytest.approx(plain[1][-1]["train"], rel=0.05)
    assert not torch.equal(weights(mixed[0]), weights(plain[0]))
    for gains, expected in ((False, plain), (True, mixed)):
        monkeypatch.setattr(loop, "_gains_by_bf16", lambda accelerator, gains=gains: gains)
        found = fit(pictures, config=TrainingConfig(epochs=3, batch_size=20, precision="auto"))
        assert torch.equal(weights(found[0]), weights(expected[0]))


def test_the_trainers_advice_on_gpus_is_kept_from_users(pictures):
    from lightning_fabric.utilities import rank_zero

    fit(pictures, config=TrainingConfig(epochs=1))
    assert not rank_zero.rank_zero_module.log.isEnabledFor(logging.INFO)
    assert rank_zero.rank_zero_module.log.isEnabledFor(logging.WARNING)


def test_the_model_is_told_how_far_the_training_is(pictures):
    told = []
    model = make()
    model.warm_up = told.append
    fit(pictures, model, TrainingConfig(epochs=5, batch_size=40))
    assert told == [0, 0.25, 0.5, 0.75, 1]


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


NORMED = ConvDenseConfig(widths=(4, 8, 8), hidden=16, code=6, dropout=0.5)


def make_normed():
    """Dropout before batch norm: what goes into a norm varies more in training than in use."""
    with isolated_randomness(0):
        return ConvDenseAutoencoder(NORMED, ImageShape(1, 16, 16))


def first_inputs(model, pictures, rows):
    """What goes into the second batch norm, which has dropout before it, as the model is used: (n, D, h, w)."""
    batch = torch.from_numpy(pictures.take(rows)).permute(0, 3, 1, 2).float() / 127.5 - 1
    second = [number for number, layer in enumerate(model.encoder) if isinstance(layer, torch.nn.BatchNorm2d)][1]
    with torch.no_grad():
        return model.eval().encoder[:second](batch), model.encoder[second]


def test_batch_norms_have_the_statistics_of_use(pictures):
    """As the mean and variance of the training images that go through the kept weights without dropout."""
    config = TrainingConfig(epochs=3, batch_size=40, learning_rate=5e-3)
    model, _ = fit(pictures, make_normed(), config)
    inputs, norm = first_inputs(model, pictures, SPLIT.train)
    assert torch.allclose(norm.running_mean, inputs.mean((0, 2, 3)), rtol=1e-3)
    assert torch.allclose(norm.running_var, inputs.var((0, 2, 3)), rtol=1e-3)
    running = dataclasses.replace(config, statistics="running")
    model, _ = fit(pictures, make_normed(), running)
    inputs, norm = first_inputs(model, pictures, SPLIT.train)
    assert (norm.running_var / inputs.var((0, 2, 3)) - 1).abs().max() > 0.2


def test_statistics_change_nothing_of_what_is_learned(pictures):
    """They are not used while a model trains."""
    last = TrainingConfig(epochs=3, batch_size=16, learning_rate=5e-3, keep="last")
    found = [
        fit(pictures, make_normed(), dataclasses.replace(last, statistics=how)) for how in ("estimated", "running")
    ]
    parameters = [torch.cat([value.flatten() for value in model.parameters()]) for model, _ in found]
    assert torch.equal(*parameters)
    assert [row["train"] for row in found[0][1]] == [row["train"] for row in found[1][1]]


def test_frozen_batch_norms_keep_their_statistics():
    class Half(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.frozen, self.learns = torch.nn.BatchNorm1d(2), torch.nn.BatchNorm1d(2)

        def train(self, mode=True):
            super().train(mode)
            self.frozen.eval()
            return self

        def forward(self, values):
            return self.learns(self.frozen(values))

    model = Half()
    with estimated_statistics(model), torch.no_grad():
        model(torch.tensor([[4.0, 0.0], [6.0, 0.0]]))
    assert model.frozen.running_mean.tolist() == [0.0, 0.0]
    assert model.learns.running_mean.tolist() == pytest.approx([5.0, 0.0], rel=1e-3)
    assert model.learns.momentum == 0.1
    assert not any(layer.training for layer in model.modules())


@pytest.mark.parametrize("maker", [make, make_normed])
def test_the_lowest_minibatch_is_kept(pictures, maker):
    """The weights of one step, whose loss on its own few images no other step had."""
    config = TrainingConfig(epochs=4, batch_size=8, learning_rate=5e-3, keep="minibatch")
    seen = []

    class Watching(type(maker())):
        def loss(self, images, objective, clean=None):
            loss = super().loss(images, objective, clean)
            if self.training:
                seen.append((loss.item(), torch.cat([value.detach().flatten() for value in self.parameters()])))
            return loss

    model = maker()
    model.__class__ = Watching
    _, history = fit(pictures, model, config)
    lowest, weights_then = min(seen, key=lambda pair: pair[0])
    assert min(row["minibatch"] for row in history) == pytest.approx(lowest)
    assert torch.equal(torch.cat([value.detach().flatten() for value in model.parameters()]), weights_then)
    assert kept_epoch(history, "minibatch")["minibatch"] == pytest.approx(lowest)


def test_a_minibatch_that_is_kept_survives_a_kill(pictures, tmp_path):
    config = TrainingConfig(epochs=6, batch_size=8, learning_rate=5e-3, keep="minibatch")
    expected, _ = fit(pictures, make_normed(), config)

    def stop(epoch, *_):
        if epoch == 3:
            raise KilledError

    path = tmp_path / "state"
    with pytest.raises(KilledError):
        fit(pictures, make_normed(), config, checkpoint=Checkpoint(path, "x", wait_seconds=0), notify=stop)
    model, _ = fit(pictures, make_normed(), config, checkpoint=Checkpoint(path, "x"), resume=True)
    assert torch.equal(weights(model), weights(expected))
