"""A service of a small detector, in the process of the test, and databases of both kinds."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from fastapi.testclient import TestClient

from exports import small_detector, strange
from unlike.serving.app import create_app
from unlike.serving.settings import ServeSettings

LOCAL = ("127.0.0.1", 5000)


def png(image: np.ndarray) -> bytes:
    """An image as the bytes of a file."""
    return cv2.imencode(".png", image[..., ::-1])[1].tobytes()


def pngs(count: int = 4) -> list[bytes]:
    """New images as files, every other one with a square."""
    return [png(image) for image in strange(count)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of detectors, with one that is called cells."""
    small_detector().save(tmp_path / "detectors" / "cells.unlike")
    return tmp_path / "detectors"


@pytest.fixture
def settings(folder: Path, tmp_path: Path) -> ServeSettings:
    return ServeSettings(folder, images=tmp_path / "images")


@pytest.fixture
def client(settings: ServeSettings) -> Iterator[TestClient]:
    """A program on the same machine."""
    app = create_app(settings)
    with TestClient(app, base_url="http://127.0.0.1:8000", client=LOCAL, raise_server_exceptions=False) as client:
        yield client


@pytest.fixture(scope="session")
def postgresql() -> Iterator[str]:
    """The URL of a PostgreSQL that is started for these tests; they are skipped where it cannot be."""
    binaries = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    if not binaries:
        pytest.skip("PostgreSQL is not installed")
    if os.geteuid() == 0 and not (shutil.which("runuser") and _is_user("postgres")):
        pytest.skip("PostgreSQL does not run as root, and there is no user postgres")
    with tempfile.TemporaryDirectory(prefix="pg") as place, socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        free.close()
        os.chmod(place, 0o777)  # noqa: PTH101
        data, binary = f"{place}/data", binaries[-1]
        _as_postgres([f"{binary}/initdb", "-D", data, "-A", "trust", "-U", "unlike", "--no-sync"])
        options = f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={place} -c fsync=off"
        log = f"{place}/log"
        _as_postgres([f"{binary}/pg_ctl", "-D", data, "-w", "-l", log, "-o", options, "start"])
        try:
            yield f"postgresql+psycopg://unlike@127.0.0.1:{port}/postgres"
        finally:
            _as_postgres([f"{binary}/pg_ctl", "-D", data, "-m", "immediate", "-w", "stop"])


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty database of either kind."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'history.sqlite'}"
    import psycopg

    server = request.getfixturevalue("postgresql")
    name = f"test_{tmp_path.name.replace('-', '_')}_{os.urandom(3).hex()}".lower()
    with psycopg.connect(server.replace("+psycopg", ""), autocommit=True) as connection:
        connection.execute(f'CREATE DATABASE "{name}"')
    return server.rsplit("/", 1)[0] + f"/{name}"


def _as_postgres(command: list[str]) -> None:
    """PostgreSQL's programs refuse to run as root."""
    before = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []
    subprocess.run([*before, *command], check=True, capture_output=True, cwd="/")


def _is_user(name: str) -> bool:
    import pwd

    return any(user.pw_name == name for user in pwd.getpwall())
