"""The Dockerfile and the compose file: linted, and of one mind with the rest."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from unlike.serving.connections import read_connections

ROOT = Path(__file__).parents[2]
DOCKERFILE = (ROOT / "Dockerfile").read_text()
HADOLINT = shutil.which("hadolint", path=f"{Path(sys.executable).parent}:/usr/local/bin:/usr/bin") or shutil.which(
    "hadolint"
)


def compose():
    yaml = pytest.importorskip("yaml", reason="pip install pyyaml, to read the compose file")
    return yaml.safe_load((ROOT / "compose.yaml").read_text())


@pytest.mark.skipif(HADOLINT is None, reason="hadolint is not installed here")
def test_hadolint_finds_nothing():
    found = subprocess.run([HADOLINT, str(ROOT / "Dockerfile")], capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stdout


def test_the_image_runs_as_nobody_special_and_says_how_it_is():
    stage = DOCKERFILE.rsplit("FROM ", 1)[1]
    assert re.search(r"^USER 10001:10001$", stage, re.MULTILINE)
    assert "HEALTHCHECK" in stage
    assert not re.search(r"password|secret|token", DOCKERFILE, re.IGNORECASE)


def test_the_image_takes_extras_that_there_are():
    extras = set(re.search(r"\.\[([\w,]+)\]", DOCKERFILE)[1].split(","))
    known = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert {"serve", "postgresql"} <= extras <= set(known)


def test_what_the_image_needs_is_sent_to_its_build():
    copied = {name for line in re.findall(r"^COPY (?!--)(.*) \S+$", DOCKERFILE, re.MULTILINE) for name in line.split()}
    sent = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    assert {name.removeprefix("./") for name in copied} == sent
    assert all((ROOT / name).exists() for name in sent)


def test_the_services_hang_together():
    content = compose()
    services = content["services"]
    unlike = services["unlike"]
    assert set(unlike["depends_on"]) == {"db", "mosquitto"} == set(services) - {"unlike"}
    database = next(part for part in unlike["command"] if part.startswith("--db=")).removeprefix("--db=")
    assert database == f"postgresql+psycopg://{services['db']['environment']['POSTGRES_USER']}@db/unlike"
    assert services["db"]["environment"]["POSTGRES_PASSWORD"] == unlike["environment"]["PGPASSWORD"]
    named = {volume.split(":")[0] for service in services.values() for volume in service["volumes"]}
    assert {name for name in named if name[0] not in "./$"} == set(content["volumes"])
    assert all((ROOT / name).is_file() for name in named if name.startswith("./"))


def test_only_the_service_is_reached_and_only_from_this_machine():
    services = compose()["services"]
    assert {name: service["ports"] for name, service in services.items() if "ports" in service} == {
        "unlike": ["127.0.0.1:8000:8000"]
    }
    assert services["unlike"]["read_only"]
    assert services["unlike"]["cap_drop"] == ["ALL"]


def test_no_secret_stands_in_the_compose_file():
    for service in compose()["services"].values():
        for name, value in service.get("environment", {}).items():
            assert "PASSWORD" not in name or value.startswith("${")


def test_the_connections_of_the_compose_file_are_read():
    found = read_connections(ROOT / "deploy" / "connections.toml")
    assert [sink.kind for sink in found.sinks] == ["mqtt"]
    assert found.sources[0].where == "/incoming/cells"
