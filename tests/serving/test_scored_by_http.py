"""The way of an image through the service: equal to `unlike score`, once, bounded, and refused in a sentence."""

from __future__ import annotations

import io
import json
import threading
import zipfile
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
from fastapi.testclient import TestClient
from services import LOCAL, client, folder, png, pngs, settings
from sqlalchemy import text
from sqlalchemy.exc import OperationalError

from exports import small_detector, small_export, strange
from unlike.errors import OutputError, ServiceError
from unlike.serving.app import create_app
from unlike.serving.inference import Inference, score_reads
from unlike.serving.settings import ServeSettings

SCORE = "/detectors/cells/score"


def served(settings):
    return TestClient(
        create_app(settings), base_url="http://127.0.0.1:8000", client=LOCAL, raise_server_exceptions=False
    )


def send(client, contents, **more):
    return client.post(SCORE, files=[("file", (f"{n}.png", content)) for n, content in enumerate(contents)], **more)


def score_by_hand(tmp_path, contents):
    """What `unlike score` says of the same files."""
    from unlike.cli.app import run

    place = tmp_path / "by hand"
    place.mkdir()
    for number, content in enumerate(contents):
        (place / f"{number}.png").write_bytes(content)
    small_detector().save(tmp_path / "hand.unlike")
    out = tmp_path / "rows.jsonl"
    assert run(["score", str(tmp_path / "hand.unlike"), str(place), "-o", str(out), "--format", "jsonl"]) == 0
    return {row["id"]: row for row in map(json.loads, out.read_text().splitlines())}


@pytest.mark.parametrize("exported", [False, True])
def test_scores_are_those_of_the_command_line(settings, folder, tmp_path, exported):
    if exported:
        (folder / "cells.unlike.export").symlink_to(small_export())
    contents = [*pngs(5), png(np.full((40, 50, 3), 90, np.uint8))]  # one of another size
    expected = score_by_hand(tmp_path, contents)
    with served(settings) as client:
        rows = send(client, contents).json()["items"]
        runtime = client.app.state.services.scoring.runner_of(rows[0]["id"]).runtime
    assert runtime == ("onnx" if exported else "torch")
    for row in rows:
        same = expected[row["name"]]
        assert row["score"] == pytest.approx(same["score"], rel=1e-5)
        assert (row["threshold"], row["p_value"], row["anomalous"]) == (
            same["threshold"],
            same["p_value"],
            same["anomalous"],
        )
        assert [{**one, "peak": 0} for one in row["regions"]] == [{**one, "peak": 0} for one in same["regions"]]


def test_form_raw_and_zip_say_the_same(client):
    contents = pngs(3)
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for number, content in enumerate(contents):
            archive.writestr(f"shots/{number}.png", content)
        archive.writestr("notes.txt", "no image")
    form = send(client, contents, data={"client_id": "form"}).json()["items"]
    zipped = client.post(SCORE, files={"file": ("x.zip", packed.getvalue())}, data={"client_id": "zip"}).json()["items"]
    raw = [
        client.post(f"{SCORE}?client_id=raw&name={n}.png", content=content).json()["items"][0]
        for n, content in enumerate(contents)
    ]
    scores = [[row["score"] for row in rows] for rows in (form, zipped, raw)]
    assert scores[0] == pytest.approx(scores[1])
    assert scores[0] == pytest.approx(scores[2])
    assert [row["name"] for row in zipped] == ["shots/0.png", "shots/1.png", "shots/2.png"]
    assert {row["client_id"] for row in raw} == {"raw"}
    assert len(client.get("/images").json()["items"]) == 9


def test_the_same_content_and_client_id_is_counted_once(client):
    content = pngs(1)[0]
    with ThreadPoolExecutor(8) as pool:  # also at the same moment
        rows = [one.json()["items"][0] for one in pool.map(lambda _: send(client, [content]), range(8))]
    again = client.post(f"{SCORE}?name=other.png", content=content).json()["items"][0]
    other = send(client, [content], data={"client_id": "camera 2"}).json()["items"][0]
    assert len({(row["id"], row["received_at"]) for row in [*rows, again]}) == 1
    assert other["id"] != again["id"]
    assert len(client.get("/images").json()["items"]) == 2
    assert client.app.state.services.database.readers().scalar(text("SELECT count(*) FROM images")) == 2


