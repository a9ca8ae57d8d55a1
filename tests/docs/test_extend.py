"""docs/how-to-extend.md, followed word by word: its files installed as a package, its commands and checks run."""

from __future__ import annotations

import csv
import importlib
import re
import shlex
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest

from conftest import scratched, stripes, write_png
from unlike import registry
from unlike.cli import run
from unlike.records import ImageShape
from unlike.testing import check_model, check_scorer

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "how-to-extend.md").read_text()
SECTIONS = dict(part.split("\n", 1) for part in PAGE.split("\n## ")[1:])
PARTS = ("Add a model", "Add a scorer", "Add a threshold rule", "Read another file format")


def blocks(kind: str, text: str = PAGE) -> list[str]:
    """The code blocks of a language, as they stand on the page."""
    return re.findall(rf"^```{kind}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def lay_out(folder: Path) -> None:
    """Each block that begins with the name of a file as that file."""
    for block in blocks("python") + blocks("toml"):
        name, text = block.split("\n", 1)
        path = folder / name.removeprefix("# ")
        path.parent.mkdir(exist_ok=True, parents=True)
        path.write_text(text)


@pytest.fixture(scope="module")
def package(tmp_path_factory):
    """The page's package as `pip install` leaves it, and images to try it on."""
    folder = tmp_path_factory.mktemp("package")
    lay_out(folder)
    project = tomllib.loads((folder / "pyproject.toml").read_text())["project"]
    info = folder / "my_parts-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n")
    lines = []
    for group, points in project["entry-points"].items():
        lines += [f"[{group}]", *(f"{name} = {place}" for name, place in points.items())]
    (info / "entry_points.txt").write_text("\n".join(lines) + "\n")
    odd = scratched(stripes(4, size=16, seed=3))[0]
    for number, image in enumerate(stripes(40, size=16)):
        write_png(folder / f"good/{number:02}.png", image)
        (folder / "raw").mkdir(exist_ok=True)
        (folder / f"raw/{number:02}.grey").write_bytes(bytes(image.shape[:2]) + image[..., 0].tobytes())
    for number, image in enumerate([*stripes(4, size=16, seed=5), *odd]):
        write_png(folder / f"new/{number}.png", image)
    return folder


@pytest.fixture
def installed(package, monkeypatch):
    """Work in the package's folder, with it on the path; afterwards nobody knows it."""
    monkeypatch.chdir(package)
    monkeypatch.delenv("COLUMNS", raising=False)  # which workers of pytest set
    monkeypatch.syspath_prepend(package)
    registry._find_plug_ins.cache_clear()
    yield package
    registry._find_plug_ins.cache_clear()
    for name in [name for name in sys.modules if name.split(".")[0] in ("my_parts", "test_my_parts")]:
        del sys.modules[name]


def commands(section: str) -> list[list[str]]:
    lines = [line for block in blocks("sh", SECTIONS[section]) for line in block.splitlines()]
    return [shlex.split(line)[1:] for line in lines]


@pytest.mark.parametrize("section", PARTS)
def test_the_commands_of_the_page_work(installed, section, capsys):
    for command in commands(section):
        assert run(command) == 0, capsys.readouterr().err
        if command[0] == "list":
            name = {"models": "columns", "scorers": "farthest", "thresholds": "sigma"}[command[1]]
            listed = {line.split()[0]: line for line in capsys.readouterr().out.splitlines() if line[:1].strip()}
            assert "(of package my-parts)" in listed[name]
        if command[0] == "score":
            rows = list(csv.DictReader((installed / command[-1]).read_text().splitlines()))
            count = 40 if "raw/" in command else 8
            assert len(rows) == count
            scores = np.array([float(row["score"]) for row in rows])
            assert count == 40 or scores[4:].mean() > scores[:4].mean()  # the scratched ones are stranger


def test_the_checks_of_the_page_pass(installed):
    checks = importlib.import_module("test_my_parts")
    tests = [value for name, value in vars(checks).items() if name.startswith("test_")]
    assert len(tests) == 3
    for test in tests:
        test()


def test_the_checks_say_which_promise_is_broken(installed):
    columns, farthest = (importlib.import_module(f"my_parts.{name}") for name in ("columns", "farthest"))
    model = columns.Columns(columns.ColumnsConfig(), ImageShape(3, 16, 16))

    class Flat(columns.Columns):
        def encode(self, images):
            return super().encode(images)[:, :, 0]

    class Negative(farthest.Farthest):
        def forward(self, features):
            return -super().forward(features)

    with pytest.raises(AssertionError, match=r"encode must return \(B, D, h, w\), came"):
        check_model(Flat(model.config, model.shape))
    with pytest.raises(AssertionError, match="maps must be >= 0"):
        check_scorer(Negative(farthest.FarthestConfig(), model.output_spec), model)


def test_a_file_that_the_reader_refuses_is_named(installed, tmp_path, capsys):
    for path in (installed / "raw").glob("*.grey"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / "07.grey").write_bytes(b"\x10\x10few")
    command = ["fit", str(tmp_path), "-o", str(tmp_path / "d"), "--model", "columns", "--scorer", "farthest"]
    assert run([*command, "--size", "16", "--false-alarms", "0.1"]) == 1
    assert "07.grey is cut short" in " ".join(capsys.readouterr().err.split()).replace(": ", " ")


def test_what_the_page_says_of_this_repository_is_so():
    lines = {
        "Add a model": ("src/unlike/models/__init__.py", "FAMILIES"),
        "Add a scorer": ("src/unlike/scoring/__init__.py", "SCORERS"),
        "Add a threshold rule": ("src/unlike/calibration/thresholds/__init__.py", "THRESHOLDS"),
        "Read another file format": ("src/unlike/data/readers/__init__.py", "READERS"),
    }
    for section, (path, registry_name) in lines.items():
        assert f"`{registry_name}` of `{path}`" in SECTIONS[section]
        assert re.search(rf"^{registry_name}\b", (ROOT / path).read_text(), re.MULTILINE)
        (line,) = (block for block in blocks("", SECTIONS[section]) if block.startswith('"'))
        assert re.fullmatch(r'"[\w-]+": "unlike(\.\w+)+:\w+",\n', line)
