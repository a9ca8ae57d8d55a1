"""What an export says is what its detector says, and it needs no torch for that."""

from __future__ import annotations

import dataclasses
import shutil
import subprocess
import sys

import cv2
import numpy as np
import pytest

from conftest import stripes, write_png
from exports import small_detector, small_export, strange
from unlike import runtime
from unlike.artifacts import CHECKSUMS
from unlike.data.batches import Batch
from unlike.errors import ArtifactError, ConfigError, DataError
from unlike.records import Sample
from unlike.runtime import load
from unlike.runtime.exported import fit_depth

HEAVY = ("torch", "timm", "sklearn", "scipy", "matplotlib", "safetensors", "lightning_fabric", "jinja2", "tomli_w")


@pytest.fixture(scope="module")
def exported():
    return load(small_export(), threads=1)


@pytest.fixture
def folder(tmp_path):
    """Images in files, of other sizes; one is none."""
    for number, image in enumerate(strange(6)):
        write_png(tmp_path / "new" / f"{number}.png", cv2.resize(image, (40 + number, 50)))
    (tmp_path / "new" / "broken.png").write_bytes(b"no image")
    return tmp_path / "new"


def test_scores_maps_and_verdicts_are_those_of_the_detector(exported, folder):
    detector = small_detector()
    ours, theirs = detector.score(folder, maps=True), exported.score(folder, maps=True)
    assert theirs.ids == ours.ids == tuple(f"{number}.png" for number in range(6))
    np.testing.assert_allclose(theirs.image, ours.image, rtol=1e-5)
    np.testing.assert_allclose(theirs.maps, ours.maps, rtol=1e-4, atol=1e-4)
    assert theirs.unreadable == ours.unreadable
    assert [str(one) for one in theirs.unreadable] == [str(one) for one in ours.unreadable]
    for ours, theirs in zip(detector.judge(folder, fdr=0.5), exported.judge(folder, fdr=0.5), strict=True):
        assert theirs.id == ours.id
        assert theirs.anomalous == ours.anomalous
        assert (theirs.threshold, theirs.p_value, theirs.q_value) == (ours.threshold, ours.p_value, ours.q_value)
        assert [dataclasses.replace(one, peak=0) for one in theirs.regions] == [
            dataclasses.replace(one, peak=0) for one in ours.regions
        ]


def test_some_are_anomalous_and_some_are_not(exported):
    assert {verdict.anomalous for verdict in exported.judge(strange())} == {True, False}


def test_an_image_has_the_same_score_alone_and_among_others(exported):
    images = strange(9)
    whole = exported.see(images)[1]
    alone = np.concatenate([exported.see(image[None])[1] for image in images])
    np.testing.assert_allclose(alone, whole, rtol=1e-6)
    assert exported.manifest.images_at_once < 9


def test_a_verdict_is_explained_by_its_promise(exported):
    images = strange(2)
    first, second = exported.explain(images, exported.judge(images))
    assert first.explanation.startswith("anomalous: score ")
    assert "at most 10 % false alarms" in second.explanation


@pytest.mark.parametrize(
    ("pixels", "came"),
    [
        (np.zeros((1, 32, 31, 3), np.uint8), "1 x 32 x 31 x 3 of uint8"),
        (np.zeros((32, 32, 3), np.uint8), "32 x 32 x 3 of uint8"),
        (np.zeros((1, 32, 32, 3), np.uint16), "1 x 32 x 32 x 3 of uint16"),
    ],
)
def test_pixels_that_the_graph_does_not_take_are_refused(exported, pixels, came):
    with pytest.raises(ConfigError, match=f"expected B x 32 x 32 x 3 of uint8, came {came}; `score`"):
        exported.see(pixels)


def test_images_of_another_depth_or_channels_are_named(exported, tmp_path):
    write_png(tmp_path / "a.png", np.full((32, 32, 3), 7, np.uint8))
    write_png(tmp_path / "deep.png", np.arange(32 * 32 * 3, dtype=np.uint16).reshape(32, 32, 3))
    write_png(tmp_path / "grey.png", np.zeros((32, 32), np.uint8))
    found = exported.score(tmp_path)
    assert found.ids == ("a.png",)
    reasons = {one.id: one.reason for one in found.unreadable}
    assert "export with --depth uint16" in reasons["deep.png"]
    assert "has 1 channel where the detector takes 3" in reasons["grey.png"]
    assert found.image[0] == exported.score(np.full((1, 32, 32, 3), 7, np.uint8)).image[0]
    with pytest.raises(DataError, match=r"no image of 1 can be scored: .*16-bit values"):
        exported.score([tmp_path / "deep.png"])


def test_eight_bits_and_sixteen_are_told_apart_image_by_image():
    eight = np.arange(12, dtype=np.uint8).reshape(1, 2, 2, 3)
    pixels = np.concatenate([eight.astype(np.uint16) * 257, np.full((1, 2, 2, 3), 300, np.uint16)])
    batch = Batch([Sample("a"), Sample("b")], pixels, [(2, 2)] * 2, missing=np.ones((2, 2, 2), np.bool_))
    found = fit_depth(batch, "uint8")
    np.testing.assert_array_equal(found.pixels, eight)
    assert found.missing is not None
    assert ([one.id for one in found.samples], [one.id for one in found.unreadable]) == (["a"], ["b"])
    np.testing.assert_array_equal(fit_depth(found, "uint16").pixels, pixels[:1])
    assert fit_depth(batch, "uint16") is batch


