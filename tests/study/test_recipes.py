"""The plans that ship: all can be, and each says what it is about."""

from __future__ import annotations

from dataclasses import replace

import pytest

from unlike.errors import ConfigError
from unlike.study import read_plan
from unlike.study.experiments.base import Choices
from unlike.study.recipes import describe_recipes, find_plan, recipe_names
from unlike.study.run import run_study

SHIPPED = [
    *("architectures", "augmentation", "code-scorers", "encoders", "equilibrium", "joint-or-separate"),
    *("learning-rates", "pretraining", "real-or-fake", "thresholds"),
]  # fmt: skip


def test_all_are_there_and_described():
    assert recipe_names() == SHIPPED
    assert all(len(about) > 40 for _, about in describe_recipes())


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("name", SHIPPED)
def test_every_setting_of_every_cell_is_known(name, full):
    plan = read_plan(find_plan(name), full=full)
    plan.check()
    assert plan.outline.title
    assert plan.outline.reduced is not full
    assert len(plan.outline.seed_list) >= (5 if full else 2)
    assert plan.configuration_count >= 3


@pytest.mark.parametrize("name", SHIPPED)
def test_cells_that_do_not_vary_the_model_have_the_same_one(name):
    """A cell that says nothing of the model gets the default preset, and one that sets a training does not."""
    configurations = [
        configuration
        for configuration in read_plan(find_plan(name), full=True).configurations
        if not {"model", "preset"} & set(configuration.choices)
    ]
    assert len({Choices.arrange(configuration.choices).resolve().model_name for configuration in configurations}) <= 1


@pytest.mark.parametrize("name", SHIPPED)
def test_the_first_cell_of_every_recipe_runs(name, tmp_path):
    """The rest differ in settings that are checked above."""
    plan = read_plan(find_plan(name), seeds=1)
    named = plan.named[:1]
    vary = {setting: values[:1] for setting, values in plan.vary.items()}
    results = run_study(replace(plan, named=named, vary=vary, outline=replace(plan.outline, baseline="")), tmp_path)
    assert [result.error for result in results] == [""]


def test_a_name_that_is_no_recipe(tmp_path):
    with pytest.raises(ConfigError, match=r"unknown recipe 'encoder'; did you mean 'encoders'?"):
        find_plan("encoder")
    assert find_plan(str(tmp_path / "x.toml")) == tmp_path / "x.toml"
