"""What a study found, as rows and as statements: means with intervals over seeds, and differences that chance explains or not."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
from scipy import special, stats

from unlike.records import Estimate, Floats
from unlike.study.plan import Plan
from unlike.study.run import Result
from unlike.study.words import bound

CONFIDENCE = 0.95
FEWEST_FOR_RANKS = 6  # pairs: with fewer, no outcome of Wilcoxon's test is below 5 %
NO_SPREAD = 1e-12  # of differences, below which they are all the same and no test can be made
MOST_PAIRED = 6  # cells up to which all are compared with all; of more, the best with the others
VERSIONS = ("unlike", "python", "torch", "numpy")
COSTS = ("cpu_seconds", "peak_megabytes")  # the columns that differ from run to run


@dataclass(frozen=True, slots=True)
class Comparison:
    """How much higher `one` is than `other` in a figure: over seeds, or over data sets where there is one seed."""

    one: str
    other: str
    difference: Estimate  # mean, with its interval
    pairs: int
    p_value: float | None  # of the paired t test, corrected for all comparisons; None: it cannot be had
    rank_p_value: float | None  # of Wilcoxon's signed-rank test, corrected too; None: too few pairs

    @property
    def clear(self) -> bool:
        """Whether chance alone would rarely make such a difference: 1 time in 20, over all comparisons together."""
        return self.p_value is not None and self.p_value < 1 - CONFIDENCE


def results_csv(plan: Plan, results: Sequence[Result]) -> str:
    """A row for each run that is finished: what varies, every figure, what it cost, what made it, and what went wrong."""
    varied, metrics = varying(plan, results), metric_names(plan, results)
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(["cell", *varied, "data", "seed", "state", *metrics, *COSTS, *VERSIONS, "error"])
    for result in results:
        settings = [_written(result.configuration.choices.get(name)) for name in varied]
        figures = [f"{result.metrics[name]:.9g}" if name in result.metrics else "" for name in metrics]
        costs = [f"{result.cpu_seconds:.3f}", f"{result.peak_megabytes:.1f}"]
        made_by = [result.versions.get(name, "") for name in VERSIONS]
        state = "failed" if result.error else "done"
        table.writerow(
            [
                result.configuration.label,
                *settings,
                result.data,
                result.seed,
                state,
                *figures,
                *costs,
                *made_by,
                result.error,
            ]
        )
    return text.getvalue()


def losses_csv(results: Sequence[Result]) -> str:
    """A row for each epoch of every training: cell, what of it was trained, data, seed, and the losses."""
    columns = ("epoch", "train", "validation", "minibatch", "learning_rate")
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(["cell", "part", "data", "seed", *columns])
    for result in results:
        for part, history in result.histories.items():
            for row in history:
                values = [f"{row[name]:.9g}" if name in row else "" for name in columns]
                table.writerow([result.configuration.label, part, result.data, result.seed, *values])
    return text.getvalue()


def varying(plan: Plan, results: Sequence[Result]) -> list[str]:
    """The settings that differ between runs, in the plan's order."""
    names = [*(name for _, settings in plan.named for name in settings), *plan.vary]
    values = {name: {json.dumps(result.configuration.choices.get(name)) for result in results} for name in names}
    return [name for name in dict.fromkeys(names) if len(values[name]) > 1 or name in plan.vary]


def metric_names(plan: Plan, results: Sequence[Result]) -> list[str]:
    """Every figure that any run has, those of the plan first."""
    found = dict.fromkeys(name for result in results for name in result.metrics)
    return [*(name for name in plan.metrics if name in found), *(name for name in found if name not in plan.metrics)]


def configuration_labels(results: Sequence[Result]) -> list[str]:
    """The cells that were measured, in order."""
    return list(dict.fromkeys(result.configuration.label for result in results if not result.error))


def data_names(results: Sequence[Result]) -> list[str]:
    """The data sets that were measured, in order."""
    return list(dict.fromkeys(result.data for result in results if not result.error))


def values_of(results: Sequence[Result], metric: str, configuration: str, data: str | None = None) -> dict[int, float]:
    """A figure of a cell by seed: on one data set, or the mean over those that every cell has measured."""
    sets = _measured_by_all(results, metric) if data is None else {data}
    found: dict[int, dict[str, float]] = {}
    for result in results:
        if result.configuration.label == configuration and metric in result.metrics and result.data in sets:
            found.setdefault(result.seed, {})[result.data] = result.metrics[metric]
    return {seed: float(np.mean(list(values.values()))) for seed, values in found.items() if len(values) == len(sets)}


def _measured_by_all(results: Sequence[Result], metric: str) -> set[str]:
    """The data sets on which every cell has a figure: means over others would compare easy sets with hard ones."""
    sets: dict[str, set[str]] = {}
    for result in results:
        if metric in result.metrics:
            sets.setdefault(result.configuration.label, set()).add(result.data)
    return set.intersection(*sets.values()) if sets else set()


def mean_over_seeds(values: Sequence[float]) -> Estimate:
    """The mean, with the interval of Student's t, which takes the runs for draws from a normal distribution.

    >>> print(mean_over_seeds([0.90, 0.92, 0.94]))
    0.920 [0.870, 0.970]
    """
    array = np.asarray(values, np.float64)
    if len(array) < 2:
        return Estimate(float(array.mean()))
    half = special.stdtrit(len(array) - 1, 0.5 + CONFIDENCE / 2) * array.std(ddof=1) / math.sqrt(len(array))
    return Estimate(float(array.mean()), float(array.mean() - half), float(array.mean() + half))