def test_each_file_may_have_a_client_id_of_its_own(client):
    rows = send(client, pngs(2), data={"client_id": ["a", "b"]}).json()["items"]
    assert [row["client_id"] for row in rows] == ["a", "b"]
    told = send(client, pngs(3), data={"client_id": ["a", "b"]})
    assert (told.status_code, told.json()["detail"]) == (
        422,
        "client_id: expected one, or one for each of 3 files, came 2",
    )
    told = send(client, pngs(1), data={"client_id": "x" * 201})
    assert (told.status_code, told.json()["detail"]) == (422, "client_id: expected up to 200 characters")


def test_of_several_images_one_that_is_none_stops_nothing(client):
    rows = send(client, [pngs(1)[0], b"<svg/>", pngs(2)[1][:200]]).json()["items"]
    assert [row["error"] is None for row in rows] == [True, False, False]
    assert "SVG" in rows[1]["error"]
    assert rows[1]["id"] is None
    assert "detail" not in rows[0]
    assert rows[2]["score"] is None


def test_one_that_comes_alone_is_refused(client):
    for content, status, message in (
        (b"<html>", 415, "is HTML and no picture"),
        (b"", 422, "is empty"),
        (pngs(1)[0][:200], 422, "0.png"),
    ):
        told = send(client, [content])
        assert told.status_code == status
        assert message in told.json()["detail"]


def test_what_is_no_image_form_or_detector_is_refused(client):
    none = client.post(SCORE, files={"image": ("a.png", pngs(1)[0])})
    assert (none.status_code, none.json()["detail"]) == (
        422,
        "expected a form with a field `file`, once for each image; came none",
    )
    nobody = client.post("/detectors/nobody/score", files={"file": pngs(1)[0]})
    assert (nobody.status_code, nobody.json()["detail"]) == (404, "there is no detector 'nobody'; those here: cells")


def test_more_requests_than_are_taken_on_are_told_to_come_back(settings):
    with served(replace(settings, queue=1, retry_seconds=3)) as client:
        scoring = client.app.state.services.scoring
        held, real = Future(), scoring._prepare
        began = threading.Event()

        def prepare(*arguments):
            began.set()
            held.result(timeout=60)
            return real(*arguments)

        scoring._prepare = prepare
        with ThreadPoolExecutor(1) as pool:
            first = pool.submit(send, client, pngs(1))
            assert began.wait(60)
            told = send(client, pngs(2)[1:])
            ready = client.get("/ready")
            held.set_result(None)
            assert first.result(timeout=60).status_code == 200
        assert (told.status_code, told.headers["retry-after"]) == (503, "3")
        assert told.json()["detail"] == "the service is busy with 1 requests; send it again in a moment"
        assert ready.status_code == 503
        assert send(client, pngs(2)[1:]).status_code == 200
        assert client.get("/ready").status_code == 200


def test_few_images_are_in_memory_however_many_are_sent(settings):
    with served(replace(settings, batch=1)) as client:
        scoring = client.app.state.services.scoring
        room, least = scoring._slots._value, []
        real = scoring._prepare

        def prepare(*arguments):
            least.append(scoring._slots._value)
            return real(*arguments)

        scoring._prepare = prepare
        assert len(send(client, pngs(30)).json()["items"]) == 30
        assert scoring._slots._value == room
    assert min(least) >= 0
    assert room < 12


class Broken:
    """Fails as a database does that is away, until it is mended."""

    def __init__(self, real, error):
        self.real, self.error = real, error

    def begin(self):
        if self.error is not None:
            raise self.error
        return self.real.begin()


def test_a_database_that_is_away_is_said_and_found_again(client):
    services = client.app.state.services
    broken = Broken(services.recorder._database.sessions, OperationalError("", {}, Exception("database is locked")))
    services.recorder._database = replace(services.database, sessions=broken)
    told = send(client, pngs(3))
    assert (told.status_code, told.json()["detail"]) == (
        503,
        "the database cannot be reached or is full; send it again later",
    )
    assert "retry-after" in told.headers
    assert client.get("/images").json()["items"] == []
    broken.error = None
    assert send(client, pngs(3)).status_code == 200
    assert len(client.get("/images").json()["items"]) == 3


