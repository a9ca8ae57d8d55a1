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
    good = stripes(40, size=16)
    np.save(folder / "good.npy", good)
    np.save(folder / "all.npy", np.concatenate([good, scratched(good[:8])[0]]))
    return folder


def fit(site, images, output, *choices):
    return unlike(site, "fit", images / "good.npy", "-o", output, "--false-alarms", "0.1", *choices)


@pytest.fixture(scope="module")
def listed(site):
    """What `unlike list` prints of the models, of the scorers and of the threshold rules."""
    return {what: unlike(site, "list", what) for what in ("models", "scorers", "thresholds")}


def test_list_shows_the_names_with_their_packages(listed):
    for what, name, setting in (
        ("models", "columns", "--set model.count=8"),
        ("scorers", "farthest", "--set scorer.power=2.0"),
        ("thresholds", "highest", ""),
    ):
        found = listed[what]
        assert found.returncode == 0, found.stderr
        (line,) = (line for line in found.stdout.splitlines() if line.startswith(f"{name} "))
        assert line.endswith("(of package unlike-example)")
        assert setting in found.stdout
        assert "(of package unlike)" not in found.stdout


def test_list_goes_on_after_what_cannot_be_imported(listed):
    found = listed["models"]
    assert found.returncode == 0, found.stderr
    lines = {line.split()[0]: line for line in found.stdout.splitlines() if not line.startswith(" ")}
    assert "cannot be chosen: model 'broken' of package unlike-broken cannot be imported" in lines["broken"]
    assert "expected one package that brings it, came unlike and unlike-greedy" in lines["conv-dense"]
    assert lines["vae"]


def test_a_model_a_scorer_and_a_threshold_rule_are_fitted_saved_loaded_and_score(site, images, tmp_path):
    chosen = [
        "--model",
        "columns",
        "--scorer",
        "farthest",
        "--set",
        "decision.threshold=highest",
        "--set",
        "model.count=4",
    ]
    found = fit(site, images, tmp_path / "d", *chosen)
    assert found.returncode == 0, found.stderr
    assert "Fitted columns by farthest" in found.stderr
    facts = tomllib.loads((tmp_path / "d/detector.toml").read_text())
    assert facts["model"] == {"name": "columns", "count": 4}
    assert (facts["scorer"]["name"], facts["decision"]["threshold"]) == ("farthest", "highest")
    scored = unlike(site, "score", tmp_path / "d", images / "all.npy")
    assert scored.returncode == 0, scored.stderr
    rows = list(csv.DictReader(io.StringIO(scored.stdout)))
    assert len(rows) == 48
    scores, (threshold,) = [float(row["score"]) for row in rows], {float(row["threshold"]) for row in rows}
    assert min(abs(score - threshold) for score in scores[:40]) < 1e-4 * threshold  # the highest of those held out
    assert [row["anomalous"] == "1" for row in rows] == [score > threshold for score in scores]


def test_a_model_that_another_package_brings_goes_with_our_scorer(site, images, tmp_path):
    found = fit(site, images, tmp_path / "d", "--model", "columns", "--scorer", "gaussian")
    assert found.returncode == 0, found.stderr
    assert "Fitted columns by gaussian" in found.stderr


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
