"""The client asks as REST wants it, tries again where that helps, and says clearly what went wrong."""

from __future__ import annotations

import email.parser
import json

import httpx
import numpy as np
import pytest

from conftest import stripes, write_png
from unlike.errors import DataError, ServiceError
from unlike.serving import Client
from unlike.serving import client as module


class Service:
    """Answers requests from a list, and notes them; the last answer stays."""

    def __init__(self, *answers):
        self.answers, self.had = list(answers), []

    def __call__(self, request):
        self.had.append(request)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer(request) if callable(answer) else answer


def client_of(*answers, **choices):
    service = Service(*answers)
    return Client("http://line3:8000", transport=httpx.MockTransport(service), **choices), service


def ok(content):
    return httpx.Response(200, json=content)


@pytest.fixture(autouse=True)
def waits(monkeypatch):
    """How long was waited, and no time spent."""
    had = []
    monkeypatch.setattr(module.time, "sleep", had.append)
    return had


def parts(request):
    """The fields of a form: (field, file name, content)."""
    head = f"Content-Type: {request.headers['content-type']}\n\n".encode()
    form = email.parser.BytesParser().parsebytes(head + request.read())
    return [
        (part.get_param("name", header="content-disposition"), part.get_filename(), part.get_payload(decode=True))
        for part in form.get_payload()
    ]


def scored(request):
    """A row for each file."""
    files = [name for field, name, _ in parts(request) if field == "file"]
    return ok({"items": [{"name": name, "anomalous": False} for name in files]})


def test_paths_bytes_and_arrays_are_sent_in_order_a_few_at_a_time(tmp_path):
    path = write_png(tmp_path / "a.png", stripes(1)[0])
    client, service = client_of(scored)
    images = [path, str(path), path.read_bytes(), ("frame", b"PNG"), stripes(1)[0]] + [b"x"] * 15
    rows = client.score("line 3/cells", images)
    assert [row["name"] for row in rows[:5]] == ["a.png", "a.png", "2", "frame", "4.png"]
    assert len(rows) == 20
    assert [len([one for one in parts(request) if one[0] == "file"]) for request in service.had] == [16, 4]
    assert service.had[0].url.raw_path == b"/detectors/line%203%2Fcells/score"
    contents = [content for field, _, content in parts(service.had[0]) if field == "file"]
    assert contents[0] == path.read_bytes()
    assert contents[4][:4] == b"\x89PNG"


def test_each_image_has_a_client_id_and_each_try_the_same():
    client, service = client_of(httpx.Response(503, json={"detail": "busy"}), scored, retries=1)
    client.score("cells", [b"x", b"x"], client_ids=["one", "two"])
    sent = [[content for field, _, content in parts(request) if field == "client_id"] for request in service.had]
    assert sent == [[b"one", b"two"]] * 2
    client.score("cells", b"x")
    client.score("cells", b"x")
    alone = [next(content for field, _, content in parts(one) if field == "client_id") for one in service.had[2:]]
    assert len(set(alone)) == 2
    with pytest.raises(DataError, match="client_ids: expected one for each of 2 images, came 1"):
        client.score("cells", [b"x", b"x"], client_ids=["one"])


def test_one_array_of_several_images_is_several():
    client, _ = client_of(scored)
    assert len(client.score("cells", stripes(3))) == 3
    assert len(client.score("cells", stripes(1)[0])) == 1


def test_what_cannot_be_read_is_named(tmp_path):
    client, service = client_of(scored)
    with pytest.raises(DataError, match=r"none.png: cannot be read .*; expected an image, its bytes, or an array"):
        client.score("cells", [tmp_path / "none.png"])
    assert service.had == []


def test_a_busy_service_is_asked_again_when_it_says(waits):
    busy = httpx.Response(503, json={"detail": "busy"}, headers={"Retry-After": "7"})
    client, service = client_of(busy, httpx.Response(429, json={"detail": "slower"}), scored)
    client.score("cells", b"x")
    assert len(service.had) == 3
    assert waits == [7.0, 1.0]


def test_a_service_that_stays_busy_is_an_error_that_says_so(waits):
    client, service = client_of(httpx.Response(503, json={"detail": "busy"}, headers={"Retry-After": "2"}), retries=2)
    with pytest.raises(ServiceError, match=r"http://line3:8000/detectors: 503: busy") as caught:
        client.detectors()
    assert (caught.value.status, caught.value.passing, caught.value.wait_seconds) == (503, True, 2.0)
    assert (len(service.had), waits) == (3, [2.0, 2.0])


def test_a_service_that_is_away_is_tried_again_where_nothing_happens_twice():
    client, service = client_of(httpx.ConnectError("refused"), ok({"items": []}))
    assert client.detectors() == []
    client, service = client_of(httpx.ReadTimeout("slow"))
    with pytest.raises(ServiceError, match=r"http://line3:8000: no service answers \(slow\)") as caught:
        client.promote("cells", 2)
    assert len(service.had) == 1  # it may have been done
    assert caught.value.passing
    client, service = client_of(httpx.ReadTimeout("slow"), scored)
    client.score("cells", b"x")
    assert len(service.had) == 2  # images have ids


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (httpx.Response(404, json={"detail": "there is no detector 'cels'"}), "404: there is no detector 'cels'"),
        (
            httpx.Response(401, json={"detail": "log in"}),
            r"401: log in; a program gives a token \(Client\(token=...\), UNLIKE_TOKEN",
        ),
        (httpx.Response(500, text="<html>"), "500: Internal Server Error"),
        (
            httpx.Response(422, json={"detail": [{"loc": ["query", "limit"], "msg": "too large"}]}),
            "query.limit: too large",
        ),
        (httpx.Response(200, text="<html>"), "expected an answer of `unlike serve`, came text/plain"),
    ],
)
def test_refusals_are_sentences(answer, words):
    client, service = client_of(answer)
    with pytest.raises(ServiceError, match=words):
        client.detector("cels")
    assert len(service.had) == 1