def test_names_are_there_without_an_import():
    assert {"load", "ExportedDetector"} <= set(dir(runtime))
    with pytest.raises(AttributeError, match="no attribute 'save'"):
        runtime.save  # noqa: B018


def test_scoring_needs_neither_torch_nor_what_comes_with_it(folder, tmp_path):
    """In a process where importing any of those fails."""
    code = (
        "import sys\n"
        f"sys.modules.update(dict.fromkeys({HEAVY!r}))\n"
        "from unlike.cli import run\n"
        f"print(run(['score', {str(small_export())!r}, {str(folder)!r}, '-o', 'scores.csv', '--fdr', '0.5', '--explain']))\n"
        f"print(run(['export', '--verify', {str(small_export())!r}]))\n"
        f"print(run(['score', {str(small_export())!r}, {str(folder)!r}, '-o', 'other.csv', '--maps', 'maps']))\n"
        "assert sys.modules['torch'] is None\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["1", "0", "2"]  # one image cannot be read; the proof holds; pictures take more
    assert "Equal to its detector on this machine (onnxruntime" in done.stderr
    assert "unlike-runtime scores exports and no more: pip install unlike has all the rest" in done.stderr
    rows = (tmp_path / "scores.csv").read_text().splitlines()
    assert rows[0] == "id,score,threshold,p_value,anomalous,q_value,explanation"
    scores = [float(row.split(",")[1]) for row in rows[1:]]
    np.testing.assert_allclose(scores, small_detector().score(folder).image, rtol=1e-5)


@pytest.fixture
def copied(tmp_path):
    return shutil.copytree(small_export(), tmp_path / "copied.onnx")


def test_a_file_that_was_cut_short_or_altered_is_named(copied):
    for name in ("model.onnx", "model.onnx.data", "calibration.npz"):
        content = (copied / name).read_bytes()
        (copied / name).write_bytes(content[:-1])
        with pytest.raises(ArtifactError, match=rf"{name} is not what was written .* copy the export again"):
            load(copied)
        (copied / name).write_bytes(content)
    (copied / "model.onnx.data").unlink()
    with pytest.raises(ArtifactError, match=r"model\.onnx\.data is missing: this is no export, or an incomplete copy"):
        load(copied)


def seal(folder, name, content):
    """Write a file with its checksum, as whoever made it might have."""
    import hashlib

    (folder / name).write_bytes(content)
    lines = [line for line in (folder / CHECKSUMS).read_text().splitlines() if not line.endswith(f"  {name}")]
    (folder / CHECKSUMS).write_text("\n".join([*lines, f"{hashlib.sha256(content).hexdigest()}  {name}"]) + "\n")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("format = 1", "format = 99", r"is in format 99, written by unlike .* reads up to format 1. Upgrade unlike"),
        ('runtime = "onnx"', 'runtime = "tflite"', r"do not fit together .*unknown runtime 'tflite'"),
        ('pixels = "uint8"', 'pixels = "int4"', r"do not fit together .*type of pixels 'int4'"),
        ("[graph]", "[graf]", r"do not fit together \('graph'\); make the export again"),
        ("[graph]", "[graph", r"export.toml cannot be understood .* make the export again"),
    ],
)
def test_a_manifest_that_this_version_does_not_know_is_refused(copied, old, new, message):
    text = (copied / "export.toml").read_text()
    assert old in text
    seal(copied, "export.toml", text.replace(old, new).encode())
    with pytest.raises(ArtifactError, match=message):
        load(copied)


def test_a_graph_that_cannot_be_run_here_is_said_to_be_so(copied):
    seal(copied, "model.onnx", b"\x08\x09no graph")
    with pytest.raises(
        ArtifactError, match=r"onnxruntime .* cannot run model.onnx on this machine .* --upgrade onnxruntime"
    ):
        load(copied)


def test_an_operator_that_the_runtime_lacks_is_said_to_be_lacking(copied):
    import onnx

    model = onnx.load(copied / "model.onnx", load_external_data=False)
    model.graph.node[0].op_type = "Novel"
    seal(copied, "model.onnx", model.SerializeToString())
    with pytest.raises(
        ArtifactError,
        match=r"cannot run model.onnx on this machine \(.*Novel.*\); expected a release that knows all of its operators",
    ):
        load(copied)


def test_what_is_no_export_is_said_to_be_none(copied, tmp_path):
    with pytest.raises(ArtifactError, match=r"no export here; `unlike export DETECTOR -o .*` makes one"):
        load(tmp_path / "nothing")
    small_detector().save(tmp_path / "d.unlike")
    with pytest.raises(ArtifactError, match="is a detector; expected an export, which `unlike export DETECTOR` makes"):
        load(tmp_path / "d.unlike")
    with pytest.raises(ArtifactError, match="is an export; expected a detector, which `unlike fit IMAGES` makes"):
        type(small_detector()).load(copied)


def test_a_kill_between_two_renames_leaves_the_old_one_beside(copied):
    copied.rename(copied.with_name(f".{copied.name}.old"))
    np.testing.assert_array_equal(load(copied).score(stripes(2)).image, load(small_export()).score(stripes(2)).image)
