"""Jobs: what their processes do, how they end, and what becomes of versions."""

import os
import re
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from fastapi.testclient import TestClient
from hostile import archive
from services import LOCAL, client, folder, png, settings
from sqlalchemy import select, update

from conftest import stripes
from exports import small_detector
from unlike import Detector
from unlike.serving.app import create_app
from unlike.serving.database.engine import default_url
from unlike.serving.database.tables import Job
from unlike.serving.jobs import runner, store, work
from unlike.serving.jobs.evidence import HELD_BACK
from unlike.serving.jobs.worker import ORPHANED, Order, run
from unlike.serving.settings import ServeSettings

LIGHT = {"preset": "autoencoder", "epochs": 1, "size": 32, "false_alarms": 0.1}
FORM = {"name": "bolts", "inspect": "false", **{name: str(value) for name, value in LIGHT.items()}}


@pytest.fixture(autouse=True)
def resting(request, monkeypatch):
    """Jobs wait until a test does them: in this process, where that is quicker."""
    if "processes" not in request.fixturenames:
        monkeypatch.setattr(runner.Jobs, "_work", lambda self: None)


@pytest.fixture
def processes(monkeypatch, tmp_path):
    """Jobs run in processes of their own, which do what a test says."""
    monkeypatch.setattr(runner, "LOOK_SECONDS", 0.1)
    monkeypatch.setattr(runner, "GRACE_SECONDS", 2.0)

    def set_up(code):
        (tmp_path / "stand_in.py").write_text(code)
        monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
        monkeypatch.setattr(runner, "WORKER", "stand_in")

    return set_up


def normals(count=30, seed=3):
    return [(f"{number}.png", png(image)) for number, image in enumerate(stripes(count, seed=seed))]


def files(parts):
    return [("file", part) for part in parts]


def do(client, settings, answer):
    """Do the job that an answer tells of, as its process would; what became of it."""
    assert answer.status_code == 202, answer.text
    job_id = answer.json()["id"]
    with client.app.state.services.database.sessions.begin() as session:
        assert store.take_next(session) == job_id
    run(Order(default_url(settings.folder), str(settings.folder), str(settings.images), job_id))
    with client.app.state.services.catalogue.changing():
        pass
    return client.get(f"/jobs/{job_id}").json()


def review(client, images, anomalous):
    """Have images scored, and say of each what it is."""
    rows = client.post("/detectors/cells/score", files=files(images)).json()["items"]
    for row in rows:
        if row["anomalous"] == anomalous:
            said = {"verdict": "right", "kind": "scratch" if anomalous else ""}
        else:
            said = {"verdict": "missed" if anomalous else "false_alarm", "kind": "scratch" if anomalous else ""}
        answer = client.post(f"/images/{row['id']}/review", json=said)
        assert answer.status_code in (200, 201), answer.text
    return rows


def defects(count=12):
    images = stripes(count, seed=21)
    images[:, 4:14, 6:20] = 255
    return [(f"bad{number}.png", png(image)) for number, image in enumerate(images)]


@pytest.mark.slow
def test_an_upload_becomes_a_first_detector(client, settings):
    answer = client.post("/detectors", data=FORM, files=files([*normals(), ("x.png", b"<svg/>")]))
    assert answer.json()["upload"]["images"] == 30
    assert answer.json()["upload"]["left_out"][0].startswith("x.png is SVG")
    assert answer.json()["state"] == "queued"
    found = do(client, settings, answer)
    assert found["state"] == "done", found
    assert found["message"] == "version 1 scores now"
    assert found["progress"] == 1.0
    assert found["result"]["notes"][0].startswith("Plain folder: 30 unlabelled images")
    bolts = client.get("/detectors/bolts").json()
    assert bolts["version"] == 1
    assert bolts["versions"][0]["figures"]["facts"]["images"]["train"] > 0
    exported = settings.folder / "bolts" / "v0001.export"
    assert (exported / "export.toml").is_file()
    scored = client.post("/detectors/bolts/score", files=files(normals(2, seed=8))).json()["items"]
    assert all(row["score"] > 0 for row in scored)
    assert not (settings.folder / work.WORKSHOPS / str(found["id"])).exists()
    assert client.get("/detectors/bolts/normals").json()["items"][0]["images"] == 30


