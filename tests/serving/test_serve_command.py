"""`unlike serve` as people start it, and the service on either database."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import time
from dataclasses import replace

import httpx
import psycopg
import pytest
from fastapi.testclient import TestClient
from services import LOCAL, folder, pngs, postgresql, settings, url

from unlike.cli import run
from unlike.errors import ServiceError
from unlike.serving.app import create_app
from unlike.serving.database.engine import open_database
from unlike.serving.database.tables import Detector, Version, now
from unlike.serving.recording import Recorder, Result


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["{folder}/none"], "expected a folder of detectors; mkdir"),
        (
            ["{folder}", "--images", "x", "--no-images"],
            "--images keeps images and --no-images keeps none; take one of them",
        ),
        (
            ["{folder}", "--db", "mysql://x"],
            "expected sqlite:///FILE or postgresql+psycopg://USER:PASSWORD@HOST/DATABASE",
        ),
        (["{folder}", "--host", "0.0.0.0"], "it has no users yet; add one by `unlike serve FOLDER --add-user NAME"),
    ],
)
def test_wrong_use_is_one_line(folder, capsys, options, message):
    assert run(["serve", *(option.format(folder=folder) for option in options)]) == 2
    told = capsys.readouterr().err
    assert message in told
    assert "Traceback" not in told


def test_a_user_and_a_token_are_added(folder, capsys, monkeypatch):
    monkeypatch.setenv("UNLIKE_PASSWORD", "a long enough secret")
    assert run(["serve", str(folder), "--add-user", "ann", "--role", "admin"]) == 0
    assert "ann is admin now" in capsys.readouterr().err
    assert run(["serve", str(folder), "--add-token", "ann"]) == 0
    assert len(capsys.readouterr().out.strip()) > 20


@pytest.mark.slow
def test_the_server_starts_scores_and_stops(folder):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "unlike", "serve", str(folder), "--port", str(port)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        address = f"http://127.0.0.1:{port}"
        for _ in range(600):
            try:
                if httpx.get(f"{address}/ready", timeout=10).status_code == 200:
                    break
            except httpx.TransportError:
                time.sleep(0.2)
        row = httpx.post(f"{address}/detectors/cells/score", files={"file": pngs(1)[0]}, timeout=120).json()["items"][0]
        assert httpx.get(f"{address}{row['overlay']}", timeout=120).status_code == 200
        process.send_signal(signal.SIGTERM)
        told = process.communicate(timeout=120)[1]
    finally:
        process.kill()
        process.wait()
    assert f"Serving {folder} on http://127.0.0.1:{port}/ ; Ctrl-C stops." in told
    assert "cells: version 1 is taken in from cells.unlike, current." in told
    assert (folder / "history.sqlite").exists()
    assert "Traceback" not in told


def test_the_service_works_on_either_database(settings, url):
    with TestClient(create_app(replace(settings, db=url)), base_url="http://127.0.0.1:8000", client=LOCAL) as client:
        files = [("file", (f"{n}.png", content)) for n, content in enumerate(pngs(4))]
        first, again = (client.post("/detectors/cells/score", files=files).json()["items"] for _ in range(2))
        assert first == again
        assert len(client.get("/images").json()["items"]) == 4
        review = client.post(f"/images/{first[0]['id']}/review", json={"verdict": "right"}).json()["review"]
        assert review["by"] == "local"


def test_lost_connections_are_made_anew(settings, postgresql):
    name = "lost_connections"
    with psycopg.connect(postgresql.replace("+psycopg", ""), autocommit=True) as others:
        others.execute(f"CREATE DATABASE {name}")
        chosen = replace(settings, db=postgresql.rsplit("/", 1)[0] + f"/{name}")
        with TestClient(create_app(chosen), base_url="http://127.0.0.1:8000", client=LOCAL) as client:
            for content in pngs(3):
                others.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [name])
                answer = client.post("/detectors/cells/score", files={"file": content})
                assert answer.status_code == 200, answer.text
            assert len(client.get("/images").json()["items"]) == 3


def result_of(number, **changed):
    values = {
        "id": f"{number:032x}",
        "detector_id": 1,
        "version_id": 1,
        "client_id": "",
        "digest": str(number),
        "name": "a.png",
        "anomalous": True,
        "score": 1.0,
        "received_at": now(),
        "regions": [],
        "error": None,
        "kept": False,
        "reviewed": False,
        "threshold": 1.0,
        "p_value": 0.5,
    }
    return Result(values | changed, "part", 1)


def test_one_result_that_cannot_be_written_takes_no_other_with_it(url):
    database = open_database(url)
    with database.sessions.begin() as session:
        session.add(Detector(id=1, name="part"))
        session.flush()
        session.add(Version(id=1, detector_id=1, number=1, path="", fingerprint="", state="current"))
    told = []
    recorder = Recorder(database, [lambda _, rows: told.extend(row["id"] for row in rows)])
    waiting = [recorder.submit(result_of(n, name=None if n == 1 else "a.png")) for n in range(3)]
    recorder.start()
    assert waiting[0].result(timeout=30)["id"] == result_of(0).values["id"]
    assert waiting[1].exception(timeout=30) is not None
    assert waiting[2].result(timeout=30)["score"] == 1.0
    recorder.stop()
    with pytest.raises(ServiceError, match="the service is stopping"):
        recorder.submit(result_of(4))
    database.close()
    assert set(told) == {result_of(0).values["id"], result_of(2).values["id"]}


def test_what_is_to_be_told_is_written_with_the_result_or_not_at_all(url):
    database = open_database(url)
    with database.sessions.begin() as session:
        session.add(Detector(id=1, name="part"))
        session.flush()
        session.add(Version(id=1, detector_id=1, number=1, path="", fingerprint="", state="current"))

    def fail(*_):
        raise ZeroDivisionError

    recorder = Recorder(database, [fail])
    recorder.start()
    assert isinstance(recorder.submit(result_of(1)).exception(timeout=30), ZeroDivisionError)
    recorder.tell.clear()
    assert recorder.submit(result_of(2)).result(timeout=30)["id"] == result_of(2).values["id"]
    recorder.stop()
    from unlike.serving import history

    with database.readers() as session:
        assert history.count_images(session)["images"] == 1
    database.close()
