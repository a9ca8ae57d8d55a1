"""Evaluating with normal images alone, by the command line: figures, and everywhere the word that they are synthetic."""

from __future__ import annotations

import json

from conftest import stripes, write_png
from unlike.cli import run

FAST = ["--model", "conv", "--size", "32", "--epochs", "5", "--set", "model.widths=[8, 8]"]


def test_a_user_without_a_defective_image(tmp_path, capsys):
    for number, image in enumerate(stripes(64)):
        write_png(tmp_path / ("fresh" if number >= 40 else "good") / f"{number:03}.png", image)
    detector = str(tmp_path / "stripes.unlike")
    assert run(["fit", str(tmp_path / "good"), "-o", detector, *FAST]) == 0
    assert run(["evaluate", detector, str(tmp_path / "fresh"), "--synthetic", "-o", str(tmp_path / "out")]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("SYNTHETIC: 24 normal images, 24 copies with made defects")
    assert "says little of how many real defects will be found" in printed
    metrics = json.loads((tmp_path / "out/metrics.json").read_text())
    assert metrics["synthetic"] is True
    assert 0 <= metrics["image"]["auroc"]["value"] <= 1
    assert 0 <= metrics["pixel"]["auroc"]["value"] <= 1
    assert set(metrics["kinds"]) == {"blend", "paste", "scar", "scratch", "stain", "texture"}
    page = (tmp_path / "out/report.html").read_text()
    assert "The defects are synthetic" in page
    assert run(["evaluate", detector, str(tmp_path / "good"), "--synthetic", "-o", str(tmp_path / "seen")]) == 0
    assert "Warning: 40 test images identical to images the detector was fitted on" in capsys.readouterr().err
