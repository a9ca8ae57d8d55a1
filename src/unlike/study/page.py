"""What a study leaves behind: results.csv for programs, report.html for people."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

from unlike.artifacts import printable, write_file
from unlike.records import Estimate
from unlike.report.figures import GROUPS, svg
from unlike.report.page import Picture, environment, settings_tables, signature
from unlike.report.wording import Caution, count, number, shorten, term
from unlike.study import figures, tables
from unlike.study.plan import Plan, Range, write_value
from unlike.study.run import Result
from unlike.study.words import AVERAGE, IMPROVEMENT, WEIGHTED, metric_label, show, show_interval

MOST_NAMED = 12  # runs that a caution lists
FEW_SEEDS = 3
MOST_PANELS = 54  # of losses, and of clusters: a page that nobody can open shows nothing
ACCURACY, ALL_ANOMALOUS = "image.accuracy", "image.accuracy_all_anomalous"


@dataclass(frozen=True, slots=True)
class Section:
    """A part of the page: pictures, and how to read them."""

    id: str
    title: str
    how: str
    pictures: Sequence[Picture]
    captions: bool = False  # written below the pictures too


@dataclass(frozen=True, slots=True)
class Table:
    """A figure of every cell in a column, a cell in a row."""

    title: str
    metrics: Sequence[str]
    rows: Sequence[tuple[str, Sequence[tuple[str, str]]]]  # label, value and interval of each figure


def write_results(plan: Plan, results: Sequence[Result], folder: Path) -> None:
    """Write results.csv, losses.csv and report.html into `folder`, each whole."""
    write_file(folder / "results.csv", tables.results_csv(plan, results).encode())
    write_file(folder / "losses.csv", tables.losses_csv(results).encode())
    write_file(folder / "report.html", render_study(plan, results).encode())


def render_study(plan: Plan, results: Sequence[Result]) -> str:
    """The page as HTML; whatever comes from a file name or a setting is escaped."""
    page = environment().get_template("study.html.j2")
    metric = plan.metrics[0]
    comparisons = tables.compare(plan, results, metric)  # once: of hundreds of cells it takes a while
    return page.render(
        about=plan.outline.about,
        cautions=list(_cautions(plan, results)),
        comparisons=[_comparison_row(metric, row) for row in comparisons],
        first=metric_label(metric),
        headline=list(_headline(plan, results, comparisons)),
        most_named=MOST_NAMED,
        ranks=any(row.rank_p_value is not None for row in comparisons),
        scope=_scope(plan, results),
        sections=[section for section in _sections(plan, results) if section.pictures],
        settings=settings_tables(_described(plan)),
        several_seeds=len(plan.outline.seed_list) > 1,
        tables=list(_tables(plan, results)),
        title=plan.outline.title or "Study",
        **signature(),
    )


def _scope(plan: Plan, results: Sequence[Result]) -> str:
    sizes = [count(len(tables.configuration_labels(results)), "cell"), count(len(plan.data), "data set")]
    return f"{', '.join([*sizes, count(len(plan.outline.seed_list), 'seed')])}: {count(len(results), 'run')}"


def _headline(plan: Plan, results: Sequence[Result], comparisons: Sequence[tables.Comparison]) -> Iterator[str]:
    """Which cell is best, and whether that can be told from chance."""
    metric, best = plan.metrics[0], tables.best_configuration(plan, results)
    if best is None:
        yield "Nothing could be measured."
        return
    labels, means = tables.configuration_labels(results), tables.summary(results, metric)
    extreme = "lowest" if plan.outline.minimise else "highest"
    ties = sum(abs(estimate.value - means[best].value) < tables.NO_SPREAD for estimate in means.values()) - 1
    shared = f" and {count(ties, 'other')}" if ties else ""
    yield f"The {extreme} mean {metric_label(metric)} is {show(metric, means[best].value)}, of {printable(best)}{shared}."
    if len(labels) < 2 or ties == len(means) - 1:
        return
    rows = [row for row in comparisons if best in (row.one, row.other)]
    clear = [row.other if row.one == best else row.one for row in rows if row.clear]
    if not any(row.p_value is not None for row in rows):
        yield "Whether another training would find the same cannot be said: that takes several seeds that differ."
    elif not clear:
        yield "No difference from another cell is clear of chance: do not rank one above the other by these runs."
    elif len(clear) == len(labels) - 1:
        yield "Its difference from every other cell is clear of chance."
    elif len(rows) == len(labels) - 1:
        names = ", ".join(shorten(printable(name), 40) for name in clear[:4]) + (
            " and others" if len(clear) > 4 else ""
        )
        yield f"Clear of chance is its difference from {len(clear)} of {len(rows)} others ({names})."
    else:
        yield "Its difference from the baseline is clear of chance."


def _cautions(plan: Plan, results: Sequence[Result]) -> Iterator[Caution]:
    failed = [result for result in results if result.error]
    if failed:
        names = tuple(f"{r.configuration.label}; {r.data}, seed {r.seed}: {r.error}" for r in failed)
        text = "They are left out of every figure below, which may favour the cells that failed. The same command with --retry runs them again."
        yield Caution(f"{count(len(failed), 'run')} failed", text, names)
    warned = tuple(f"{r.configuration.label}; {r.data}, seed {r.seed}: {text}" for r in results for text in r.warnings)
    if warned:
        runs = count(sum(bool(result.warnings) for result in results), "run")
        yield Caution(
            f"{runs} in which the training came to little", "Their figures are of models that learned nothing.", warned
        )
    missing = plan.runs - len(results)
    if missing:
        yield Caution(f"{count(missing, 'run')} not started", "The budget was spent before, or the study was stopped.")
    if plan.outline.reduced:
        yield Caution(
            "Small size", "Few images, and little training: this shows that it runs, not what is better. Add --full."
        )
    seeds = len(plan.outline.seed_list)
    if seeds < FEW_SEEDS:
        what = "no interval can be given" if seeds == 1 else "intervals are very wide"
        yield Caution("Few seeds", f"With {count(seeds, 'seed')} {what}; three or more say something, ten say it well.")
    oracle = [metric for metric in plan.metrics if term(metric.partition("@")[0]).oracle]
    if oracle:
        labels = ", ".join(map(metric_label, oracle))
        yield Caution(
            "Oracle figures",
            f"{labels}: the threshold was chosen with the test labels at hand; nobody can promise these.",
        )


def _tables(plan: Plan, results: Sequence[Result]) -> Iterator[Table]:
    """All data sets together, then each by itself."""
    names = tables.data_names(results)
    for data in [None, *names] if len(names) > 1 else names:
        shown = [metric for metric in plan.metrics if tables.summary(results, metric, data)]
        means = {metric: tables.summary(results, metric, data) for metric in shown}
        rows = [
            (
                configuration,
                [
                    *(_cell(metric, means[metric].get(configuration)) for metric in shown),
                    *_costs(results, configuration, data),
                ],
            )
            for configuration in tables.configuration_labels(results)
        ]
        yield Table(data or "All data sets together", [metric_label(metric) for metric in shown], rows)


def _cell(metric: str, estimate: Estimate | None) -> tuple[str, str]:
    return ("—", "") if estimate is None else (show(metric, estimate.value), show_interval(metric, estimate))


def _costs(results: Sequence[Result], configuration: str, data: str | None) -> list[tuple[str, str]]:
    runs = [r for r in results if r.configuration.label == configuration and not r.error and data in (None, r.data)]
    if not runs:
        return [("—", ""), ("—", "")]
    seconds, peak = sum(r.cpu_seconds for r in runs) / len(runs), max(r.peak_megabytes for r in runs)
    return [(number(seconds, 3), ""), (f"{peak:,.0f}", "")]


def _comparison_row(metric: str, row: tables.Comparison) -> dict[str, Any]:
    return {
        "one": row.one,
        "other": row.other,
        "difference": f"{'+' * (row.difference.value > 0)}{show(metric, row.difference.value)}",
        "interval": show_interval(metric, row.difference),
        "pairs": row.pairs,
        "p_value": "—" if row.p_value is None else number(row.p_value, 2),
        "rank": "—" if row.rank_p_value is None else number(row.rank_p_value, 2),
        "verdict": "yes" if row.clear else "no",
    }


def _sections(plan: Plan, results: Sequence[Result]) -> Iterator[Section]:
    """Every picture that these results can fill."""
    labels = tables.configuration_labels(results)
    if not labels:
        return
    shown = [metric for metric in plan.metrics if tables.summary(results, metric)]
    how = "A bar is the mean over seeds, a line its 95 % interval, a ring one seed. Where intervals overlap much, do not rank one above the other."
    yield Section("figures", "Figures", how, [picture for metric in shown for picture in _bars(results, metric)])
    how = "Accuracy minus the share of anomalous images: what a detector gains over calling everything anomalous. Left of the line it does harm."
    yield Section("improvement", "Improvement over calling all anomalous", how, list(_by_group(results, IMPROVEMENT)))
    how = "Share of the images judged rightly at the threshold, beside that of calling all of them anomalous."
    yield Section("accuracy", "Accuracy", how, list(_by_group(results, ACCURACY, ALL_ANOMALOUS)))
    how = (
        "The mean over seeds and data sets of every combination: the darker, the higher. The scale is this table's own."
    )
    yield Section("combinations", "Combinations", how, list(_heats(plan, results)))
    how = "A mark is one run; the line goes through the means."
    yield Section("sensitivity", "Sensitivity to settings", how, list(_sensitivities(plan, results)))
    how = "Loss over epochs, a pair of lines for each seed. Where validation rises while training falls, the model learns its images by heart."
    how += _rest(len(_histories(results)), "losses.csv has the losses of all runs")
    yield Section("curves", "Training", how, list(_curves(results)))
    how = "The first seed, in the plane of the first two principal components; the sizes of the groups stand below each panel."
    how += _rest(len(_points(results)), "study.sqlite has the points of the others")
    yield Section("points", "Clusters", how, list(_scatters(results)))
    how = "What the runs of the first seed drew, a picture for each cell."
    yield Section("pictures", "Pictures", how, list(_drawn(results)), captions=True)


def _bars(results: Sequence[Result], metric: str) -> Iterator[Picture]:
    means = tables.summary(results, metric)
    runs = {configuration: list(tables.values_of(results, metric, configuration).values()) for configuration in means}
    label = metric_label(metric)
    for part in _parts(means, figures.MOST_BARS):
        words = f"{label} of {_which(part, means, 'cell')} with intervals; the table above has the numbers."
        yield Picture(svg(figures.bars(part, runs, label)), words)


def _by_group(results: Sequence[Result], metric: str, beside: str = "") -> Iterator[Picture]:
    """A figure by category where a data set has several, with the averages last, else by data set."""
    found = {name for result in results for name in result.metrics if name.startswith(f"{metric}@")}
    averages = [f"{metric}@{group}" for group in (AVERAGE, WEIGHTED)]
    names = sorted(found, key=lambda name: (name in averages, name))
    groups = {name.partition("@")[2]: _group(results, name, beside) for name in names}
    groups = groups or {data: _group(results, metric, beside, data) for data in tables.data_names(results)}
    groups = {group: estimates for group, estimates in groups.items() if estimates}
    cells = {cell: None for estimates in groups.values() for cell in estimates}
    label = metric_label(metric)
    for part in _parts(cells, len(GROUPS)):
        shown = {
            group: {cell: each for cell, each in estimates.items() if cell in part}
            for group, estimates in groups.items()
        }
        words = f"{label}, by {_which(part, cells, 'cell')} and {'category' if names else 'data set'}."
        yield Picture(svg(figures.grouped_bars({group: each for group, each in shown.items() if each}, label)), words)


def _group(results: Sequence[Result], metric: str, beside: str, data: str | None = None) -> dict[str, Estimate]:
    """A figure of every cell in one group; and what `beside` is in it, which is the same for all cells."""
    found = tables.summary(results, metric, data)
    _, at, group = metric.partition("@")
    known = tables.summary(results, f"{beside}{at}{group}", data) if found and beside else {}
    return found | {metric_label(beside): Estimate(next(iter(known.values())).value)} if known else found


def _parts(cells: Mapping[str, Any], most: int) -> Iterator[dict[str, Any]]:
    """At most so many cells at a time, so that a picture can be read."""
    items = list(cells.items())
    for start in range(0, len(items), most):
        yield dict(items[start : start + most])


def _which(part: Mapping[str, Any], whole: Mapping[str, Any], thing: str) -> str:
    """Every one of them, or which of how many."""
    if len(part) == len(whole):
        return f"every {thing}"
    first = list(whole).index(next(iter(part)))
    return f"{thing}s {first + 1} to {first + len(part)} of {len(whole)}"


def _heats(plan: Plan, results: Sequence[Result]) -> Iterator[Picture]:
    metric = plan.metrics[0]
    done = [result for result in results if not result.error]
    listed = [name for name in done[0].configuration.varied if not isinstance(plan.vary.get(name), Range)]
    listed = [name for name in listed if len({write_value(result.configuration.varied[name]) for result in done}) > 1]
    for down, across in combinations(listed, 2):
        rows, columns, means = tables.grid(results, down, across, metric)
        chart = figures.heat(rows, columns, means, metric_label(metric), (down, across))
        yield Picture(svg(chart), f"Heat map of {metric_label(metric)} by {down} and {across}.")


def _sensitivities(plan: Plan, results: Sequence[Result]) -> Iterator[Picture]:
    metric = plan.metrics[0]
    for setting in plan.vary:
        lines = tables.sensitivity(results, setting, metric)
        values = {value for points in lines.values() for value, _ in points}
        if len(values) > 2:
            lines = {"": [point for points in lines.values() for point in points]} if plan.sampled else lines
            for part in _parts(lines, len(GROUPS)):
                picture = figures.sensitivity(part, setting, metric_label(metric))
                yield Picture(svg(picture), f"{metric_label(metric)} against {setting}, {_which(part, lines, 'line')}.")


def _curves(results: Sequence[Result]) -> Iterator[Picture]:
    histories = _histories(results)
    for part in _drawn_parts(histories):
        words = f"Training and validation loss over epochs, a panel for {_which(part, histories, 'cell')}."
        yield Picture(svg(figures.curves(part)), words)


def _histories(results: Sequence[Result]) -> dict[str, list[Any]]:
    """What each cell, or part of one, says of its trainings, by seed."""
    histories: dict[str, list[Any]] = {}
    several = len(tables.data_names(results)) > 1
    for result in results:
        for part, history in result.histories.items():
            label = ", ".join(word for word in (result.configuration.label, part, result.data * several) if word)
            histories.setdefault(label, []).append(history)
    return histories


def _points(results: Sequence[Result]) -> dict[str, Any]:
    """The points of each cell, of the first seed that has some."""
    points: dict[str, Any] = {}
    for result in results:
        if result.points:
            points.setdefault(result.configuration.label, result.points)
    return points


def _scatters(results: Sequence[Result]) -> Iterator[Picture]:
    points = _points(results)
    for part in _drawn_parts(points):
        yield Picture(svg(figures.scatters(part)), f"Points by group, a panel for {_which(part, points, 'cell')}.")


def _drawn_parts(panels: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """The panels that are drawn, a picture's worth at a time."""
    return _parts(dict(list(panels.items())[:MOST_PANELS]), figures.MOST_PANELS)


