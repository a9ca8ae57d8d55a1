"""Settings to TOML and back; every wrong one is refused in a sentence that names it."""

import tomllib
from dataclasses import dataclass
from typing import Literal

import pytest
import tomli_w
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from unlike.config import check_range, from_mapping, parse_assignment, read_toml, to_mapping
from unlike.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Everything:
    """One field of every kind of annotation."""

    count: int = 3
    rate: float = 0.5
    on: bool = True
    name: str = "conv"
    mode: Literal["stretch", "pad"] = "stretch"
    precision: Literal["32", "bf16"] = "32"
    mixed: Literal["auto", 1, 2] = "auto"
    widths: tuple[int, ...] = (12, 24)
    pair: tuple[int, float] = (1, 2.0)
    nested: tuple[tuple[str, int], ...] = (("a", 1),)
    width: int | None = None
    label: str | None = None
    size: int | tuple[int, int] | Literal["auto"] = "auto"
    share: float | Literal["auto"] = "auto"


words = st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]), max_size=5)
numbers = st.floats(allow_nan=False)
whole = st.integers(-(2**63), 2**63 - 1)
everything = st.builds(
    Everything,
    count=whole,
    rate=numbers,
    on=st.booleans(),
    name=words,
    mode=st.sampled_from(["stretch", "pad"]),
    precision=st.sampled_from(["32", "bf16"]),
    mixed=st.sampled_from(["auto", 1, 2]),
    widths=st.lists(whole, max_size=3).map(tuple),
    pair=st.tuples(whole, numbers),
    nested=st.lists(st.tuples(words, whole), max_size=2).map(tuple),
    width=st.none() | whole,
    label=st.none() | words.filter(lambda word: word != "none"),
    size=whole | st.tuples(whole, whole) | st.just("auto"),
    share=numbers | st.just("auto"),
)


@hypothesis_settings(max_examples=80)
@given(everything)
def test_settings_survive_the_way_through_toml(config):
    text = tomli_w.dumps(to_mapping(config))
    back = from_mapping(Everything, tomllib.loads(text), "all")
    assert back == config
    assert repr(back) == repr(config)  # 1 == 1.0 == True, but they are not the same setting


def test_what_is_left_out_has_its_default():
    assert from_mapping(Everything, {}, "all") == Everything()
    assert from_mapping(Everything, {"count": 9}, "all") == Everything(count=9)


