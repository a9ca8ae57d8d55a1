"""One trained model, several scorers: each learns from the same codes, and nothing is trained again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from unlike.config import parse_value
from unlike.data.source import Images
from unlike.detector.detector import Detector
from unlike.detector.settings import Settings
from unlike.errors import ConfigError, DataError


@dataclass(frozen=True, slots=True)
class ScorerChoice:
    """A scorer by name, with some of its settings."""

    name: str
    settings: Mapping[str, Any]

    @property
    def label(self) -> str:
        """What to call it.

        >>> ScorerChoice("kmeans", {"clusters": 3}).label
        'kmeans, clusters 3'
        """
        return ", ".join([self.name, *(f"{key} {value}" for key, value in self.settings.items())])


def parse_scorers(text: str) -> list[ScorerChoice]:
    """Scorers separated by commas, each with settings behind colons.

    >>> [choice.label for choice in parse_scorers("residual,kmeans:clusters=3,pca:components=2:code=vector")]
    ['residual', 'kmeans, clusters 3', 'pca, components 2, code vector']
    """
    found = []
    for part in text.split(","):
        name, *assignments = (word.strip() for word in part.split(":"))
        pairs = [assignment.partition("=") for assignment in assignments]
        if not name or any(not key or not equals for key, equals, _ in pairs):
            raise ConfigError(
                f"--scorers: expected NAME or NAME:KEY=VALUE, separated by commas, such as residual,kmeans:clusters=3, came {part!r}"
            )
        found.append(ScorerChoice(name, {key: parse_value(value) for key, _, value in pairs}))
    labels = [choice.label for choice in found]
    if twice := [label for label in labels if labels.count(label) > 1]:
        raise ConfigError(f"--scorers: {twice[0]} is named twice; name each scorer once")
    return found


def choose_scorer(detector: Detector, choice: ScorerChoice) -> Settings:
    """The detector's settings with another scorer; a ConfigError where there is no such scorer or setting."""
    sections = detector.settings.to_sections()
    return Settings.from_sections({**sections, "scorer": {"name": choice.name, **choice.settings}})


def rescore(detector: Detector, choice: ScorerChoice, images: Images) -> Detector:
    """The same trained model with another scorer, which learns and calibrates on the images that the model was fitted on.

    A DataError where the images are others: those that calibrate must be those that the model has not learned from, and
    which these are the seed decides.
    """
    settings = choose_scorer(detector, choice)
    if settings == detector.settings:
        return detector
    fresh = Detector(
        settings=settings.to_sections(), seed=detector.seed, device=detector.device, cache=detector.cache
    ).fit(images, model=detector.fitted_.pipeline.model)
    if not np.array_equal(fresh.fitted_.digests, detector.fitted_.digests):
        raise DataError(
            f"{fresh.fitted_.source}: are not the images that the detector was fitted on ({detector.fitted_.source}), so that "
            "another scorer would calibrate on images that the model has learned from; name those with --normal"
        )
    return fresh
