"""Names without their classes, until a class is asked for."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import EntryPoint

import pytest

from unlike import registry
from unlike.calibration.thresholds import THRESHOLDS
from unlike.errors import ConfigError
from unlike.models import MODELS
from unlike.registry import Registry
from unlike.scoring import SCORERS

PLACES = {"blue": "fractions:Fraction", "amber": "no.such.module:Amber"}


@pytest.fixture
def brought(monkeypatch):
    """Entry points that other packages bring, as (name, place)."""

    def bring(*points):
        found = [EntryPoint(name, place, "example.colours") for name, place in points]
        monkeypatch.setattr(registry, "entry_points", lambda group: [one for one in found if one.group == group])
        registry._find_plug_ins.cache_clear()

    yield bring
    registry._find_plug_ins.cache_clear()


def test_names_are_sorted_and_known_without_an_import(brought):
    brought(("cyan", "no.such.module:Cyan"))
    colours = Registry("colour", "example.colours", PLACES)
    assert list(colours) == ["amber", "blue", "cyan"]
    assert len(colours) == 3
    assert "cyan" in colours
    assert "red" not in colours
    assert repr(colours) == "Registry('colour', 'example.colours': amber, blue, cyan)"


def test_what_is_brought_is_had_like_what_is_ours(brought):
    from decimal import Decimal

    brought(("cyan", "decimal:Decimal"))
    colours = Registry("colour", "example.colours", {"blue": "fractions:Fraction"})
    assert colours["cyan"] is Decimal
    assert dict(colours.items()).keys() == {"blue", "cyan"}
    assert colours.get("red") is None
    with pytest.raises(KeyError, match="red"):
        colours["red"]
    with pytest.raises(KeyError, match="red"):
        colours.package("red")
    assert (colours.package("blue"), colours.package("cyan")) == (
        "unlike",
        "decimal:Decimal",
    )  # which has no package here


def test_a_registry_cannot_be_written_to():
    with pytest.raises(TypeError):
        MODELS["mine"] = object
    with pytest.raises(AttributeError):
        MODELS.update({})


@pytest.mark.parametrize(
    ("points", "packages"),
    [
        ([("blue", "a.b:C")], "unlike and a.b:C"),
        ([("red", "a.b:C"), ("red", "d:E")], "a.b:C and d:E"),
    ],
)
def test_a_name_that_two_bring_is_nobodys(brought, points, packages):
    brought(*points)
    colours = Registry("colour", "example.colours", {"blue": "fractions:Fraction"})
    name = points[0][0]
    message = f"^colour '{name}': expected one package that brings it, came {packages}; remove a package"
    with pytest.raises(ConfigError, match=message):
        colours[name]
    with pytest.raises(ConfigError, match=message):
        colours.package(name)


def test_why_it_cannot_be_imported_is_said_in_a_line(brought):
    brought(("cyan", "no.such.module:Cyan"), ("mauve", "fractions:Mauve"))
    colours = Registry("colour", "example.colours", {})
    with pytest.raises(
        ConfigError, match=r"^colour 'cyan' of package .* \(ModuleNotFoundError: No module named 'no'\); re"
    ):
        colours["cyan"]
    with pytest.raises(
        ConfigError, match=r"cannot be imported from fractions:Mauve \(AttributeError: module 'fractions'"
    ):
        colours["mauve"]


@pytest.mark.parametrize("known", [MODELS, SCORERS, THRESHOLDS], ids=lambda known: known.what)
def test_all_that_is_ours_can_be_had(known):
    assert all(isinstance(kind, type) for kind in known.values())
    assert {known.package(name) for name in known} == {"unlike"}


def test_a_model_loads_few_of_our_modules():
    code = "import sys; from unlike.models.conv import ConvAutoencoder; print(*(m for m in sys.modules if m.startswith('unlike')))"
    found = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert len(found.stdout.split()) <= 8, found.stdout


@pytest.mark.parametrize("package", ["models", "scoring"])
def test_a_package_names_its_bases_and_nothing_else(package):
    import importlib

    module = importlib.import_module(f"unlike.{package}")
    assert all(getattr(module, name) is not None for name in module.__all__)
    with pytest.raises(AttributeError, match=f"module 'unlike.{package}' has no attribute 'nothing'"):
        module.nothing  # noqa: B018
