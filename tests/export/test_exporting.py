"""A detector becomes a graph, which is written only where it says the same."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest

from conftest import stripes, write_png
from exports import small_detector, small_export, strange
from unlike import Detector, artifacts
from unlike.artifacts import EXPORT, read_folder
from unlike.data.arrays import ArraySource, ImageArray
from unlike.errors import ConfigError, DataError, ExportError, OutputError
from unlike.export import exporting, quantise, writers
from unlike.export.exporting import export_detector
from unlike.records import Sample
from unlike.runtime import load


def assert_equal(folder, detector, images):
    """The export's scores and maps are the detector's."""
    ours, theirs = detector.score(images, maps=True), load(folder, threads=1).score(images, maps=True)
    assert theirs.ids == ours.ids
    np.testing.assert_allclose(theirs.image, ours.image, rtol=1e-4)
    np.testing.assert_allclose(theirs.maps, ours.maps, atol=1e-4 * float(ours.maps.max()))


def test_a_folder_says_what_it_is():
    folder = small_export()
    facts = tomllib.loads((folder / "export.toml").read_text())
    assert facts["graph"]["shape"] == ["batch", 32, 32, 3]
    assert facts["proof"]["batches"] == [1, 2, 7]
    assert facts["proof"]["score"] < 1e-4
    assert facts["versions"]["torch"]
    assert not facts["graph"]["integers"]
    page = (folder / "README.md").read_text()
    assert "`pixels`: uint8, `batch x 32 x 32 x 3`" in page
    assert f"above **{facts['fitted']['threshold']:.9g}** an image is anomalous" in page
    names = (
        "README.md",
        "calibration.npz",
        "detector.toml",
        "export.toml",
        "model.onnx",
        "model.onnx.data",
        "proof.npz",
    )
    assert tuple(sorted(one.name for one in folder.iterdir())) == (
        *names[:1],
        *names[1:2],
        "checksums.sha256",
        *names[2:],
    )
    assert read_folder(folder, names, EXPORT)


def test_openvino_says_the_same():
    assert_equal(small_export("openvino"), small_detector(), strange())


def test_the_graph_is_one_that_onnx_knows_for_any_number_of_images():
    import onnx

    model = onnx.load(small_export() / "model.onnx", load_external_data=False)
    (entry,) = model.graph.input
    dims = entry.type.tensor_type.shape.dim
    assert (entry.name, entry.type.tensor_type.elem_type) == ("pixels", onnx.TensorProto.UINT8)
    assert dims[0].dim_param
    assert [dim.dim_value for dim in dims][1:] == [32, 32, 3]
    assert [one.name for one in model.graph.output] == ["maps", "scores"]
    assert next(one.version for one in model.opset_import if not one.domain) >= 18


def test_nothing_is_written_where_the_graph_says_something_else(monkeypatch, tmp_path):
    honest = exporting.open_session

    def dishonest(folder, to):
        session = honest(folder, to)
        return lambda pixels, missing: tuple(1.001 * found for found in session(pixels, missing))

    monkeypatch.setattr(exporting, "open_session", dishonest)
    with pytest.raises(
        ExportError, match=r"for onnx is not equal to the detector, so nothing was written: .* the worst image is "
    ):
        export_detector(small_detector(), tmp_path / "d.onnx")
    assert not list(tmp_path.iterdir())


def test_what_a_kill_left_goes_with_the_next_export_and_what_another_works_on_does_not(tmp_path):
    """Both processes are real: one is killed in the middle, the other lives."""
    code = (
        "import sys, time; from pathlib import Path; from unlike.export.exporting import _workshop\n"
        "with _workshop(Path(sys.argv[1])) as shop:\n"
        "    print(shop, flush=True); time.sleep(100)"
    )
    command = [sys.executable, "-c", code]
    first, other = (
        subprocess.Popen([*command, str(tmp_path / name)], stdout=subprocess.PIPE, text=True)
        for name in ("d.onnx", "e.onnx")
    )
    try:
        killed, alive = (Path(one.stdout.readline().strip()) for one in (first, other))
        first.kill()
        first.wait()
        (tmp_path / ".d.onnx.new-1234").mkdir()
        (tmp_path / ".e.onnx.new-1234").mkdir()
        assert killed.is_dir()
        for name in ("d.onnx", "e.onnx"):
            export_detector(small_detector(), tmp_path / name)
        assert sorted(one.name for one in tmp_path.iterdir()) == sorted(
            [".e.onnx.new-1234", alive.name, "d.onnx", "e.onnx"]
        )
    finally:
        for one in (first, other):
            one.kill()
            one.communicate()


def test_an_export_replaces_an_export_and_nothing_else(tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("dear")
    with pytest.raises(OutputError, match="is there already and is no export"):
        export_detector(small_detector(), tmp_path / "mine")
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot be written"):
        export_detector(small_detector(), tmp_path / "file" / "d.onnx")


def test_a_folder_that_is_read_only_is_said_before_any_work(monkeypatch, tmp_path):
    def refuse(**_):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(artifacts.tempfile, "TemporaryFile", refuse)
    monkeypatch.setattr(exporting, "write_onnx", None)  # work would fail otherwise
    with pytest.raises(
        OutputError, match=r"d\.onnx: cannot be written \(Read-only file system\); choose another place"
    ):
        export_detector(small_detector(), tmp_path / "d.onnx")
    assert not list(tmp_path.iterdir())


def test_wrong_choices_are_said_before_any_work(monkeypatch, tmp_path):
    with pytest.raises(ConfigError, match="to: expected onnx or openvino, came 'coreml'"):
        export_detector(small_detector(), tmp_path / "d", "coreml")
    with pytest.raises(ConfigError, match="depth: expected auto, uint8, uint16 or float32, came 'int4'"):
        export_detector(small_detector(), tmp_path / "d", depth="int4")
    with pytest.raises(
        ConfigError, match="depth: the detector was fitted on whole numbers, so expected uint8, came float32"
    ):
        export_detector(small_detector(), tmp_path / "d", depth="float32")
    monkeypatch.setattr(writers.importlib.util, "find_spec", lambda name: None if name == "onnxscript" else name)
    with pytest.raises(
        ConfigError, match=r"export needs onnxscript, not installed here: pip install 'unlike\[export\]'"
    ):
        export_detector(small_detector(), tmp_path / "d")


def test_what_cannot_be_traced_is_said_in_a_sentence(monkeypatch, tmp_path):
    detector = small_detector()

    def by_hand(maps):
        return (maps, maps.amax(dim=(1, 2))) if float(maps.sum()) > 0 else (maps, maps.mean(dim=(1, 2)))

    monkeypatch.setattr(detector.fitted_.pipeline, "reduce", by_hand)
    with pytest.raises(ExportError, match=r"cannot be written down as a graph: torch's exporter does not know a step"):
        export_detector(detector, tmp_path / "d.onnx")


def test_sixteen_bits_take_eight_as_well(tmp_path):
    images = stripes(30, channels=1)
    deep = images.astype(np.uint16) * 257 - (images > 0)
    detector = Detector("pixels", "gaussian", false_alarms=0.1, device="cpu").fit(deep)
    write_png(tmp_path / "check" / "a.png", deep[0])
    write_png(tmp_path / "check" / "b.png", images[1])
    found = export_detector(detector, tmp_path / "d.onnx", check=tmp_path / "check")
    assert (found.depth, found.images) == ("uint16", 2)
    assert_equal(tmp_path / "d.onnx", detector, tmp_path / "check")
    with pytest.raises(
        DataError, match="none of the images to check with is of uint8; expected such images, or --depth uint16"
    ):
        export_detector(detector, tmp_path / "e.onnx", check=[tmp_path / "check" / "a.png"], depth="uint8")


def test_what_is_missing_is_missing_in_the_graph_too(tmp_path):
    images = (stripes(30, channels=1) / 255).astype(np.float32)
    settings = {"data": {"missing": "nan"}, "model": {"widths": [4, 8]}, "training": {"epochs": 1}}
    detector = Detector("conv", "residual", false_alarms=0.1, settings=settings, device="cpu").fit(images)
    export_detector(detector, tmp_path / "d.onnx")
    seen = images[:3].copy()
    seen[1, 5:20, 3:9] = np.nan
    assert_equal(tmp_path / "d.onnx", detector, seen)
    maps = load(tmp_path / "d.onnx").score(seen, maps=True).maps
    assert not maps[1, 6:19, 4:8].any()
    assert maps[0, 6:19, 4:8].any()
    assert "`missing`: bool, `batch x 32 x 32`" in (tmp_path / "d.onnx" / "README.md").read_text()


def test_tiles_and_categories_are_in_the_graph(tmp_path):
    first = stripes(25, size=48)
    images = np.concatenate([first, 255 - first // 3])
    samples = [Sample(str(row), row=row, category="ab"[row >= 25]) for row in range(50)]
    settings = {"data": {"tile": 32, "overlap": 8}, "model": {"side": 4}}
    detector = Detector("pixels", "gaussian", settings=settings, device="cpu", false_alarms=0.2)
    detector.fit(ArraySource("made", samples, ImageArray(images)))
    export_detector(detector, tmp_path / "d.onnx")
    seen = np.concatenate([stripes(3, size=48, seed=1), 255 - stripes(3, size=48, seed=1) // 3])
    assert_equal(tmp_path / "d.onnx", detector, seen)
    loaded = load(tmp_path / "d.onnx")
    assert loaded.manifest.images_at_once == 1
    assert set(loaded.decision.thresholds) == set(detector.fitted_.decision.thresholds)


@pytest.mark.slow
def test_integers_are_taken_where_they_cost_next_to_nothing(tmp_path):
    for row, image in enumerate(stripes(30)):
        write_png(tmp_path / "good" / f"{row}.png", image)
    settings = {"model": {"widths": [8, 8]}, "training": {"epochs": 2}, "data": {"size": 32}}
    detector = Detector("conv", "residual", false_alarms=0.2, settings=settings, device="cpu").fit(tmp_path / "good")
    found = export_detector(detector, tmp_path / "d.onnx", int8=True)
    assert found.quantised.synthetic
    assert found.quantised.kept == (found.quantised.lost < 0.005)
    assert abs(found.quantised.lost) < 0.1
    assert min(found.quantised.milliseconds, found.quantised.milliseconds_int8) > 0
    facts = tomllib.loads((tmp_path / "d.onnx" / "export.toml").read_text())
    assert facts["graph"]["integers"] == found.quantised.kept
    loaded = load(tmp_path / "d.onnx")
    if found.quantised.kept:
        assert loaded.decision.threshold != detector.fitted_.decision.threshold
        normal = loaded.score(tmp_path / "good").image
        assert (normal > loaded.decision.threshold).mean() <= 0.2
    (tmp_path / "good" / "3.png").unlink()
    with pytest.raises(DataError, match=r"1 of \d+ normal images on which the threshold rests are not among"):
        export_detector(detector, tmp_path / "e.onnx", int8=True)


def test_integers_take_the_normal_images(tmp_path):
    with pytest.raises(DataError, match=r"--int8 needs the normal images .* name them with --normals"):
        export_detector(small_detector(), tmp_path / "d.onnx", int8=True)


def small_graph(weight: str):
    """pixels -> Cast -> Conv, whose weight has that name -> Relu -> Sub -> MatMul -> scores, in ONNX."""
    from onnx import TensorProto, helper

    steps = [
        ("Cast", "pixels"),
        ("Conv", "cast", weight),
        ("Relu", "conv"),
        ("Sub", "relu", "bank"),
        ("MatMul", "sub", "bank"),
    ]
    nodes = [
        helper.make_node(
            kind, list(inputs), [kind.lower()], name=kind, **({"to": TensorProto.FLOAT} if kind == "Cast" else {})
        )
        for kind, *inputs in steps
    ]
    return helper.make_graph(nodes, "small", [], [])


def test_distances_stay_in_single_precision():
    assert quantise.outside_model(small_graph("pipeline.model.stem.weight")) == ["Relu", "Sub", "MatMul"]


def test_what_has_no_convolution_in_its_network_has_nothing_for_integers():
    with pytest.raises(
        ExportError, match=r"this detector's model has none; export it without --int8, in single precision"
    ):
        quantise.outside_model(small_graph("pipeline.scorer.directions"))


def test_a_graph_that_nncf_does_not_know_is_an_error_in_a_sentence(monkeypatch, tmp_path):
    class Stumbling:
        Dataset = IgnoredScope = AdvancedQuantizationParameters = QuantizationParameters = dict
        quantization = advanced_parameters = property(lambda self: self)

        @staticmethod
        def quantize(*_, **__):
            raise RuntimeError("no tensor\nof that name")

    monkeypatch.setattr(quantise, "import_nncf", Stumbling)
    monkeypatch.setattr(Stumbling, "Dataset", list)
    monkeypatch.setattr(Stumbling, "IgnoredScope", lambda *_, **__: None)
    monkeypatch.setattr(quantise, "outside_model", lambda graph: [])
    normal = ArraySource("made", [Sample("0", row=0)], ImageArray(stripes(1)))
    with pytest.raises(
        ExportError, match=r"cannot turn this graph into integers \(no tensor of that name\); export it without --int8"
    ):
        quantise.write_quantised(small_export(), tmp_path / "int8", normal, small_detector(), "uint8")
