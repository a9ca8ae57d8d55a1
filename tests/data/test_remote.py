"""Images in a store of objects and behind a web server: the same ids, pixels and layouts as on disk, against real servers."""

import functools
import http.server
import threading
from pathlib import Path

import numpy as np
import pytest

from conftest import stripes, write_png
from unlike.cli import run
from unlike.data.input_spec import InputSpec
from unlike.data.readers import decode, remote
from unlike.data.readers.addresses import Address
from unlike.data.source import open_source, training
from unlike.errors import ConfigError, DataError, ImageError

s3fs = pytest.importorskip("s3fs", reason="needs s3fs: pip install 'unlike[scale]'")
moto = pytest.importorskip("moto.server", reason="needs moto: pip install 'moto[server]'")
pytestmark = pytest.mark.filterwarnings(
    "ignore::DeprecationWarning", "ignore::ResourceWarning"
)  # of the clients of stores


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Images as they lie on disk, and in the bucket `line` below `july/`."""
    root = tmp_path_factory.mktemp("july")
    for number, image in enumerate(stripes(6, size=16)):
        write_png(root / f"train/good/{number}.png", image)
    for number, image in enumerate(stripes(3, size=16, seed=4)):
        write_png(root / f"test/scratch/{number}.png", image)
    (root / "test/scratch/broken.png").write_bytes(b"no image")
    (root / "notes.txt").write_text("not an image")
    return root


@pytest.fixture(scope="module")
def store():
    """A server that speaks S3."""
    server = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def bucket(store, folder, monkeypatch):
    for name, value in {
        "AWS_ENDPOINT_URL": store,
        "AWS_ACCESS_KEY_ID": "me",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
    }.items():
        monkeypatch.setenv(name, value)
    files = s3fs.S3FileSystem(use_listings_cache=False)
    if not files.exists("line"):
        files.mkdir("line")
        for path in sorted(folder.rglob("*.*")):
            files.pipe_file(f"line/july/{path.relative_to(folder).as_posix()}", path.read_bytes())
    return files


@pytest.fixture
def site(folder):
    """The same folder behind a web server."""
    quiet = type("Quiet", (http.server.SimpleHTTPRequestHandler,), {"log_message": lambda *_: None})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(quiet, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_a_folder_in_a_bucket_is_what_it_is_on_disk(bucket, folder):
    here, there = open_source(folder), open_source("s3://line/july")
    told = [(s.id, s.anomalous, s.kind, s.split) for s in there.samples]
    assert told == [(s.id, s.anomalous, s.kind, s.split) for s in here.samples]
    assert there.name == "s3://line/july"
    assert len(training(there)) == 6
    spec = InputSpec(16, 16, 3)
    ours, theirs = (next(iter(source.stream(spec, 20))) for source in (here, there))
    np.testing.assert_array_equal(ours.pixels, theirs.pixels)
    assert [str(one) for one in theirs.unreadable] == [str(one) for one in ours.unreadable]
    assert len(theirs.unreadable) == 1


def test_a_pattern_and_one_image_and_several_folders_in_a_bucket(bucket):
    assert [s.id for s in open_source("s3://line/july/train/good/[12].png").samples] == ["1.png", "2.png"]
    assert [s.id for s in open_source("s3://line/july/train/good/3.png").samples] == ["3.png"]
    several = open_source(["s3://line/july/train/good", "s3://line/july/test/scratch"])
    assert "s3://line/july/train/good/0.png" in [
        s.id for s in several.samples
    ]  # ids that would clash are whole addresses
    assert len(several) == 10


def test_an_image_that_changed_is_another_one_to_the_cache(bucket):
    address = Address.of(Path("s3://line/july/other.png"))
    bucket.pipe_file("line/july/other.png", b"one")
    before = address.state()
    bucket.pipe_file("line/july/other.png", b"another")
    assert address.state() != before
    bucket.rm_file("line/july/other.png")
    with pytest.raises(OSError):
        address.state()


def test_what_is_not_there_is_said_in_a_sentence(bucket, monkeypatch):
    with pytest.raises(
        DataError, match=r"s3://nobody/has/it: .*; check its name and that it may be read, or what fsspec reads"
    ):
        open_source("s3://nobody/has/it")
    with pytest.raises(DataError, match="s3://line/july/none: no such bucket or folder, or nothing in it"):
        open_source("s3://line/july/none")
    with pytest.raises(DataError, match=r"s3://line/july/notes.txt\*: no image in it \(1 other files\)"):
        open_source("s3://line/july/notes.txt*")
    bucket.pipe_file("line/arrays/x.npy", b"0")
    with pytest.raises(DataError, match=r"s3://line/arrays/x.npy: arrays and archives are read from disk; copy it"):
        open_source("s3://line/arrays/x.npy")
    with pytest.raises(ImageError, match=r"cannot be fetched \("):
        decode(Path("s3://line/july/gone.png"))
    monkeypatch.setattr(remote, "PAUSE_SECONDS", 0.0)
    monkeypatch.setattr(remote, "ATTEMPTS", 1)
    monkeypatch.setattr(remote, "open_store", lambda url: _Refusing())
    with pytest.raises(ImageError, match=r"cannot be fetched in 1 attempts \(ValueError: too many requests\)"):
        decode(Path("s3://line/july/gone.png"))


class _Refusing:
    def cat_file(self, url):
        raise ValueError("too many requests")


def test_a_driver_that_is_not_installed_is_named(monkeypatch):
    monkeypatch.setitem(remote.DRIVERS, "s3", "no_such_driver")
    with pytest.raises(
        ConfigError, match=r"s3:// takes no_such_driver, which is not installed: pip install 'unlike\[scale\]'"
    ):
        open_source("s3://line/july")


def test_an_account_that_is_not_named_is_said(monkeypatch):
    for name in ("AZURE_STORAGE_ACCOUNT_NAME", "AZURE_STORAGE_CONNECTION_STRING"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(DataError, match=r"az://line/july: cannot be .*AZURE_STORAGE_ACCOUNT_NAME"):
        open_source("az://line/july")


def test_tables_name_images_anywhere(bucket, site, folder, tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    rows = [("s3://line/july/train/good/0.png", "good"), (f"{site}/train/good/1.png", "good"), ("2.png", "scratch")]
    write_png(tmp_path / "2.png", stripes(1, size=16)[0])
    (tmp_path / "list.csv").write_text("path,label\n" + "".join(f"{path},{label}\n" for path, label in rows))
    paths = [path for path, _ in rows]
    parquet.write_table(pyarrow.table({"Path": paths, "label": [0, 0, 1]}), tmp_path / "list.parquet")
    for name in ("list.csv", "list.parquet"):
        source = open_source(tmp_path / name)
        assert {s.id for s in source.samples} == set(paths)
        assert [s.anomalous for s in source.samples] == [s.id == "2.png" for s in source.samples]
        assert all(len(batch.samples) == 3 for batch in source.stream(InputSpec(16, 16, 3), 3))
    bucket.pipe_file("line/july/list.csv", b"path\ntrain/good/0.png\n")
    assert [s.id for s in open_source("s3://line/july/list.csv").samples] == ["train/good/0.png"]
    bucket.rm_file("line/july/list.csv")
    (tmp_path / "broken.parquet").write_bytes(b"PAR1")
    with pytest.raises(DataError, match=r"broken.parquet: cannot be read as Parquet"):
        open_source(tmp_path / "broken.parquet")


def test_scores_of_a_bucket_are_those_of_the_folder(bucket, folder, tmp_path, capsys):
    fit = ["fit", str(folder), "-o", str(tmp_path / "d"), "--model", "conv", "--size", "16", "--epochs", "1"]
    assert run([*fit, "--set", "model.widths=[4]"]) == 0
    assert run(["score", str(tmp_path / "d"), str(folder / "test"), "-o", str(tmp_path / "here.csv")]) == 1
    assert run(["score", str(tmp_path / "d"), "s3://line/july/test", "-o", str(tmp_path / "there.csv")]) == 1
    assert (tmp_path / "here.csv").read_text() == (tmp_path / "there.csv").read_text()
    assert "broken.png" in capsys.readouterr().err
