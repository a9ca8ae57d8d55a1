"""Users, tokens and sessions, as a program and a page meet them."""

import pytest
from fastapi.testclient import TestClient
from services import LOCAL, postgresql
from sqlalchemy import text
from sqlalchemy.exc import DatabaseError

from unlike.errors import ConfigError
from unlike.serving.app import create_app
from unlike.serving.database.engine import open_database
from unlike.serving.security import passwords, users
from unlike.serving.security.roles import ROLES
from unlike.serving.security.users import add_token_by_hand, add_user_by_hand, ask_password
from unlike.serving.settings import ServeSettings

WORDS = "four words in a row"
ADA, BOB, VIC = "ada", "bob", "vic"


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """Digests that take no time: how long they take is argon2's own matter."""
    from argon2 import PasswordHasher

    hasher = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
    monkeypatch.setattr(passwords, "_hasher", lambda: hasher)


@pytest.fixture
def empty(tmp_path):
    """A service without detectors and users."""
    (tmp_path / "none").mkdir()
    return ServeSettings(tmp_path / "none")


@pytest.fixture
def app(empty):
    app = create_app(empty)
    with open_client(app):
        yield app


def open_client(app, client=LOCAL, host="127.0.0.1:8000"):
    return TestClient(app, base_url=f"http://{host}", client=client, raise_server_exceptions=False)


@pytest.fixture
def known(app):
    """The same with three users."""
    local = open_client(app)
    for name, role in ((ADA, "admin"), (BOB, "reviewer"), (VIC, "viewer")):
        if name == BOB:
            local = log_in(app, ADA)
        answer = local.post("/users", json={"name": name, "password": WORDS, "role": role})
        assert answer.status_code == 201, answer.text
    return app


def log_in(app, name, password=WORDS):
    client = open_client(app)
    answer = client.post("/login", json={"name": name, "password": password})
    assert answer.status_code == 200, answer.text
    client.headers["X-CSRF-Token"] = answer.json()["csrf"]
    return client


def test_without_users_who_is_on_this_machine_may_do_everything(app):
    assert open_client(app).get("/me").json() == {"name": "local", "role": "admin", "by": "local", "csrf": ""}


@pytest.mark.parametrize(
    ("client", "headers"),
    [
        (("10.0.0.7", 5), {}), (LOCAL, {"X-Forwarded-For": "10.0.0.7"}), (LOCAL, {"Forwarded": "for=10.0.0.7"}),
        (LOCAL, {"X-Real-IP": "10.0.0.7"}), (LOCAL, {"Authorization": "Bearer unlike_x"}), (LOCAL, {"Authorization": "Basic eDp5"}),
    ],
)  # fmt: skip
def test_without_users_nobody_else_is_let_in(app, client, headers):
    answer = open_client(app, client).get("/me", headers=headers)
    assert answer.status_code == 401
    assert answer.json() == {"detail": "log in by POST /login, or send a token as Authorization: Bearer TOKEN"}
    assert answer.headers["www-authenticate"] == "Bearer"


def test_others_are_let_in_only_where_there_are_users(tmp_path):
    (tmp_path / "none").mkdir()
    settings = ServeSettings(tmp_path / "none", host="0.0.0.0")
    with pytest.raises(
        ConfigError, match=r"it has no users yet; add one by `unlike serve FOLDER --add-user NAME --role admin`"
    ):
        create_app(settings)
    url = f"sqlite:///{tmp_path / 'none' / 'history.sqlite'}"
    assert add_user_by_hand(url, ADA, "admin", WORDS) == "ada is admin now."
    with open_client(create_app(settings), ("10.0.0.7", 5), "unlike.factory") as client:
        assert client.get("/me").status_code == 401
        assert client.post("/login", json={"name": ADA, "password": WORDS}).status_code == 200


def test_once_there_is_a_user_nobody_is_let_in_without_being_one(known):
    assert open_client(known).get("/me").status_code == 401


def test_the_first_user_is_an_admin(app):
    client = open_client(app)
    answer = client.post("/users", json={"name": BOB, "password": WORDS, "role": "viewer"})
    assert (answer.status_code, answer.json()["detail"]) == (
        422, "user: the first is to be an admin, who adds the others; came viewer",
    )  # fmt: skip
    assert client.get("/me").status_code == 200


