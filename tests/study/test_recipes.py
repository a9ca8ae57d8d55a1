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
    *("architectures", "augmentation", "augmentation-classes", "code-scorers", "encoders", "equilibrium"),
    *("joint-or-separate", "learning-rates", "overfitting", "pretraining", "real-or-fake", "thresholds"),
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


def test_every_cell_says_what_it_is_of():
    """So that no setting of a training, given to all cells, turns one into another model under its old name."""
    for name in SHIPPED:
        for configuration in read_plan(find_plan(name), full=True, assignments=["training.epochs=4"]).configurations:
            assert {"model", "preset"} & set(configuration.choices), f"{name}: {configuration.label}"
            assert "default" not in configuration.label


def test_no_scorer_of_codes_wants_more_components_than_a_code_has():
    """`code-scorers --full` had a run that could only fail: three components of a code of three."""
    for configuration in read_plan(find_plan("code-scorers"), full=True).configurations:
        settings = Choices.arrange(configuration.choices).resolve()
        code = settings.model.code if settings.model_name == "conv-dense" else settings.model.widths[-1]
        assert getattr(settings.scorer, "components", 0) < code, configuration.label


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
