"""What a study is to find out, as TOML: data, the settings that vary, seeds, figures and budget; checked before it runs."""

from __future__ import annotations

import hashlib
import itertools
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from unlike.config import from_mapping, parse_assignment, read_toml
from unlike.detector.settings import SECTIONS
from unlike.errors import ConfigError, unknown
from unlike.study.datasets import DataSource
from unlike.study.experiments import EXPERIMENTS, Choices

FORMAT = 1  # of what a plan means; part of its fingerprint
MOST_RUNS = 1_000  # of a study that nobody asked for twice
NAMES = ("model", "scorer", "preset")  # what has a name of its own
SHORT = {
    "size": "data.size",
    "epochs": "training.epochs",
    "false_alarms": "decision.false_alarms",
    "model.name": "model",
    "scorer.name": "scorer",
}
RANGE_KEYS = ("low", "high", "log", "step")
PARTS = ("data", "settings", "cell", "vary", "budget", "small")
Flat = dict[str, Any]  # setting -> value: "model", "training.epochs"


@dataclass(frozen=True, slots=True)
class Outline:
    """What stands at the top of a plan, outside its tables."""

    title: str = ""
    about: str = ""  # what is compared, and why: a sentence or two for the page
    experiment: str = "fit-and-evaluate"
    seeds: int | tuple[int, ...] = 3  # how many, from 0, or which
    metrics: tuple[str, ...] = ()  # shown on the page; the first one decides. Empty: the experiment's own
    minimise: bool = False  # true: the lower the first metric, the better
    sampler: Literal["grid", "random", "tpe"] = "grid"
    reduced: bool = False  # whether this is the small size of a plan that has a full one too
    baseline: str = ""  # the cell that all others are compared with; empty: all with all

    def __post_init__(self) -> None:
        if self.experiment not in EXPERIMENTS:
            raise unknown("experiment", self.experiment, EXPERIMENTS)
        if not self.seed_list or min(self.seed_list) < 0 or len(set(self.seed_list)) < len(self.seed_list):
            raise ConfigError(
                f"seeds: expected how many, 1 or more, or a list of different whole numbers, came {self.seeds}"
            )

    @property
    def seed_list(self) -> tuple[int, ...]:
        """The seeds one by one."""
        return tuple(range(self.seeds)) if isinstance(self.seeds, int) else self.seeds


@dataclass(frozen=True, slots=True)
class Budget:
    """When a study has had enough."""

    trials: int | None = None  # settings to draw, each with every data set and seed; for the samplers random and tpe
    cpu_seconds: float | None = None  # after which no new run starts

    def __post_init__(self) -> None:
        if self.trials is not None and self.trials < 1:
            raise ConfigError(f"budget.trials: expected 1 or more, came {self.trials}")
        if self.cpu_seconds is not None and not self.cpu_seconds > 0:
            raise ConfigError(f"budget.cpu_seconds: expected more than 0, came {self.cpu_seconds:g}")


@dataclass(frozen=True, slots=True)
class Range:
    """Numbers between two bounds, from which random and tpe draw."""

    low: int | float
    high: int | float
    log: bool = False  # every factor alike, rather than every step
    step: int | float | None = None

    def __post_init__(self) -> None:
        if not self.low < self.high:
            raise ConfigError(f"a range: expected low below high, came {self.low:g} to {self.high:g}")
        if self.log and (self.low <= 0 or self.step is not None):
            raise ConfigError("a range: log needs low above 0, and no step")
        if self.step is not None and not self.step > 0:
            raise ConfigError(f"a range: expected a step above 0, came {self.step:g}")

    @property
    def whole(self) -> bool:
        """Whether its numbers are whole: both bounds are written without a point."""
        return isinstance(self.low, int) and isinstance(self.high, int)


@dataclass(frozen=True, slots=True)
class Configuration:
    """One choice of settings, to be run on every data set with every seed."""

    label: str
    varied: Mapping[str, Any]  # what tells it from the others, by name
    choices: Mapping[str, Any]  # every setting that is not left to its default


@dataclass(frozen=True, slots=True)
class Position:
    """Where a run stands in its study: which configuration, data set and seed."""

    configuration: int
    data: int
    seed: int


