"""Training: images and a model to weights."""

from __future__ import annotations

from unlike.training.checkpoints import Checkpoint
from unlike.training.finetune import FinetuneConfig, LabelModel, class_probabilities
from unlike.training.loop import History, Notify, train
from unlike.training.settings import CorruptionConfig, TrainingConfig
from unlike.training.trimming import Trim, image_losses

__all__ = [
    "Checkpoint",
    "CorruptionConfig",
    "FinetuneConfig",
    "History",
    "LabelModel",
    "Notify",
    "TrainingConfig",
    "Trim",
    "class_probabilities",
    "image_losses",
    "train",
]
