"""`unlike export`, and `unlike score` of what it wrote."""

from __future__ import annotations

import csv
import shutil

import numpy as np
import pytest

from conftest import write_png
from exports import small_detector, small_export, strange
from unlike.cli import run


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
