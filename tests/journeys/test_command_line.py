"""The command line from end to end, as a person or a script meets it."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import cv2
import numpy as np
import pytest

import unlike
from conftest import scratched, stripes, write_png
from unlike.cli import run

FAST = ["--model", "conv", "--size", "32", "--epochs", "15"]
FAST += ["--set", "model.widths=[8, 8]", "--set", "training.learning_rate=0.005"]
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}


@pytest.fixture(scope="module")
def stand(tmp_path_factory):
    """A category in MVTec AD layout, and a detector fitted on it by the command line."""
    root = tmp_path_factory.mktemp("stand")
    good = stripes(70)
    bad, masks = scratched(stripes(12, seed=5))
    for number, image in enumerate(good):
        part = "train" if number < 58 else "test"
        write_png(root / f"stripes/{part}/good/{number:03}.png", image)
    for number, (image, mask) in enumerate(zip(bad, masks, strict=True)):
        write_png(root / f"stripes/test/scratch/{number:03}.png", image)
        write_png(root / f"stripes/ground_truth/scratch/{number:03}_mask.png", mask.astype(np.uint8) * 255)
    assert run(["fit", str(root / "stripes"), "-o", str(root / "stripes.unlike"), *FAST]) == 0
    return root


@pytest.fixture
def images(stand):
    return str(stand / "stripes"), str(stand / "stripes.unlike")


def test_fit_says_what_it_did_and_what_it_promises(stand, capsys):
    assert run(["fit", str(stand / "stripes"), "-o", str(stand / "other.unlike"), *FAST]) == 0
    said = capsys.readouterr().err
    assert "Fitted conv by residual at 32 x 32 x 3: 35 images to train, 4 to validate, 19 to calibrate." in said
    assert "Promise: at most 10 % of normal images are called anomalous (19 held-out normal images)" in said
    assert f"Detector: {stand / 'other.unlike'}" in said
    assert not list(stand.glob(".*"))  # no unfinished state, no temporary folder is left


def test_score_writes_csv_to_stdout(images, capsys):
    folder, detector = images
    assert run(["score", detector, f"{folder}/test/scratch"]) == 0
    captured = capsys.readouterr()
    rows = list(csv.DictReader(io.StringIO(captured.out)))
    assert [row["id"] for row in rows] == [f"{number:03}.png" for number in range(12)]
    assert set(rows[0]) == {"id", "score", "threshold", "p_value", "anomalous"}
    assert sum(row["anomalous"] == "1" for row in rows) >= 10
    assert all((float(row["score"]) > float(row["threshold"])) == (row["anomalous"] == "1") for row in rows)
    assert "of 12 images anomalous" in captured.err


def test_score_formats(images, tmp_path, capsys):
    folder, detector = images
    assert run(["score", detector, f"{folder}/test/scratch", "--format", "jsonl", "-o", str(tmp_path / "s.jsonl")]) == 0
    rows = [json.loads(line) for line in (tmp_path / "s.jsonl").read_text().splitlines()]
    assert set(rows[0]) == {"id", "score", "threshold", "p_value", "anomalous", "regions"}
    region = next(row["regions"][0] for row in rows if row["regions"])
    assert set(region) == {"x", "y", "width", "height", "area", "peak"}
    assert run(["score", detector, f"{folder}/test/good", "--format", "table"]) == 0
    assert re.search(r"^ +score +p-value +id\n +[\d.e-]+ +[\d.]+ +058\.png$", capsys.readouterr().out, re.MULTILINE)


def test_submission(images, tmp_path):
    _, detector = images
    array = stripes(3, seed=3)
    np.save(tmp_path / "testingset.npy", array)
    out = tmp_path / "prediction.csv"
    assert run(["score", detector, str(tmp_path / "testingset.npy"), "--format", "submission", "-o", str(out)]) == 0
    lines = out.read_text().splitlines()
    assert lines[0] == "ID,score"
    assert [line.split(",")[0] for line in lines[1:]] == ["0", "1", "2"]
    other = ["--id-column", "id", "--score-column", "anomaly", "--first-id", "1"]
    assert (
        run(["score", detector, str(tmp_path / "testingset.npy"), "--format", "submission", "-o", str(out), *other])
        == 0
    )
    assert out.read_text().splitlines()[0] == "id,anomaly"
    assert [line.split(",")[0] for line in out.read_text().splitlines()[1:]] == ["1", "2", "3"]


def test_maps_are_in_the_images_own_pixels(images, tmp_path):
    _, detector = images
    big = cv2.resize(scratched(stripes(1, seed=5))[0][0], (90, 60))
    write_png(tmp_path / "new/deep/a.png", big)
    assert (
        run(["score", detector, str(tmp_path / "new"), "--maps", str(tmp_path / "maps"), "-o", str(tmp_path / "s.csv")])
        == 0
    )
    values = cv2.imread(str(tmp_path / "maps/deep/a.png.map.tiff"), cv2.IMREAD_UNCHANGED)
    assert values.shape == (60, 90)
    assert values.dtype == np.float32
    assert cv2.imread(str(tmp_path / "maps/deep/a.png.overlay.png")).shape == (60, 90, 3)


def test_evaluate_leaves_metrics_scores_and_report(images, tmp_path, capsys):
    folder, detector = images
    assert run(["evaluate", detector, folder, "-o", str(tmp_path / "out")]) == 0
    printed = capsys.readouterr().out
    metrics = json.loads((tmp_path / "out/metrics.json").read_text())
    for name in ("auroc", "average_precision", "f1_max", "accuracy", "improvement"):
        figure = metrics["image"][name]
        bounds = (
            figure
            if name in ("auroc", "accuracy", "improvement") or "low" in figure
            else dict.fromkeys(("low", "high"), 1)
        )
        assert -1 <= bounds["low"] <= figure["value"] <= bounds["high"] <= 1  # none where a figure of 1 cannot vary
    assert metrics["image"]["accuracy_all_anomalous"]["value"] == 0.5
    assert metrics["image"]["auroc"]["value"] > 0.9
    assert metrics["pixel"]["auroc"]["value"] > 0.9
    assert metrics["pixel"]["aupro"]["value"] > 0.5
    assert re.search(rf"AUROC +{metrics['image']['auroc']['value']:.3f} \[", printed)
    assert "12 normal and 12 anomalous images" in printed
    rows = list(csv.DictReader(io.StringIO((tmp_path / "out/scores.csv").read_text())))
    assert len(rows) == 24
    assert sum(row["label"] == "1" for row in rows) == 12
    page = (tmp_path / "out/report.html").read_text()
    assert "<html" in page
    assert "http://" not in page.replace("http://www.w3.org", "")
    assert "https://" not in page


def test_evaluate_arrays_with_labels(images, tmp_path):
    _, detector = images
    np.save(tmp_path / "x.npy", np.concatenate([stripes(12, seed=6), scratched(stripes(12, seed=7))[0]]))
    (tmp_path / "y.csv").write_text("ID,anomaly\n" + "".join(f"{i},{int(i >= 12)}\n" for i in range(24)))
    assert (
        run(
            [
                "evaluate",
                detector,
                str(tmp_path / "x.npy"),
                "--labels",
                str(tmp_path / "y.csv"),
                "-o",
                str(tmp_path / "out"),
            ]
        )
        == 0
    )
    metrics = json.loads((tmp_path / "out/metrics.json").read_text())
    assert metrics["image"]["auroc"]["value"] > 0.9
    assert metrics["pixel"] == {}


def test_evaluate_with_one_class_leaves_out_what_needs_two(images, tmp_path, capsys):
    folder, detector = images
    (tmp_path / "set").mkdir()
    (tmp_path / "set/good").symlink_to(f"{folder}/test/good")
    assert run(["evaluate", detector, str(tmp_path / "set"), "-o", str(tmp_path / "out")]) == 0
    metrics = json.loads((tmp_path / "out/metrics.json").read_text())
    assert "auroc" not in metrics["image"]
    assert "false_alarm_rate" in metrics["image"]
    assert "needs normal and anomalous images" in capsys.readouterr().out


def test_evaluate_warns_of_images_it_was_fitted_on(images, tmp_path, capsys):
    folder, detector = images
    (tmp_path / "set/test").mkdir(parents=True)
    (tmp_path / "set/test/good").symlink_to(f"{folder}/train/good")
    (tmp_path / "set/test/scratch").symlink_to(f"{folder}/test/scratch")
    assert run(["evaluate", detector, str(tmp_path / "set"), "-o", str(tmp_path / "out")]) == 0
    assert "58 test images identical to images the detector was fitted on" in capsys.readouterr().err
    assert len(json.loads((tmp_path / "out/metrics.json").read_text())["leaked"]) == 58


def test_a_thousand_images_of_which_twenty_are_broken(images, tmp_path, capsys):
    _, detector = images
    for number, image in enumerate(stripes(1000, size=16)):
        path = tmp_path / f"many/{number:04}.png"
        if number % 50 == 7:
            path.write_bytes([b"", b"no image", path.with_name("0000.png").read_bytes()[:300]][number // 50 % 3])
        else:
            write_png(path, image)
    assert run(["score", detector, str(tmp_path / "many"), "-o", str(tmp_path / "s.csv")]) == 1
    assert len((tmp_path / "s.csv").read_text().splitlines()) == 981
    said = capsys.readouterr().err
    assert "20 images could not be used:" in said
    assert re.search(r"0007\.png, .*: is empty \(0 bytes\)", said)
    assert all(f"{number:04}.png" in said for number in range(7, 1000, 50))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["fit", "nowhere", "-o", "d"], "nowhere: no such file or folder"),
        (["fit", "{folder}", "-o", "d", "--model", "conv_vae"], "unknown model 'conv_vae'; did you mean 'conv'?"),
        (["fit", "{folder}", "-o", "d", "--set", "training.epoch=3"], "did you mean 'training.epochs'?"),
        (["fit", "{folder}", "-o", "d", "--set", "epochs"], "expected section.key=value, came 'epochs'"),
        (
            ["fit", "{folder}", "-o", "d", "--size", "large"],
            "--size: expected pixels a side, HEIGHTxWIDTH, auto or native, came 'large'",
        ),
        (["fit", "{folder}", "-o", "d", "--false-alarms", "few"], "--false-alarms: expected auto or a share"),
        (
            ["fit", "{folder}", "-o", "d", "--false-alarms", "0.001"],
            "cannot hold false alarms to 0.10%: 999 are needed",
        ),
        (
            ["fit", "{folder}", "-o", "d", "--model", "conv", "--size", "30"],
            "cannot be halved 3 times; the nearest sizes that can: 24 x 24 or 32 x 32",
        ),
        (["fit", "{folder}", "-o", "d", "--config", "nothing.toml"], "nothing.toml: cannot be opened"),
        (["fit", "{folder}"], "Missing option '-o'"),
        (["fit", "{folder}", "-o", "d", "--epochs", "many"], "Invalid value for '--epochs'"),
        (["fit", "{folder}", "-o", "d", "--device", "abacus"], "device 'abacus' cannot be used"),
        (["fit", "{folder}", "-o", "/proc/d.unlike"], "/proc/d.unlike: cannot be written"),
        (["score", "nowhere", "{folder}"], "nowhere: no detector here; `unlike fit IMAGES -o nowhere` makes one"),
        (["score", "{detector}", "{folder}", "--format", "xml"], "'xml' is not one of"),
        (["score", "{detector}", "{folder}", "-o", "/proc/s.csv"], "/proc/s.csv: cannot be written"),
        (
            ["evaluate", "{detector}", "{folder}/train/good", "-o", "out"],
            "has a label; expected a folder with subfolders",
        ),
        (["evaluate", "{detector}", "{folder}", "-o", "/proc/out"], "cannot be written"),
        (["list", "wonders"], "'wonders' is not one of"),
        (["fit", "{folder}", "-o", "d", "--seed", "-1"], "seed: expected a whole number from 0"),
        (["fit", "{folder}", "-o", "d", "--seed", "99999999999999999999999"], "seed: expected a whole number from 0"),
        (["fit", "{folder}", "-o", "d", "--set", "model.name=[1]"], "unknown model '[1]'"),
        (["fly"], "No such command 'fly'"),
        (["list", "models", "--all"], "--all: is for presets; models are all listed without it"),
        (
            ["fit", "{folder}", "-o", "d", "--epochs", "3"],
            "training.epochs: neither preset nor model is named, and the",
        ),
        (
            ["fit", "{folder}", "-o", "d", "--set", "augment.blur=0.5"],
            "augment.blur: neither preset nor model is named",
        ),
        (["fit", "{folder}", "-o", "d", "--scorer", "fusion"], "scorer 'fusion': is called 'ensemble' now"),
        (
            ["fit", "{folder}", "-o", "d", "--scorer", "pca", "--set", "scorer.look=0"],
            "scorer.look: is called scorer.feature_group now; expected scorer.feature_group = 0",
        ),
    ],
)
def test_wrong_use_is_one_line_and_exit_code_2(images, tmp_path, monkeypatch, capsys, arguments, message):
    folder, detector = images
    monkeypatch.chdir(tmp_path)
    assert run([part.format(folder=folder, detector=detector) for part in arguments]) == 2
    said = capsys.readouterr().err.strip().splitlines()
    assert [line for line in said if line.startswith("unlike: ")] == said[-1:]
    # what was understood, and, on a slow machine, how far the reading is
    assert all(line.startswith(("MVTec AD layout: ", "To fit on: ", "Reading: ")) for line in said[:-1])
    assert message in said[-1]


def test_debug_shows_the_traceback(tmp_path):
    from unlike.errors import DataError

    with pytest.raises(DataError):
        run(["--debug", "fit", "nowhere", "-o", str(tmp_path / "d")])


@pytest.mark.parametrize("what", ["models", "scorers", "presets", "thresholds", "recipes"])
def test_list_names_everything_that_can_be_chosen(what, capsys):
    from unlike.calibration.thresholds import THRESHOLDS
    from unlike.detector.presets import PRESETS
    from unlike.models import MODELS
    from unlike.scoring import SCORERS

    assert run(["list", what]) == 0
    printed = capsys.readouterr().out
    recipes = sorted(file.stem for file in (Path(unlike.__file__).parent / "study" / "recipes").glob("*.toml"))
    registries = {"models": MODELS, "scorers": SCORERS, "presets": PRESETS, "thresholds": THRESHOLDS}
    shown = {name: preset for name, preset in PRESETS.items() if not preset.report}
    names = {**registries, "presets": shown, "recipes": recipes}[what]
    assert [line.split()[0] for line in printed.splitlines() if not line.startswith(" ")] == list(names)
    if what == "models":
        assert "--set model.bottleneck=none" in printed


def test_presets_of_reports_are_listed_when_all_are_asked_for(capsys):
    assert run(["list", "presets", "--all"]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert printed.index("for your images") < printed.index("of published reports")
    assert any(line.startswith("vae-faces ") for line in printed)


def test_settings_of_a_detector_make_it_again(images, tmp_path):
    folder, detector = images
    again = tmp_path / "again.unlike"
    assert run(["fit", folder, "-o", str(again), "--config", f"{detector}/detector.toml"]) == 0
    for name in ("weights.safetensors", "calibration.npz"):
        assert (again / name).read_bytes() == (Path(detector) / name).read_bytes()


def test_size_auto_leaves_it_to_the_images(tmp_path, capsys):
    np.save(tmp_path / "x.npy", stripes(24, size=16))
    fit = ["fit", str(tmp_path / "x.npy"), "-o", str(tmp_path / "d"), "--preset", "textbook", "--false-alarms", "0.2"]
    for size in ("auto", "8"):
        assert run([*fit, "--epochs", "1", "--size", size]) == 0
    said = capsys.readouterr().err
    assert "at 16 x 16 x 3" in said  # though the preset has a size
    assert "at 8 x 8 x 3" in said


def test_settings_that_change_nothing_are_named(tmp_path, capsys):
    np.save(tmp_path / "x.npy", stripes(24, size=16))
    fit = ["fit", str(tmp_path / "x.npy"), "-o", str(tmp_path / "d"), "--scorer", "gaussian", "--false-alarms", "0.2"]
    assert run([*fit, "--model", "pixels", "--epochs", "3", "--set", "augment.blur=0.5"]) == 0
    assert "Without effect, because pixels is not trained: training.epochs, augment.blur." in capsys.readouterr().err
    assert run([*fit, "--model", "pixels"]) == 0
    assert run([*fit, "--model", "fcn", "--epochs", "1"]) == 0
    assert "Without effect" not in capsys.readouterr().err


def test_config_file(images, tmp_path, capsys):
    folder, _ = images
    config = tmp_path / "c.toml"
    config.write_text(
        'preset = "textbook"\nseed = 4\n[data]\nsize = 32\n[training]\nepochs = 2\n[decision]\nfalse_alarms = 0.2\n'
    )
    fit = ["fit", folder, "-o", str(tmp_path / "d"), "--config", str(config)]
    assert run([*fit, "--set", "model.bottleneck=5", "--false-alarms", "auto"]) == 0  # what stands there wins
    facts = tomllib.loads((tmp_path / "d/detector.toml").read_text())
    assert (facts["seed"], facts["data"]["size"], facts["training"]["epochs"]) == (4, 32, 2)
    assert (facts["model"]["bottleneck"], facts["decision"]["false_alarms"]) == (5, "auto")
    config.write_text("size = 32\n")
    assert run(fit) == 2
    for seed in ('"x"', "1.5"):
        config.write_text(f"seed = {seed}\n")
        assert run(fit) == 2
        assert "seed: expected a whole number" in capsys.readouterr().err


def command(*arguments: str, **more) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-m", "unlike", *arguments],
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **more,
    )


def wait_for(path: Path, seconds: float = 300) -> None:
    end = time.monotonic() + seconds
    while not path.exists():
        assert time.monotonic() < end, f"{path} did not come"
        time.sleep(0.02)


LONG = ["--model", "conv", "--size", "32", "--epochs", "80"]  # enough to be stopped in


@pytest.fixture(scope="module")
def whole(stand):
    """A detector of a long fit that nobody stopped."""
    assert run(["fit", str(stand / "stripes"), "-o", str(stand / "whole.unlike"), *LONG]) == 0
    return stand / "whole.unlike"


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_a_stopped_fit_goes_on_to_the_same_detector(images, whole, tmp_path, how):
    folder, _ = images
    arguments = ["fit", folder, "-o", str(tmp_path / "d.unlike"), *LONG]
    stopped = command(*arguments)
    wait_for(tmp_path / ".d.unlike.unfinished")
    time.sleep(0.3)
    stopped.send_signal(how)
    said = stopped.communicate(timeout=300)[1]
    assert stopped.returncode == (130 if how == signal.SIGINT else -how)
    assert how == signal.SIGKILL or "same command with --resume goes on" in said
    assert not (tmp_path / "d.unlike").exists()
    assert run([*arguments, "--resume"]) == 0
    for name in ("weights.safetensors", "calibration.npz"):
        assert (tmp_path / "d.unlike" / name).read_bytes() == (whole / name).read_bytes()


@pytest.mark.slow
def test_an_interrupted_score_keeps_what_is_finished(images, tmp_path):
    _, detector = images
    np.save(tmp_path / "many.npy", np.zeros((400_000, 8, 8, 3), np.uint8))
    out = tmp_path / "s.csv"
    scoring = command("score", detector, str(tmp_path / "many.npy"), "-o", str(out))
    end = time.monotonic() + 300
    while not (out.exists() and out.stat().st_size > 10_000):
        assert time.monotonic() < end
        time.sleep(0.02)
    scoring.send_signal(signal.SIGINT)
    scoring.communicate(timeout=300)
    assert scoring.returncode == 130
    lines = out.read_text().splitlines()
    assert 100 < len(lines) < 400_000
    assert all(line.count(",") == 4 for line in lines)


@pytest.mark.slow
def test_help_is_there_at_once_and_without_torch():
    code = (
        "import sys, time; from unlike.cli import run; run(['--help']); "
        "assert not {'torch', 'numpy', 'cv2', 'matplotlib', 'sklearn'} & set(sys.modules), sorted(sys.modules)"
    )
    found = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True, env=ENVIRONMENT)
    assert found.returncode == 0, found.stderr
    assert "fit" in found.stdout
    assert "evaluate" in found.stdout


@pytest.mark.parametrize("name", ["fit", "score", "evaluate", "demo", "list"])
def test_every_command_has_an_example(name, capsys):
    assert run([name, "--help"]) == 0
    assert f"Example: unlike {name}" in capsys.readouterr().out


def test_version(capsys):
    from unlike import __version__

    assert run(["--version"]) == 0
    assert capsys.readouterr().out == f"unlike {__version__}\n"


def test_what_is_no_detector_is_not_replaced_and_nothing_is_trained_first(images, tmp_path, monkeypatch, capsys):
    folder, _ = images
    monkeypatch.chdir(tmp_path)
    (tmp_path / "holiday.png").write_bytes(b"dear")
    (tmp_path / "file").write_bytes(b"dear")
    for output in (".", str(tmp_path), "file"):
        assert run(["fit", folder, "-o", output, "--model", "conv", "--epochs", "1000000"]) == 2
        assert "is there already and is no detector; choose another name" in capsys.readouterr().err


def test_names_that_are_no_utf8_come_out_as_they_are(images, tmp_path):
    folder, detector = images
    (tmp_path / "new/good").mkdir(parents=True)
    source = Path(folder, "test/good/058.png").read_bytes()
    strange = os.fsencode(tmp_path / "new/good") + b"/caf\xe9.png"
    with open(strange, "wb") as file:  # noqa: PTH123 - a Path holds no bytes
        file.write(source)
    for form in ("csv", "jsonl", "submission"):
        assert run(["score", detector, str(tmp_path / "new"), "--format", form, "-o", str(tmp_path / "s")]) == 0
        content = (tmp_path / "s").read_bytes()
        assert b"caf\xe9.png" in content or b"caf\\udce9.png" in content
    assert run(["evaluate", detector, str(tmp_path / "new"), "-o", str(tmp_path / "out")]) == 0
    assert b"caf\xe9.png" in (tmp_path / "out/scores.csv").read_bytes()


@pytest.mark.slow
def test_two_processes_train_the_same_model(images, tmp_path):
    """`torchrun` on CPUs: each takes half of every batch; the loss is that of one process, and only one speaks."""
    folder, _ = images
    arguments = ["fit", folder, "--model", "conv", "--size", "32", "--epochs", "5", "--device", "cpu"]
    launch = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "-m", "unlike"]
    command_line = [*launch, *arguments, "-o", str(tmp_path / "two.unlike")]
    found = subprocess.run(command_line, check=False, capture_output=True, text=True, env=ENVIRONMENT)
    assert found.returncode == 0, found.stderr
    assert found.stderr.count("Fitted conv") == 1
    assert run([*arguments, "-o", str(tmp_path / "one.unlike")]) == 0
    two, one = (
        tomllib.loads((tmp_path / f"{name}.unlike/detector.toml").read_text())["history"] for name in ("two", "one")
    )
    assert [row["validation"] for row in two] == pytest.approx([row["validation"] for row in one], rel=1e-4)


@pytest.mark.slow
def test_a_reader_that_has_enough_is_no_error(images):
    folder, detector = images
    with command("score", detector, *[f"{folder}/train/good"]) as scoring:
        scoring.stdout.readline()
        scoring.stdout.close()
        assert scoring.wait(300) == 0
        assert "Traceback" not in scoring.stderr.read()


def test_list_backbones_says_which_need_no_hub(capsys):
    assert run(["list", "backbones"]) == 0
    printed = capsys.readouterr().out
    assert "efficientnet-lite0" in printed
    assert "any network of timm by its name" in printed


def test_several_scorers_of_one_trained_model(images, tmp_path, capsys):
    folder, detector = images
    scorers = "residual,kmeans:clusters=3,pca:components=2"
    assert run(["evaluate", detector, folder, "-o", str(tmp_path / "out"), "--scorers", scorers]) == 0
    said = capsys.readouterr().out
    table = said[said.index("scorer of the same model") :].splitlines()
    assert [line[2:20].strip() for line in table[1:4]] == ["residual", "kmeans, clusters 3", "pca, components 2"]
    found = json.loads((tmp_path / "out/metrics.json").read_text())
    assert set(found["scorers"]) == {"residual", "kmeans, clusters 3", "pca, components 2"}
    assert found["scorers"]["residual"]["auroc"] == found["image"]["auroc"]
    assert found["scorers"]["residual"]["f1"] == found["image"]["f1"]
    page = (tmp_path / "out/report.html").read_text()
    assert "kmeans, clusters 3" in page
    assert "encoder.0" in page  # the model, layer by layer


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--scorers", "kmean"], "unknown scorer 'kmean'"),
        (["--normal", "x"], "--normal: is for --scorers, which learn on these images; leave it out, or name scorers"),
    ],
)
def test_scorers_that_cannot_be(images, tmp_path, capsys, arguments, words):
    assert run(["evaluate", images[1], images[0], "-o", str(tmp_path / "out"), *arguments]) == 2
    assert words in capsys.readouterr().err


def test_scorers_of_a_detector_whose_images_have_moved(images, tmp_path, capsys):
    shutil.copytree(images[1], tmp_path / "moved.unlike")
    np.save(tmp_path / "gone.npy", stripes(40, size=16))
    moved = str(tmp_path / "moved.unlike")
    assert run(["fit", str(tmp_path / "gone.npy"), "-o", moved, "--model", "fcn", "--epochs", "1"]) == 0
    (tmp_path / "gone.npy").rename(tmp_path / "here.npy")
    assert run(["evaluate", moved, images[0], "-o", str(tmp_path / "out"), "--scorers", "kmeans"]) == 2
    assert "which are not there from here; name them with --normal IMAGES" in capsys.readouterr().err


def test_describe_shows_layers_training_promise_and_settings(images, capsys):
    assert run(["describe", images[1]]) == 0
    said = capsys.readouterr().out
    assert said.startswith("stripes: conv by residual, for images of 32 x 32 x 3")
    assert re.search(r"encoder\.0 +Conv2d\(3, 8, .* 8 x 16 x 16  392", said)
    assert re.search(r"\d parameters\n", said)
    assert "trained for 15 epochs; epoch " in said
    assert "threshold " in said
    assert "\n[training]\n" in said
    assert "epochs = 15" in said


def test_a_dead_model_is_warned_of_by_fit_describe_and_report(images, tmp_path, capsys):
    """A code that costs so much that it says nothing."""
    dead = [
        "--model",
        "vae",
        "--size",
        "16",
        "--epochs",
        "40",
        "--set",
        "model.widths=[4, 8]",
        "--set",
        "model.latent=4",
    ]
    dead += ["--set", "model.norm=false", "--set", "model.beta=1e6", "--set", "model.warm_up=0"]
    dead += ["--set", "training.learning_rate=0.01"]
    assert run(["fit", images[0], "-o", str(tmp_path / "dead.unlike"), *dead]) == 0
    words = "All reconstructions are nearly the same"
    assert f"Warning: {words}" in capsys.readouterr().err
    assert run(["describe", str(tmp_path / "dead.unlike")]) == 0
    assert f"Warning: {words}" in capsys.readouterr().err
    assert run(["evaluate", str(tmp_path / "dead.unlike"), images[0], "-o", str(tmp_path / "out")]) == 0
    page = (tmp_path / "out/report.html").read_text()
    assert "The training came to little" in page
    assert words in page