def summary(results: Sequence[Result], metric: str, data: str | None = None) -> dict[str, Estimate]:
    """A figure of every cell: its mean over seeds, with its interval, which ends where the figure itself must."""
    found = {
        configuration: values_of(results, metric, configuration, data)
        for configuration in configuration_labels(results)
    }
    return {
        configuration: bound(metric, mean_over_seeds(list(values.values())))
        for configuration, values in found.items()
        if values
    }


def best_configuration(plan: Plan, results: Sequence[Result]) -> str | None:
    """The cell whose mean of the first figure is best; None where nothing was measured."""
    means = {configuration: estimate.value for configuration, estimate in summary(results, plan.metrics[0]).items()}
    choose = min if plan.outline.minimise else max
    return choose(means, key=lambda configuration: means[configuration]) if means else None


def compare(plan: Plan, results: Sequence[Result], metric: str) -> list[Comparison]:
    """Cells against each other, paired over seeds, p-values corrected by Holm for all that are compared.

    A pair is one seed, the mean over all data sets; where there is one seed only, it is one data set.

    With a baseline, all others are compared with it. Without, every pair is compared and corrected for, so that the
    best may be picked after looking; of more than six cells only the pairs with the best one are given back.

    Holm 1979, "A simple sequentially rejective multiple test procedure".
    """
    labels = configuration_labels(results)
    baseline = plan.outline.baseline
    if baseline in labels:
        pairs = [(label, baseline) for label in labels if label != baseline]
    else:
        pairs = list(combinations(labels, 2))
    values = {label: _paired_values(results, metric, label) for label in labels}  # once: pairs are many
    found = [_compare_pair(one, values[one], other, values[other]) for one, other in pairs]
    known = [comparison for comparison in found if comparison is not None]
    corrected = holm([comparison.p_value for comparison in known])
    ranks = holm([comparison.rank_p_value for comparison in known])
    rows = [
        Comparison(each.one, each.other, each.difference, each.pairs, p_value, rank)
        for each, p_value, rank in zip(known, corrected, ranks, strict=True)
    ]
    best = best_configuration(plan, results)
    if baseline in labels or len(labels) <= MOST_PAIRED:
        return rows
    return [_turned(row, best) for row in rows if best in (row.one, row.other)]


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """p-values corrected for how many there are; None stays None and counts for nothing.

    >>> holm([0.01, None, 0.04, 0.03])
    [0.03, None, 0.06, 0.06]
    """
    known = sorted((p, position) for position, p in enumerate(p_values) if p is not None)
    corrected: list[float | None] = [None] * len(p_values)
    highest = 0.0
    for rank, (p, position) in enumerate(known):
        highest = max(highest, min(1.0, (len(known) - rank) * p))
        corrected[position] = highest
    return corrected


def sensitivity(results: Sequence[Result], setting: str, metric: str) -> dict[str, list[tuple[float, float]]]:
    """The values of a numeric setting with the figure of each run, for each combination of what else varies."""
    lines: dict[str, list[tuple[float, float]]] = {}
    several = len(data_names(results)) > 1
    for result in results:
        value = result.configuration.varied.get(setting)
        if isinstance(value, int | float) and not isinstance(value, bool) and metric in result.metrics:
            rest = [_written(other) for name, other in result.configuration.varied.items() if name != setting]
            rest += [result.data] * several
            lines.setdefault(", ".join(rest), []).append((float(value), result.metrics[metric]))
    return lines


def grid(results: Sequence[Result], down: str, across: str, metric: str) -> tuple[list[str], list[str], Floats]:
    """The mean figure of every combination of two things that vary, with their values; nan where there is none."""
    cells: dict[tuple[str, str], list[float]] = {}
    for result in results:
        if metric in result.metrics:
            position = (_written(result.configuration.varied[down]), _written(result.configuration.varied[across]))
            cells.setdefault(position, []).append(result.metrics[metric])
    rows, columns = (list(dict.fromkeys(position[axis] for position in cells)) for axis in (0, 1))
    means = [[float(np.mean(cells.get((row, column), [np.nan]))) for column in columns] for row in rows]
    return rows, columns, np.array(means)


def _compare_pair(one: str, values: Mapping[Any, float], other: str, others: Mapping[Any, float]) -> Comparison | None:
    """Two cells on what both have measured."""
    shared = [key for key in values if key in others]
    if not shared:
        return None
    differences = np.array([values[key] - others[key] for key in shared])
    p_value, rank = None, None
    if len(shared) > 1 and differences.std() > NO_SPREAD:
        freedom = len(shared) - 1  # `stats.ttest_1samp` says the same, ten times as slowly, and pairs are many
        t = differences.mean() / (differences.std(ddof=1) / math.sqrt(len(shared)))
        p_value = float(2 * special.stdtr(freedom, -abs(t)))
        rank = float(stats.wilcoxon(differences).pvalue) if len(shared) >= FEWEST_FOR_RANKS else None
    return Comparison(one, other, mean_over_seeds(differences.tolist()), len(shared), p_value, rank)


def _paired_values(results: Sequence[Result], metric: str, configuration: str) -> Mapping[Any, float]:
    """By seed, the mean over data sets; where there is one seed only, by data set."""
    if len({result.seed for result in results}) > 1:
        return values_of(results, metric, configuration)
    return {
        result.data: result.metrics[metric]
        for result in results
        if result.configuration.label == configuration and metric in result.metrics
    }


def _turned(row: Comparison, best: str | None) -> Comparison:
    """The same comparison with the best cell first."""
    if row.one == best:
        return row
    low, high = row.difference.low, row.difference.high
    bounds = (None, None) if low is None or high is None else (-high, -low)
    return Comparison(row.other, row.one, Estimate(-row.difference.value, *bounds), row.pairs, row.p_value, row.rank_p_value)  # fmt: skip


def _written(value: Any) -> str:
    """A value of a setting as a cell of the table."""
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value)
