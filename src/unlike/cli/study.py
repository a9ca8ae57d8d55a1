"""`unlike study`: compare settings over many runs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from unlike.cli.arguments import DONE_IN_PART, Device
from unlike.cli.console import Console, plural

if TYPE_CHECKING:
    from collections.abc import Sequence

    from unlike.study.plan import Plan
    from unlike.study.run import Result

ERRORS_NAMED = 5  # failed runs that are listed; the page has all


def study(
    plan: Annotated[
        str, typer.Argument(metavar="FILE.toml|RECIPE", help="What to compare; recipes: `unlike list recipes`.")
    ],
    output: Annotated[
        Path,
        typer.Option(
            "-o", "--output", metavar="DIR", help="For results.csv, losses.csv, report.html and what is kept."
        ),
    ],
    data: Annotated[
        list[Path] | None,
        typer.Option("--data", metavar="ROOT", help="Your images in place of the plan's; may be repeated."),
    ] = None,
    full: Annotated[bool, typer.Option("--full", help="The full size, not the small one of `[small]`.")] = False,
    seeds: Annotated[int | None, typer.Option(help="How many, in place of the plan's.")] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="SECTION.KEY=VALUE", help="A setting of every cell; may be repeated."),
    ] = None,
    workers: Annotated[int, typer.Option(help="Runs at a time on this machine.")] = 1,
    storage: Annotated[
        str | None, typer.Option(metavar="URL", help="A database for several machines; else a file in DIR.")
    ] = None,
    retry: Annotated[bool, typer.Option("--retry", help="Run again what failed.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Yes, more than 1,000 runs.")] = False,
    track: Annotated[str | None, typer.Option(metavar="mlflow", help="Log every run there too.")] = None,
    device: Device = "auto",
) -> None:
    """Compare settings over many runs: a table with intervals and a page. The same command goes on after a kill.

    Needs the extra `study`: pip install 'unlike[study]'.

    Example: unlike study learning-rates -o rates --data bottle/
    """
    from unlike.config import need_package

    need_package("optuna", "study", "studies need Optuna")  # before seconds go by that load the rest
    from unlike.study.page import write_results
    from unlike.study.plan import read_plan
    from unlike.study.recipes import find_plan
    from unlike.study.run import Running, run_study
    from unlike.study.tracking import check_tracker, track_results

    check_tracker(track)
    chosen = read_plan(find_plan(plan), full=full, roots=data or [], seeds=seeds, assignments=settings or [])
    chosen.check(many=yes)
    console = Console()
    console.say(_describe(chosen))
    running = Running(workers, storage, device, retry)
    try:
        results = run_study(chosen, output, running, lambda *news: console.say(_describe_run(chosen, *news)))
    except KeyboardInterrupt:
        console.say("The same command goes on from here.")
        raise
    write_results(chosen, results, output)
    if track is not None:
        track_results(chosen, results, output)
    _say_results(console, chosen, results, output)
    if any(result.error for result in results):
        raise typer.Exit(DONE_IN_PART)


def _describe(plan: Plan) -> str:
    sets, seeds = len(plan.data), len(plan.outline.seed_list)
    sizes = f"{plural(plan.configuration_count, 'cell')}, {plural(sets, 'data set')}, {plural(seeds, 'seed')}"
    small = " Small size, to see that it runs; --full is in earnest." if plan.outline.reduced else ""
    return f"{plan.outline.title or 'Study'}: {sizes}, {plural(plan.runs, 'run')}.{small}"


def _describe_run(plan: Plan, result: Result, done: int, total: int) -> str:
    metric = plan.metrics[0]
    found = f"failed: {result.error}" if result.error else f"{metric} {result.metrics[metric]:.4f}"
    where = f"{result.configuration.label}; {result.data}, seed {result.seed}"
    return f"{done:,} of {total:,}  {where}: {found} ({result.cpu_seconds:.1f} CPU-seconds)"


def _say_results(console: Console, plan: Plan, results: Sequence[Result], folder: Path) -> None:
    """The mean of every cell on stdout; what failed, and where the rest is."""
    from unlike.study.tables import summary

    metric = plan.metrics[0]
    for label, estimate in summary(results, metric).items():
        typer.echo(f"{estimate!s:24} {metric}  {label}")
    failed = [result for result in results if result.error]
    if failed:
        console.say(f"{plural(len(failed), 'run')} failed; --retry runs them again:")
    for result in failed[:ERRORS_NAMED]:
        console.say(f"  {result.configuration.label}; {result.data}, seed {result.seed}: {result.error}")
    if len(results) < plan.runs:
        console.say(f"{plural(plan.runs - len(results), 'run')} not started: the budget is spent.")
    if warned := sum(bool(result.warnings) for result in results):
        console.say(f"Warning: in {plural(warned, 'run')} the training came to little; the report says what and where.")
    console.say(f"Results: {folder / 'results.csv'}; report: {folder / 'report.html'}")