def test_the_history_is_read_page_by_page():
    client, service = client_of(
        ok({"items": [{"id": 1}, {"id": 2}], "next": "c"}), ok({"items": [{"id": 3}], "next": None})
    )
    rows = client.images(detector="cells", verdict="anomalous", reviewed=False, since="2026-01-01", page=2)
    assert [row["id"] for row in rows] == [1, 2, 3]
    asked = [dict(request.url.params) for request in service.had]
    assert asked[0] == {
        "detector": "cells",
        "verdict": "anomalous",
        "reviewed": "false",
        "from": "2026-01-01",
        "limit": "2",
    }
    assert asked[1] == {**asked[0], "cursor": "c"}


@pytest.mark.parametrize(
    ("call", "method", "path", "body"),
    [
        (
            lambda c: c.review("7f", "missed", kind="crack"),
            "POST",
            "/images/7f/review",
            {"verdict": "missed", "kind": "crack", "note": ""},
        ),
        (lambda c: c.promote("cells", 3), "POST", "/detectors/cells/promote", {"version": 3, "note": ""}),
        (lambda c: c.rollback("cells"), "POST", "/detectors/cells/rollback", {"note": ""}),
        (
            lambda c: c.discard("cells", 2, note="worse"),
            "POST",
            "/detectors/cells/discard",
            {"version": 2, "note": "worse"},
        ),
        (lambda c: c.compare("cells", (1, 2)), "POST", "/detectors/cells/compare", {"versions": [1, 2]}),
        (
            lambda c: c.fit("cells", choices={"preset": "fast"}),
            "POST",
            "/detectors/cells/fit",
            {"reviewed": True, "choices": {"preset": "fast"}, "note": ""},
        ),
        (
            lambda c: c.calibrate("cells", false_alarms=0.02),
            "POST",
            "/detectors/cells/calibrate",
            {"false_alarms": 0.02, "threshold": None, "reviewed": False, "note": ""},
        ),
        (lambda c: c.image("7f"), "GET", "/images/7f", None),
        (lambda c: c.detector("cells"), "GET", "/detectors/cells", None),
        (lambda c: c.job(4), "GET", "/jobs/4", None),
    ],
)
def test_calls_are_requests(call, method, path, body):
    client, service = client_of(ok({"id": 4}), token="secret")
    assert call(client) == {"id": 4}
    (request,) = service.had
    assert (request.method, request.url.path) == (method, path)
    assert request.headers["authorization"] == "Bearer secret"
    assert body is None or json.loads(request.content) == body


def test_normal_images_are_sent_for_a_first_detector_and_for_the_next(tmp_path):
    client, service = client_of(ok({"id": 4}))
    client.add_detector("bottle", [b"x", b"y"])
    client.add_normals("bottle", ("more.zip", b"PK"))
    assert [request.url.path for request in service.had] == ["/detectors", "/detectors/bottle/normals"]
    assert [(field, name) for field, name, _ in parts(service.had[0])] == [("name", None), ("file", "0"), ("file", "1")]
    assert parts(service.had[1]) == [("file", "more.zip", b"PK")]


def test_a_picture_is_bytes():
    client, service = client_of(httpx.Response(200, content=b"PNG"))
    assert client.picture("7f", "map") == b"PNG"
    assert service.had[0].url.path == "/images/7f/map"


def test_a_job_is_waited_for():
    job = {"id": 4, "state": "running", "progress": 0.5, "message": ""}
    client, _ = client_of(ok(job), ok(job), ok({**job, "state": "done"}))
    seen = []
    assert client.wait({"id": 4}, notify=seen.append)["state"] == "done"
    assert [one["state"] for one in seen] == ["running", "done"]
    client, _ = client_of(ok({**job, "state": "failed", "message": "too few images"}))
    with pytest.raises(ServiceError, match="job 4 failed: too few images"):
        client.wait(4)
    client, _ = client_of(ok(job))
    with pytest.raises(ServiceError, match=r"job 4: not done after 0 s; ask again with wait\(4\)"):
        client.wait(4, timeout_seconds=0)


def test_ready_asks_once_and_never_fails():
    assert client_of(httpx.Response(200))[0].ready()
    assert not client_of(httpx.Response(503))[0].ready()
    assert not client_of(httpx.ConnectError("refused"))[0].ready()


def test_an_address_that_is_none_is_refused():
    with pytest.raises(ServiceError, match=r"expected the address of a service, such as .* came 'line3'"):
        Client("line3")
    with Client("http://line3") as client:
        assert isinstance(client, Client)


def test_frames_of_a_type_that_no_file_holds_are_refused():
    client, _ = client_of(scored)
    with pytest.raises(DataError, match="of uint8 or uint16, came float64"):
        client.score("cells", np.zeros((8, 8)))
