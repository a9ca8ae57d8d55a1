import asyncio
import json

import pytest

from unlike.serving.security.headers import CONTENT_POLICY, Guard
from unlike.serving.security.rate import Rate


async def say_ok(scope, receive, send):
    body = b""
    while True:
        message = await receive()
        body += message.get("body", b"")
        if not message.get("more_body"):
            break
    await send({"type": "http.response.start", "status": 200, "headers": [(b"x-length", str(len(body)).encode())]})
    await send({"type": "http.response.body", "body": body})


def ask(guard, method="GET", path="/images", *, client="127.0.0.1", body=(b"",), scheme="http", **headers):
    """Status, headers and body of an answer, as a server would send it."""
    given = {"host": "localhost:8000"} | {name.replace("_", "-"): value for name, value in headers.items()}
    scope = {
        "type": "http", "method": method, "path": path, "scheme": scheme, "client": (client, 5),
        "headers": [(name.encode(), value.encode()) for name, value in given.items()],
    }  # fmt: skip
    parts = list(body)
    sent = []

    async def receive():
        return {"type": "http.request", "body": parts.pop(0), "more_body": bool(parts)}

    async def send(message):
        sent.append(message)

    asyncio.run(guard(scope, receive, send))
    found = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
    return sent[0]["status"], found, sent[1]["body"]


@pytest.fixture
def guard():
    return Guard(say_ok, loopback=True, request_bytes=100)


def test_every_answer_has_the_headers_and_no_inline_script_is_allowed(guard):
    status, headers, _ = ask(guard)
    assert status == 200
    assert headers["content-security-policy"] == CONTENT_POLICY
    assert "unsafe" not in CONTENT_POLICY
    assert headers["x-content-type-options"] == "nosniff"
    assert "frame-ancestors 'none'" in CONTENT_POLICY
    assert headers["cache-control"] == "no-store"
    assert "strict-transport-security" not in headers
    assert "strict-transport-security" in ask(guard, scheme="https")[1]
    assert "cache-control" not in ask(guard, path="/ui/static/page.css")[1]
    refused = ask(guard, host="evil.example")[1]
    assert refused["content-security-policy"] == CONTENT_POLICY


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:1", "127.0.0.1:8000", "[::1]:8000"])
def test_hosts_of_this_machine_are_answered(guard, host):
    assert ask(guard, host=host)[0] == 200


@pytest.mark.parametrize(
    "host", ["evil.example", "localhost.evil.example", "127.0.0.1.evil.example:8000", "", "10.0.0.7"]
)
def test_a_name_that_is_pointed_here_is_refused(guard, host):
    status, _, body = ask(guard, host=host)
    assert status == 421
    assert "this service answers on this machine only" in json.loads(body)["detail"]
    assert ask(Guard(say_ok, loopback=False, request_bytes=100), host=host)[0] == 200


def test_a_host_that_was_allowed_is_answered():
    guard = Guard(say_ok, loopback=True, request_bytes=100, hosts=["cam.local"])
    assert ask(guard, host="cam.local:8000")[0] == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "http://evil.example"}, {"origin": "null"}, {"origin": "http://localhost:9999"},
        {"sec_fetch_site": "cross-site"}, {"sec_fetch_site": "same-site"},
    ],
)  # fmt: skip
def test_changes_that_another_site_asks_for_are_refused(guard, headers):
    status, _, body = ask(guard, "POST", **headers)
    assert (status, json.loads(body)["detail"].startswith("a page of another site")) == (403, True)
    assert ask(guard, "GET", **headers)[0] == 200  # which a browser does not let that page read


def test_changes_of_the_page_and_of_programs_are_let_through(guard):
    assert ask(guard, "POST")[0] == 200
    assert ask(guard, "POST", origin="http://localhost:8000", sec_fetch_site="same-origin")[0] == 200


def test_bodies_are_counted_whatever_they_say_of_their_length(guard):
    assert ask(guard, "POST", body=[b"x" * 60, b"x" * 40])[2] == b"x" * 100
    for headers in ({}, {"content_length": "5"}):
        status, found, body = ask(guard, "POST", body=[b"x" * 60, b"x" * 60], **headers)
        assert (status, json.loads(body)["detail"]) == (413, "the request has more than 100 bytes; send it in parts")
        assert found["connection"] == "close"
    assert ask(guard, "POST", content_length="101")[0] == 413
    status, _, body = ask(guard, "POST", content_length="-1")
    assert (status, json.loads(body)["detail"]) == (400, "Content-Length: expected a number of bytes, came '-1'")


def test_an_address_that_asks_too_often_is_told_to_wait():
    guard = Guard(say_ok, loopback=False, request_bytes=100, rate=Rate(3, 20.0))
    assert [ask(guard, client="10.0.0.7")[0] for _ in range(4)] == [200, 200, 200, 429]
    assert 0 < int(ask(guard, client="10.0.0.7")[1]["retry-after"]) <= 20
    assert ask(guard, client="10.0.0.8")[0] == 200
    assert ask(guard, "GET", "/health", client="10.0.0.7")[0] == 200
    assert [ask(guard)[0] for _ in range(4)] == [200] * 4  # of this machine


def test_what_an_app_says_of_a_body_that_was_cut_off_is_not_sent():
    async def tell(scope, receive, send):
        try:
            await receive()
        except Exception:  # noqa: BLE001
            await send({"type": "http.response.start", "status": 400, "headers": []})
            await send({"type": "http.response.body", "body": b"cannot be parsed"})

    status, _, body = ask(Guard(tell, loopback=True, request_bytes=5), "POST", body=[b"123456"])
    assert (status, b"more than 5 bytes" in body) == (413, True)


def test_other_errors_go_on():
    async def fail(scope, receive, send):
        raise ValueError("a bug")

    with pytest.raises(ValueError, match="a bug"):
        ask(Guard(fail, loopback=True, request_bytes=100))


def test_what_is_no_request_goes_through():
    seen = []

    async def note(scope, receive, send):
        seen.append(scope["type"])

    asyncio.run(Guard(note, loopback=True, request_bytes=1)({"type": "lifespan"}, None, None))
    assert seen == ["lifespan"]