@dataclass(frozen=True, slots=True)
class Plan:
    """A study before it runs.

    >>> plan = make_plan({"seeds": 2, "vary": {"model": ["conv", "fcn"], "training": {"epochs": [1, 2]}}}, Path())
    >>> plan.runs, [configuration.label for configuration in plan.configurations]
    (8, ['conv, 1', 'conv, 2', 'fcn, 1', 'fcn, 2'])
    """

    outline: Outline
    budget: Budget
    data: tuple[DataSource, ...]
    settings: Mapping[str, Any]  # of every configuration
    named: tuple[tuple[str, Mapping[str, Any]], ...]  # configurations by name, with their settings
    vary: Mapping[str, tuple[Any, ...] | Range]
    base: Path  # what relative paths are relative to
    source: Mapping[str, Any] = field(repr=False, compare=False)  # as TOML holds it

    @property
    def fingerprint(self) -> str:
        """Of all that decides what runs; where its files lie on this machine does not."""
        text = json.dumps([FORMAT, self.source], sort_keys=True, default=str)
        return hashlib.sha256(text.encode()).hexdigest()

    @property
    def name(self) -> str:
        """Of the study among others in one database."""
        return f"{self.outline.title or 'study'} {self.fingerprint[:16]}"

    @property
    def metrics(self) -> tuple[str, ...]:
        """The figures that the page shows; the first one decides."""
        return self.outline.metrics or EXPERIMENTS[self.outline.experiment].metrics

    @property
    def sampled(self) -> bool:
        """Whether settings are drawn one after the other rather than all known before."""
        return self.outline.sampler != "grid"

    @property
    def configuration_count(self) -> int:
        """How many choices of settings there are."""
        if self.sampled:
            return min(self.budget.trials or 0, self.space) if self.space else self.budget.trials or 0
        return self.space

    @property
    def space(self) -> int:
        """How many different choices of settings can be made; 0: no end of them."""
        count = max(1, len(self.named))
        for values in self.vary.values():
            count *= _count_values(values)
        return count

    @property
    def runs(self) -> int:
        """How many runs the whole study has."""
        return self.configuration_count * len(self.data) * len(self.outline.seed_list)

    @property
    def configurations(self) -> Iterator[Configuration]:
        """Every combination, in order; of a study that draws its settings there is no such list."""
        names: list[Any] = [name for name, _ in self.named] or [None]
        values = [values for values in self.vary.values() if isinstance(values, tuple)]
        for name, *combination in itertools.product(names, *values):
            varied = ({} if name is None else {"cell": name}) | dict(zip(self.vary, combination, strict=True))
            yield self.configuration(varied)

    def configuration(self, varied: Mapping[str, Any]) -> Configuration:
        """The configuration with these values of what varies; `cell` is the name of one that has a name."""
        choices = dict(self.settings)
        if "cell" in varied:
            choices |= dict(self.named)[varied["cell"]]
        choices |= {name: value for name, value in varied.items() if name != "cell"}
        label = ", ".join(write_value(value) for value in varied.values()) or "as it is"
        return Configuration(label, dict(varied), choices)

    def position(self, number: int) -> Position:
        """Where run `number` stands: seeds change fastest, then data sets, then configurations."""
        rest, seed = divmod(number, len(self.outline.seed_list))
        configuration, data = divmod(rest, len(self.data))
        return Position(configuration, data, seed)

    def order(self) -> list[int]:
        """All runs in the order in which they start: a whole grid with one seed first, so that any part of it is fair."""
        if self.sampled:
            return list(range(self.runs))
        return sorted(range(self.runs), key=lambda number: (self.position(number).seed, number))

    def check(self, *, many: bool = False) -> None:
        """Raise ConfigError, before anything runs, if any configuration cannot be, or if there are more than `many` allows."""
        if self.runs > MOST_RUNS and not many:
            raise ConfigError(
                f"this plan has {self.runs:,} runs ({self.configuration_count:,} cells, {len(self.data)} data sets, "
                f"{len(self.outline.seed_list)} seeds), more than {MOST_RUNS:,}; if that is what you want, add --yes"
            )
        experiment = EXPERIMENTS[self.outline.experiment]
        for metric in self.outline.metrics:
            experiment.check_metric(metric)
        for configuration in self._extremes() if self.sampled else self.configurations:
            experiment.check(Choices.arrange(configuration.choices))
        if self.outline.baseline and not self.sampled:
            labels = [configuration.label for configuration in self.configurations]
            if self.outline.baseline not in labels:
                raise unknown("baseline", self.outline.baseline, labels)

    def _extremes(self) -> Iterator[Configuration]:
        """Configurations with every value that can be drawn, of a range its bounds, each beside the first of the others."""
        ends = {
            name: values if isinstance(values, tuple) else (values.low, values.high)
            for name, values in self.vary.items()
        }
        names = {"cell": tuple(name for name, _ in self.named)} if self.named else {}
        ends = names | ends
        first = {name: values[0] for name, values in ends.items()}
        for name, values in ends.items():
            for value in values:
                yield self.configuration(first | {name: value})


