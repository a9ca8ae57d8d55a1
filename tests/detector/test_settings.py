"""A choice means what it says: what is named is taken, and what can have no effect is refused or said."""

from __future__ import annotations

import pytest

from unlike import Detector
from unlike.config import RENAMED, RENAMED_NAMES, check_renamed, check_renamed_name, from_mapping
from unlike.detector.presets import DEFAULT_PRESET, PRESETS
from unlike.detector.settings import Settings
from unlike.errors import ConfigError, UnknownSettingError
from unlike.models import MODELS
from unlike.scoring import SCORERS
from unlike.study.plan import read_plan
from unlike.study.recipes import find_plan, recipe_names

DEFAULT = PRESETS[DEFAULT_PRESET].sections


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_can_be_had(name):
    settings = Settings.resolve(preset=name)
    assert settings == Settings.from_sections(settings.to_sections())
    assert settings.model_name == PRESETS[name].sections["model"]["name"]
    assert PRESETS[name].purpose.endswith(".")


def test_nothing_named_is_the_default_whatever_else_is_chosen():
    usual = Settings.resolve()
    assert usual == Settings.resolve(preset=DEFAULT_PRESET)
    for chosen in ({"data": {"size": 64}}, {"map": {"reduction": "mean"}}, {"decision": {"false_alarms": 0.1}}):
        found = Settings.resolve(overrides=chosen)
        assert (found.model, found.scorer) == (usual.model, usual.scorer)
    found = Settings.resolve(overrides={"scorer": {"combine": "mean"}, "model": {"cell": 8}})
    assert (found.model_name, found.scorer_name) == (usual.model_name, usual.scorer_name)
    assert (found.model.cell, found.scorer.combine) == (8, "mean")
    assert found.scorer.settings == usual.scorer.settings


def test_a_scorer_by_itself_measures_what_the_default_sees():
    found = Settings.resolve(scorer="pca")
    assert (found.model_name, found.model) == (DEFAULT["model"]["name"], Settings.resolve().model)
    assert found.scorer == SCORERS["pca"].Config()
    assert found == Settings.resolve(overrides={"scorer": {"name": "pca"}})


def test_a_model_by_itself_brings_its_usual_scorer_and_nothing_of_the_default():
    for name, scorer in (("conv", "residual"), ("features", "neighbours"), ("pixels", "neighbours")):
        found = Settings.resolve(model=name)
        assert (found.scorer_name, found.model) == (scorer, MODELS[name].Config())
        assert found == Settings.resolve(overrides={"model": {"name": name}})


@pytest.mark.parametrize(
    ("chosen", "names"),
    [
        ({"training": {"epochs": 3}}, "training.epochs"),
        ({"training": {"epochs": "auto"}}, "training.epochs"),
        ({"augment": {"blur": 0.5}, "training": {"schedule": "cosine"}}, "training.schedule, augment.blur"),
        ({"corruption": {"noise": 0.1}, "scorer": {"name": "pca"}}, "corruption.noise"),
    ],
)
def test_what_is_for_training_needs_something_to_train(chosen, names):
    with pytest.raises(ConfigError) as caught:
        Settings.resolve(overrides=chosen)
    assert str(caught.value) == (
        f"{names}: neither preset nor model is named, and the default, preset ensemble, trains nothing; name what it is for, "
        "--preset autoencoder, feature-autoencoder, feature-attention or repair, or --model conv or another that is trained; "
        "or leave it out"
    )


def test_what_is_for_training_may_be_said_of_what_is_named():
    chosen = {"training": {"epochs": 3}}
    assert Settings.resolve(preset="autoencoder", overrides=chosen).training.epochs == 3
    assert Settings.resolve(model="conv", overrides=chosen).training.epochs == 3
    assert Settings.resolve(model="pixels", overrides=chosen).training.epochs == 3  # `fit` says that it has no effect
    assert Settings.resolve(preset=DEFAULT_PRESET, overrides=chosen).training.epochs == 3
    initial = {"training": {"initialisation": "kaiming-xavier"}}  # it acts on what is not pretrained
    assert Settings.resolve(overrides=initial).training.initialisation == "kaiming-xavier"
    with pytest.raises(ConfigError, match=r"^training.epochs: neither preset nor model is named"):
        Detector(epochs=3)


def test_what_trains_is_declared():
    assert {name for name, kind in MODELS.items() if not kind.trains} == {"features", "pixels"}


