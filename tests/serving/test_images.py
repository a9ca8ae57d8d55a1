"""The history by HTTP: pages, pictures, reviews; health and figures."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest
from fastapi.testclient import TestClient
from services import LOCAL, client, folder, pngs, settings

from exports import small_detector, strange
from unlike.serving.app import create_app


@pytest.fixture
def rows(client):
    files = [("file", (f"{n}.png", content)) for n, content in enumerate(pngs(6))]
    return client.post("/detectors/cells/score", files=files).json()["items"]


def test_the_history_is_listed_and_filtered(client, rows):
    everything = client.get("/images?limit=4").json()
    more = client.get("/images", params={"limit": 4, "cursor": everything["next"]}).json()
    assert {row["id"] for row in everything["items"] + more["items"]} == {row["id"] for row in rows}
    assert more["next"] is None
    odd = client.get("/images?verdict=anomalous&detector=cells").json()["items"]
    assert {row["id"] for row in odd} == {row["id"] for row in rows if row["anomalous"]}
    assert client.get(f"/images/{rows[0]['id']}").json() == rows[0]
    assert client.get("/images", params={"to": "2020-01-01T00:00:00Z"}).json()["items"] == []


@pytest.mark.parametrize(
    ("query", "status", "message"),
    [
        ("detector=none", 404, "there is no detector 'none'"),
        ("cursor=xyz", 422, "cursor: expected the `next` of the page before it"),
        ("verdict=odd", 422, "anomalous"),
        ("limit=0", 422, "limit"),
    ],
)
def test_wrong_questions_are_refused(client, query, status, message):
    told = client.get(f"/images?{query}")
    assert told.status_code == status
    assert message in told.text


def test_pictures_of_an_image(client, rows):
    pictures = {}
    for which in ("image", "overlay"):
        answer = client.get(rows[0][which], params={"side": 24})
        assert answer.headers["content-type"] == "image/png"
        pictures[which] = cv2.imdecode(np.frombuffer(answer.content, np.uint8), cv2.IMREAD_COLOR)
        assert pictures[which].shape == (24, 24, 3)
    assert (pictures["image"] != pictures["overlay"]).any()
    answer = client.get(rows[0]["map"])
    found = cv2.imdecode(np.frombuffer(answer.content, np.uint8), cv2.IMREAD_UNCHANGED)
    batch = next(small_detector().stream(strange(6)[:1]))
    assert found.shape == (32, 32)
    np.testing.assert_allclose(found, np.broadcast_to(batch.maps[0], (32, 32)), rtol=1e-4)  # of one position


def test_an_overlay_needs_no_kept_map(client, rows):
    kept = client.get(rows[0]["overlay"]).content
    store = client.app.state.services.store
    store._place("maps", rows[0]["id"]).with_suffix(".npz").unlink()
    assert client.get(rows[0]["overlay"]).content == kept


def test_nearest_normal_images_are_named(client, rows):
    found = client.get(f"/images/{rows[0]['id']}/nearest").json()["items"]
    assert len(found) == 3
    assert all(one["picture"] is None or one["picture"].startswith("data:image/") for one in found)


def test_without_images_there_are_no_pictures(settings):
    app = create_app(replace(settings, images=None))
    with TestClient(app, base_url="http://127.0.0.1:8000", client=LOCAL) as client:
        row = client.post("/detectors/cells/score?name=a.png", content=pngs(1)[0]).json()["items"][0]
        assert (row["image"], row["map"], row["overlay"]) == (None, None, None)
        for which in ("image", "map", "overlay", "nearest"):
            told = client.get(f"/images/{row['id']}/{which}")
            assert (told.status_code, told.json()["detail"]) == (404, "the image was not kept; start the service with --images DIR to keep what comes")  # fmt: skip


def test_an_image_that_is_gone_or_broken_is_said(client, rows):
    path = client.app.state.services.store.find(rows[0]["id"])
    path.write_bytes(b"no image")
    told = client.get(rows[0]["image"])
    assert (told.status_code, told.json()["detail"]) == (404, "the image was kept, but cannot be read any more")
    assert client.get(f"/images/{'0' * 32}").json()["detail"] == "there is no image of that id"


def test_a_review_is_kept_shown_and_found(client, rows):
    odd = next(row for row in rows if row["anomalous"])
    told = client.post(f"/images/{odd['id']}/review", json={"verdict": "right", "kind": "scratch", "note": "left"})
    review = told.json()["review"]
    assert (review["verdict"], review["kind"], review["note"], review["by"]) == ("right", "scratch", "left", "local")
    assert [row["id"] for row in client.get("/images?reviewed=true").json()["items"]] == [odd["id"]]
    assert len(client.get("/images?reviewed=false").json()["items"]) == len(rows) - 1
    refused = client.post(f"/images/{odd['id']}/review", json={"verdict": "missed"})
    assert refused.status_code == 422
    assert "was called anomalous, so it was not missed" in refused.json()["detail"]


def test_detectors_are_listed(client):
    found = client.get("/detectors").json()["items"]
    assert [(one["name"], one["version"]) for one in found] == [("cells", 1)]
    assert client.get("/detectors/cells").json() == found[0]
    assert client.get("/detectors/none").status_code == 404


def test_health_and_figures(client, rows):
    assert client.get("/health").json()["status"] == "alive"
    assert client.get("/ready").json() == {"status": "ready"}
    client.get("/images/x")
    told = client.get("/metrics").text
    odd = sum(row["anomalous"] for row in rows)
    assert f'unlike_images_total{{detector="cells",verdict="anomalous"}} {float(odd)}' in told
    assert 'unlike_refused_total{status="422"} 1.0' in told
    assert 'unlike_request_seconds_count{route="/detectors/{name}/score"} 1.0' in told
    assert "unlike_requests_taken_on 0.0" in told


def test_an_image_that_cannot_be_scored_stands_in_the_history(client):
    from services import png

    broken = pngs(1)[0][:300]
    good = png(strange(1)[0])
    rows = client.post("/detectors/cells/score", files=[("file", ("b.png", broken)), ("file", ("g.png", good))]).json()[
        "items"
    ]
    assert rows[0]["error"]
    assert rows[0]["score"] is None
    assert rows[1]["error"] is None
    again = client.get("/images").json()["items"]
    assert {row["name"] for row in again} == {"b.png", "g.png"}
    told = client.post(f"/images/{rows[0]['id']}/review", json={"verdict": "right"})
    assert "this image could not be scored" in told.json()["detail"]
