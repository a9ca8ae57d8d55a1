"""Losses of single images: those that a model finds hardest may not be what it should learn."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from unlike.data.batches import ImageSet
from unlike.data.randomness import isolated_randomness
from unlike.data.tensors import to_tensor
from unlike.models.base import Model
from unlike.models.losses import LOSSES
from unlike.records import Bools, Floats, Rows

Trim = Callable[[Floats], Bools]  # losses (n,) of the images to train on -> which of them not to learn from


@torch.no_grad()
def image_losses(
    model: Model, images: ImageSet, rows: Rows, objective: str, value_range: tuple[float, float]
) -> Floats:
    """(n,) the loss of each image in `rows` (n,) by itself, unspoilt, as the model is used.

    Trimmed losses leave the highest of them out, epoch by epoch (Shen & Sanghavi, 2019): a model learns first what most images
    have in common, and defects are hardest then.
    """
    learning, device = model.training, next(model.parameters()).device
    found = np.empty(len(rows))
    model.eval()
    with isolated_randomness(0):  # some losses draw
        for number, row in enumerate(rows):
            image = to_tensor(images.take(np.array([row])), value_range, device)
            found[number] = float(model.loss(image, LOSSES[objective]))
    model.train(learning)
    return found