def test_a_full_disk_is_said_and_survived(client, monkeypatch):
    store = client.app.state.services.store

    def keep(*_):
        raise OutputError("images/7f.png: cannot be written (No space left on device)")

    with monkeypatch.context() as full:
        full.setattr(type(store), "keep", keep)
        told = send(client, pngs(1))
    assert (told.status_code, told.json()["detail"]) == (
        503,
        "the disk is full or cannot be written; send it again later",
    )
    assert client.get("/images").json()["items"] == []
    assert send(client, pngs(1)).status_code == 200


def test_a_fault_says_nothing_of_itself(client, monkeypatch):
    def fail(*_):
        raise ZeroDivisionError("a secret")

    monkeypatch.setattr(type(client.app.state.services.scoring), "_keep", fail)
    told = send(client, pngs(1))
    assert told.status_code == 500
    assert told.json()["detail"].startswith("the service made a mistake, which stands in its log")
    assert "secret" not in told.text


def test_a_detector_that_is_not_what_was_taken_in_is_refused(client, folder):
    (folder / "cells.unlike" / "checksums.sha256").write_text("x")
    told = send(client, pngs(1))
    assert told.status_code == 409
    assert (
        "cells, version 1, cannot be used: its folder is not what was taken in; start the service again"
        in told.json()["detail"]
    )


def test_micro_batches_give_each_image_the_score_it_has_alone():
    from unlike.data.batches import read_one
    from unlike.detector.pipeline import score_pixels
    from unlike.records import Sample
    from unlike.runtime.streams import score_batches
    from unlike.serving.catalogue import Runner

    fitted = small_detector().fitted_
    sizes = []

    def see(batch):
        sizes.append(len(batch.samples))
        return next(
            score_batches(
                [batch], lambda pixels, missing: score_pixels(fitted.pipeline, pixels, fitted.spec.value_range, missing)
            )
        )

    runner = Runner(fitted, "first", see, "torch")
    reads = [read_one(Sample("same name"), lambda image=image: image, fitted.spec) for image in strange(12)]
    alone = [score_reads(runner, [read])[0].verdict.score for read in reads]
    sizes.clear()
    inference = Inference(batch=4, most=12)
    waiting = [inference.submit(runner, read) for read in reads]
    with pytest.raises(ServiceError, match="the service is busy; send the image again in a moment"):
        inference.submit(runner, reads[0])
    inference.start()
    together = [one.result(timeout=20).verdict.score for one in waiting]
    inference.stop()
    assert together == pytest.approx(alone, rel=1e-5)
    assert sizes == [4, 4, 4]
    with pytest.raises(ServiceError, match="the service is busy"):
        inference.submit(runner, reads[0])


def test_a_detector_that_fails_is_told_to_who_waits_and_the_thread_goes_on():
    from unlike.serving.catalogue import Runner

    runner = Runner(None, "first", None, "torch")
    inference = Inference()
    inference.start()
    found = [inference.submit(runner, None) for _ in range(2)]
    assert all(one.exception(timeout=20) is not None for one in found)
    inference.stop()


@pytest.mark.parametrize("kind", ["application/octet-stream", "multipart/form-data; boundary=x"])
def test_who_sends_too_slowly_gives_the_place_to_others(settings, kind):
    import asyncio

    import httpx

    app = create_app(replace(settings, body_seconds=0.05))

    async def slowly():
        yield b"--x\r\n"
        await asyncio.sleep(30)

    async def ask():
        transport = httpx.ASGITransport(app, client=LOCAL)
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8000") as client:
            return await client.post(SCORE, content=slowly(), headers={"content-type": kind})

    told = asyncio.run(ask())
    app.state.services.database.close()
    assert (told.status_code, told.json()["detail"]) == (
        408,
        "the request did not arrive within 0.05 seconds; send it in parts",
    )
    assert app.state.services.scoring.requests == 0