@pytest.mark.parametrize(
    ("given_", "taken"),
    [
        ({"rate": 2}, Everything(rate=2.0)),
        ({"precision": 32}, Everything(precision="32")),
        ({"width": "none"}, Everything(width=None)),
        ({"width": None}, Everything(width=None)),
        ({"label": "none"}, Everything(label=None)),
        ({"size": [4, 5]}, Everything(size=(4, 5))),
        ({"widths": (1, 2)}, Everything(widths=(1, 2))),
        ({"mixed": 2}, Everything(mixed=2)),
    ],
)
def test_what_is_meant_is_taken(given_, taken):
    assert repr(from_mapping(Everything, given_, "all")) == repr(taken)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"count": 1.5}, "all.count: expected a whole number, came 1.5"),
        ({"count": True}, "all.count: expected a whole number, came True"),
        ({"count": "3"}, "all.count: expected a whole number, came '3'"),
        ({"rate": "fast"}, "all.rate: expected a number, came 'fast'"),
        ({"rate": False}, "all.rate: expected a number, came False"),
        ({"on": 1}, "all.on: expected true or false, came 1"),
        ({"name": 3}, "all.name: expected a word, came 3"),
        ({"mode": "crop"}, "all.mode: expected 'stretch' or 'pad', came 'crop'"),
        ({"mode": ["pad"]}, "all.mode: expected 'stretch' or 'pad', came ['pad']"),
        ({"precision": 64}, "all.precision: expected '32' or 'bf16', came 64"),
        ({"precision": 32.0}, "all.precision: expected '32' or 'bf16', came 32.0"),
        ({"mixed": True}, "all.mixed: expected 'auto' or 1 or 2, came True"),
        ({"widths": 12}, "all.widths: expected a list, came 12"),
        ({"widths": [1, "2"]}, "all.widths: expected a whole number, came '2'"),
        ({"pair": [1]}, "all.pair: expected a list of 2, came [1]"),
        ({"nested": [["a", 1], ["b"]]}, "all.nested: expected a list of 2, came ['b']"),
        ({"width": "wide"}, "all.width: expected a whole number or 'none', came 'wide'"),
        ({"size": "big"}, "all.size: expected a whole number or a list or 'auto', came 'big'"),
        ({"size": [1, 2, 3]}, "all.size: expected a whole number or a list or 'auto', came [1, 2, 3]"),
        ({"share": None}, "all.share: expected a number or 'auto', came None"),
        ({"coutn": 3}, "unknown setting 'all.coutn'; did you mean 'all.count'? known: all.count, all.label, "),
        (3, "all: expected settings by name, came 3"),
    ],
)
def test_a_wrong_setting_is_named(values, message):
    with pytest.raises(ConfigError) as caught:
        from_mapping(Everything, values, "all")
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("training.epochs=20", ("training", "epochs", 20)),
        ("training.rate=1e-3", ("training", "rate", 0.001)),
        ("model.widths=[8, 16]", ("model", "widths", [8, 16])),
        ("model.widths=[8,\n16]", ("model", "widths", [8, 16])),
        ("data.aspect=pad", ("data", "aspect", "pad")),
        ('data.aspect="pad"', ("data", "aspect", "pad")),
        (" data.aspect = pad ", ("data", "aspect", "pad")),
        ("model.on=true", ("model", "on", True)),
        ("model.name=a=b", ("model", "name", "a=b")),
        ("model.name=", ("model", "name", "")),
        ("model.bottleneck=none", ("model", "bottleneck", "none")),
        ("a.b.c=1", ("a", "b.c", 1)),
    ],
)
def test_assignments(text, expected):
    found = parse_assignment(text)
    assert found == expected
    assert type(found[2]) is type(expected[2])


@pytest.mark.parametrize(
    "text", ["", "epochs=20", "training.epochs", ".epochs=20", "training.=20", "=20", "training=a.b"]
)
def test_what_is_no_assignment(text):
    with pytest.raises(ConfigError) as caught:
        parse_assignment(text)
    assert str(caught.value) == f"expected section.key=value, came {text!r}; for instance training.epochs=20"


def test_a_settings_file(tmp_path):
    (tmp_path / "a.toml").write_text('[model]\nname = "é"\n', encoding="utf-8")
    assert read_toml(tmp_path / "a.toml") == {"model": {"name": "é"}}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"a = ", r"x.toml: is not TOML \(Invalid value"),
        (b"\xff\xfe", r"x.toml: is not TOML \('utf-8' codec"),
        (None, r"x.toml: cannot be opened \(No such file or directory\)"),
    ],
)
def test_what_is_no_settings_file(tmp_path, content, message):
    if content is not None:
        (tmp_path / "x.toml").write_bytes(content)
    with pytest.raises(ConfigError, match=message):
        read_toml(tmp_path / "x.toml")


@pytest.mark.parametrize("value", [0.0, 0.5, 1])
def test_a_value_in_its_range(value):
    check_range("map.top_share", value, 0.0, 1.0)


@pytest.mark.parametrize(("value", "came"), [(-0.1, "-0.1"), (2, "2"), (float("nan"), "nan"), (float("inf"), "inf")])
def test_a_value_out_of_its_range(value, came):
    with pytest.raises(ConfigError) as caught:
        check_range("map.top_share", value, 0.0, 1.0)
    assert str(caught.value) == f"map.top_share: expected 0 to 1, came {came}"
