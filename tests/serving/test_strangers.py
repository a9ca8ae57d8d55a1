"""What strangers send or leave behind: refused in a sentence, never a fault of the service, and none of their code runs."""

import hashlib
import io
import pickle
import re

import numpy as np
import pytest
from fastapi.testclient import TestClient
from hostile import archive, encode, hostile
from services import LOCAL, client, folder, pngs, settings

from exports import small_detector, small_export
from unlike.artifacts import CHECKSUMS
from unlike.serving.app import create_app
from unlike.serving.settings import ServeSettings
from unlike.serving.uploads import Limits


@pytest.fixture
def settings(folder, tmp_path):
    limits = Limits(files=1_000, file_bytes=2_000_000, unpacked_bytes=10_000_000, request_bytes=20_000_000)
    return ServeSettings(folder, images=tmp_path / "images", limits=limits)


def test_hostile_uploads_are_refused_in_a_sentence_each(client):
    """All of them by each way in: as a form, as a bare body, and as a normal image to learn from."""
    refused = 0
    for which, (name, content, _) in hostile().items():
        sent = name.encode("utf-8", "replace").decode()
        form = client.post("/detectors/cells/score", files={"file": (sent, content)})
        bare = client.post("/detectors/cells/score", params={"name": sent[:400]}, content=content)
        learned = client.post("/detectors/cells/normals", files={"file": (sent, content)})
        for answer in (form, bare, learned):
            detail = answer.json().get("detail", "")
            if answer is learned and answer.status_code == 201:
                continue  # a header that is well formed; what cannot be decoded is left out of a fit, and named
            if answer.status_code == 200:  # a name that was sent in another form is kept in that one
                assert which.startswith(("a name", "a path", "a drive", "an absolute path", "no name")), which
                assert all(row["name"].isprintable() for row in answer.json()["items"])
                continue
            assert answer.status_code in (400, 413, 415, 422), f"{which}: {answer.status_code} {answer.text[:200]}"
            assert isinstance(detail, str), which
            assert len(detail) > 10, which
            refused += 1
    assert refused >= 120
    answer = client.post("/detectors/cells/score", files={"file": ("a.png", pngs()[0])})
    assert answer.status_code == 200  # and it goes on as if nothing had been


def test_among_good_images_a_hostile_one_has_a_row_that_says_why(client):
    parts = [("file", ("a.png", pngs()[0])), ("file", ("b.png", b"<svg/>")), ("file", ("c.png", pngs(2)[1]))]
    rows = client.post("/detectors/cells/score", files=parts).json()["items"]
    assert [row["error"] is None for row in rows] == [True, False, True]
    assert rows[1]["error"].startswith("b.png is SVG")


def test_an_upload_of_too_many_bytes_is_refused_before_it_is_read(client):
    answer = client.post("/detectors/cells/score", content=bytes(21_000_000))
    assert (answer.status_code, answer.json()["detail"]) == (
        413, "the request has more than 20,000,000 bytes; send it in parts",
    )  # fmt: skip


def test_an_upload_of_too_many_files_is_refused(folder, tmp_path):
    settings = ServeSettings(folder, limits=Limits(files=5))
    with TestClient(create_app(settings), base_url="http://localhost", client=LOCAL) as client:
        answer = client.post("/detectors/cells/score", files=[("file", (f"{n}.png", pngs()[0])) for n in range(6)])
        assert answer.status_code in (400, 413), answer.text
        many = archive(*((f"{n}.png", encode("PNG")) for n in range(6)))
        answer = client.post("/detectors/cells/score", files={"file": ("a.zip", many)})
        assert answer.json() == {"detail": "the archive holds 6 files, more than 5 of one request; split it"}


class Bomb:
    """Unpickled, it leaves a mark."""

    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return (open, (str(self.mark), "w"))


