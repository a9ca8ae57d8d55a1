import sqlite3
import threading
import zipfile

import pytest
from fastapi.testclient import TestClient
from services import LOCAL, client, folder, pngs, settings

from unlike.errors import ConfigError, OutputError
from unlike.serving.app import create_app
from unlike.serving.backup import write_backup
from unlike.serving.database.engine import default_url
from unlike.serving.settings import ServeSettings


def score(client, name, content):
    answer = client.post("/detectors/cells/score", files={"file": (name, content)})
    assert answer.status_code == 200, answer.text
    return answer.json()["items"][0]


def test_what_is_unpacked_is_the_service_again(client, settings, tmp_path):
    rows = [score(client, f"{n}.png", content) for n, content in enumerate(pngs(4))]
    client.post("/detectors/cells/normals", files={"file": ("a.png", pngs(1)[0])})
    client.post(f"/images/{rows[0]['id']}/review", json={"verdict": "right", "kind": "", "note": ""})
    (settings.folder / ".jobs" / "7").mkdir(parents=True)
    (settings.folder / ".jobs" / "7" / "training").write_bytes(b"x")
    target = tmp_path / "backups" / "all.zip"
    told = write_backup(default_url(settings.folder), settings.folder, settings.images, target)  # while it runs
    assert told[0].startswith(f"Backup: {target}, ")
    assert len(told) == 1
    with zipfile.ZipFile(target) as archive:
        assert archive.testzip() is None
        names = archive.namelist()
        archive.extractall(tmp_path / "again")
    assert not any(".jobs" in name or name.startswith("/") for name in names)
    assert [path.name for path in target.parent.iterdir()] == ["all.zip"]

    again = ServeSettings(tmp_path / "again", images=tmp_path / "again" / "images")
    with TestClient(create_app(again), base_url="http://127.0.0.1:8000", client=LOCAL) as restored:
        kept = restored.get("/images").json()["items"]
        assert {row["id"]: row["score"] for row in kept} == {row["id"]: row["score"] for row in rows}
        assert restored.get(f"/images/{rows[0]['id']}").json()["review"]["verdict"] == "right"
        assert restored.get(f"/images/{rows[1]['id']}/image").status_code == 200
        assert restored.get("/detectors/cells/normals").json() == client.get("/detectors/cells/normals").json()
        actions = [row["action"] for row in restored.get("/audit").json()["items"]]
        assert actions == ["review", "upload normal images"]
        repeat = score(restored, "0.png", pngs(4)[0])
        assert (repeat["id"], repeat["score"]) == (rows[0]["id"], rows[0]["score"])
        assert len(restored.get("/images").json()["items"]) == 4


def test_a_backup_is_of_one_moment_while_images_come(client, settings, tmp_path):
    stopping = threading.Event()
    contents = pngs(40)

    def send():
        for number, content in enumerate(contents):
            if stopping.is_set():
                return
            client.post("/detectors/cells/score", params={"client_id": str(number)}, content=content)

    thread = threading.Thread(target=send)
    thread.start()
    try:
        for number in range(3):
            write_backup(default_url(settings.folder), settings.folder, settings.images, tmp_path / f"{number}.zip")
    finally:
        stopping.set()
        thread.join()
    for number in range(3):
        with zipfile.ZipFile(tmp_path / f"{number}.zip") as archive:
            archive.extract("history.sqlite", tmp_path / str(number))
            there = {name.rpartition("/")[2].partition(".")[0] for name in archive.namelist() if "/" in name}
        database = sqlite3.connect(tmp_path / str(number) / "history.sqlite")
        assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert {row[0] for row in database.execute("SELECT id FROM images WHERE kept")} <= there
        database.close()


def test_images_that_lie_in_the_folder_are_there_once(client, settings, tmp_path):
    inside = settings.folder / "images"
    (inside / "images" / "ab").mkdir(parents=True)
    (inside / "images" / "ab" / "ab12.png").write_bytes(b"x")
    target = settings.folder / "all.zip"
    for _ in range(2):  # the second does not hold the first
        write_backup(default_url(settings.folder), settings.folder, inside, target)
    with zipfile.ZipFile(target) as archive:
        names = archive.namelist()
    assert names.count("images/images/ab/ab12.png") == 1
    assert len(set(names)) == len(names)
    assert "all.zip" not in names


def test_of_postgresql_it_is_said_what_makes_the_other_part(folder, tmp_path):
    url = "postgresql+psycopg://unlike@127.0.0.1:1/none"  # which is not asked for anything
    told = write_backup(url, folder, None, tmp_path / "all.zip")
    assert "`pg_dump --format=custom` makes that part; run it first" in told[1]
    with zipfile.ZipFile(tmp_path / "all.zip") as archive:
        assert "history.sqlite" not in archive.namelist()
        assert "cells.unlike/detector.toml" in archive.namelist()


def test_a_backup_that_cannot_be_written_leaves_nothing(folder, tmp_path):
    with pytest.raises(ConfigError, match="is a folder; expected a file to write"):
        write_backup(default_url(folder), folder, None, tmp_path)
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(OutputError, match="cannot be written"):
        write_backup(default_url(folder), folder, None, tmp_path / "file" / "all.zip")
