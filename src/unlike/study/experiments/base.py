"""What an experiment is: it takes images, settings and a seed, and gives figures."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from unlike.config import from_mapping
from unlike.detector.detector import Detector
from unlike.detector.presets import DEFAULT_PRESET
from unlike.detector.settings import Sections, Settings
from unlike.errors import ConfigError, unknown
from unlike.records import Evaluation, Metrics, kept_epoch
from unlike.report.wording import TERMS
from unlike.study.datasets import DataSource
from unlike.training import History

METRICS = tuple(TERMS)  # of an evaluation
LOSSES = ("epochs", "loss.train", "loss.validation")  # of the epoch that was kept


@dataclass(frozen=True, slots=True)
class NoOptions:
    """An experiment that has none."""


@dataclass(frozen=True, slots=True)
class Choices:
    """The settings of a run, by what they are settings of."""

    names: Mapping[str, Any]  # model, scorer, preset
    sections: Sections  # of the detector
    finetune: Mapping[str, Any]
    options: Mapping[str, Any]  # of the experiment

    @classmethod
    def arrange(cls, flat: Mapping[str, Any]) -> Choices:
        """From "section.key" to sections.

        >>> Choices.arrange({"model": "fcn", "training.epochs": 3}).sections
        {'training': {'epochs': 3}}
        """
        names = {name: value for name, value in flat.items() if "." not in name}
        sections: Sections = {}
        for name, value in flat.items():
            section, dot, key = name.partition(".")
            if dot:
                sections.setdefault(section, {})[key] = value
        return cls(names, sections, sections.pop("finetune", {}), sections.pop("experiment", {}))

    @property
    def parts(self) -> Mapping[str, Any]:
        """Which model, scorer and preset: the default preset where neither it nor a model is named, whatever else is set.

        >>> Choices.arrange({"training.epochs": 3}).parts, Choices.arrange({"model": "fcn"}).parts
        ({'preset': 'ensemble'}, {'model': 'fcn'})
        """
        return self.names if {"model", "preset"} & self.names.keys() else {**self.names, "preset": DEFAULT_PRESET}

    def resolve(self) -> Settings:
        """Every setting of the detector; a ConfigError names what is unknown."""
        return Settings.resolve(**self.parts, overrides=self.sections)


@dataclass(frozen=True, slots=True, eq=False)
class Task:
    """All that a run knows."""

    source: DataSource
    choices: Choices
    options: Any  # of the experiment, as its own dataclass
    seed: int
    device: str = "auto"

    def detector(self) -> Detector:
        """A detector with the settings of this run, not fitted yet."""
        return Detector(**self.choices.parts, settings=self.choices.sections, seed=self.seed, device=self.device)


@dataclass(frozen=True, slots=True, eq=False)
class Outcome:
    """What a run found."""

    metrics: Mapping[str, float]
    histories: Mapping[str, History] = field(default_factory=dict)  # of what was trained: a row an epoch
    points: Sequence[Sequence[float]] = ()  # x, y, group: to be drawn as a scatter plot
    pictures: Mapping[str, str] = field(default_factory=dict)  # caption -> data URI, to be shown of the first seed
    warnings: Sequence[str] = ()  # what is wrong with what was trained, in sentences


@dataclass(frozen=True, slots=True, eq=False)
class Experiment:
    """A kind of run: what it does, what can be chosen about it, and what it measures."""

    run: Callable[[Task], Outcome]
    metrics: tuple[str, ...]  # shown unless the plan says which; the first one decides
    known: tuple[str, ...]  # all that it can measure; "image.auroc@bolt" is of one category
    options: type[Any] = NoOptions
    finetunes: bool = False  # whether the settings of the section finetune mean something

    def check(self, choices: Choices) -> None:
        """Raise ConfigError, before anything runs, if these settings cannot be."""
        settings = choices.resolve()
        self.read_options(choices)
        if choices.finetune:
            if not self.finetunes:
                raise ConfigError("finetune: this experiment fine-tunes nothing; leave the section out")
            from unlike.detector.settings import ClassifierSettings

            ClassifierSettings.resolve(settings, {"finetune": choices.finetune})

    def read_options(self, choices: Choices) -> Any:
        """The settings of the section experiment."""
        return from_mapping(self.options, choices.options, "experiment")

    def check_metric(self, name: str) -> None:
        """Raise ConfigError for a figure that this experiment never measures."""
        if name.partition("@")[0] not in self.known:
            raise unknown("metric", name, self.known)


def read_metrics(found: Evaluation) -> dict[str, float]:
    """The figures of an evaluation by name, with those of its categories where there are several."""
    metrics = read_figures(found)
    for name, part in found.categories.items() if len(found.categories) > 1 else ():
        metrics |= {f"{metric}@{name}": value for metric, value in _figures(part).items()}
    return metrics


def read_figures(found: Evaluation) -> dict[str, float]:
    """The figures of all images together."""
    return _figures(found.overall)


def _figures(metrics: Metrics) -> dict[str, float]:
    return {name: estimate.value for name, estimate in metrics.figures.items()}


def read_losses(history: History, keep: str) -> dict[str, float]:
    """How long was trained, and the losses of the epoch whose weights were kept, by `training.keep`."""
    kept = kept_epoch(history, keep)
    if kept is None:
        return {}
    return {"epochs": float(len(history)), "loss.train": kept["train"], "loss.validation": kept["validation"]}


def histories_of(detector: Detector) -> dict[str, History]:
    """What a run that trains one model says of the training; nothing where nothing was trained."""
    history = detector.fitted_.history
    return {"": history} if history else {}
