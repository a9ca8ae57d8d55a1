"""Optimisers, and how their learning rate runs over the steps of a training."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from torch import nn
from torch.optim import SGD, Adam, AdamW, Optimizer
from torch.optim.lr_scheduler import ConstantLR, CosineAnnealingLR, LRScheduler, OneCycleLR, ReduceLROnPlateau

from unlike.training.settings import TrainingConfig

Parameters = Iterable[nn.Parameter]
PLATEAU_EPOCHS = 10  # without a better validation loss, before the rate is cut to
PLATEAU_FACTOR = 0.1  # of itself


def sgd(parameters: Parameters, config: TrainingConfig) -> Optimizer:
    """Stochastic gradient descent with momentum."""
    return SGD(
        parameters, lr=config.learning_rate, momentum=config.momentum, weight_decay=config.weight_decay, fused=True
    )


def adam(parameters: Parameters, config: TrainingConfig) -> Optimizer:
    """Adam; weight decay is added to the gradient."""
    return Adam(parameters, lr=config.learning_rate, weight_decay=config.weight_decay, fused=True)


def adamw(parameters: Parameters, config: TrainingConfig) -> Optimizer:
    """Adam with weight decay apart from the gradient (Loshchilov & Hutter 2019)."""
    return AdamW(parameters, lr=config.learning_rate, weight_decay=config.weight_decay, fused=True)


def constant(optimiser: Optimizer, config: TrainingConfig, epochs: int, steps: int) -> LRScheduler:  # noqa: ARG001
    """The same learning rate throughout."""
    return ConstantLR(optimiser, factor=1.0, total_iters=epochs * steps)


def cosine(optimiser: Optimizer, config: TrainingConfig, epochs: int, steps: int) -> LRScheduler:
    """Down to zero along half a cosine of `t_max` epochs, and up again if the training is longer."""
    return CosineAnnealingLR(optimiser, T_max=(config.t_max or epochs) * steps)


def one_cycle(optimiser: Optimizer, config: TrainingConfig, epochs: int, steps: int) -> LRScheduler:
    """Up to the learning rate over the first tenth, then down to almost nothing (Smith & Topin 2018)."""
    total = epochs * steps
    if total < 4:  # too few to go up and down
        return constant(optimiser, config, epochs, steps)
    rise = max(0.1, 2 / total)
    return OneCycleLR(optimiser, config.learning_rate, total_steps=total, pct_start=rise, cycle_momentum=False)


def plateau(optimiser: Optimizer, config: TrainingConfig, epochs: int, steps: int) -> LRScheduler:  # noqa: ARG001
    """A tenth of the rate whenever the validation loss has not improved for ten epochs."""
    return ReduceLROnPlateau(optimiser, factor=PLATEAU_FACTOR, patience=PLATEAU_EPOCHS)


OPTIMISERS: dict[str, Callable[[Parameters, TrainingConfig], Optimizer]] = {"adam": adam, "adamw": adamw, "sgd": sgd}
SCHEDULES: dict[str, Callable[[Optimizer, TrainingConfig, int, int], LRScheduler]] = {  # (.., epochs, steps an epoch)
    "constant": constant,
    "cosine": cosine,
    "one-cycle": one_cycle,
    "plateau": plateau,
}
