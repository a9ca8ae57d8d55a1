"""What `unlike list` prints, and what it reads from the source."""

from __future__ import annotations

from dataclasses import dataclass, make_dataclass
from typing import Literal

import pytest

from unlike.cli.catalogue import SHARED, Setting, describe, list_entries, list_presets, list_settings
from unlike.detector.presets import PRESETS
from unlike.detector.settings import Settings
from unlike.models import MODELS
from unlike.scoring import SCORERS
from unlike.training import FinetuneConfig

CONFIGS = [kind.Config for registry in (MODELS, SCORERS) for kind in registry.values()]


@dataclass(frozen=True)
class Base:
    plain: int = 1  # behind it
    again: int = 2  # of the base
    silent: str = "# no comment"


@dataclass(frozen=True)
class Child(Base):
    again: int = 4  # of the child
    wrapped: tuple[int, ...] = (
        1_000_000,
        2_000_000,
    )  # behind what was wrapped
    inside: Literal["one", "two"] = (
        "one"  # within the brackets that the formatter puts round a value which, with what is said of it, fills a line
    )
    # above it,
    # in two lines
    above: float | Literal["auto"] = "auto"
    between: int | None = None  # behind: what is above the next is not its own
    # above, and
    both: bool = True  # behind, which counts


def test_descriptions_are_read_where_they_stand():
    found = {setting.name: setting.words for setting in list_settings(Child, "x")}
    assert found == {
        "x.again": "of the child",
        "x.wrapped": "behind what was wrapped",
        "x.inside": "within the brackets that the formatter puts round a value which, with what is said of it, fills a line (one or two)",
        "x.above": "above it, in two lines (a number or auto)",
        "x.between": "behind: what is above the next is not its own (a whole number or none)",
        "x.both": "behind, which counts",
        "x.plain": "behind it",
        "x.silent": "",
    }
    assert list(found)[-2:] == ["x.plain", "x.silent"]  # what is inherited comes last


def test_a_config_without_source_is_listed_without_words():
    kind = make_dataclass("Generated", [("plain", int, 1)], namespace={"__module__": "nowhere"})
    assert list(list_settings(kind, "x")) == [Setting("x.plain", "1")]


@pytest.mark.parametrize("config", dict.fromkeys([*CONFIGS, *SHARED, FinetuneConfig]), ids=lambda kind: kind.__name__)
def test_every_setting_is_described(config):
    silent = [
        setting.name for setting in list_settings(config, "x") if setting.words.startswith("(") or not setting.words
    ]
    assert not silent, "write a comment behind the field, or above it"


def test_presets_of_reports_are_listed_apart():
    shown, all_ = list(describe("presets")), list(describe("presets", everything=True))
    names = [line.split()[0] for line in shown if not line.startswith(" ")]
    assert "autoencoder" in names
    assert "ensemble" in names
    assert "vae-faces" not in names
    assert all_[0] == "for your images"
    assert all_[1 : 1 + len(shown)] == shown
    rest = all_[1 + len(shown) :]
    assert rest[:2] == ["", "of published reports"]
    assert {line.split()[0] for line in rest[2:] if not line.startswith(" ")} == PRESETS.keys() - set(names)


@pytest.mark.parametrize("name", ["ensemble", "three-conv-exact", "vae-faces", "repair"])
def test_what_is_listed_can_be_set(name):
    from unlike.cli.arguments import read_choices

    (entry,) = (entry for kind in (True, False) for entry in list_presets(report=kind) if entry.name == name)
    sections, _ = read_choices(None, [setting.assignment for setting in entry.settings])
    assert Settings.resolve(overrides=sections) == Settings.resolve(preset=name)


@pytest.mark.parametrize("columns", [80, 120])
@pytest.mark.parametrize("what", ["models", "scorers", "presets", "thresholds", "recipes"])
def test_columns_hold_whatever_the_names(what, columns):
    lines = list(describe(what, columns))
    assert max(map(len, lines)) <= columns
    heads = [line for line in lines if not line.startswith(" ")]
    entries = list(list_entries(what))
    widest = max(len(entry.name) for entry in entries)
    for head, entry in zip(heads, entries, strict=True):
        assert head[:widest].rstrip() == entry.name
        assert head[widest : widest + 2] == "  "
        assert entry.about.startswith(head[widest + 2 :])


def test_a_pipe_gets_a_line_for_each_setting():
    lines = list(describe("scorers"))
    settings = sum(len(entry.settings) for entry in list_entries("scorers"))
    longest = max(
        (setting for entry in list_entries("scorers") for setting in entry.settings), key=lambda s: len(s.words)
    )
    assert any(line.endswith(longest.words) for line in lines)
    assert sum("--set scorer." in line or "--set 'scorer." in line for line in lines) == settings


def test_a_long_assignment_stands_by_itself():
    lines = list(describe("models", 80))
    place = lines.index("""  --set 'model.encoders=["conv", "conv", "conv"]'""")
    assert lines[place + 1].strip() == "each fcn or conv, with weights of its own"
    assert Setting("a.b", "1").assignment == "a.b=1"