def _rest(many: int, where: str) -> str:
    """What a reader is told of panels that are not drawn."""
    return f" Of {many:,} panels the first {MOST_PANELS} are drawn; {where}." if many > MOST_PANELS else ""


def _drawn(results: Sequence[Result]) -> Iterator[Picture]:
    for result in results:
        for caption, picture in result.pictures.items():
            yield Picture(picture, printable(f"{result.configuration.label}; {result.data}: {caption}"))


def _described(plan: Plan) -> dict[str, dict[str, Any]]:
    """The plan as tables."""
    budget = {"trials": plan.budget.trials, "CPU seconds": plan.budget.cpu_seconds}
    outline = {
        "experiment": plan.outline.experiment,
        "seeds": plan.outline.seed_list,
        "sampler": plan.outline.sampler,
        "fingerprint": plan.fingerprint[:16],
    }
    return {
        "Study": outline | {name: value for name, value in budget.items() if value is not None},
        "Data": {
            source.name: source.collection or source.root or f"{source.train}, {source.test}" for source in plan.data
        },
        "Settings of every cell": dict(plan.settings),
        "What varies": {name: _written_values(values) for name, values in plan.vary.items()},
        **{f"Cell {name}": dict(settings) for name, settings in plan.named},
    }


def _written_values(values: Sequence[Any] | Range) -> str:
    if isinstance(values, Range):
        return f"{values.low:g} to {values.high:g}{', by factors' if values.log else ''}"
    return ", ".join(map(write_value, values))
