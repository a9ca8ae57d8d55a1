"""Which of the training images to distrust, before anything is learned from them that is kept."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from unlike.calibration.leave_one_out import fit_leave_one_out
from unlike.records import Bools, Floats, Rows
from unlike.scoring.base import Scorer

BATCH = 16  # images at once


@dataclass(frozen=True, slots=True, eq=False)
class Witnesses:
    """Scorers of features that say what they find strange of images from which they have not learned."""

    make: Callable[[], Scorer]  # a fresh one
    reduce: Callable[[Tensor], Floats]  # maps (n, h, w) -> scores (n,)
    features: Tensor  # (N, D, h, w) of all images
    categories: Rows  # (N,)
    groups: Rows  # (N,) what is left out as a whole
    seed: int

    @torch.no_grad()
    def score(self, trusted: Bools) -> Floats:
        """(N,) the scores of all images, by one that learns from the trusted ones (N,), each of those as if its group were left out."""
        known, others = np.flatnonzero(trusted), np.flatnonzero(~trusted)
        scorer, scores, every = self.make(), np.empty(len(trusted)), np.arange(len(known))
        own, groups = self.categories[known], self.groups[known]
        maps = fit_leave_one_out(scorer, self.make, self._take(known), own, every, groups, self.seed)
        scores[known] = self.reduce(scorer.fit_normalisation(maps, own))
        if len(others):
            new = torch.cat([scorer.component_maps(part) for part in torch.split(self._take(others), BATCH)])
            scores[others] = self.reduce(scorer.normalise(new, self.categories[others]))
        return scores

    def _take(self, rows: Rows) -> Tensor:
        return self.features if len(rows) == len(self.features) else self.features[torch.from_numpy(rows)]
