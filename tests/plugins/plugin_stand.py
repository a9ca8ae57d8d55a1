"""Packages as `pip install` leaves them, without pip: modules on the path, and a `.dist-info` that names entry points."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

EXAMPLE = Path(__file__).parent / "unlike_example"


def install(site, name, entry_points, modules=()):
    """Put a package into the folder `site`: its modules as {file: text}, its entry points as {group: {name: place}}."""
    info = site / f"{name.replace('-', '_')}-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    lines = [
        line
        for group, points in entry_points.items()
        for line in (f"[{group}]", *(f"{n} = {p}" for n, p in points.items()))
    ]
    (info / "entry_points.txt").write_text("\n".join(lines) + "\n")
    for file, text in dict(modules).items():
        (site / file).write_text(text)


def install_example(site):
    """The example package, as its pyproject.toml says."""
    facts = tomllib.loads((EXAMPLE / "pyproject.toml").read_text())["project"]
    install(site, facts["name"], facts["entry-points"])
    shutil.copytree(EXAMPLE / "src/unlike_example", site / "unlike_example")


def unlike(site, *arguments):
    """Run the command line where what is in `site` is installed."""
    path = os.pathsep.join([str(site), *filter(None, [os.environ.get("PYTHONPATH")])])
    inherited = {name: value for name, value in os.environ.items() if name != "COLUMNS"}  # which workers of pytest set
    environment = {**inherited, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-m", "unlike", *map(str, arguments)]
    return subprocess.run(command, check=False, capture_output=True, text=True, env=environment)
