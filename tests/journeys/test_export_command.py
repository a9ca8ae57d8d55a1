"""`unlike export`, and `unlike score` of what it wrote."""

from __future__ import annotations

import csv
import shutil

import numpy as np
import pytest

from conftest import write_png
from exports import small_detector, small_export, strange
from unlike.cli import run
from unlike.cli.app import COMMANDS, _build_asked_for
from unlike.cli.console import Console
from unlike.cli.export import _say_quantised
from unlike.export.quantise import Quantised


@pytest.fixture
def new(tmp_path):
    for row, image in enumerate(strange(4)):
        write_png(tmp_path / "new" / f"{row}.png", image)
    return tmp_path / "new"


def test_a_detector_is_exported_proven_and_used(tmp_path, new, capsys):
    small_detector().save(tmp_path / "d.unlike")
    assert run(["export", str(tmp_path / "d.unlike"), "-o", str(tmp_path / "d.onnx"), "--check", str(new)]) == 0
    said = capsys.readouterr().err
    assert "Proven with 4 images, 1, 2 and 7 at once: scores within " in said
    assert (
        "Takes uint8 pixels, B x 32 x 32 x 3; 0 MB for onnx. For images of 16 bits export with --depth uint16." in said
    )
    assert run(["export", "--verify", str(tmp_path / "d.onnx")]) == 0
    assert "Equal to its detector on this machine" in capsys.readouterr().err
    tables = []
    for name in ("d.unlike", "d.onnx"):
        assert (
            run(
                [
                    "score",
                    str(tmp_path / name),
                    str(new),
                    "-o",
                    str(tmp_path / "s.csv"),
                    "--maps",
                    str(tmp_path / name / "m"),
                ]
            )
            == 0
        )
        assert "2 of 4 images anomalous (score above " in capsys.readouterr().err
        assert (tmp_path / name / "m" / "0.png.overlay.png").exists()
        tables.append(list(csv.DictReader((tmp_path / "s.csv").read_text().splitlines())))
    for ours, theirs in zip(*tables, strict=True):
        assert float(theirs["score"]) == pytest.approx(float(ours["score"]), rel=1e-4)
        assert [theirs[name] for name in ("id", "p_value", "anomalous")] == [
            ours[name] for name in ("id", "p_value", "anomalous")
        ]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["export"], "expected a detector and where to write its export: unlike export DETECTOR -o FOLDER"),
        (["export", "d.unlike"], "expected a detector and where to write its export"),
        (["export", "d.unlike", "--verify", "e.onnx"], "--verify takes an export alone, without DETECTOR and -o"),
        (["export", "--verify", "nothing.onnx"], "nothing.onnx: no export here"),
        (["export", "nothing.unlike", "-o", "e.onnx"], "nothing.unlike: no detector here"),
    ],
)
def test_wrong_use_is_one_line(arguments, message, capsys):
    assert run(arguments) == 2
    assert message in capsys.readouterr().err


def test_an_export_runs_on_the_processor(new, capsys):
    assert run(["score", str(small_export()), str(new), "--device", "cuda"]) == 2
    assert (
        "--device cuda: an export runs on the CPU; expected cpu, or a detector in place of its export"
        in capsys.readouterr().err
    )


def test_a_proof_that_does_not_hold_here_is_an_error(tmp_path, capsys):
    """As on a machine whose runtime gives something else."""
    from unlike.calibration.stored import pack_arrays, unpack_arrays

    copied = shutil.copytree(small_export(), tmp_path / "copied.onnx")
    arrays = unpack_arrays((copied / "proof.npz").read_bytes())
    arrays["scores"] = arrays["scores"] * np.where(np.arange(len(arrays["scores"])) == 2, 1.01, 1)
    import hashlib

    content = pack_arrays(arrays)
    (copied / "proof.npz").write_bytes(content)
    lines = (copied / "checksums.sha256").read_text().splitlines()
    kept = [line for line in lines if not line.endswith("  proof.npz")]
    (copied / "checksums.sha256").write_text("\n".join([*kept, f"{hashlib.sha256(content).hexdigest()}  proof.npz"]))
    assert run(["export", "--verify", str(copied)]) == 2
    said = capsys.readouterr().err
    assert "is not equal to its detector on this machine (onnxruntime" in said
    assert f"the worst image is {arrays['ids'][2]}, " in said


@pytest.mark.parametrize(
    ("auroc", "kept", "last"),
    [
        (
            0.9875,
            True,
            "The network is in integers, its distances are not; the threshold was calibrated by its scores.",
        ),
        (0.9, False, "Not in integers: AUROC would fall by 0.0900, and .005 is the most; it is in single precision."),
    ],
)
def test_what_integers_cost_is_a_table(capsys, auroc, kept, last):
    _say_quantised(Quantised(kept, 0.99, auroc, 100, False, 60.04, 41.96), Console())
    assert capsys.readouterr().err.splitlines() == [
        "By 100 labelled images, one at a time:",
        "                     AUROC  CPU ms",
        "single precision    0.9900    60.0",
        f"8-bit integers      {auroc:.4f}    42.0",
        last,
    ]


def test_of_the_commands_the_one_that_is_asked_for_is_built():
    assert [one.name for one in _build_asked_for(["score", "--help"]).registered_commands] == ["score"]
    assert len(_build_asked_for(["--help"]).registered_commands) == len(COMMANDS)
    assert len(_build_asked_for([]).registered_commands) == len(COMMANDS)
