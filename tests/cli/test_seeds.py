"""Seeds that no library takes are refused in a line, whatever command they are given to."""

from __future__ import annotations

import pytest

from unlike.cli import run

PICTURE = ["detector.unlike", "images", "-o", "picture.png"]
COMMANDS = {
    "inspect": ["inspect", "images"],
    "demo": ["demo"],
    "monitor": ["monitor", "detector.unlike", "images"],
    "project": ["latent", "project", *PICTURE],
    "edit": ["latent", "edit", *PICTURE],
    "clusters": ["latent", "clusters", *PICTURE],
    "points": ["latent", "points", "points.csv", "-o", "picture.png"],
}


@pytest.mark.parametrize("seed", ["-1", str(2**32)])
@pytest.mark.parametrize("command", COMMANDS)
def test_a_seed_that_no_library_takes_is_refused(tmp_path, monkeypatch, capsys, command, seed):
    monkeypatch.chdir(tmp_path)
    assert run([*COMMANDS[command], "--seed", seed]) == 2
    said = capsys.readouterr().err.strip()
    assert "Invalid value for '--seed'" in said
    assert "\n" not in said