@pytest.mark.slow
def test_an_upload_is_looked_at_first(client, settings):
    parts = [*normals(), *[(f"copy-{name}", content) for name, content in normals(6)]]
    answer = client.post(
        "/detectors", data={**FORM, "fit": "false", "inspect": "true"}, files=[("file", ("all.zip", archive(*parts)))]
    )
    found = do(client, settings, answer)
    assert (found["kind"], found["state"]) == ("inspect", "done")
    assert found["message"] == "looked at; nothing was fitted"
    titles = [finding["title"] for finding in found["result"]["inspection"]]
    assert len(titles) >= 3
    assert any("36 of 36 images" in line for finding in found["result"]["inspection"] for line in finding["lines"])
    assert client.get("/detectors/bolts").status_code == 404


def test_what_a_fit_would_not_take_is_said_before_it(client, settings):
    parts = [(f"{kind}/{name}", content) for kind in ("broken", "scratched") for name, content in normals(10)]
    answer = client.post("/detectors", data={**FORM, "inspect": "true"}, files=files(parts))
    found = do(client, settings, answer)
    assert found["state"] == "failed"
    assert "look anomalous" in found["message"]
    assert client.get("/detectors/bolts").status_code == 404
    assert str(settings.folder) not in found["message"]


def test_reviewed_images_make_a_candidate_that_is_compared(client, settings):
    client.post("/detectors/cells/normals", files=files(normals(30, seed=5)))
    review(client, normals(24, seed=31), anomalous=False)
    review(client, defects(), anomalous=True)
    body = {"choices": LIGHT, "inspect": False, "export": False, "note": "with what we learned"}
    found = do(client, settings, client.post("/detectors/cells/fit", json=body))
    assert found["state"] == "done", found
    assert found["message"] == "version 2 is a candidate: promote it, or discard it"
    reviewed = found["result"]["reviewed"]
    assert (reviewed["normal"], reviewed["defects"]) == (24, 12)
    comparison = found["result"]["comparison"]
    assert [one["version"] for one in comparison["versions"]] == ["1", "new"]
    assert comparison["images"] == {"normal": reviewed["held_back"], "anomalous": 12}
    assert 0 < reviewed["held_back"] < 24 / HELD_BACK * 2.5
    assert comparison["versions"][1]["gain"]["value"] <= 1
    cells = client.get("/detectors/cells").json()
    assert cells["version"] == 1
    new = next(one for one in cells["versions"] if one["number"] == 2)
    assert (new["state"], new["note"], new["made_by"]) == ("candidate", "with what we learned", "local")
    assert new["figures"]["reviewed"]["auroc"]["value"] <= 1
    added = reviewed["normal"] - reviewed["held_back"]
    assert f"{added} images that were reviewed as normal are added." in found["result"]["notes"]
    again = do(client, settings, client.post("/detectors/cells/compare", json={"versions": [2, 1, 2]}))
    assert [one["version"] for one in again["result"]["comparison"]["versions"]] == ["2", "1"]
    assert again["message"] == f"compared on {12 + reviewed['held_back']} reviewed images"


def test_without_reviewed_images_nothing_is_compared(client, settings):
    found = do(client, settings, client.post("/detectors/cells/compare", json={"versions": [1]}))
    assert (found["state"], found["message"]) == (
        "failed", "No image was reviewed yet, so versions cannot be compared; review some.",
    )  # fmt: skip
    review(client, normals(2), anomalous=False)
    for path in settings.images.rglob("*.png"):
        path.unlink()
    found = do(client, settings, client.post("/detectors/cells/compare", json={"versions": [1]}))
    assert found["message"].startswith(
        "2 images were reviewed, but none of them was kept: start the service with --images DIR"
    )


def test_without_normal_images_a_fit_says_where_they_go(client, settings):
    found = do(client, settings, client.post("/detectors/cells/fit", json={"inspect": False}))
    assert found["state"] == "failed"
    assert found["message"] == (
        "there are no normal images of cells here: upload some by POST /detectors/cells/normals, put them into cells.normals in the "
        "folder of detectors, or review images"
    )


def test_images_that_were_put_there_by_hand_count(client, settings):
    place = settings.folder / "cells.normals"
    place.mkdir()
    for name, content in normals(24):
        (place / name).write_bytes(content)
    found = do(
        client,
        settings,
        client.post("/detectors/cells/fit", json={"inspect": False, "export": False, "choices": LIGHT}),
    )
    assert found["state"] == "done", found
    assert "No image was reviewed yet, so versions cannot be compared; review some." in found["result"]["notes"]


