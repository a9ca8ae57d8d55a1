"""Settings to try next: drawn by Optuna's samplers from what a plan lets vary, and from what is known so far."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from unlike.study.ledger import Entry
from unlike.study.plan import Plan, Range

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution
    from optuna.study import Study

ATTEMPTS = 50  # to draw something that was not drawn before
Params = Mapping[str, Any]  # as the ledger keeps them: words for what is chosen from a list, numbers for ranges


def distributions(plan: Plan) -> dict[str, BaseDistribution]:
    """What varies, in Optuna's words."""
    from optuna.distributions import CategoricalDistribution

    found: dict[str, BaseDistribution] = {}
    if plan.named:
        found["cell"] = CategoricalDistribution([json.dumps(name) for name, _ in plan.named])
    for name, values in plan.vary.items():
        if isinstance(values, Range):
            found[name] = _range(values)
        else:
            found[name] = CategoricalDistribution([json.dumps(value) for value in values])
    return found


def encode(varied: Mapping[str, Any], plan: Plan) -> dict[str, Any]:
    """The values of an configuration as the ledger keeps them."""
    return {
        name: value if isinstance(plan.vary.get(name), Range) else json.dumps(value) for name, value in varied.items()
    }


def decode(params: Params, plan: Plan) -> dict[str, Any]:
    """The values of an configuration from what the ledger keeps, in the plan's order."""
    names = [*(["cell"] if plan.named else []), *plan.vary]
    return {
        name: params[name] if isinstance(plan.vary.get(name), Range) else json.loads(params[name]) for name in names
    }


def draw_params(plan: Plan, configuration: int, drawn: Mapping[int, Params], entries: Mapping[int, Entry]) -> Params:
    """The settings of configuration number `configuration`, unlike those of all before it; the same ones whenever they are drawn.

    `drawn` are the settings of the configurations before, `entries` the runs so far, from which `tpe` learns.
    """
    before = [dict(params) for number, params in drawn.items() if number != configuration]
    for attempt in range(ATTEMPTS):
        informed = plan.outline.sampler == "tpe" and attempt < ATTEMPTS // 2
        study = _informed(plan, drawn, entries, configuration, attempt) if informed else _blind(configuration, attempt)
        params = study.ask(distributions(plan)).params
        if params not in before:
            break
    return params


def _range(values: Range) -> BaseDistribution:
    from optuna.distributions import FloatDistribution, IntDistribution

    if values.whole:
        return IntDistribution(int(values.low), int(values.high), log=values.log, step=int(values.step or 1))
    return FloatDistribution(values.low, values.high, log=values.log, step=values.step)


def _blind(configuration: int, attempt: int) -> Study:
    import optuna

    return optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=ATTEMPTS * configuration + attempt))


def _informed(
    plan: Plan, drawn: Mapping[int, Params], entries: Mapping[int, Entry], configuration: int, attempt: int
) -> Study:
    """A study in memory that knows the mean figure of every configuration that was measured."""
    import optuna

    study = optuna.create_study(
        sampler=optuna.samplers.TPESampler(seed=ATTEMPTS * configuration + attempt),
        direction="minimize" if plan.outline.minimise else "maximize",
    )
    for number in sorted(drawn):
        values = _values(plan, number, entries)
        if values:
            params = dict(drawn[number])
            study.add_trial(
                optuna.trial.create_trial(
                    params=params, distributions=distributions(plan), value=float(np.mean(values))
                )
            )
    return study


def _values(plan: Plan, configuration: int, entries: Mapping[int, Entry]) -> Sequence[float]:
    return [
        float(entry.outcome["metrics"][plan.metrics[0]])
        for run, entry in sorted(entries.items())
        if entry.state == "done" and plan.position(run).configuration == configuration
    ]