def read_plan(
    path: Path,
    *,
    full: bool = False,
    roots: Sequence[Path] = (),
    seeds: int | None = None,
    assignments: Sequence[str] = (),
) -> Plan:
    """The plan in a TOML file, with what is said beside it.

    A table `[small]` holds what differs in a small study, which is run unless `full`. `roots` take the place of its
    data, `seeds` of how many there are, and `assignments`, section.key=value, are settings of every cell.
    """
    source = read_toml(path)
    small = source.pop("small", {})
    if not isinstance(small, Mapping):
        raise ConfigError(f"{path}: small: expected a table of what differs in a small study, came {small!r}")
    if small and not full:
        source = {**_merge(source, small), "reduced": True}
    if roots:
        source["data"] = [_replace_data(source.get("data", {}), root) for root in roots]
    if seeds is not None:
        source["seeds"] = seeds
    source["settings"] = _flatten(source.get("settings", {}), "settings")
    for text in assignments:
        section, key, value = parse_assignment(text)
        source["settings"] |= _flatten({f"{section}.{key}": value}, "--set")
    return make_plan(source, path.resolve().parent, str(path))


def make_plan(source: Mapping[str, Any], base: Path, path: str = "the plan") -> Plan:
    """The plan that a TOML file's content is; a ConfigError says what is wrong with it."""
    parts = {name: value for name, value in source.items() if name in PARTS}
    for name in source:
        if name not in (*PARTS, *Outline.__dataclass_fields__):
            raise unknown(f"part of {path}", name, [*PARTS, *Outline.__dataclass_fields__])
    outline = from_mapping(Outline, {name: value for name, value in source.items() if name not in PARTS}, path)
    budget = from_mapping(Budget, parts.get("budget", {}), "budget")
    vary = {name: _read_values(name, value) for name, value in _flatten(parts.get("vary", {}), "vary").items()}
    named = tuple(_read_named(parts.get("cell", [])))
    if outline.sampler != "grid" and budget.trials is None:
        raise ConfigError(f"{path}: the sampler {outline.sampler!r} needs budget.trials, how many settings to draw")
    if not (vary or named):
        raise ConfigError(
            f"{path}: nothing varies; expected [vary] with lists of values, or [[cell]] with names and settings"
        )
    for name, values in vary.items():
        if outline.sampler == "grid" and isinstance(values, Range):
            raise ConfigError(f'vary.{name}: a grid needs a list of values; a range is for sampler = "random" or "tpe"')
    data = tuple(_read_data(parts.get("data", {}), base))
    settings = _flatten(parts.get("settings", {}), "settings")
    if both := sorted(vary.keys() & settings.keys()):
        raise ConfigError(f"{both[0]}: is set, and varies too; leave it out of the settings")
    return Plan(outline, budget, data, settings, named, vary, base, dict(source))


def write_value(value: Any) -> str:
    """A value of a setting in a few letters.

    >>> write_value([12, 24]), write_value(0.001), write_value(True)
    ('12-24', '0.001', 'true')
    """
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list | tuple):
        return "-".join(map(write_value, value))
    return f"{value:g}" if isinstance(value, float) else str(value)


