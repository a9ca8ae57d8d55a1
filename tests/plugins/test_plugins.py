"""What another package brings is known to the command line and to saved detectors as what we bring is."""

from __future__ import annotations

import csv
import io
import tomllib

import numpy as np
import pytest
from plugin_stand import install, install_example, unlike

from conftest import scratched, stripes


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """A folder with the example installed, and two packages with something wrong."""
    site = tmp_path_factory.mktemp("site")
    install_example(site)
    broken = {"broken.py": "import no_such_module_at_all\n"}
    install(site, "unlike-broken", {"unlike.models": {"broken": "broken:Model"}}, broken)
    install(site, "unlike-greedy", {"unlike.models": {"conv-dense": "unlike_example.model:Columns"}})
    return site


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    folder = tmp_path_factory.mktemp("images")
    np.save(folder / "good.npy", stripes(40, size=16))
    np.save(folder / "new.npy", np.concatenate([stripes(4, size=16, seed=3), scratched(stripes(4, size=16))[0]]))
    return folder


def fit(site, images, output, *choices):
    return unlike(site, "fit", images / "good.npy", "-o", output, "--false-alarms", "0.1", *choices)


def test_list_shows_the_names_with_their_packages(site):
    for what, name, setting in (
        ("models", "columns", "--set model.count=8"),
        ("scorers", "farthest", "--set scorer.power=2.0"),
        ("thresholds", "highest", ""),
    ):
        found = unlike(site, "list", what)
        assert found.returncode == 0, found.stderr
        (line,) = (line for line in found.stdout.splitlines() if line.startswith(f"{name} "))
        assert line.endswith("(of package unlike-example)")
        assert setting in found.stdout
    assert "(of package unlike)" not in found.stdout


def test_list_goes_on_after_what_cannot_be_imported(site):
    found = unlike(site, "list", "models")
    assert found.returncode == 0, found.stderr
    lines = {line.split()[0]: line for line in found.stdout.splitlines() if not line.startswith(" ")}
    assert "cannot be chosen: model 'broken' of package unlike-broken cannot be imported" in lines["broken"]
    assert "expected one package that brings it, came unlike and unlike-greedy" in lines["conv-dense"]
    assert lines["vae"]


def test_a_model_is_fitted_saved_loaded_and_scores(site, images, tmp_path):
    found = fit(site, images, tmp_path / "d", "--model", "columns", "--scorer", "gaussian", "--set", "model.count=4")
    assert found.returncode == 0, found.stderr
    assert "Fitted columns by gaussian" in found.stderr
    facts = tomllib.loads((tmp_path / "d/detector.toml").read_text())
    assert facts["model"] == {"name": "columns", "count": 4}
    scored = unlike(site, "score", tmp_path / "d", images / "new.npy")
    assert scored.returncode == 0, scored.stderr
    assert len(list(csv.DictReader(io.StringIO(scored.stdout)))) == 8


def test_a_scorer_is_fitted_saved_loaded_and_scores(site, images, tmp_path):
    found = fit(site, images, tmp_path / "d", "--model", "columns", "--scorer", "farthest")
    assert found.returncode == 0, found.stderr
    scored = unlike(site, "score", tmp_path / "d", images / "new.npy")
    assert scored.returncode == 0, scored.stderr
    assert len(list(csv.DictReader(io.StringIO(scored.stdout)))) == 8


def test_a_threshold_rule_decides(site, images, tmp_path):
    found = fit(site, images, tmp_path / "d", "--model", "pixels", "--set", "decision.threshold=highest")
    assert found.returncode == 0, found.stderr
    scored = unlike(site, "score", tmp_path / "d", images / "good.npy")
    assert scored.returncode == 0, scored.stderr
    assert {row["anomalous"] for row in csv.DictReader(io.StringIO(scored.stdout))} == {"0"}


def test_a_reader_reads_files_of_its_extension(site, tmp_path):
    for number, image in enumerate(stripes(40, size=16, channels=1)):
        path = tmp_path / f"good/{number}.grey"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(bytes(image.shape[:2]) + image.tobytes())
    found = unlike(site, "fit", tmp_path / "good", "-o", tmp_path / "d", "--model", "pixels", "--false-alarms", "0.1")
    assert found.returncode == 0, found.stderr
    assert "40 images" in found.stderr


def test_a_package_that_cannot_be_imported_is_an_error_only_when_it_is_used(site, images, tmp_path):
    found = fit(site, images, tmp_path / "d", "--model", "broken")
    assert found.returncode == 2
    assert found.stderr == (
        "unlike: model 'broken' of package unlike-broken cannot be imported from broken:Model (ModuleNotFoundError: "
        "No module named 'no_such_module_at_all'); repair or remove that package, or choose another model\n"
    )


def test_a_name_that_two_packages_bring_is_nobodys(site, images, tmp_path):
    found = fit(site, images, tmp_path / "d", "--model", "conv-dense")
    assert found.returncode == 2
    assert found.stderr == (
        "unlike: model 'conv-dense': expected one package that brings it, came unlike and unlike-greedy; remove a package, "
        "or have it choose another name\n"
    )
