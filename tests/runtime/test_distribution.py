"""unlike-runtime: the same code, with what it takes to score an export and no more."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
import venv
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import numpy as np
import pytest

from conftest import write_png
from exports import small_detector, small_export, strange
from unlike._version import __version__

ROOT = Path(__file__).parents[2]


def read(path: Path) -> dict:
    return tomllib.loads((ROOT / path).read_text())["project"]


def test_its_dependencies_are_some_of_the_whole_and_a_runtime():
    whole, light = read(Path("pyproject.toml")), read(Path("packaging/runtime/pyproject.toml"))
    assert set(light["dependencies"]) <= {*whole["dependencies"], *whole["optional-dependencies"]["runtime"]}
    assert not [name for name in light["dependencies"] if name.startswith(("torch", "timm", "scikit", "lightning"))]
    assert light["optional-dependencies"]["formats"] == whole["optional-dependencies"]["formats"]
    assert light["scripts"] == whole["scripts"]
    assert whole["version"] == __version__


@pytest.mark.slow
def test_it_scores_where_torch_is_not_installed(tmp_path):
    """In an environment of its own, which takes the packages that it needs from this one, for there is no network here."""
    venv.create(tmp_path / "venv", with_pip=False)
    for part in ("src", "packaging"):  # a build leaves files behind
        shutil.copytree(ROOT / part, tmp_path / part, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    python = tmp_path / "venv" / "bin" / "python"
    built = subprocess.run(
        [
            sys.executable,
            "-m",
            "pip",
            "wheel",
            "--quiet",
            "--no-deps",
            "--no-build-isolation",
            "-w",
            tmp_path,
            tmp_path / "packaging" / "runtime",
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    if built.returncode:
        pytest.skip(f"no wheel can be built here: {built.stderr[-200:]}")
    (wheel,) = tmp_path.glob("unlike_runtime-*.whl")
    site = next((tmp_path / "venv").glob("lib/python*/site-packages"))
    subprocess.run([sys.executable, "-m", "zipfile", "-e", wheel, site], check=True)
    for name in needed():
        (site / name.name).symlink_to(name)
    for row, image in enumerate(strange(4)):
        write_png(tmp_path / "new" / f"{row}.png", image)
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    score = ["score", str(small_export()), "new", "-o", "scores.csv"]
    code = f"import sys, importlib.util; assert not importlib.util.find_spec('torch'); from unlike.cli import run; sys.exit(run({score!r}))"
    subprocess.run([python, "-c", code], cwd=tmp_path, env=environment, check=True)
    scores = [float(line.split(",")[1]) for line in (tmp_path / "scores.csv").read_text().splitlines()[1:]]
    np.testing.assert_allclose(scores, small_detector().score(tmp_path / "new").image, rtol=1e-5)


def needed() -> set[Path]:
    """What lies in this environment of the packages that unlike-runtime names, and of those that they need."""
    found: set[Path] = set()
    waiting = list(read(Path("packaging/runtime/pyproject.toml"))["dependencies"])
    done = set()
    while waiting:
        name = re.split(r"[ ;<>=!~\[(]", waiting.pop())[0]
        if name in done:
            continue
        done.add(name)
        try:
            package = distribution(name)
        except PackageNotFoundError:
            continue
        waiting += [line for line in package.requires or () if "extra ==" not in line]
        tops = {Path(file.parts[0]) for file in package.files or () if file.parts[0] not in ("..", "__pycache__")}
        found |= {Path(str(package.locate_file(top))) for top in tops}
    return found
