"""Features that are made on the spot, and scorers of them, without a model or an image."""

from __future__ import annotations

from torch import Tensor

from unlike.models.base import OutputSpec
from unlike.scoring.base import Scorer
from unlike.scoring.batches import Batches

SPEC = OutputSpec("Made", ("features",))  # of a model that gives features alone, in one group


def learn(scorer: Scorer, features: Tensor, held_out: Tensor | None = None, size: int = 70, seed: int = 0) -> Scorer:
    """The scorer, once it has learned from features (N, D, h, w), and from the held-out ones where there are some."""
    others = features[:0] if held_out is None else held_out
    return scorer.fit(Batches.of_tensors(features, size=size), Batches.of_tensors(others, size=size), seed)