def test_a_setting_of_another_model_is_said_to_be_one():
    with pytest.raises(UnknownSettingError) as caught:
        Settings.resolve(overrides={"model": {"bottleneck": 6}})
    assert (caught.value.section, caught.value.name) == ("model", "bottleneck")
    assert str(caught.value).startswith("unknown setting 'model.bottleneck'; ")
    assert str(caught.value).endswith(
        "(neither preset nor model is named, so this is about the default, preset ensemble; name the model that it is for, such "
        "as conv)"
    )
    with pytest.raises(UnknownSettingError, match=r"preset ensemble; no model has it\)$"):
        Settings.resolve(overrides={"model": {"wonders": 6}})
    for chosen in ({"map": {"wonders": 1}}, {"scorer": {"wonders": 1}}):
        with pytest.raises(UnknownSettingError, match=r"^unknown setting '\w+.wonders'; [^()]*$"):
            Settings.resolve(overrides=chosen)
    with pytest.raises(UnknownSettingError, match=r"^unknown setting 'model.bottleneck'; [^()]*$"):
        Settings.resolve(model="vae", overrides={"model": {"bottleneck": 6}})


@pytest.mark.parametrize(
    ("chosen", "message"),
    [
        ({"preset": "ensembel"}, "unknown preset 'ensembel'; did you mean 'ensemble'?"),
        ({"preset": 3}, "unknown preset '3'"),
        ({"model": "conv_vae"}, "unknown model 'conv_vae'"),
        ({"scorer": "fusion"}, "scorer 'fusion': is called 'ensemble' now"),
        ({"overrides": {"scorer": {"name": ["pca"]}}}, r"""unknown scorer "\['pca'\]\""""),
        ({"overrides": {"trainign": {}}}, "unknown section 'trainign'; did you mean 'training'?"),
    ],
)
def test_a_name_that_is_none(chosen, message):
    with pytest.raises(ConfigError, match=message.replace("?", r"\?")):
        Settings.resolve(**chosen)


def test_sections_name_a_model_and_a_scorer():
    with pytest.raises(ConfigError, match=r"^model.name: expected one of conv, .*, vae, came none$"):
        Settings.from_sections({"scorer": {"name": "pca"}})
    with pytest.raises(ConfigError, match=r"^scorer.name: expected one of ensemble, .*, came none$"):
        Settings.from_sections({"model": {"name": "conv"}})
    with pytest.raises(ConfigError, match=r"^unknown section 'modle'"):
        Settings.from_sections({"modle": {}})


@pytest.mark.parametrize(
    ("section", "name", "value", "new", "meant"),
    [
        ("scorer", "look", 1, "feature_group", "1"),
        ("scorer.settings.pca", "look", "none", "feature_group", "'none'"),
        ("scorer", "scale", "levels", "normalisation", "'quantiles'"),
        ("scorer", "scale", "line", "normalisation", "'median'"),
        ("scorer", "scale", ["line"], "normalisation", "['line']"),
    ],
)
def test_an_old_name_names_the_new_one(section, name, value, new, meant):
    with pytest.raises(ConfigError) as caught:
        check_renamed(section, name, value, ["other", new])
    assert str(caught.value) == f"{section}.{name}: is called {section}.{new} now; expected {section}.{new} = {meant}"
    check_renamed(section, name, value, ["other"])  # of a scorer that never had it


@pytest.mark.parametrize(("scorer", "name", "value"), [("pca", "look", 1), ("ensemble", "scale", "line")])
def test_an_old_name_is_refused_wherever_it_is_chosen(scorer, name, value):
    new, values = RENAMED[f"scorer.{name}"]
    message = f"^scorer.{name}: is called {new} now; expected {new} = {values.get(value, value)!r}$"
    with pytest.raises(ConfigError, match=message):
        Settings.resolve("conv", scorer, overrides={"scorer": {name: value}})
    with pytest.raises(ConfigError, match=message):
        from_mapping(SCORERS[scorer].Config, {name: value}, "scorer")


def test_old_names_stand_for_names_that_are_known():
    assert all(new in SCORERS for (what, _), new in RENAMED_NAMES.items() if what == "scorer")
    check_renamed_name("scorer", "pca")
    check_renamed_name("model", "fusion")


@pytest.mark.parametrize("full", [True, False])
@pytest.mark.parametrize("name", recipe_names())
def test_every_cell_of_a_recipe_says_what_it_is_of(name, full):
    """So that a setting of all cells, such as fewer epochs, leaves each the method that it was."""
    plan = read_plan(find_plan(name), full=full, assignments=["training.weight_decay=0.25"])
    plan.check()
    for configuration in plan.configurations:
        assert {"model", "preset"} & configuration.choices.keys(), configuration.label


def test_a_cell_of_a_preset_has_its_name():
    """A cell called default would be called so still when the default is another."""
    named = dict(read_plan(find_plan("joint-or-separate")).named)
    assert named["ensemble"] == {"preset": "ensemble"}
    assert "default" not in named


@pytest.mark.parametrize("size", [99_999_999, (20_000, 10_000)])
def test_a_size_that_no_memory_holds_is_refused_before_the_work(size):
    with pytest.raises(
        ConfigError, match=r"data\.size: expected no more than 178,956,970 pixels in all, came [0-9]+ x [0-9]+"
    ):
        Settings.resolve(overrides={"data": {"size": size}})
    assert Settings.resolve(overrides={"data": {"size": size, "most_pixels": 10**16}}).data.size == size
