"""How the learning rate runs over the steps of a training."""

from __future__ import annotations

from collections.abc import Callable

from torch.optim import Optimizer
from torch.optim.lr_scheduler import ConstantLR, CosineAnnealingLR, LRScheduler, OneCycleLR


def constant(optimiser: Optimizer, steps: int) -> LRScheduler:
    """The same learning rate throughout."""
    return ConstantLR(optimiser, factor=1.0, total_iters=steps)


def cosine(optimiser: Optimizer, steps: int) -> LRScheduler:
    """Down to zero along half a cosine."""
    return CosineAnnealingLR(optimiser, T_max=steps)


def one_cycle(optimiser: Optimizer, steps: int) -> LRScheduler:
    """Up to the learning rate over the first tenth, then down to almost nothing (Smith & Topin 2018)."""
    if steps < 4:  # too few to go up and down
        return constant(optimiser, steps)
    rate, rise = optimiser.param_groups[0]["lr"], max(0.1, 2 / steps)
    return OneCycleLR(optimiser, max_lr=rate, total_steps=steps, pct_start=rise, cycle_momentum=False)


SCHEDULES: dict[str, Callable[[Optimizer, int], LRScheduler]] = {
    "constant": constant,
    "cosine": cosine,
    "one-cycle": one_cycle,
}
