"""Whether a training came to anything: a model that says the same of all images scores noise, and should not do so in silence."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from unlike.data.batches import iterate
from unlike.data.tensors import to_tensor
from unlike.detector.pipeline import device_of
from unlike.detector.splitting import Pieces
from unlike.models.base import Model
from unlike.records import Rows, kept_epoch

MOST_LOOKED_AT = 256  # images
SAME_RECONSTRUCTION = 0.01  # variance of reconstructions over that of what they rebuild, below which they say nothing
SAME_CODE = 1e-6  # variance of codes over their mean square, below which they are the same but for rounding
FEWEST_EPOCHS = 3  # from which it can be said that a loss only rose
WAY_OUT = "leave training.statistics at estimated; try another training.learning_rate, more epochs, less model.dropout, or another --model"


@torch.no_grad()
def diagnose_training(model: Model, pieces: Pieces, history: Sequence[Mapping[str, Any]], keep: str) -> tuple[str, ...]:
    """What is wrong with a model that was just trained, in sentences; nothing where it was not trained, or all is well.

    Codes and reconstructions of images that the model has not learned from are compared with each other: a model whose
    codes, or whose reconstructions, are the same for all images tells none from another. A loss on validation images that
    was never lower than after the first epoch says that nothing was learned that other images have too.
    """
    if not history:
        return ()
    return (*_look(model, pieces), *judge_history(history, keep))


def judge_history(history: Sequence[Mapping[str, Any]], keep: str) -> Iterator[str]:
    """A sentence where the weights that were kept are no better, by validation, than those after the first epoch.

    >>> rows = [{"epoch": n, "train": 1 / n, "validation": float(n)} for n in (1, 2, 3)]
    >>> next(judge_history(rows, "validation"))
    'The validation loss only rises: 1 after the first epoch, 3 after the last of 3; epoch 1 was kept. The model learns ...'
    """
    kept = kept_epoch(history, keep)
    if kept is None or len(history) < FEWEST_EPOCHS:
        return
    first, last, chosen = (float(row["validation"]) for row in (history[0], history[-1], kept))
    if chosen < first:
        return
    lowest = min(float(row["validation"]) for row in history)
    what = (
        "The validation loss only rises"
        if lowest >= first
        else "The weights that were kept validate no better than the first"
    )
    yield (
        f"{what}: {first:.4g} after the first epoch, {last:.4g} after the last of {len(history)}; epoch {kept['epoch']:.0f} was "
        "kept. The model learns nothing that holds for other images: lower training.learning_rate, give it more images, or "
        "let training.keep be validation."
    )


def _look(model: Model, pieces: Pieces) -> Iterator[str]:
    """What codes and reconstructions of some images say."""
    names = [name for name in ("features", "target", "reconstruction") if name in model.output_spec.names]
    rows = _rows(pieces)
    spreads: dict[str, _Spread] = {name: _Spread() for name in names}
    device = device_of(model)
    for batch in iterate(pieces.images, rows, pieces.spec):
        images = to_tensor(batch.pixels, pieces.spec.value_range, device)
        for name, values in model.outputs(images, names).items():
            spreads[name].add(values)
    if len(rows) < 2:
        return
    codes = spreads["features"]
    if codes.variance <= SAME_CODE * codes.mean_square:
        yield f"The codes of all {len(rows)} images that were looked at are the same: the model tells none from another; {WAY_OUT}."
    elif 2 * (distinct := codes.count_distinct()) < len(rows):
        yield f"{len(rows)} images have only {distinct} different codes: most of the model is dead; {WAY_OUT}."
    if "reconstruction" in names:
        target, rebuilt = spreads["target"], spreads["reconstruction"]
        if (
            target.variance > SAME_CODE * target.mean_square
            and rebuilt.variance < SAME_RECONSTRUCTION * target.variance
        ):
            share = 100 * rebuilt.variance / target.variance
            yield (
                f"All reconstructions are nearly the same: they vary {share:.2g} % as much as what they should rebuild, so that the "
                f"model has learned hardly more than one mean image; {WAY_OUT}."
            )


def _rows(pieces: Pieces) -> Rows:
    """Some images, those first that the model has not learned from."""
    split = pieces.split
    others = np.unique(np.concatenate([split.validation, split.calibration]))
    known = np.setdiff1d(split.train, others)
    return np.concatenate([_some(others, MOST_LOOKED_AT), _some(known, MOST_LOOKED_AT - len(others))])


def _some(rows: Rows, most: int) -> Rows:
    """At most so many of the rows, evenly spread."""
    count = min(len(rows), max(most, 0))
    return rows[np.linspace(0, len(rows) - 1, count).astype(int)] if count else rows[:0]


class _Spread:
    """How much outputs differ from image to image, a batch at a time."""

    def __init__(self) -> None:
        self.count = 0
        self.sums = torch.zeros(())
        self.squares = torch.zeros(())
        self.short: list[Tensor] = []

    def add(self, values: Tensor) -> None:  # (B, ...)
        flat = values.detach().flatten(1).cpu().double()
        if not self.count:
            self.sums, self.squares = flat.new_zeros(flat.shape[1]), flat.new_zeros(flat.shape[1])
        self.count += len(flat)
        self.sums += flat.sum(0)
        self.squares += flat.square().sum(0)
        steps = torch.arange(1, flat.shape[1] + 1, dtype=torch.float64).sqrt() % 1.0 - 0.5  # of no pattern
        self.short.append(flat @ steps)  # one number each: the same for the same output

    @property
    def variance(self) -> float:
        """Over images, summed over elements."""
        return float((self.squares / self.count - (self.sums / self.count).square()).clamp_min(0).sum())

    @property
    def mean_square(self) -> float:
        """Over images, summed over elements."""
        return float(self.squares.sum()) / self.count

    def count_distinct(self) -> int:
        """How many outputs differ by more than rounding."""
        values = torch.cat(self.short).sort().values
        return 1 + int((values.diff() > 1e-6 * self.mean_square**0.5).sum())
