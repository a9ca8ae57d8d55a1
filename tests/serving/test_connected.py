"""A service that watches a folder and tells others, all in one: what comes in goes out."""

from __future__ import annotations

import json
from dataclasses import replace

import httpx
import pytest
from fastapi.testclient import TestClient
from receivers import receiving, wait_until
from services import LOCAL, client, folder, settings

from conftest import scratched, stripes, write_png
from unlike.serving.app import create_app
from unlike.serving.connections import read_connections
from unlike.serving.database.tables import Outbox


def serving(settings):
    return TestClient(
        create_app(settings), base_url="http://127.0.0.1:8000", client=LOCAL, raise_server_exceptions=False
    )


@pytest.fixture
def incoming(tmp_path):
    for number, image in enumerate(stripes(3, seed=7)):
        write_png(tmp_path / f"in/{number}.png", image)
    write_png(tmp_path / "in/odd.png", scratched(stripes(1, seed=8))[0][0])
    (tmp_path / "in/half.png").write_bytes((tmp_path / "in/0.png").read_bytes()[:50])
    return tmp_path / "in"


def connected(incoming, port, monkeypatch):
    monkeypatch.setenv("UNLIKE_WEBHOOK_SECRET", "a secret of at least sixteen")
    path = incoming.parent / "connections.toml"
    path.write_text(
        f'[[sources]]\ndetector = "cells"\nwhere = "{incoming}"\nsettle_seconds = 0.0\npoll_seconds = 0.05\n'
        f'[[sinks]]\nkind = "webhook"\nurl = "http://127.0.0.1:{port}/"\n'
    )
    return read_connections(path)


def names(rows):
    return sorted(row["name"] for row in rows)


def test_what_comes_into_a_folder_is_in_the_history_once_and_goes_out(settings, incoming, monkeypatch):
    with receiving() as server:
        whole = replace(settings, connections=connected(incoming, server.server_port, monkeypatch))
        for _ in range(2):  # and not again after a restart
            with serving(whole) as service:
                wait_until(lambda: len(service.get("/images").json()["items"]) == 5)
                wait_until(lambda: service.get("/outbox").json()["counts"] == {"webhook": {"sent": 5}})
                assert names(service.get("/images").json()["items"]) == [
                    "0.png",
                    "1.png",
                    "2.png",
                    "half.png",
                    "odd.png",
                ]
        told = [json.loads(body) for _, body in server.had]
        assert names(told) == ["0.png", "1.png", "2.png", "half.png", "odd.png"]
        assert {row["name"] for row in told if row["error"]} == {"half.png"}
        assert next(row for row in told if row["name"] == "odd.png")["anomalous"]


def test_a_repeat_is_told_once(settings, incoming, monkeypatch):
    with receiving() as server:
        alone = replace(connected(incoming, server.server_port, monkeypatch), sources=())
        with serving(replace(settings, connections=alone)) as service:
            content = (incoming / "odd.png").read_bytes()
            for _ in range(3):
                files = {"file": ("odd.png", content)}
                assert service.post("/detectors/cells/score?client_id=a", files=files).status_code == 200
            wait_until(lambda: len(server.had) == 1)
            assert service.get("/outbox").json()["counts"] == {"webhook": {"sent": 1}}


def test_dead_letters_are_shown_sent_again_and_dropped(client):
    assert client.get("/outbox").json() == {"items": [], "next": None, "counts": {}}
    database = client.app.state.services.database
    with database.sessions.begin() as session:
        for number in range(3):
            session.add(Outbox(sink="mes", payload={"n": number}, state="dead", tries=30, last_error="answered 500"))
    found = client.get("/outbox", params={"state": "dead", "sink": "mes", "limit": 2}).json()
    assert [(one["id"], one["last_error"], one["payload"]) for one in found["items"]] == [
        (3, "answered 500", {"n": 2}),
        (2, "answered 500", {"n": 1}),
    ]
    assert client.get("/outbox", params={"before": found["next"]}).json()["items"][0]["id"] == 1
    assert client.post("/outbox/3/retry").json() == {"retried": 1}
    assert client.delete("/outbox/2").json() == {"id": 2}
    assert client.post("/outbox/retry").json() == {"retried": 1}
    assert client.get("/outbox").json()["counts"] == {"mes": {"waiting": 2}}
    for answer in (client.delete("/outbox/2"), client.post("/outbox/2/retry")):
        assert (answer.status_code, answer.json()) == (404, {"detail": "there is no dead letter of that number"})
    done = [(one["who"], one["action"]) for one in client.get("/audit").json()["items"]]
    assert done == [("local", "retry messages"), ("local", "drop message"), ("local", "retry messages")]


def test_a_source_that_cannot_be_opened_is_said_and_opened_again(settings, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr("unlike.serving.sources.feeding.AGAIN_SECONDS", 0.05)
    late = tmp_path / "late"
    found = read_connections(None, watch=[f"cells={late}"])
    with serving(replace(settings, connections=found)) as service:
        wait_until(lambda: "expected a folder to watch, which is not there" in caplog.text)
        write_png(late / "a.png", stripes(1)[0])
        wait_until(lambda: len(service.get("/images").json()["items"]) == 1)


def test_images_wait_for_a_detector_that_is_not_there_yet(settings, incoming, caplog):
    found = read_connections(None, watch=[f"bottle={incoming}"])
    with serving(replace(settings, connections=found)):
        wait_until(lambda: "there is no detector" in caplog.text and "nothing is lost" in caplog.text)


def test_the_client_speaks_to_the_service(settings, incoming):
    from unlike.serving import Client

    with serving(settings) as service, Client("http://127.0.0.1:8000", transport=Through(service)) as found:
        rows = found.score("cells", [incoming / "0.png", incoming / "half.png", stripes(1)[0]])
        assert [bool(row["error"]) for row in rows] == [False, True, False]
        assert [one["name"] for one in found.detectors()] == ["cells"]
        assert found.detector("cells")["versions"][0]["number"] == 1
        assert sum(1 for _ in found.images(detector="cells", page=1)) == 3
        assert found.image(rows[0]["id"])["name"] == "0.png"
        assert found.picture(rows[0]["id"])[1:4] == b"PNG"
        assert found.review(rows[0]["id"], "right")
        assert [row["id"] for row in found.images(reviewed=True)] == [rows[0]["id"]]
        assert found.ready()


class Through(httpx.BaseTransport):
    """Requests of a client to a service in this process."""

    def __init__(self, service):
        self._service = service

    def handle_request(self, request):
        answer = self._service.request(
            request.method, str(request.url), content=request.read(), headers=dict(request.headers)
        )
        headers = {name: value for name, value in answer.headers.items() if name != "content-encoding"}
        return httpx.Response(answer.status_code, headers=headers, content=answer.content)