def test_a_session_has_a_cookie_that_no_script_reads_and_no_other_site_sends(known):
    client = open_client(known)
    answer = client.post("/login", json={"name": BOB, "password": WORDS})
    cookie = answer.headers["set-cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=strict" in cookie
    assert client.get("/me").json() | {"csrf": ""} == {"name": BOB, "role": "reviewer", "by": "session", "csrf": ""}
    secure = TestClient(known, base_url="https://localhost", client=LOCAL)
    assert "secure" in secure.post("/login", json={"name": BOB, "password": WORDS}).headers["set-cookie"].lower()


def test_a_change_by_a_session_takes_its_token(known):
    client = log_in(known, VIC)
    token = client.headers.pop("X-CSRF-Token")
    answer = client.post("/tokens", json={"name": "mine"})
    assert (answer.status_code, "X-CSRF-Token" in answer.json()["detail"]) == (403, True)
    other = log_in(known, ADA).headers["X-CSRF-Token"]
    assert client.post("/tokens", json={"name": "mine"}, headers={"X-CSRF-Token": other}).status_code == 403
    assert client.post("/tokens", json={"name": "mine"}, headers={"X-CSRF-Token": token}).status_code == 201


def test_a_session_ends(known):
    client = log_in(known, VIC)
    cookies = dict(client.cookies)
    assert client.post("/logout").json() == {"name": VIC}
    again = open_client(known)
    again.cookies.update(cookies)
    assert again.get("/me").status_code == 401
    client = log_in(known, VIC)
    with known.state.services.database.sessions.begin() as session:
        session.execute(text("UPDATE sessions SET expires = '2020-01-01 00:00:00.000000'"))
    assert client.get("/me").status_code == 401


def test_whoever_tries_passwords_is_told_to_wait_and_not_who_exists(known):
    client = open_client(known)
    said = {
        client.post("/login", json={"name": name, "password": "wrong"}).text for name in (BOB, "nobody", "ada\u202e")
    }
    assert said == {'{"detail":"no such user, or another password"}'}
    for _ in range(3):
        answer = client.post("/login", json={"name": BOB, "password": WORDS[:-1]})
    assert answer.status_code == 429
    assert 0 < int(answer.headers["retry-after"]) <= 12
    assert client.post("/login", json={"name": BOB, "password": WORDS}).status_code == 429
    elsewhere = open_client(known, ("127.0.0.2", 5))
    assert elsewhere.post("/login", json={"name": BOB, "password": WORDS}).status_code == 200


def test_unknown_tokens_are_slowed_down(known):
    client = open_client(known)
    said = [client.get("/me", headers={"Authorization": f"Bearer unlike_{n}"}).status_code for n in range(32)]
    assert said[0] == 401
    assert said[-1] == 429


LEAST = [
    ("GET", "/me", "viewer"), ("GET", "/tokens", "viewer"), ("GET", "/jobs", "viewer"), ("GET", "/detectors", "viewer"),
    ("GET", "/images", "viewer"), ("GET", "/detectors/x/normals", "viewer"), ("POST", "/detectors/x/fit", "reviewer"),
    ("POST", "/detectors/x/compare", "reviewer"), ("POST", "/detectors/x/calibrate", "reviewer"),
    ("POST", "/detectors/x/normals", "reviewer"), ("POST", "/jobs/1/cancel", "reviewer"), ("POST", "/detectors/x/score", "reviewer"),
    ("POST", "/detectors", "admin"), ("POST", "/detectors/x/promote", "admin"), ("POST", "/detectors/x/rollback", "admin"),
    ("POST", "/detectors/x/discard", "admin"), ("DELETE", "/detectors/x/normals/y", "admin"), ("GET", "/users", "admin"),
    ("POST", "/users", "admin"), ("GET", "/audit", "admin"), ("PATCH", "/users/nobody", "admin"),
]  # fmt: skip


def test_each_role_may_do_what_it_is_for(known):
    stranger, clients = open_client(known), [log_in(known, name) for name in (VIC, BOB, ADA)]
    for method, path, least in LEAST:
        assert stranger.request(method, path).status_code == 401
        lowest = ROLES.index(least)
        answers = [client.request(method, path, json={}) for client in clients]
        assert [answer.status_code == 403 for answer in answers] == [place < lowest for place in range(3)], path
        for answer in answers[:lowest]:
            assert answer.json()["detail"].startswith(f"expected the role {least} or higher, ")


def test_every_endpoint_takes_a_role_but_those_that_are_named(known):
    open_to_all = {"/login", "/health", "/ready", "/metrics", "/openapi.json"}
    schema = known.openapi()
    stranger = open_client(known)
    for path, methods in schema["paths"].items():
        for method in methods:
            if path in open_to_all or path.startswith(("/ui", "/static")):
                continue
            at = path.replace("{image_id}", "0" * 32).replace("{job_id}", "1").replace("{token_id}", "1")
            at = at.replace("{message_id}", "1").replace("{outbox_id}", "1").replace("{", "").replace("}", "")
            answer = stranger.request(method.upper(), at)
            assert answer.status_code in (401, 422), f"{method} {path}: {answer.status_code}"
            assert answer.status_code == 401 or "{" in path, f"{method} {path}"


def test_a_token_is_shown_once_and_acts_as_its_user(known):
    bob = log_in(known, BOB)
    made = bob.post("/tokens", json={"name": "line-3"}).json()
    secret = made.pop("token")
    assert secret.startswith("unlike_")
    listed = bob.get("/tokens")
    assert listed.json()["items"] == [made]
    assert secret not in listed.text
    program = open_client(known)
    program.headers["Authorization"] = f"Bearer {secret}"
    assert program.get("/me").json() == {"name": BOB, "role": "reviewer", "by": "token", "csrf": ""}
    assert program.get("/users").status_code == 403
    assert program.post("/tokens", json={"name": "more"}).json()["detail"].startswith("a token makes no tokens")
    assert bob.get("/tokens").json()["items"][0]["last_used"] is not None
    with known.state.services.database.readers() as session:
        kept = session.execute(text("SELECT digest FROM tokens")).scalar_one()
    assert secret not in kept
    assert log_in(known, VIC).delete(f"/tokens/{made['id']}").status_code == 404
    assert log_in(known, VIC).get("/tokens").json()["items"] == []
    assert bob.delete(f"/tokens/{made['id']}").json()["revoked"] is True
    assert program.get("/me").status_code == 401


def test_an_admin_makes_tokens_for_others_and_nobody_else_does(known):
    made = log_in(known, ADA).post("/tokens", json={"name": "camera", "user": VIC}).json()
    assert made["user"] == VIC
    answer = log_in(known, BOB).post("/tokens", json={"name": "camera", "user": ADA})
    assert (answer.status_code, answer.json()["detail"]) == (403, "only an admin makes tokens for others")
    answer = log_in(known, BOB).post("/tokens", json={"name": " "})
    assert (answer.status_code, answer.json()["detail"].startswith("token: expected a name")) == (422, True)


def test_a_user_who_is_disabled_is_out_at_once(known):
    ada, vic = log_in(known, ADA), log_in(known, VIC)
    secret = vic.post("/tokens", json={"name": "x"}).json()["token"]
    assert ada.patch(f"/users/{VIC}", json={"disabled": True}).json() == {
        "name": VIC,
        "role": "viewer",
        "disabled": True,
    }
    assert vic.get("/me").status_code == 401
    assert open_client(known).get("/me", headers={"Authorization": f"Bearer {secret}"}).status_code == 401
    assert open_client(known).post("/login", json={"name": VIC, "password": WORDS}).status_code == 401
    assert ada.get("/users").json()["items"][-1] == {"name": VIC, "role": "viewer", "disabled": True}


def test_there_is_always_an_admin(known):
    ada = log_in(known, ADA)
    for change in ({"role": "viewer"}, {"disabled": True}):
        answer = ada.patch(f"/users/{ADA}", json=change)
        assert (answer.status_code, answer.json()["detail"]) == (
            422, "user: ada is the only admin; make another one first",
        )  # fmt: skip
    assert ada.patch(f"/users/{BOB}", json={"role": "admin"}).status_code == 200
    assert ada.patch(f"/users/{ADA}", json={"role": "viewer"}).status_code == 200


def test_a_password_is_changed_by_who_knows_it_and_ends_other_sessions(known):
    one, other = log_in(known, VIC), log_in(known, VIC)
    assert one.post("/me/password", json={"old": "wrong", "new": "other words in a row"}).status_code == 401
    assert one.post("/me/password", json={"old": WORDS, "new": "short"}).status_code == 422
    assert one.post("/me/password", json={"old": WORDS, "new": "other words in a row"}).status_code == 200
    assert other.get("/me").status_code == 401
    log_in(known, VIC, "other words in a row")
    answer = open_client(known).post("/login", json={"name": VIC, "password": WORDS})
    assert answer.status_code == 401


def test_without_users_there_is_no_password_to_change(app):
    answer = open_client(app).post("/me/password", json={"old": "a", "new": "b"})
    assert answer.json() == {"detail": "there are no users yet, so no password; add a user"}


@pytest.mark.parametrize(
    ("new", "words"),
    [
        ({"name": "a b", "password": WORDS}, "expected a name of at most 64 letters"),
        ({"name": "local", "password": WORDS}, "none of local, service, command-line"),
        ({"name": "BOB", "password": WORDS}, "there is one called BOB"),
        ({"name": "eve", "password": "short"}, "at least 10 characters"),
    ],
)
def test_what_is_wrong_with_a_new_user_is_said(known, new, words):
    answer = log_in(known, ADA).post("/users", json={"role": "viewer", **new})
    assert (answer.status_code, words in answer.json()["detail"]) == (422, True), answer.text


def test_who_did_what_is_written_down_and_never_changed(known):
    ada = log_in(known, ADA)
    ada.patch(f"/users/{BOB}", json={"role": "admin", "password": "other words in a row"})
    open_client(known).post("/login", json={"name": "mallory", "password": "guessed"})
    audit = ada.get("/audit").json()
    assert [(row["who"], row["action"]) for row in audit["items"][:2]] == [("", "refused log in"), (ADA, "change user")]
    assert audit["items"][1]["detail"] == {"user": BOB, "password": True, "role": "admin"}
    assert "other words" not in ada.get("/audit").text
    assert "guessed" not in ada.get("/audit").text
    page = ada.get("/audit", params={"limit": 1}).json()
    assert ada.get("/audit", params={"limit": 1, "before": page["next"]}).json()["items"] == audit["items"][1:2]
    assert {row["action"] for row in ada.get("/audit", params={"action": "add user"}).json()["items"]} == {"add user"}
    database = known.state.services.database
    for statement in ("UPDATE audit SET who = 'nobody'", "DELETE FROM audit"):
        with pytest.raises(DatabaseError, match="only added to"), database.sessions.begin() as session:
            session.execute(text(statement))


def test_by_hand_a_lost_password_is_replaced(known, empty):
    url = f"sqlite:///{empty.folder / 'history.sqlite'}"
    old = log_in(known, BOB)
    assert (
        add_user_by_hand(url, BOB, "reviewer", "other words in a row") == "bob is reviewer now, with another password."
    )
    assert old.get("/me").status_code == 401
    secret = add_token_by_hand(url, BOB, "line-3")
    program = open_client(known).get("/me", headers={"Authorization": f"Bearer {secret}"})
    assert program.json()["name"] == BOB
    with pytest.raises(ConfigError, match="user: there is none called 'nobody'"):
        add_token_by_hand(url, "nobody", "x")
    with pytest.raises(ConfigError, match="role: expected viewer, reviewer or admin, came 'king'"):
        add_user_by_hand(url, "eve", "king", WORDS)


def test_a_password_is_taken_from_where_it_is_given(monkeypatch):
    monkeypatch.setenv("UNLIKE_PASSWORD", "from the variable")
    assert ask_password(ADA) == "from the variable"
    monkeypatch.delenv("UNLIKE_PASSWORD")
    monkeypatch.setattr(
        "sys.stdin", type("Pipe", (), {"isatty": lambda self: False, "readline": lambda self: "piped in\n"})()
    )
    assert ask_password(ADA) == "piped in"
    monkeypatch.setattr("sys.stdin", type("Terminal", (), {"isatty": lambda self: True})())
    typed = iter([WORDS, WORDS, WORDS, "something else"])
    monkeypatch.setattr(users.getpass, "getpass", lambda prompt: next(typed))
    assert ask_password(ADA) == WORDS
    with pytest.raises(ConfigError, match="the two differ"):
        ask_password(ADA)


def test_users_are_the_same_on_postgresql(postgresql, tmp_path):
    assert add_user_by_hand(postgresql, ADA, "admin", WORDS) == "ada is admin now."
    database = open_database(postgresql)
    with pytest.raises(DatabaseError, match="only added to"), database.sessions.begin() as session:
        session.execute(text("DELETE FROM audit"))
    database.close()
