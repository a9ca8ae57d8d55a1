"""The training loop, on Lightning Fabric: any device, any precision, one process or several."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Literal, cast

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import Tensor

from unlike.config import check_range
from unlike.data.batches import ImageSet, Rows
from unlike.data.split import Split
from unlike.data.tensors import to_tensor
from unlike.errors import ConfigError, DataError, unknown
from unlike.models.base import Model
from unlike.models.measures import OBJECTIVES
from unlike.training.checkpoints import Checkpoint, State, copy_weights
from unlike.training.schedules import SCHEDULES

AUTO_STEPS = 1_500  # that `epochs = "auto"` aims at
AUTO_EPOCHS = (10, 300)  # that it keeps to
History = list[dict[str, float]]


@dataclass(frozen=True, slots=True)
class TrainingConfig:
    """How a model learns."""

    epochs: int | Literal["auto"] = "auto"  # passes over the images; auto: some 1,500 steps, 10 to 300 epochs
    batch_size: int | Literal["auto"] = "auto"  # images a step, over all processes; auto: 128, fewer for small sets
    learning_rate: float = 1e-3  # the highest of the schedule
    weight_decay: float = 0.0  # of AdamW
    schedule: str = "one-cycle"  # or constant, cosine
    objective: str = "squared"  # what is lowered: squared, absolute, ssim
    patience: int | None = None  # stop after this many epochs without a better validation loss; none: never
    precision: Literal["32", "bf16", "16"] = "32"  # the last two are mixed, and gain on GPUs
    processes: int | Literal["auto"] = 1  # on this machine; torchrun overrides it

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "processes", "patience"):
            value = getattr(self, name)
            if isinstance(value, int) and value < 1:
                raise ConfigError(f"training.{name}: expected 1 or more, came {value}")
        check_range("training.learning_rate", self.learning_rate, 1e-12, 1e3)
        check_range("training.weight_decay", self.weight_decay, 0, 1e3)
        if self.schedule not in SCHEDULES:
            raise unknown("training.schedule", self.schedule, SCHEDULES)
        if self.objective not in OBJECTIVES:
            raise unknown("training.objective", self.objective, OBJECTIVES)

    def resolve(self, images: int) -> tuple[int, int]:
        """Epochs and batch size for this many training images.

        >>> TrainingConfig().resolve(3000), TrainingConfig().resolve(40)
        ((62, 128), (300, 8))
        """
        batch = int(np.clip(images // 16, 8, 128)) if self.batch_size == "auto" else self.batch_size
        steps = -(-images // batch)
        return (int(np.clip(AUTO_STEPS // steps, *AUTO_EPOCHS)) if self.epochs == "auto" else self.epochs), batch


Notify = Callable[[int, int, dict[str, float]], None]  # epoch from 1, epochs, its row of the history


def train(
    model: Model,
    images: ImageSet,
    split: Split,
    config: TrainingConfig,
    *,
    seed: int = 0,
    device: str = "auto",
    checkpoint: Checkpoint | None = None,
    resume: bool = False,
    notify: Notify | None = None,
) -> History:
    """Train on `split.train` and leave in `model` the weights that were best on `split.validation`.

    Returns one row an epoch: epoch, train and validation loss, learning_rate. With a checkpoint, the state is kept on
    disk after each epoch, and `resume` goes on from there to the same result as a training that was never stopped.
    """
    if not any(parameter.requires_grad for parameter in model.parameters()):
        return []
    epochs, batch_size = config.resolve(len(split.train))
    fabric = _start_fabric(config, device)
    with isolated_randomness(seed):
        run = _Run(model, config, fabric, epochs * -(-len(split.train) // batch_size))
        if resume and checkpoint is not None and (saved := checkpoint.load()):
            run.restore(saved)
        for epoch in range(len(run.history) + 1, epochs + 1):
            torch.manual_seed(_mix(seed, epoch, fabric.global_rank))
            train_loss = run.learn(images, shuffled_batches(split.train, batch_size, seed, epoch))
            validation_loss = run.validate(images, split.validation, batch_size)
            row = run.remember(epoch, train_loss, validation_loss)
            if checkpoint is not None and fabric.is_global_zero:
                checkpoint.save(run.state())
            if notify is not None and fabric.is_global_zero:
                notify(epoch, epochs, row)
            if config.patience is not None and epoch - run.best_epoch >= config.patience:
                break
    model.load_state_dict(run.best)
    model.eval()
    return run.history


class _Run:
    """A training under way: what changes from epoch to epoch, and the steps that change it."""

    def __init__(self, model: Model, config: TrainingConfig, fabric: Fabric, steps: int) -> None:
        self.model, self.fabric = model, fabric
        optimiser = _make_optimiser(model, config)
        self.wrapped, self.optimiser = fabric.setup(model.to(memory_format=torch.channels_last), optimiser)
        self.wrapped.mark_forward_method("loss")
        self.schedule = SCHEDULES[config.schedule](self.optimiser, steps)
        self.objective = OBJECTIVES[config.objective]
        self.history: History = []
        self.best = copy_weights(model)
        self.best_epoch, self.best_loss = 0, float("inf")

    def learn(self, images: ImageSet, batches: Iterable[Rows]) -> float:
        """One pass over the training images; the mean loss on the way."""
        fabric, count = self.fabric, 0
        total = torch.zeros((), device=fabric.device)
        self.wrapped.train()
        for rows in batches:
            mine, weight = _share(rows, fabric.global_rank, fabric.world_size)
            batch = to_tensor(images.take(mine), images.value_range, fabric.device)
            loss = weight * self.wrapped.loss(batch, self.objective)
            fabric.backward(loss)
            self.optimiser.step()
            self.optimiser.zero_grad()
            self.schedule.step()
            total += loss.detach() * len(rows)
            count += len(rows)
        return float(cast(Tensor, fabric.all_reduce(total, reduce_op="mean"))) / count

    @torch.no_grad()
    def validate(self, images: ImageSet, rows: Rows, batch_size: int) -> float:
        """Mean loss on held-out images, in the mode in which the model will be used."""
        self.model.eval()
        total = 0.0
        for start in range(0, len(rows), batch_size):
            chosen = rows[start : start + batch_size]
            batch = to_tensor(images.take(chosen), images.value_range, self.fabric.device)
            total += float(self.model.loss(batch, self.objective)) * len(chosen)
        return total / len(rows)

    def remember(self, epoch: int, train_loss: float, validation_loss: float) -> dict[str, float]:
        """Enter an epoch into the history, and keep the weights if none were better."""
        if not (np.isfinite(train_loss) and np.isfinite(validation_loss)):
            raise DataError(
                f"the loss is not finite in epoch {epoch}: lower training.learning_rate, or look for images with extreme values"
            )
        rate = float(self.schedule.get_last_lr()[0])
        row = {"epoch": epoch, "train": train_loss, "validation": validation_loss, "learning_rate": rate}
        self.history.append(row)
        if validation_loss < self.best_loss:
            self.best, self.best_epoch, self.best_loss = copy_weights(self.model), epoch, validation_loss
        return row

    def state(self) -> State:
        """All that `restore` needs to go on as if nothing had happened."""
        parts = {"model": self.model, "optimiser": self.optimiser, "schedule": self.schedule}
        state = {name: part.state_dict() for name, part in parts.items()}
        names = ("history", "best", "best_epoch", "best_loss")
        return state | {name: getattr(self, name) for name in names}

    def restore(self, state: State) -> None:
        """Take up a training where `state` was taken."""
        for name in ("model", "optimiser", "schedule"):
            getattr(self, name).load_state_dict(state.pop(name))
        for parameter, kept in self.optimiser.state.items():  # fused steps walk through memory: the layouts must agree
            for name, value in kept.items():
                if value.shape == parameter.shape:
                    kept[name] = torch.empty_like(parameter).copy_(value)
        for name, value in state.items():
            setattr(self, name, value)


def shuffled_batches(rows: Rows, batch_size: int, seed: int, epoch: int) -> Iterator[Rows]:
    """The rows of one epoch in an order that depends on the seed and the epoch alone."""
    order = np.random.default_rng([seed, epoch]).permutation(rows)
    for start in range(0, len(order), batch_size):
        yield order[start : start + batch_size]


@contextlib.contextmanager
def isolated_randomness(seed: int) -> Iterator[None]:
    """Seed torch inside, and leave the caller's random numbers as they were."""
    devices = range(torch.cuda.device_count()) if torch.cuda.is_available() else ()
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(seed)
        yield


