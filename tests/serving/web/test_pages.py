"""The pages without a browser: what they show, whom they let in, and how they refuse."""

import pytest
from services import client, folder, pngs, settings

from unlike.serving.security.users import add_user

PAGES = (
    "",
    "detectors",
    "detectors/cells",
    "detectors/cells/threshold",
    "detectors/cells/drift",
    "new",
    "jobs",
    "connections",
    "people",
    "account",
)
PASSWORD = "a long enough password"


def score(client, images, name="part.png"):
    answer = client.post("/detectors/cells/score", files=[("file", (name, one)) for one in images])
    return answer.json()["items"]


@pytest.mark.parametrize("page", PAGES)
def test_pages_have_no_script_or_style_in_them_and_load_only_what_is_here(client, page):
    score(client, pngs(4))
    answer = client.get(f"/ui/{page}")
    assert answer.status_code == 200, answer.text
    assert " style=" not in answer.text
    assert "<style" not in answer.text
    assert " onclick=" not in answer.text
    assert answer.text.count("<script") == answer.text.count("<script src=") + answer.text.count(
        '<script type="module" src='
    )
    assert 'src="http' not in answer.text
    assert "script-src 'self'" in answer.headers["content-security-policy"]


def test_the_root_leads_to_the_list_and_static_files_may_be_kept(client):
    assert client.get("/", follow_redirects=False).headers["location"] == "/ui/"
    text = client.get("/ui/").text
    place = text.split('rel="stylesheet" href="')[1].split('"')[0]
    style = client.get(place)
    assert style.headers["content-type"].startswith("text/css")
    assert "immutable" in style.headers["cache-control"]
    assert client.get("/ui/static/1/passwords.py").status_code == 404


@pytest.mark.parametrize(
    ("page", "status", "said"),
    [
        ("images/" + "0" * 32, 404, "there is no image of that id"),
        ("images/x", 422, "has a part that is not understood"),
        ("detectors/bolts", 404, "there is no detector &#39;bolts&#39;"),
        ("detectors/bolts/threshold", 404, "there is no detector"),
        ("jobs/9", 404, "there is no job 9"),
        ("?verdict=odd", 422, "this filter is not understood"),
        ("?from=monday", 422, "a day is expected as 2026-01-31"),
        ("cards?after=soon", 422, "expected a time in ISO 8601"),
        ("nowhere", 404, "there is no such page"),
    ],
)
def test_a_refusal_is_a_page_that_says_why(client, page, status, said):
    answer = client.get(f"/ui/{page}")
    assert answer.status_code == status
    assert said in answer.text
    assert answer.headers["content-type"].startswith("text/html")


def test_what_comes_from_outside_is_shown_as_it_is(client):
    score(client, pngs(1), name="<script>alert(1)</script>.png")
    text = client.get("/ui/").text
    assert "<script>alert" not in text
    assert "&lt;script&gt;alert" in text


def test_strangers_are_sent_to_the_login_and_come_back(client):
    services = client.app.state.services
    with services.database.sessions.begin() as session:
        add_user(session, "ada", PASSWORD, "admin")
        add_user(session, "vera", PASSWORD, "viewer")
    services.security.added_user()
    answer = client.get("/ui/?verdict=normal", follow_redirects=False)
    assert answer.status_code == 303
    assert answer.headers["location"] == "/ui/login?after=%2Fui%2F%3Fverdict%3Dnormal"
    assert 'data-go="/ui/"' in client.get("/ui/login?after=//evil.example").text
    client.post("/login", json={"name": "vera", "password": PASSWORD})
    assert client.get("/ui/login?after=/ui/jobs", follow_redirects=False).headers["location"] == "/ui/jobs"
    refused = client.get("/ui/people")
    assert refused.status_code == 403
    assert "this page is for the role admin or higher, and vera is viewer" in refused.text
    assert 'name="csrf"' in client.get("/ui/").text


def test_the_next_to_review_is_the_newest_then_older_ones_then_the_list(client):
    rows = score(client, pngs(4))
    flagged = [row["id"] for row in client.get("/images?verdict=anomalous").json()["items"]]
    first = client.get("/ui/review?verdict=anomalous", follow_redirects=False).headers["location"]
    assert first == f"/ui/images/{flagged[0]}?verdict=anomalous"
    assert f"/ui/images/{flagged[1]}?" in client.get(first).text
    for row in rows:
        client.post(f"/images/{row['id']}/review", json={"verdict": "right"})
    assert client.get("/ui/review", follow_redirects=False).headers["location"] == "/ui/?reviewed=false"
    assert "all others are reviewed" in client.get(first).text


def test_cards_that_came_after_a_time(client):
    rows = score(client, pngs(2))
    after = client.get("/images").json()["items"][0]["received_at"]
    text = client.get("/ui/cards", params={"after": after}).text
    assert all(row["id"] in text for row in rows)
    assert "<li" not in client.get("/ui/cards", params={"after": "2100-01-01T00:00:00"}).text


def test_the_first_fit_of_a_detector_takes_an_upload_and_an_admin(client):
    answer = client.post("/detectors/bolts/fit", json={})
    assert answer.status_code == 404
    assert "there is no detector 'bolts'" in answer.json()["detail"]