def test_a_threshold_is_drawn_anew(client, settings):
    body = {"false_alarms": 0.2, "export": False}
    found = do(client, settings, client.post("/detectors/cells/calibrate", json=body))
    assert found["state"] == "done", found
    assert found["result"]["promise"]["after"] == pytest.approx(0.2)
    assert found["result"]["threshold"]["after"] < found["result"]["threshold"]["before"]
    assert client.get("/detectors/cells").json()["version"] == 1
    found = do(client, settings, client.post("/detectors/cells/calibrate", json={**body, "promote": True, "drop": 1}))
    assert found["message"] == "version 3 scores now"
    assert client.post("/detectors/cells/score", files=files(normals(1))).json()["items"][0]["version"] == 3


def test_a_threshold_is_drawn_by_reviewed_images(client, settings):
    body = {"reviewed": True, "export": False, "false_alarms": 0.2}
    found = do(client, settings, client.post("/detectors/cells/calibrate", json=body))
    assert found["message"] == "no image was reviewed as normal; review some, or calibrate without `reviewed`"
    review(client, normals(20, seed=31), anomalous=False)
    found = do(client, settings, client.post("/detectors/cells/calibrate", json=body))
    assert found["state"] == "done", found
    assert found["result"]["notes"][0].startswith("Calibrated on 20 reviewed normal images.")
    body = {**body, "version": 2}
    found = do(client, settings, client.post("/detectors/cells/calibrate", json=body))
    assert found["message"].startswith("the detector was fitted on all 20 images that were reviewed as normal")


def test_a_promise_that_cannot_be_held_fails_with_the_reason(client, settings):
    found = do(client, settings, client.post("/detectors/cells/calibrate", json={"false_alarms": 0.001}))
    assert found["state"] == "failed"
    assert "999 are needed" in found["message"]
    assert client.get("/detectors/cells").json()["versions"][0]["number"] == 1


def test_versions_are_promoted_rolled_back_and_discarded(client, settings):
    for share in (0.2, 0.3):
        do(client, settings, client.post("/detectors/cells/calibrate", json={"false_alarms": share, "export": False}))
    post = lambda what, **body: client.post(f"/detectors/cells/{what}", json=body)  # noqa: E731
    assert post("rollback").json() == {"detail": "cells has no earlier version to go back to; see GET /detectors/cells"}
    assert post("promote", version=2, note="better").json() == {
        "detector": "cells", "version": 2, "state": "current", "before": 1,
    }  # fmt: skip
    assert post("promote", version=3).json()["before"] == 2
    assert post("rollback").json()["version"] == 2
    assert post("rollback").json()["version"] == 1
    assert post("rollback").json()["version"] in (2, 3)  # where nothing says better, the newest that has scored
    now = client.get("/detectors/cells").json()["version"]
    answer = post("discard", version=now)
    assert (answer.status_code, answer.json()["detail"]) == (
        409, f"version {now} of cells scores now; promote another one first",
    )  # fmt: skip
    assert post("discard", version=1).json()["state"] == "discarded"
    assert post("promote", version=1).status_code == 404
    assert post("discard", version=9).status_code == 404
    assert client.post("/detectors/none/promote", json={"version": 1}).status_code == 404
    actions = [row["action"] for row in client.get("/audit").json()["items"]]
    assert actions[:2] == ["discard", "roll back"]
    assert actions.count("promote") == 2


def test_a_job_that_has_not_begun_is_cancelled(client):
    job = client.post("/detectors/cells/calibrate", json={}).json()
    answer = client.post(f"/jobs/{job['id']}/cancel").json()
    assert (answer["state"], answer["message"]) == ("interrupted", "cancelled by local")
    answer = client.post(f"/jobs/{job['id']}/cancel")
    assert answer.status_code == 409
    assert answer.json()["detail"].endswith("is interrupted already; there is nothing to cancel")
    assert client.get("/jobs", params={"state": "interrupted"}).json()["items"][0]["id"] == job["id"]
    assert client.get("/jobs/999").status_code == 404


def test_a_job_that_was_cancelled_while_it_ran_leaves_no_version(client, settings):
    answer = client.post("/detectors/cells/calibrate", json={"export": False})
    job_id = answer.json()["id"]
    database = client.app.state.services.database
    with database.sessions.begin() as session:
        store.take_next(session)
        store.cancel(session, job_id, "ann")
    run(Order(default_url(settings.folder), str(settings.folder), None, job_id))
    assert client.get(f"/jobs/{job_id}").json()["message"] == "cancelled by ann"
    assert len(client.get("/detectors/cells").json()["versions"]) == 1