def _share(rows: Rows, rank: int, processes: int) -> tuple[Rows, float]:
    """One process's part of a batch, and the weight of its mean loss, so that the average over processes is exact.

    >>> [_share(np.array([4, 5, 6]), rank, 2) for rank in (0, 1)]
    [(array([4, 6]), 1.3333333333333333), (array([5]), 0.6666666666666666)]
    """
    mine = rows[rank::processes]
    if not len(mine):  # more processes than images: take part in the exchange, weightless
        return rows[:1], 0.0
    return mine, len(mine) * processes / len(rows)


def _start_fabric(config: TrainingConfig, device: str) -> Fabric:
    precision: Any = {"32": "32-true", "bf16": "bf16-mixed", "16": "16-mixed"}[config.precision]
    name, _, number = device.partition(":")
    devices: Any = [int(number)] if number else config.processes
    if "WORLD_SIZE" in os.environ and not number:  # started by torchrun
        devices = int(os.environ.get("LOCAL_WORLD_SIZE", os.environ["WORLD_SIZE"]))
    try:
        fabric = Fabric(accelerator=name, devices=devices, precision=precision)
    except (ValueError, RuntimeError) as error:
        raise ConfigError(f"device {device!r} cannot be used: {error}") from None
    fabric.launch()
    return fabric


def _make_optimiser(model: Model, config: TrainingConfig) -> torch.optim.Optimizer:
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    return torch.optim.AdamW(parameters, lr=config.learning_rate, weight_decay=config.weight_decay, fused=True)


def _mix(*numbers: int) -> int:
    """One seed from several numbers."""
    return int(np.random.SeedSequence(numbers).generate_state(1)[0])