def rewrite(folder, name, change):
    """Change a file of a detector, with a checksum that fits, as a stranger would."""
    path = folder / name
    path.write_bytes(change(path.read_bytes()))
    sums = (folder / CHECKSUMS).read_text().splitlines()
    kept = [line for line in sums if not line.endswith(f"  {name}")]
    (folder / CHECKSUMS).write_text("\n".join([*kept, f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {name}", ""]))


def pickled_arrays(mark):
    def change(content):
        arrays = dict(np.load(io.BytesIO(content)))
        arrays["digests"] = np.array([Bomb(mark)], dtype=object)
        file = io.BytesIO()
        np.savez(file, **arrays)
        return file.getvalue()

    return change


STRANGE = {
    "weights that are a pickle": lambda mark: ("weights.safetensors", lambda content: pickle.dumps(Bomb(mark))),
    "a scorer that is a pickle": lambda mark: ("scorer.safetensors", lambda content: pickle.dumps(Bomb(mark))),
    "arrays of objects": lambda mark: ("calibration.npz", pickled_arrays(mark)),
    "arrays that are a pickle": lambda mark: ("calibration.npz", lambda content: pickle.dumps(Bomb(mark))),
    "a model by the name of a function": lambda mark: (
        "detector.toml", lambda content: re.sub(rb'name = "pixels"', b'name = "os:system"', content)
    ),
    "a model of another module": lambda mark: (
        "detector.toml", lambda content: re.sub(rb'name = "pixels"', b'name = "evil:Model"', content)
    ),
    "a scorer of another module": lambda mark: (
        "detector.toml", lambda content: re.sub(rb'name = "gaussian"', b'name = "evil.scorer"', content)
    ),
    "settings that are code": lambda mark: (
        "detector.toml", lambda content: content.replace(b"[model]", b'[model]\n"__reduce__" = "os.system"', 1)
    ),
}  # fmt: skip


@pytest.mark.parametrize("which", STRANGE)
def test_a_strangers_detector_runs_no_code(tmp_path, which, monkeypatch):
    mark, place = tmp_path / "mark", tmp_path / "detectors"
    evil = place / "evil.unlike"
    small_detector().save(evil)
    code = f"open({str(mark)!r}, 'w')\n"
    for name in ("__init__.py", "evil.py", "conftest.py", "sitecustomize.py", "setup.py", "model.py"):
        (evil / name).write_text(code)
    (place / "evil.py").write_text(code)
    monkeypatch.chdir(evil)
    rewrite(evil, *STRANGE[which](mark))
    app = create_app(ServeSettings(place))
    with TestClient(app, base_url="http://localhost", client=LOCAL, raise_server_exceptions=False) as client:
        answer = client.post("/detectors/evil/score", files={"file": ("a.png", pngs()[0])})
        assert answer.status_code == 409, answer.text
        assert answer.json()["detail"].startswith("evil, version 1, cannot be used: evil.unlike: ")
        assert "Traceback" not in answer.text
        assert client.get("/detectors/evil").status_code == 200
    assert not mark.exists()


@pytest.mark.slow
def test_a_strangers_export_runs_no_code_and_reads_nothing_outside(tmp_path):
    import shutil

    mark, place = tmp_path / "mark", tmp_path / "detectors"
    small_detector().save(place / "evil.unlike")
    export = place / "evil.unlike.export"
    shutil.copytree(small_export("onnx"), export)
    names = [line.partition("  ")[2] for line in (export / CHECKSUMS).read_text().splitlines()]
    graph = next(name for name in names if name.endswith(".onnx"))
    rewrite(export, graph, lambda content: pickle.dumps(Bomb(mark)))
    with TestClient(create_app(ServeSettings(place)), base_url="http://localhost", client=LOCAL) as client:
        answer = client.post("/detectors/evil/score", files={"file": ("a.png", pngs()[0])})
        assert answer.status_code in (200, 409), answer.text  # by torch, or not at all
    assert not mark.exists()


def test_an_answer_tells_nothing_of_the_code_or_the_machine(client, monkeypatch):
    def fail(*arguments, **named):
        raise ValueError("a secret of the code in /home/somebody")

    monkeypatch.setattr("unlike.serving.api.users._describe", fail)
    answer = client.get("/me")
    assert answer.status_code == 500
    assert "secret" not in answer.text
    assert "/home" not in answer.text
    assert answer.headers["x-content-type-options"] == "nosniff"
