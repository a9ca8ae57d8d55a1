"""Training: images and a model to weights."""

from __future__ import annotations

from unlike.training.checkpoints import Checkpoint
from unlike.training.loop import History, Notify, TrainingConfig, isolated_randomness, train

__all__ = ["Checkpoint", "History", "Notify", "TrainingConfig", "isolated_randomness", "train"]
