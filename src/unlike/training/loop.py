"""The training loop, on Lightning Fabric: any device, any precision, one process or several."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from torch import Tensor
from torch.optim.lr_scheduler import ReduceLROnPlateau

from unlike.allocation import kept_memory
from unlike.artifacts import TRAINING_PROCESSES
from unlike.backbones.lazy_network import materialise
from unlike.data.augment import AugmentConfig, augment
from unlike.data.batches import ImageSet
from unlike.data.defects import add_defects
from unlike.data.randomness import isolated_randomness
from unlike.data.split import Labels, Split
from unlike.data.tensors import to_tensor
from unlike.errors import ConfigError, DataError
from unlike.models.base import Model
from unlike.models.losses import LOSSES
from unlike.records import Bools, Pixels, Rows
from unlike.training.checkpoints import Checkpoint, State, copy_weights
from unlike.training.corruption import spoil
from unlike.training.schedules import OPTIMISERS, SCHEDULES
from unlike.training.settings import CorruptionConfig, TrainingConfig
from unlike.training.statistics import estimated_statistics
from unlike.training.trimming import Trim, image_losses

if TYPE_CHECKING:
    from lightning_fabric import Fabric  # imported where a training starts: a second and 150 MB for those that train

History = list[dict[str, float]]
Notify = Callable[[int, int, dict[str, float]], None]  # epoch from 1, epochs, its row of the history
STATISTICS_IMAGES = 512  # of the training images, by which the statistics of batch norms are estimated


@kept_memory()
def train(
    model: Model,
    images: ImageSet,
    split: Split,
    config: TrainingConfig,
    *,
    value_range: tuple[float, float],
    labels: Labels | None = None,
    augmentation: AugmentConfig | None = None,
    corruption: CorruptionConfig | None = None,
    seed: int = 0,
    device: str = "auto",
    checkpoint: Checkpoint | None = None,
    resume: bool = False,
    notify: Notify | None = None,
    trim: Trim | None = None,
) -> History:
    """Train on `split.train` and leave in `model` the weights that `config.keep` names: as a rule the best on `split.validation`.

    Returns one row an epoch: epoch, train and validation loss, learning_rate. With a checkpoint, the state is kept on
    disk after each epoch, and `resume` goes on from there to the same result as a training that was never stopped.
    `value_range` has the values of black and white, for images of floats.
    With `trim`, each epoch but the first leaves out the images to train on that it names, by what each loses before the epoch.
    `labels`, one for each of `images` (not only of those that train), go to the loss of a model that learns from labels.
    """
    if not any(parameter.requires_grad for parameter in model.parameters()):
        model.eval()
        return []
    epochs, batch_size = config.resolve(len(split.train))
    fabric = _start_fabric(config, device)
    with isolated_randomness(seed), model.during_training():
        run = _Run(model, config, fabric, epochs, -(-len(split.train) // batch_size), labels)
        if resume and checkpoint is not None and (saved := checkpoint.load()):
            run.restore(saved)
        for epoch in range(len(run.history) + 1, epochs + 1):
            if config.patience is not None and epoch - 1 - run.best_epoch >= config.patience:
                break
            torch.manual_seed(_mix(seed, epoch, fabric.global_rank))
            model.warm_up((epoch - 1) / max(epochs - 1, 1))
            rows = split.train
            if trim is not None and epoch > 1:
                rows = rows[~trim(image_losses(model, images, rows, config.objective, value_range))]
            batches = shuffled_batches(rows, batch_size, seed, epoch)
            # 1 + rank: numpy pads seeds with zeros, and [seed, epoch] orders the batches
            random = np.random.default_rng([seed, epoch, 1 + fabric.global_rank])
            spoiler = _Spoiler(augmentation, corruption, value_range, random)
            train_loss = run.learn(images, batches, spoiler)
            if config.statistics == "estimated":
                run.estimate_statistics(images, split.train, batch_size, value_range)
            # the same defects after each epoch, and no noise: what is validated is what the model is for
            damager = _Spoiler(None, _only_defects(corruption), value_range, np.random.default_rng([seed, 0, 1]))
            validation_loss = run.validate(images, split.validation, batch_size, damager)
            row = run.remember(epoch, train_loss, validation_loss)
            if checkpoint is not None and fabric.is_global_zero:
                checkpoint.save(run.state())
            if notify is not None and fabric.is_global_zero:
                notify(epoch, epochs, row)
    model.load_state_dict(run.best)
    model.eval()
    return run.history


@dataclass(frozen=True, slots=True)
class _Spoiler:
    """What happens to a batch between the disk and the model in one epoch."""

    augmentation: AugmentConfig | None
    corruption: CorruptionConfig | None
    value_range: tuple[float, float]
    random: np.random.Generator

    def spoil(self, images: ImageSet, rows: Rows, device: torch.device) -> tuple[Tensor, Tensor | None]:
        """Images (B, C, H, W) as the model is to see them, and as they were where they were spoilt on purpose."""
        damages = self.corruption is not None and self.corruption.defect_share > 0
        pixels, inside = self._augment(images.take(rows), images.inside(rows) if damages else None)
        clean = spoilt = to_tensor(pixels, self.value_range, device)
        if self.corruption is not None:
            if damages:
                damage = self.corruption.damage
                damaged, _ = add_defects(pixels, damage, self.random, value_range=self.value_range, inside=inside)
                spoilt = to_tensor(damaged, self.value_range, device)
            spoilt = spoil(spoilt, self.corruption)
        return spoilt, None if spoilt is clean else clean

    def _augment(self, pixels: Pixels, inside: Bools | None) -> tuple[Pixels, Bools | None]:
        """The images (B, H, W, C), and where in the input spec they lie (B, H, W), changed alike."""
        if self.augmentation is None:
            return pixels, inside
        if inside is None:
            return augment(pixels, self.augmentation, self.random, value_range=self.value_range), None
        return augment(pixels, self.augmentation, self.random, inside, value_range=self.value_range)


def _only_defects(corruption: CorruptionConfig | None) -> CorruptionConfig | None:
    return corruption and replace(corruption, noise=0.0, hole_share=0.0)


class _Run:
    """A training under way: what changes from epoch to epoch, and the steps that change it."""

    def __init__(
        self,
        model: Model,
        config: TrainingConfig,
        fabric: Fabric,
        epochs: int,
        steps: int,
        labels: Labels | None = None,
    ) -> None:
        self.model, self.config, self.fabric, self.labels = model, config, fabric, labels
        parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
        optimiser = OPTIMISERS[config.optimiser](parameters, config)
        self.wrapped, self.optimiser = fabric.setup(model.to(memory_format=torch.channels_last), optimiser)
        self.wrapped.mark_forward_method("loss")
        if config.compile:
            materialise(model)  # no network can be while it is compiled
        self.loss = torch.compile(self.wrapped.loss) if config.compile else self.wrapped.loss
        self.schedule = SCHEDULES[config.schedule](self.optimiser, config, epochs, steps)
        self.objective = LOSSES[config.objective]
        self.history: History = []
        self.best = copy_weights(model)
        self.best_epoch, self.best_loss = 0, float("inf")
        self.lowest_minibatch = float("inf")  # of this epoch
        self.promising: dict[str, Tensor] | None = (
            None  # weights of this epoch with a lower loss than the best, of one step
        )

    def learn(self, images: ImageSet, batches: Iterable[Rows], spoiler: _Spoiler) -> float:
        """One pass over the training images; the mean loss on the way."""
        fabric, config, count = self.fabric, self.config, 0
        total = torch.zeros((), device=fabric.device)
        self.wrapped.train()
        self.lowest_minibatch, self.promising = float("inf"), None
        for rows in batches:
            step = torch.zeros((), device=fabric.device)
            shares = _shares(rows, fabric.global_rank, fabric.world_size, config.accumulate)
            for number, (part, weight) in enumerate(shares, 1):
                spoilt, clean = spoiler.spoil(images, part, fabric.device)
                # a marked method runs in the precision's own context only where there are several processes
                with fabric.no_backward_sync(self.wrapped, enabled=number < len(shares)), fabric.autocast():
                    loss = weight * self.loss(spoilt, self.objective, clean, *self.labels_of(part))
                    fabric.backward(loss)
                step += loss.detach()
            total += step * len(rows)
            if config.keep == "minibatch":
                self.watch_minibatch(float(cast(Tensor, fabric.all_reduce(step, reduce_op="mean"))))
            if config.clip_norm is not None:
                fabric.clip_gradients(self.model, self.optimiser, max_norm=config.clip_norm)
            self.optimiser.step()
            self.optimiser.zero_grad()
            if not isinstance(self.schedule, ReduceLROnPlateau):
                self.schedule.step()
            count += len(rows)
        return float(cast(Tensor, fabric.all_reduce(total, reduce_op="mean"))) / count

    def watch_minibatch(self, loss: float) -> None:
        """Put the weights aside that had this loss, if no step of the training had a lower one."""
        if loss < self.lowest_minibatch:
            self.lowest_minibatch = loss
            if loss < self.best_loss:
                self.promising = copy_weights(self.model)

    @torch.no_grad()
    def estimate_statistics(
        self, images: ImageSet, rows: Rows, batch_size: int, value_range: tuple[float, float]
    ) -> None:
        """Give batch norms the statistics that the weights have in use; those of a promising step too."""
        chosen = rows[np.linspace(0, len(rows) - 1, min(len(rows), STATISTICS_IMAGES)).astype(int)]
        parts = np.array_split(chosen, -(-len(chosen) // batch_size))
        loss_of = cast(Callable[..., Tensor], self.model.loss)

        def estimate() -> None:
            with estimated_statistics(self.model) as wanted:
                for part in parts if wanted else ():
                    batch = to_tensor(images.take(part), value_range, self.fabric.device)
                    loss_of(batch, self.objective, None, *self.labels_of(part))

        if self.promising is not None:
            now = copy_weights(self.model)
            self.model.load_state_dict(self.promising)
            estimate()
            self.promising = copy_weights(self.model)
            self.model.load_state_dict(now)
        estimate()

    @torch.no_grad()
    def validate(self, images: ImageSet, rows: Rows, batch_size: int, spoiler: _Spoiler) -> float:
        """Mean loss on held-out images, in the mode in which the model will be used."""
        if self.fabric.world_size > 1:  # each process has seen other images: the first one's batch statistics count
            for buffer in self.model.buffers():
                torch.distributed.broadcast(buffer, 0)
        self.model.eval()
        total, loss_of = 0.0, cast(Callable[..., Tensor], self.model.loss)
        for start in range(0, len(rows), batch_size):
            chosen = rows[start : start + batch_size]
            batch, clean = spoiler.spoil(images, chosen, self.fabric.device)
            total += float(loss_of(batch, self.objective, clean, *self.labels_of(chosen))) * len(chosen)
        loss = float(self.fabric.broadcast(total / len(rows)))  # all must stop, and cut their rates, together
        if isinstance(self.schedule, ReduceLROnPlateau):
            self.schedule.step(loss)
        return loss

    def labels_of(self, rows: Rows) -> tuple[Tensor, ...]:
        """What the loss takes beside the images: their labels, or nothing where there are none."""
        return () if self.labels is None else (torch.from_numpy(self.labels[rows]).to(self.fabric.device),)

    def remember(self, epoch: int, train_loss: float, validation_loss: float) -> dict[str, float]:
        """Enter an epoch into the history, and keep the weights if none were better."""
        if not (np.isfinite(train_loss) and np.isfinite(validation_loss)):
            raise DataError(
                f"the loss is not finite in epoch {epoch}: lower training.learning_rate, or look for images with extreme values"
            )
        rate = float(self.optimiser.param_groups[0]["lr"])
        row = {"epoch": epoch, "train": train_loss, "validation": validation_loss, "learning_rate": rate}
        if self.config.keep == "minibatch":
            row["minibatch"] = self.lowest_minibatch
        self.history.append(row)
        last = self.config.keep == "last"
        loss = row["validation" if last else self.config.keep]
        better = loss < self.best_loss
        if better:
            self.best_epoch, self.best_loss = epoch, loss
        if better or last:
            self.best = copy_weights(self.model) if self.promising is None else self.promising
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
                if isinstance(value, Tensor) and value.shape == parameter.shape:
                    kept[name] = torch.empty_like(parameter).copy_(value)
        for name, value in state.items():
            setattr(self, name, value)


def shuffled_batches(rows: Rows, batch_size: int, seed: int, epoch: int) -> Iterator[Rows]:
    """The rows of one epoch in an order that depends on the seed and the epoch alone."""
    order = np.random.default_rng([seed, epoch]).permutation(rows)
    for start in range(0, len(order), batch_size):
        yield order[start : start + batch_size]


def _shares(rows: Rows, rank: int, processes: int, parts: int) -> list[tuple[Rows, float]]:
    """What one process takes of a batch, in parts, each with the weight of its mean loss in the batch's mean.

    Every process takes as many parts as the others, or they would wait for each other for ever; one that has too few
    images for that repeats one without weight. Averaged over processes, the weights of a batch sum to one.

    >>> [_shares(np.array([4, 5, 6]), rank, 2, parts=1) for rank in (0, 1)]
    [[(array([4, 6]), 1.3333333333333333)], [(array([5]), 0.6666666666666666)]]
    """
    mine = rows[rank::processes]
    parts = min(parts, -(-len(rows) // processes))
    weighted = [(part, len(part) * processes / len(rows)) for part in np.array_split(mine, parts)]
    return [(part, weight) if len(part) else (rows[:1], 0.0) for part, weight in weighted]


def _start_fabric(config: TrainingConfig, device: str) -> Fabric:
    from lightning_fabric import Fabric

    name, _, number = device.partition(":")
    chosen = config.precision if config.precision != "auto" else ("bf16" if _gains_by_bf16(name) else "32")
    precision: Any = {"32": "32-true", "bf16": "bf16-mixed", "16": "16-mixed"}[chosen]
    devices: Any = [int(number)] if number else config.processes
    if "WORLD_SIZE" in os.environ and not number:  # started by torchrun
        devices = int(os.environ.get("LOCAL_WORLD_SIZE", os.environ["WORLD_SIZE"]))
    if config.processes != 1:
        os.environ[TRAINING_PROCESSES] = str(config.processes)
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)  # it gives advice on GPUs that is not for our users
    try:
        fabric = Fabric(accelerator=name, devices=devices, precision=precision)
    except (ValueError, RuntimeError) as error:
        raise ConfigError(f"device {device!r} cannot be used: {error}") from None
    fabric.launch()
    return fabric


def _gains_by_bf16(accelerator: str) -> bool:
    """Whether mixed precision is worth it: on recent NVIDIA GPUs, and on CPUs with matrix units (AMX)."""
    if accelerator in ("cuda", "gpu") or (accelerator == "auto" and torch.cuda.is_available()):
        return torch.cuda.is_available() and torch.cuda.is_bf16_supported(including_emulation=False)
    flags = Path("/proc/cpuinfo")
    return accelerator in ("cpu", "auto") and flags.exists() and " amx_bf16" in flags.read_text(errors="ignore")


def _mix(*numbers: int) -> int:
    """One seed from several numbers."""
    return int(np.random.SeedSequence(numbers).generate_state(1)[0])
