"""A detector on disk: the same after loading, the same bytes when made again, refused when it is not what was written."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest
import tomli_w

from conftest import stripes
from unlike import Detector
from unlike._version import __version__
from unlike.artifacts import CHECKSUMS, write_folder
from unlike.cli import run
from unlike.detector.explain import describe
from unlike.detector.storage import FORMAT
from unlike.errors import ArtifactError, OutputError

FILES = ("detector.toml", "weights.safetensors", "scorer.safetensors", "calibration.npz")


@pytest.fixture(scope="module")
def fitted():
    return Detector(model="conv", epochs=2, false_alarms=0.1, device="cpu").fit(stripes(40, size=16))


@pytest.fixture
def folder(fitted, tmp_path):
    fitted.save(tmp_path / "stripes.unlike")
    return tmp_path / "stripes.unlike"


def test_loaded_is_the_same_to_the_last_bit(fitted, folder):
    loaded = Detector.load(folder)
    images = stripes(5, size=16, seed=4)
    np.testing.assert_array_equal(loaded.score(images, maps=True).maps, fitted.score(images, maps=True).maps)
    np.testing.assert_array_equal(loaded.score(images).image, fitted.score(images).image)
    assert loaded.judge(images) == fitted.judge(images)
    assert describe(loaded) == describe(fitted)
    assert loaded.fitted_.history == fitted.fitted_.history
    np.testing.assert_array_equal(loaded.fitted_.digests, fitted.fitted_.digests)


def test_made_again_it_has_the_same_bytes(folder, tmp_path):
    again = Detector(model="conv", epochs=2, false_alarms=0.1, device="cpu").fit(stripes(40, size=16))
    again.save(tmp_path / "again.unlike")
    for name in FILES:
        assert (tmp_path / "again.unlike" / name).read_bytes() == (folder / name).read_bytes()


def test_there_is_no_pickle_in_it(folder):
    assert {path.name for path in folder.iterdir()} == {*FILES, CHECKSUMS}
    assert all(b"cnumpy" not in path.read_bytes() for path in folder.iterdir())
    with np.load(folder / "calibration.npz", allow_pickle=False) as arrays:
        names = {name for name in arrays.files if not name.startswith(("strangest", "known"))}
        assert names == {"scores", "peaks", "digests", "ids", "groups"}


def test_what_a_threshold_rests_on_is_kept(tmp_path):
    """Names, groups, the threshold by counting otherwise, and the strangest with their pictures and maps."""
    images = np.repeat(np.random.default_rng(0).integers(0, 250, (20, 1, 8, 8), dtype=np.uint8), 2, axis=1).reshape(
        -1, 8, 8
    )
    images[1::2, 0, 0] += 3
    settings = {"model": {"side": 8}, "decision": {"groups": "given"}}
    names = [str(number // 2) for number in range(40)]
    before = Detector("pixels", "neighbours", settings=settings, cache=False).fit(images, group_by=names)
    before.save(tmp_path / "d")
    one, two = before.fitted_, Detector.load(tmp_path / "d", cache=False).fitted_
    assert two.decision.ids.tolist() == [str(number) for number in range(40)]
    assert two.decision.groups.tolist() == [number // 2 for number in range(40)]
    assert two.decision.otherwise == one.decision.otherwise
    assert two.decision.otherwise.by == "images"
    assert [item.id for item in two.strangest] == [item.id for item in one.strangest]
    assert two.strangest[0].score == pytest.approx(one.decision.scores.max())
    np.testing.assert_array_equal(two.strangest[0].picture[..., 0], images[int(two.strangest[0].id)])
    np.testing.assert_allclose(two.strangest[0].map, one.strangest[0].map, rtol=1e-3)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("damage", ["flip", "cut", "lose"])
def test_damage_is_refused(folder, name, damage):
    path = folder / name
    content = bytearray(path.read_bytes())
    if damage == "flip":
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
    elif damage == "cut":
        path.write_bytes(content[: len(content) // 2])
    else:
        path.unlink()
    with pytest.raises(ArtifactError, match=f"{name} is (not what was written|missing)"):
        Detector.load(folder)


def reseal(folder: Path, **changes) -> None:
    """Change the TOML as somebody would who also mends the checksums."""
    facts = tomllib.loads((folder / "detector.toml").read_text())
    for section, value in changes.items():
        facts[section] = {**facts[section], **value} if isinstance(value, dict) else value
    (folder / "detector.toml").write_text(tomli_w.dumps(facts))
    lines = [f"{hashlib.sha256((folder / name).read_bytes()).hexdigest()}  {name}\n" for name in FILES]
    (folder / CHECKSUMS).write_text("".join(lines))


def test_newer_version_is_refused_with_a_way_out(folder):
    reseal(folder, format=FORMAT + 1, versions={"unlike": "9.0"})
    with pytest.raises(
        ArtifactError,
        match=rf"format {FORMAT + 1}, written by unlike 9\.0; this is .*reads up to format {FORMAT}\. Upgrade unlike",
    ):
        Detector.load(folder)


OLDER = {"name": "pca", "look": 0}


def older(folder: Path, number: int) -> Path:
    """As little of a detector of that format as there must be for it to say which one it is of."""
    facts = {"format": number, "model": {"name": "features"}, "scorer": OLDER, "seed": 0, "fitted": {"threshold": 1.0}}
    write_folder(folder, {"detector.toml": tomli_w.dumps(facts).encode()})
    return folder


@pytest.mark.parametrize("number", [1, 3, 4])
def test_an_older_detector_says_how_to_fit_again(tmp_path, capsys, number):
    folder = older(tmp_path / "d", number)
    message = (
        f"{folder}: is in format {number}, of an older version of unlike; this is {__version__}, which reads format {FORMAT} and "
        f"newer. Fit again with the same settings: `unlike fit IMAGES --config {folder}/detector.toml -o {folder}`"
    )
    with pytest.raises(ArtifactError) as caught:
        Detector.load(folder)
    assert str(caught.value) == message
    np.save(tmp_path / "images.npy", stripes(3, size=16))
    for command in (["score", str(folder), str(tmp_path / "images.npy")], ["evaluate", str(folder), "x", "-o", "y"]):
        assert run(command) == 2
        assert capsys.readouterr().err == f"unlike: {message}\n"


def test_the_settings_of_an_older_detector_name_what_is_called_otherwise_now(tmp_path, capsys):
    folder = older(tmp_path / "d", 4)
    np.save(tmp_path / "images.npy", stripes(40, size=64))
    command = ["fit", str(tmp_path / "images.npy"), "--config", str(folder / "detector.toml"), "-o", str(folder)]
    assert run(command) == 2
    assert capsys.readouterr().err == (
        "unlike: scorer.look: is called scorer.feature_group now; expected scorer.feature_group = 0\n"
    )
    facts = tomllib.loads((folder / "detector.toml").read_text())
    facts["scorer"] = {"name": "pca", "code": "vector"}
    facts["model"] = {"name": "pixels", "side": 4}
    write_folder(folder, {"detector.toml": tomli_w.dumps(facts).encode()})
    assert run(command) == 0
    assert Detector.load(folder).settings.model.side == 4


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"name": "pca", "look": 1}, "scorer.look: is called scorer.feature_group now"),
        ({"name": "ensemble", "scale": "line"}, "expected scorer.normalisation = 'median'"),
        ({"name": "fusion"}, "scorer 'fusion': is called 'ensemble' now"),
    ],
)
def test_an_old_name_in_a_settings_file_names_the_new_one(tmp_path, capsys, section, message):
    (tmp_path / "choices.toml").write_text(tomli_w.dumps({"scorer": section}))
    assert run(["fit", "x.npy", "-o", str(tmp_path / "d"), "--config", str(tmp_path / "choices.toml")]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"model": {"name": "from-the-future"}},
            "does not suit this version of unlike .*unknown model 'from-the-future'",
        ),
        ({"model": {"widths": [3, 3, 3]}}, "its parts do not fit together"),
        ({"fitted": {"spec": {"height": 16}}}, "its parts do not fit together"),
        ({"fitted": {"threshold": float("nan")}}, "its parts do not fit together"),
        (
            {"fitted": {"spec": {"aspect": "evil", "height": 16, "width": 16, "channels": 3}}},
            "fitted.spec.aspect: expected",
        ),
        ({"seed": "x"}, "its parts do not fit together"),
        ({"format": "one"}, r"detector\.toml cannot be understood"),
    ],
)
def test_parts_that_do_not_fit_are_refused(folder, changes, message):
    reseal(folder, **changes)
    with pytest.raises(ArtifactError, match=message):
        Detector.load(folder)


def test_what_is_no_detector(tmp_path):
    with pytest.raises(ArtifactError, match="no detector here; `unlike fit IMAGES -o"):
        Detector.load(tmp_path / "none")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ArtifactError, match="this is no detector, or an incomplete copy"):
        Detector.load(tmp_path / "empty")


def test_saving_over_an_older_one_replaces_it_and_over_anything_else_does_not(fitted, folder, tmp_path):
    other = Detector(model="fcn", epochs=1).fit(stripes(20, size=8))
    other.save(folder)
    assert Detector.load(folder).settings.model_name == "fcn"
    (tmp_path / "holiday").mkdir()
    (tmp_path / "holiday" / "photo.png").write_bytes(b"dear")
    with pytest.raises(OutputError, match="is there already and is no detector"):
        fitted.save(tmp_path / "holiday")
    assert (tmp_path / "holiday" / "photo.png").read_bytes() == b"dear"


@pytest.mark.slow
def test_another_process_scores_the_same(fitted, folder):
    code = (
        "import sys, numpy as np; from unlike import Detector; "
        "print(Detector.load(sys.argv[1]).score(np.arange(3 * 16 * 16 * 3, dtype=np.uint8).reshape(3, 16, 16, 3)).image.tolist())"
    )
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    found = subprocess.run(
        [sys.executable, "-c", code, str(folder)], capture_output=True, text=True, env=environment, check=True
    )
    expected = fitted.score(np.arange(3 * 16 * 16 * 3, dtype=np.uint8).reshape(3, 16, 16, 3)).image
    np.testing.assert_allclose(eval(found.stdout), expected, rtol=1e-6)


def test_pretrained_weights_are_asked_for_once_and_never_again(tmp_path, monkeypatch):
    """Loading takes the detector's own weights, on a machine that has no others; starting from scratch takes none."""
    from unlike.backbones import networks as backbones
    from unlike.detector.classifier import Classifier

    settings = {"model": {"encoder": "efficientnet-lite0", "pretrained": True, "widths": [8, 8], "latent": 8}}
    images = stripes(20, size=32)
    fitted = Detector(model="vae", epochs=1, settings=settings, device="cpu").fit(images)
    fitted.save(tmp_path / "d")

    def refuse(*_):
        raise AssertionError("asked for pretrained weights")

    monkeypatch.setattr(backbones, "wheel_weights", refuse)
    loaded = Detector.load(tmp_path / "d", device="cpu")
    np.testing.assert_array_equal(loaded.score(images).image, fitted.score(images).image)
    chosen = {"finetune": {"scratch": True, "head_width": 8}}
    classifier = Classifier.from_detector(loaded, epochs=1, settings=chosen, device="cpu")
    classifier.fit(images, labels=[0, 1] * 10).save(tmp_path / "c")
    again = Classifier.load(tmp_path / "c", device="cpu").predict(images)
    np.testing.assert_allclose(again.probabilities, classifier.predict(images).probabilities, rtol=1e-5)
