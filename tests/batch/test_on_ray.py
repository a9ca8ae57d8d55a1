"""Shards on Ray: the scores of one process, whoever dies. One small cluster for all, which ends with them."""

import os
import signal
import socket
import time
from pathlib import Path

import numpy as np
import pytest

from conftest import stripes
from unlike import Detector, batch
from unlike.batch import on_ray
from unlike.batch.on_ray import Cluster
from unlike.cli import run
from unlike.data.source import open_source
from unlike.errors import ConfigError, DataError, OutputError

pytest.importorskip("ray", reason="needs Ray: pip install 'unlike[scale]'")
parquet = pytest.importorskip("pyarrow.parquet", reason="needs pyarrow: pip install 'unlike[scale]'")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::ResourceWarning"),
]
SHARD = batch.Engine("ray", workers=2, shard=20)


@pytest.fixture(scope="module")
def cluster():
    """Ray on this machine, small; every process of it is gone when the tests here are done."""
    with on_ray.connected(Cluster(workers=2)) as ray:
        yield ray
        session = ray._private.worker._global_node.get_session_dir_path()
    for _ in range(100):
        ended = [session not in command for command in _commands()]
        if all(ended):
            break
        time.sleep(0.1)
    assert all(ended)


def _commands():
    """The command lines of all processes."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            found.append(entry.read_bytes().decode(errors="replace"))
        except OSError:  # it has ended this moment
            continue
    return found


@pytest.fixture(scope="module")
def stand(tmp_path_factory):
    root = tmp_path_factory.mktemp("stand")
    Detector(model="conv", size=32, epochs=2, settings={"model": {"widths": [8, 8]}}, cache=False).fit(
        stripes(40)
    ).save(root / "d")
    np.save(root / "new.npy", stripes(400, seed=3))
    batch.score(root / "d", root / "new.npy", root / "here.parquet")
    return root


def rows_of(path):
    return parquet.read_table(path).to_pylist()


def test_a_worker_that_is_killed_is_replaced_and_loses_nothing(cluster, stand, tmp_path):
    """Each image once, with the score of one process, though a worker dies in the middle."""
    killed = []

    def notify(done, total):  # after a shard or two
        if done and not killed:
            killed.append(_kill_worker())

    found = batch.score(stand / "d", stand / "new.npy", tmp_path / "out", SHARD, notify=notify)
    assert killed[0]
    ours, theirs = rows_of(tmp_path / "out"), rows_of(stand / "here.parquet")
    assert [row["id"] for row in ours] == [row["id"] for row in theirs]
    np.testing.assert_allclose([row["score"] for row in ours], [row["score"] for row in theirs], rtol=1e-5)
    assert (found.images, found.found, found.shards) == (400, 0, 20)


def _kill_worker():
    """SIGKILL to one of our workers; its number."""
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if b"ray::MapWorker(Map(ShardScorer))" in (entry / "cmdline").read_bytes():
                os.kill(int(entry.name), signal.SIGKILL)
                return int(entry.name)
        except OSError:
            continue
    return None


def test_only_what_is_missing_is_scored_and_the_command_says_so(cluster, stand, tmp_path, capsys):
    images = str(stand / "new.npy")
    batch.score(stand / "d", images, tmp_path / "out", batch.Engine(shard=200))
    (tmp_path / "out/part-00001-of-00002.parquet").unlink()
    command = ["score", str(stand / "d"), images, "-o", str(tmp_path / "out"), "--on", "ray", "--shard", "200"]
    assert run(command) == 0
    said = capsys.readouterr().err
    assert "1 shard of 2 scored before, and not again." in said
    assert " of 400 images anomalous" in said
    assert [row["score"] for row in rows_of(tmp_path / "out")] == pytest.approx(
        [row["score"] for row in rows_of(stand / "here.parquet")], rel=1e-5
    )


def test_what_a_worker_meets_is_said_as_if_it_were_here(cluster, stand, tmp_path):
    images = open_source(np.zeros((3, 32, 32, 3), np.uint8))
    with pytest.raises(DataError, match="the camera is gone"):
        batch.score(stand / "d", _Gone(images), tmp_path / "out", batch.Engine("ray", workers=1))


class _Gone:
    """A source that is there where it was opened, and nowhere else."""

    def __init__(self, source, where=None):
        self._source, self._where = source, where or os.getpid()

    def __getattr__(self, name):
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(self._source, name)

    def __len__(self):
        return len(self._source)

    def take(self, positions):
        return _Gone(self._source.take(positions), self._where)

    def where(self, wanted):
        return _Gone(self._source.where(wanted), self._where)

    def with_samples(self, samples):
        return _Gone(self._source.with_samples(samples), self._where)

    def stream(self, spec, batch_size=None):
        if os.getpid() != self._where:
            raise DataError("the camera is gone")
        return self._source.stream(spec, batch_size)


def test_an_address_where_nobody_listens_is_said_at_once():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    start = time.monotonic()
    with pytest.raises(ConfigError, match=f"Ray at {address}: cannot be reached .*start one with `ray start --head`"):
        on_ray._check_there(address)
    assert time.monotonic() - start < 5


def test_what_ray_refuses_is_one_sentence():
    import ray

    with pytest.raises(OutputError, match="Ray stopped .*the same command goes on from there"), on_ray._told():
        raise ray.exceptions.RayError("a node\nis gone")


def test_without_ray_it_is_said_what_to_install(monkeypatch):
    monkeypatch.setattr("unlike.config.importlib.util.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"--on ray takes Ray, which is not installed: pip install 'unlike\[scale\]'"):
        on_ray.need_ray()