def test_too_many_jobs_are_refused(client, monkeypatch):
    monkeypatch.setattr(store, "MOST_WAITING", 2)
    said = [client.post("/detectors/cells/calibrate", json={}) for _ in range(3)]
    assert [one.status_code for one in said] == [202, 202, 503]
    assert said[2].headers["retry-after"] == "60"


def test_what_ran_when_the_service_stopped_goes_on_or_is_given_up(client):
    database = client.app.state.services.database
    job_id = client.post("/detectors/cells/calibrate", json={}).json()["id"]
    for restart in range(1, store.MOST_RESTARTS + 2):
        with database.sessions.begin() as session:
            assert store.take_next(session) == job_id
        with database.sessions.begin() as session:
            told = store.recover(session)
        if restart <= store.MOST_RESTARTS:
            assert told == [f"Job {job_id} (calibrate): the service was restarted; goes on from what is kept."]
    found = client.get(f"/jobs/{job_id}").json()
    assert found["state"] == "interrupted"
    assert found["message"] == "the service stopped 4 times while this ran; it is not tried again"


def test_a_fit_goes_on_from_what_it_had_made(client, settings):
    """Killed after the fit, and before the database knew of it: nothing is fitted again."""
    job_id = client.post("/detectors/cells/fit", json={"export": False}).json()["id"]
    small_detector().save(settings.folder / work.WORKSHOPS / str(job_id) / "detector")
    with client.app.state.services.database.sessions.begin() as session:
        session.execute(update(Job).where(Job.id == job_id).values(result={"notes": ["found before"]}))
        store.take_next(session)
    run(Order(default_url(settings.folder), str(settings.folder), None, job_id))
    found = client.get(f"/jobs/{job_id}").json()
    assert found["message"].startswith("version 2 is a candidate")
    assert found["result"]["notes"][0] == "found before"


def test_an_error_that_nobody_expected_says_nothing_of_itself(client, settings, monkeypatch, capfd):
    def fail(work):
        raise ValueError("a secret of the code")

    monkeypatch.setitem(work.KINDS, "calibrate", fail)
    found = do(client, settings, client.post("/detectors/cells/calibrate", json={}))
    assert found["message"] == "an error that nobody expected (ValueError); the log of the service says where"
    assert "a secret of the code" in capfd.readouterr().err
    monkeypatch.setitem(work.KINDS, "calibrate", lambda work: (_ for _ in ()).throw(MemoryError))
    found = do(client, settings, client.post("/detectors/cells/calibrate", json={}))
    assert found["message"] == "there is not enough memory; fit on fewer images, or at a smaller size"


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        ({"choices": {"preset": "nonesuch"}}, 422, "unknown preset"),
        ({"uploads": ["20200101"]}, 422, "cells has no upload '20200101'"),
        ({"choices": {"epochs": 3}}, 422, "training.epochs"),
    ],
)
def test_what_cannot_be_fitted_is_refused_at_once(client, body, status, words):
    answer = client.post("/detectors/cells/fit", json=body)
    assert (answer.status_code, words in answer.json()["detail"]) == (status, True), answer.text


