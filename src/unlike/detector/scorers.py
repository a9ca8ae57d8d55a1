"""Scorers as settings describe them: alone, or one for each part of several categories."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from unlike.detector.settings import Settings
from unlike.errors import ConfigError
from unlike.models.base import OutputSpec
from unlike.scoring import SCORERS
from unlike.scoring.base import Scorer
from unlike.scoring.per_category import PerCategoryScorer


def make_scorer(settings: Settings, spec: OutputSpec, categories: Sequence[Sequence[str]] = ()) -> Scorer:
    """A fresh scorer of what a model gives, or a ConfigError where it cannot work with that, or with tiles if there are any.

    `categories` are those of each part that it is to learn by itself, if there are several.
    """
    if len(categories) > 0:
        return PerCategoryScorer(partial(make_scorer, settings, spec), categories)
    scorer = SCORERS[settings.scorer_name](settings.scorer, spec)
    if settings.data.tile is not None and (choice := scorer.capabilities.position_dependent):
        raise ConfigError(
            f"scorer.{choice} learns every position of an image by itself, and a tile may come from any; take a scorer that "
            "knows no positions, as preset patchcore has, or leave data.tile out"
        )
    return scorer
