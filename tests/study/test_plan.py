"""Plans: what they mean, and what is refused before anything runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from unlike.errors import ConfigError
from unlike.study.experiments.base import Choices
from unlike.study.plan import MOST_RUNS, make_plan, read_plan, write_value

FULL = """
title = "Both"
seeds = [3, 5]
metrics = ["image.auroc", "image.f1_max@bolt"]
baseline = "wide, 0.1"

[[data]]
collection = "textures"
[[data]]
name = "mine"
root = "images"

[settings]
size = 32
training.epochs = 4
scorer = { name = "pca", components = 2 }

[[cell]]
name = "wide"
model = "fcn"
"model.widths" = [64, 16]
[[cell]]
name = "deep"
preset = "textbook"
training.epochs = 9

[vary]
training.learning_rate = [0.1, 0.01]

[budget]
cpu_seconds = 60

[small]
seeds = 1
settings = { training = { epochs = 1 } }
"""


@pytest.fixture
def path(tmp_path):
    file = tmp_path / "plan.toml"
    file.write_text(FULL)
    return file


def test_a_setting_that_is_a_table_itself(tmp_path):
    """Each scorer of an ensemble has settings of its own, whichever way they are written."""
    settings = "{ kmeans = { clusters = 2 }, pca = { components = 1 } }"
    dotted = f'[[cell]]\nname = "a"\nscorer = "ensemble"\n"scorer.scorers" = ["kmeans", "pca"]\n"scorer.settings" = {settings}\n'
    table = (
        f'[[cell]]\nname = "b"\n[cell.scorer]\nname = "ensemble"\nscorers = ["kmeans", "pca"]\nsettings = {settings}\n'
    )
    (tmp_path / "plan.toml").write_text('[settings]\nmodel = "pixels"\n' + dotted + table)
    plan = read_plan(tmp_path / "plan.toml")
    plan.check()
    found = [Choices.arrange(configuration.choices).resolve().scorer for configuration in plan.configurations]
    assert found[0] == found[1]
    assert found[0].settings == {"kmeans": {"clusters": 2}, "pca": {"components": 1}}


def test_a_plan_is_every_combination_in_order(path):
    plan = read_plan(path, full=True)
    plan.check()
    assert [configuration.label for configuration in plan.configurations] == [
        "wide, 0.1",
        "wide, 0.01",
        "deep, 0.1",
        "deep, 0.01",
    ]
    assert (plan.configuration_count, plan.runs) == (4, 16)
    wide, *_, deep = plan.configurations
    assert wide.choices == {
        "data.size": 32,
        "training.epochs": 4,
        "scorer": "pca",
        "scorer.components": 2,
        "model": "fcn",
        "model.widths": [64, 16],
        "training.learning_rate": 0.1,
    }
    assert deep.choices["training.epochs"] == 9
    assert [source.name for source in plan.data] == ["textures", "mine"]
    assert plan.data[1].root == str(path.parent / "images")
    assert plan.metrics == ("image.auroc", "image.f1_max@bolt")
    positions = [plan.position(number) for number in range(16)]
    assert (positions[5].configuration, positions[5].data, positions[5].seed) == (1, 0, 1)
    assert [plan.position(number).seed for number in plan.order()] == [0] * 8 + [1] * 8


def test_what_is_said_beside_the_file(path):
    plan = read_plan(path)
    assert plan.outline.reduced
    assert plan.outline.seed_list == (0,)
    assert plan.settings["training.epochs"] == 1
    chosen = read_plan(path, seeds=4, roots=[Path("a/bolt")], assignments=["training.epochs=7", "model.widths=[8]"])
    assert chosen.outline.seed_list == (0, 1, 2, 3)
    assert [source.name for source in chosen.data] == ["bolt"]
    assert Path(chosen.data[0].root) == Path("a/bolt").resolve()
    assert chosen.settings["training.epochs"] == 7
    assert len({plan.fingerprint, chosen.fingerprint, read_plan(path, full=True).fingerprint}) == 3
    assert read_plan(path).fingerprint == plan.fingerprint


def test_users_images_are_as_few_as_the_plans(tmp_path):
    (tmp_path / "p.toml").write_text(
        'data = [{collection = "digits", most_train = 9}]\nvary = {model = ["fcn"]}\nsettings = {model.name = "fcn"}'
    )
    with pytest.raises(ConfigError, match="model: is set, and varies too; leave it out of the settings"):
        read_plan(tmp_path / "p.toml")
    (tmp_path / "p.toml").write_text('data = [{collection = "digits", most_train = 9}]\nvary = {model = ["fcn"]}')
    plan = read_plan(tmp_path / "p.toml", roots=[Path("/x"), Path("/y")])
    assert [(source.name, source.most_train) for source in plan.data] == [("x", 9), ("y", 9)]


def test_ranges_are_drawn_from():
    vary = {
        "training.learning_rate": {"low": 1e-4, "high": 1e-2, "log": True},
        "training.epochs": {"low": 2, "high": 5},
    }
    plan = make_plan(
        {"sampler": "random", "budget": {"trials": 7}, "settings": {"model": "conv"}, "vary": vary}, Path()
    )
    plan.check()
    assert (plan.configuration_count, plan.runs, plan.space) == (7, 21, 0)
    few = make_plan(
        {"sampler": "tpe", "budget": {"trials": 7}, "vary": {"training.epochs": {"low": 2, "high": 5}}}, Path()
    )
    assert few.configuration_count == 4  # there are no more
    steps = make_plan(
        {"sampler": "tpe", "budget": {"trials": 99}, "vary": {"map.top_share": {"low": 0.1, "high": 0.3, "step": 0.1}}},
        Path(),
    )
    assert steps.configuration_count == 3
    assert few.order() == list(range(12))


def test_bounds_of_ranges_are_checked_before_anything_runs():
    vary, sampled = (
        {"training.learning_rate": {"low": 1e-4, "high": 1e6}},
        {"sampler": "random", "budget": {"trials": 7}},
    )
    plan = make_plan(
        {**sampled, "vary": vary, "settings": {"model": "conv"}, "cell": [{"name": "a"}, {"name": "b"}]}, Path()
    )
    with pytest.raises(ConfigError, match=r"training.learning_rate: expected 1e-12 to 1000, came 1e\+06"):
        plan.check()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"seed": 3}, "unknown part of the plan 'seed'; did you mean 'seeds'?"),
        ({"experiment": "fit"}, "unknown experiment 'fit'"),
        ({"seeds": 0}, "seeds: expected how many, 1 or more, or a list of different whole numbers, came 0"),
        ({"seeds": [1, 1]}, r"came \(1, 1\)"),
        ({"budget": {"trials": 0}}, "budget.trials: expected 1 or more, came 0"),
        ({"budget": {"cpu_seconds": 0}}, "budget.cpu_seconds: expected more than 0, came 0"),
        ({"budget": {"hours": 3}}, "unknown setting 'budget.hours'"),
        ({"settings": 3}, "settings: expected settings by name, came 3"),
        ({"settings": {"modle": "fcn"}}, "unknown setting 'modle'; did you mean 'model'?"),
        ({"settings": {"trainign": {"epochs": 3}}}, "unknown section 'trainign'; did you mean 'training'?"),
        ({"settings": {"epochs": 3, "training": {"epochs": 4}}}, "settings: training.epochs is said twice"),
        ({"vary": {"model": "fcn"}}, "vary.model: expected a list of values, came 'fcn'"),
        ({"vary": {"model": ["fcn", "fcn"]}}, "vary.model: names a value twice"),
        ({"vary": {"epochs": {"low": 1, "high": 3}}}, "vary.training.epochs: a grid needs a list of values"),
        ({"vary": {"epochs": {"low": "1", "high": 3}}}, "a range needs numbers low and high"),
        ({"vary": {"epochs": {"low": 3, "high": 3}}}, "a range: expected low below high, came 3 to 3"),
        ({"vary": {"epochs": {"low": 0, "high": 3, "log": True}}}, "a range: log needs low above 0, and no step"),
        ({"vary": {"epochs": {"low": 1, "high": 3, "step": 0}}}, "a range: expected a step above 0, came 0"),
        ({"vary": {}}, r"nothing varies; expected \[vary\] with lists of values, or \[\[cell\]\]"),
        ({"sampler": "tpe"}, "the sampler 'tpe' needs budget.trials, how many settings to draw"),
        ({"sampler": "best"}, "sampler: expected 'grid' or 'random' or 'tpe', came 'best'"),
        ({"cell": {"name": "x"}}, r"cell: expected tables \[\[cell\]\], each with a name and settings"),
        ({"cell": [{"model": "fcn"}]}, r"every \[\[cell\]\] needs a name of its own, came None"),
        ({"cell": [{"name": "a"}, {"name": "a"}]}, r"every \[\[cell\]\] needs a name of its own, came 'a'"),
        ({"data": [{}, {}]}, "data: two sets are called 'textures'; give each a name of its own"),
        ({"data": {"colection": "x"}}, "unknown setting 'data.colection'; did you mean 'data.collection'?"),
    ],
)
def test_what_a_plan_cannot_say(content, message):
    with pytest.raises(ConfigError, match=message):
        make_plan({"vary": {"model": ["conv", "fcn"]}, **content}, Path())


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"vary": {"model": ["conv", "fnc"]}}, "unknown model 'fnc'; did you mean 'fcn'?"),
        ({"settings": {"training.epoch": 3}}, "unknown setting 'training.epoch'; did you mean 'training.epochs'?"),
        (
            {"settings": {"finetune.dropout": 0.1}},
            "finetune: this experiment fine-tunes nothing; leave the section out",
        ),
        ({"settings": {"experiment.level": 1}}, "unknown setting 'experiment.level'"),
        ({"metrics": ["image.aurco"]}, "unknown metric 'image.aurco'; did you mean 'image.auroc'?"),
        ({"baseline": "con"}, "unknown baseline 'con'; did you mean 'conv'?"),
        (
            {"seeds": MOST_RUNS},
            r"this plan has 2,000 runs \(2 cells, 1 data sets, 1000 seeds\), more than 1,000; if that is",
        ),
    ],
)
def test_what_is_refused_before_anything_runs(content, message):
    plan = make_plan({"vary": {"model": ["conv", "fcn"]}, **content}, Path())
    with pytest.raises(ConfigError, match=message):
        plan.check()


def test_many_runs_are_fine_when_asked_for():
    make_plan({"vary": {"model": ["conv"]}, "seeds": MOST_RUNS + 1}, Path()).check(many=True)


def test_settings_of_fine_tuning_are_checked_where_they_mean_something():
    source = {
        "experiment": "pretraining",
        "settings": {"finetune.dropot": 0.1},
        "vary": {"experiment": {"labels": [5, 9]}},
    }
    with pytest.raises(ConfigError, match=r"unknown setting 'finetune.dropot'; did you mean 'finetune.dropout'"):
        make_plan(source, Path()).check()


def test_values_in_few_letters():
    assert [write_value(value) for value in (True, 2, 0.5, "x", [[1, 2], [3]])] == ["true", "2", "0.5", "x", "1-2-3"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("small = 3", r"small: expected a table of what differs in a small study, came 3"),
        ('data = "x"', r"data: expected a table or several, came 'x'"),
    ],
)
def test_a_word_where_a_table_belongs(tmp_path, text, message):
    path = tmp_path / "plan.toml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=message):
        read_plan(path, roots=[tmp_path])