def _count_values(values: tuple[Any, ...] | Range) -> int:
    if isinstance(values, tuple):
        return len(values)
    if values.whole or values.step is not None:
        return math.floor((values.high - values.low) / (values.step or 1) + 1e-9) + 1
    return 0


def _flatten(table: Any, where: str) -> Flat:
    """{"training": {"epochs": 3}} as {"training.epochs": 3}, every setting under its one name."""
    if not isinstance(table, Mapping):
        raise ConfigError(f"{where}: expected settings by name, came {table!r}")
    flat: Flat = {}
    for name, value in table.items():
        section = "." not in name  # what has a key already, such as scorer.settings, may be a table itself
        nested = section and isinstance(value, Mapping) and not _is_range(value)
        found = {f"{name}.{key}": inner for key, inner in value.items()} if nested else {name: value}
        for key, inner in found.items():
            known = SHORT.get(key, key)
            if known in flat:
                raise ConfigError(f"{where}: {known} is said twice; keep one of them")
            flat[known] = inner
    _check_names(flat)
    return flat


def _check_names(flat: Flat) -> None:
    known = (*SECTIONS, "finetune", "experiment")
    for name in flat:
        section, dot, _ = name.partition(".")
        if dot and section not in known:
            raise unknown("section", section, known)
        if not dot and name not in NAMES:
            raise unknown("setting", name, [*NAMES, *(short for short in SHORT if "." not in short)])


def _is_range(value: Mapping[str, Any]) -> bool:
    return {"low", "high"} <= set(value) or ("low" in value and set(value) <= set(RANGE_KEYS))


def _read_values(name: str, value: Any) -> tuple[Any, ...] | Range:
    if isinstance(value, Mapping):
        for key in ("low", "high"):
            if not isinstance(value.get(key), int | float):
                raise ConfigError(f"vary.{name}: a range needs numbers low and high, came {dict(value)!r}")
        return from_mapping(Range, value, f"vary.{name}")
    if not isinstance(value, list) or not value:
        raise ConfigError(f"vary.{name}: expected a list of values, came {value!r}")
    if len({json.dumps(item, default=str) for item in value}) < len(value):
        raise ConfigError(f"vary.{name}: names a value twice: {value!r}")
    return tuple(value)


def _read_named(cells: Any) -> Iterator[tuple[str, Flat]]:
    if not isinstance(cells, list) or not all(isinstance(cell, Mapping) for cell in cells):
        raise ConfigError("cell: expected tables [[cell]], each with a name and settings")
    seen: set[str] = set()
    for cell in cells:
        name = cell.get("name")
        if not isinstance(name, str) or not name or name in seen:
            raise ConfigError(f"cell: every [[cell]] needs a name of its own, came {name!r}")
        seen.add(name)
        yield name, _flatten({key: value for key, value in cell.items() if key != "name"}, f"cell {name}")


def _read_data(entries: Any, base: Path) -> Iterator[DataSource]:
    entries = entries if isinstance(entries, list) else [entries]
    found = [from_mapping(DataSource, entry, "data").named(base) for entry in entries]
    names = [source.name for source in found]
    for source in found:
        if names.count(source.name) > 1:
            raise ConfigError(f"data: two sets are called {source.name!r}; give each a name of its own")
        yield source


def _replace_data(entries: Any, root: Path) -> Flat:
    """An entry for the user's own images, as many of them as the plan takes of its own."""
    first = (entries[0] if entries else {}) if isinstance(entries, list) else entries
    if not isinstance(first, Mapping):
        raise ConfigError(f"data: expected a table or several, came {first!r}")
    kept = {name: value for name, value in first.items() if name in ("most_train", "most_test")}
    return {"name": root.name or str(root), "root": str(root.resolve()), **kept}


def _merge(table: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    """Two tables as one, what `other` says before what `table` says, at any depth."""
    merged = dict(table)
    for name, value in other.items():
        both = isinstance(value, Mapping) and isinstance(merged.get(name), Mapping)
        merged[name] = _merge(merged[name], value) if both else value
    return merged
