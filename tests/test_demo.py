"""The demo: on the real cells as far as the package that brings them, and in small from end to end."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from conftest import scratched, stripes
from unlike import demo
from unlike.cli.console import Console
from unlike.detector.presets import DEFAULT_PRESET, PRESETS
from unlike.serving.jobs.normals import list_uploads


def test_cells_are_split_as_promised(tmp_path, monkeypatch):
    """Normal is a defect probability of 0, defective one of 1; only mono cells; held-out normals are in the test alone."""
    cells, probability, kind = demo.load_cells()
    monkeypatch.setattr(
        demo, "load_cells", lambda: (cells[:, ::10, ::10], probability, kind)
    )  # small ones are written quickly
    demo.write_cells(tmp_path / "cells", seed=0)
    names = {
        part: {path.name for path in (tmp_path / "cells" / part).iterdir()}
        for part in ("train/good", "test/good", "test/defective")
    }
    assert {part: len(found) for part, found in names.items()} == {
        "train/good": 438,
        "test/good": 150,
        "test/defective": 313,
    }
    assert not names["train/good"] & names["test/good"]
    assert cells.shape == (2624, 300, 300)
    rows = {part: [int(name[4:8]) for name in found] for part, found in names.items()}
    assert {kind[row] for found in rows.values() for row in found} == {"mono"}
    assert {probability[row] for row in rows["test/defective"]} == {1}
    assert {probability[row] for row in rows["train/good"] + rows["test/good"]} == {0}


def test_another_seed_leaves_nothing_of_the_first(tmp_path, monkeypatch):
    cells = stripes(200, size=4, channels=1)[..., 0], np.repeat([0.0, 1.0], [190, 10]), np.full(200, "mono")
    monkeypatch.setattr(demo, "load_cells", lambda: cells)
    demo.write_cells(tmp_path, seed=0)
    first = {path.name for path in (tmp_path / "test/good").iterdir()}
    demo.write_cells(tmp_path, seed=1)
    second = {path.name for path in (tmp_path / "test/good").iterdir()}
    assert len(second) == 150
    assert first != second
    assert not second & {path.name for path in (tmp_path / "train/good").iterdir()}


def test_the_demo_from_end_to_end(tmp_path, monkeypatch, capsys):
    good = np.concatenate([stripes(46, channels=1), scratched(stripes(12, seed=3, channels=1))[0]])[..., 0]
    probability = np.repeat([0.0, 1.0], [46, 12])
    monkeypatch.setattr(demo, "load_cells", lambda: (good, probability, np.full(58, "mono")))
    monkeypatch.setattr(demo, "TEST_NORMALS", 6)
    for name, section, quick in (
        ("autoencoder", "training", {"epochs": 4}),
        (DEFAULT_PRESET, "model", {"runtime": "torch"}),
    ):
        usual = PRESETS[name]
        changed = {**usual.sections, section: {**usual.sections.get(section, {}), **quick}}
        monkeypatch.setitem(PRESETS, name, replace(usual, sections=changed))
    demo.run_demo(tmp_path / "out", 0, Console())
    captured = capsys.readouterr()
    assert f"Report: {tmp_path / 'out/report.html'}" in captured.err
    assert (
        "Fitted features by ensemble of neighbours, neighbours_coarse, neighbours_unit, neighbours_deep, neighbours_fine and pca "
        "at 128 x 128 x 1: 40 images, none held"
    ) in captured.err
    assert "AUROC" in captured.out
    for part, promise in (("", pytest.approx(3 / 41)), ("autoencoder", 0.05)):
        metrics = json.loads((tmp_path / "out" / part / "metrics.json").read_text())
        assert metrics["counts"] == {"normal": 6, "anomalous": 12, "unreadable": 0}
        assert metrics["promised_false_alarms"] == promise
    assert demo.DETECTORS[""][0] is None  # what `unlike fit` does without a choice
    assert (tmp_path / "out/cells.unlike/detector.toml").exists()


def test_the_service_that_is_shown_has_a_detector_and_cells_that_it_has_not_seen(tmp_path, monkeypatch, capsys):
    good = np.concatenate([stripes(40, channels=1), scratched(stripes(5, seed=3, channels=1))[0]])[..., 0]
    monkeypatch.setattr(demo, "load_cells", lambda: (good, np.repeat([0.0, 1.0], [40, 5]), np.full(45, "mono")))
    monkeypatch.setattr(demo, "TEST_NORMALS", 10)
    arriving = demo.prepare_service(tmp_path, 0, Console())
    assert f"Detector: {tmp_path / 'cells.unlike'}" in capsys.readouterr().err
    names = {path.name for path in arriving.iterdir()}
    assert len(names) == 10 + 5
    learned = {path.name for path in (tmp_path / ".demo/cells/train/good").iterdir()}
    assert not names & learned
    assert [(one["upload"], one["images"]) for one in list_uploads(tmp_path, demo.SERVED)] == [("demo", len(learned))]
    written = (tmp_path / "cells.unlike/detector.toml").stat().st_mtime_ns
    assert demo.prepare_service(tmp_path, 0, Console()) == arriving  # nothing is made twice
    assert (tmp_path / "cells.unlike/detector.toml").stat().st_mtime_ns == written