@pytest.mark.parametrize(
    ("form", "words"),
    [
        ({"false_alarms": "often"}, "false_alarms"), ({"name": "../x"}, "cannot be the name of a detector"),
        ({"name": ""}, "cannot be the name of a detector"), ({"preset": "nonesuch"}, "unknown preset"), ({"size": "1"}, "size"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_an_upload_is_said(client, form, words):
    answer = client.post("/detectors", data={**FORM, **form}, files=files(normals(2)))
    assert (answer.status_code, words in answer.json()["detail"]) == (422, True), answer.text
    assert client.get("/jobs").json()["items"] == []


def test_an_upload_without_images_is_refused_and_leaves_nothing(client, settings):
    answer = client.post("/detectors", data=FORM)
    assert (answer.status_code, "came none" in answer.json()["detail"]) == (422, True)
    answer = client.post("/detectors", data=FORM, files=files([("a.png", b"<html>")]))
    assert answer.json()["detail"].startswith("no image of the upload can be taken: a.png is HTML")
    answer = client.post("/detectors", data=FORM, files=files([*normals(3), ("a.zip", archive(("../x.png", b"")))]))
    assert (answer.status_code, "leads out" in answer.json()["detail"]) == (422, True)
    assert not (settings.folder / "bolts.normals").exists()


def test_uploads_are_listed_and_removed(client, settings):
    twice = client.post(
        "/detectors/cells/normals", files=files([*normals(2), ("0.png", normals(1, seed=9)[0][1])])
    ).json()
    assert twice["images"] == 3
    assert (settings.folder / "cells.normals" / twice["upload"] / "0 (2).png").is_file()
    odd = client.post("/detectors/cells/normals", files=files([("scan", normals(1)[0][1])])).json()
    assert (settings.folder / "cells.normals" / odd["upload"] / "scan.png").is_file()
    assert client.delete(f"/detectors/cells/normals/{twice['upload']}").status_code == 200
    assert [one["upload"] for one in client.get("/detectors/cells/normals").json()["items"]] == [odd["upload"]]
    assert client.delete("/detectors/cells/normals/..").status_code in (404, 405)
    assert client.delete("/detectors/cells/normals/%2e%2e%2fcells.unlike").status_code == 404
    client.delete(f"/detectors/cells/normals/{odd['upload']}")
    assert not (settings.folder / "cells.normals").exists()


def test_only_who_started_a_job_or_an_admin_cancels_it(client):
    database = client.app.state.services.database
    with database.sessions.begin() as session:
        job = store.put_in_line(session, "calibrate", 1, {}, "ann")
    assert client.post(f"/jobs/{job.id}/cancel").json()["state"] == "interrupted"  # by local, an admin
    with database.readers() as session:
        assert session.scalar(select(Job.by).where(Job.id == job.id)) == "ann"


SLEEP = "import sys, time; sys.stdin.readline(); open({mark!r}, 'w').write('x'); time.sleep(60)"


def wait_for(client, job_id, *states):
    for _ in range(600):
        found = client.get(f"/jobs/{job_id}").json()
        if found["state"] in states:
            return found
        time.sleep(0.05)
    raise AssertionError(found)


@pytest.mark.slow
def test_a_job_runs_in_a_process_of_its_own(processes, client):
    """The real one, once."""
    job_id = client.post("/detectors/cells/calibrate", json={"false_alarms": 0.2, "export": False}).json()["id"]
    for _ in range(10):
        found = wait_for(client, job_id, "done", "failed", "running")
        if found["state"] != "running":
            break
        found = wait_for(client, job_id, "done", "failed")
    assert (found["state"], found["message"]) == ("done", "version 2 is a candidate: promote it, or discard it")
    assert found["started_at"] < found["finished_at"]


def test_a_process_that_is_cancelled_is_ended(processes, client, tmp_path):
    mark = tmp_path / "begun"
    processes(SLEEP.format(mark=str(mark)))
    job_id = client.post("/detectors/cells/calibrate", json={}).json()["id"]
    wait_for(client, job_id, "running")
    while not mark.exists():
        time.sleep(0.05)
    started = time.monotonic()
    assert client.post(f"/jobs/{job_id}/cancel").json()["state"] == "interrupted"
    following = client.post("/detectors/cells/calibrate", json={}).json()["id"]
    wait_for(client, following, "running")  # it is its turn, for the first one's process is gone
    assert time.monotonic() - started < 20


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (
            "import os, signal; os.kill(os.getpid(), signal.SIGKILL)",
            "the process was killed, perhaps for want of memory",
        ),
        ("import os, signal; os.kill(os.getpid(), signal.SIGTERM)", "the process was ended by signal 15"),
        ("raise SystemExit(7)", r"the process ended before the job did \(exit code 7\)"),
    ],
)
def test_a_process_that_dies_is_no_riddle(processes, client, code, words):
    processes(code)
    found = wait_for(client, client.post("/detectors/cells/calibrate", json={}).json()["id"], "failed")
    assert re.match(words, found["message"])


def test_a_job_whose_service_stops_waits_for_the_next(processes, client, settings, tmp_path):
    mark = tmp_path / "begun"
    processes(SLEEP.format(mark=str(mark)))
    job_id = client.post("/detectors/cells/calibrate", json={}).json()["id"]
    while not mark.exists():
        time.sleep(0.05)
    client.app.state.services.jobs.stop()
    mark.unlink()
    with TestClient(create_app(settings), base_url="http://127.0.0.1:8000", client=LOCAL) as again:
        wait_for(again, job_id, "queued", "running")
        while not mark.exists():
            time.sleep(0.05)
        assert again.get(f"/jobs/{job_id}").json()["state"] == "running"


@pytest.mark.slow
def test_a_process_ends_when_its_service_is_gone(tmp_path):
    """The pipe closes, however the service came to its end."""
    code = "import unlike.serving.jobs.worker as w, time; w.run = lambda order: time.sleep(60); w.main()"
    process = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE)
    process.stdin.write(Order("sqlite://", str(tmp_path), None, 1).line())
    process.stdin.close()
    assert process.wait(60) == ORPHANED
