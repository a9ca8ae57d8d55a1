"""The worked examples of exports work."""

from __future__ import annotations

import runpy
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from conftest import write_png
from exports import small_detector, small_export, strange
from unlike.runtime import load

EXAMPLES = Path(__file__).parents[2] / "examples"


def test_the_camera_loop_says_which_frames_are_anomalous(tmp_path, capsys):
    for number, image in enumerate(strange(4)):
        write_png(tmp_path / f"{number}.png", image)
    watch = runpy.run_path(str(EXAMPLES / "camera_loop.py"))["watch"]
    assert watch(str(small_export()), str(tmp_path / "%d.png")) == 4
    lines = capsys.readouterr().out.splitlines()
    assert [line.partition(":")[0] for line in lines] == ["frame 1", "frame 3"]


@pytest.mark.slow
def test_the_example_in_cpp_gives_the_score(tmp_path):
    """Built with the compiler of the system and the headers that OpenVINO's package brings."""
    openvino = Path(pytest.importorskip("openvino").__file__).parent
    compiler = shutil.which("g++")
    if compiler is None or not (openvino / "include").is_dir():
        pytest.skip("no C++ compiler, or no headers of OpenVINO")
    (library,) = (openvino / "libs").glob("libopenvino.so.*")
    built = tmp_path / "score"
    libraries = [
        f"-I{openvino / 'include'}",
        f"-L{library.parent}",
        f"-l:{library.name}",
        f"-Wl,-rpath,{library.parent}",
    ]
    subprocess.run([compiler, "-std=c++17", EXAMPLES / "score_openvino.cpp", *libraries, "-o", built], check=True)
    image = strange(1)
    (tmp_path / "pixels.raw").write_bytes(image.tobytes())
    model = small_export("openvino") / "model.xml"
    score, peak = map(float, subprocess.check_output([built, model, tmp_path / "pixels.raw"], text=True).split())
    maps, scores = load(small_export("openvino")).see(image)
    assert score == pytest.approx(float(scores[0]), rel=1e-5)
    assert score == pytest.approx(float(small_detector().score(image).image[0]), rel=1e-4)
    assert peak == pytest.approx(float(maps.max()), rel=1e-5)
    (tmp_path / "pixels.raw").write_bytes(image.tobytes()[:-1])
    wrong = subprocess.run([built, model, tmp_path / "pixels.raw"], capture_output=True, text=True, check=False)
    assert (wrong.returncode, wrong.stderr) == (2, "score_openvino: expected 3072 bytes of pixels\n")
    assert np.isfinite(score)
