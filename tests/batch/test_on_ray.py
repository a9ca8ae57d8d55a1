"""Shards on Ray: the scores of one process, whoever dies. One small cluster for all, which ends with them."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from conftest import stripes
from unlike import Detector, batch
from unlike.batch import on_ray
from unlike.batch.on_ray import Cluster, ShardScorer
from unlike.batch.shards import Plan
from unlike.data.source import open_source
from unlike.errors import ConfigError, DataError, OutputError

pytest.importorskip("ray", reason="needs Ray: pip install 'unlike[scale]'")
parquet = pytest.importorskip("pyarrow.parquet", reason="needs pyarrow: pip install 'unlike[scale]'")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::ResourceWarning"),
]


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
    np.save(root / "new.npy", stripes(1_200, seed=3))
    batch.score(root / "d", root / "new.npy", root / "here.parquet")
    return root


def rows_of(path):
    return parquet.read_table(path).to_pylist()


def test_whoever_is_killed_each_image_is_scored_once(cluster, stand, tmp_path):
    """First the command itself dies, then a worker of the one that goes on from there."""
    images, output = str(stand / "new.npy"), tmp_path / "out"
    command = [sys.executable, "-m", "unlike", "score", str(stand / "d"), images, "-o", str(output), "--on", "ray"]
    command += ["--address", cluster.get_runtime_context().gcs_address, "--workers", "1", "--shard", "20"]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as driver:
        while driver.poll() is None and not list(output.glob("part-*")):
            time.sleep(0.05)
        driver.kill()
    before, killed = len(list(output.glob("part-*"))), []
    assert before

    def notify(done, total):
        if done > 20 * before and not killed:
            killed.append(_kill_worker())

    found = batch.score(stand / "d", images, output, batch.Engine("ray", workers=2, shard=20), notify=notify)
    assert (found.images, found.shards, found.found >= before) == (1_200, 60, True)
    assert before == 60 or killed[0]
    ours, theirs = rows_of(output), rows_of(stand / "here.parquet")
    assert [row["id"] for row in ours] == [row["id"] for row in theirs]
    np.testing.assert_allclose([row["score"] for row in ours], [row["score"] for row in theirs], rtol=1e-5)


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


def test_what_a_worker_meets_is_said_as_if_it_were_here(stand, tmp_path):
    plan = Plan("", "", 3, 3)
    worker = ShardScorer(on_ray._read_files(stand / "d"), "cpu")
    images = open_source(np.zeros((3, 32, 32, 3), np.uint8))
    met = worker({"number": 0, "images": on_ray._pack(_Gone(images), plan, 0)})
    error = on_ray._raised(met["error"])
    assert isinstance(error, DataError)
    assert str(error) == "the camera is gone"
    found = worker({"number": 0, "images": on_ray._pack(images, plan, 0)})
    assert not found["error"]
    (tmp_path / "x.parquet").write_bytes(found["content"])
    assert [row["id"] for row in rows_of(tmp_path / "x.parquet")] == ["0", "1", "2"]


class _Gone:
    """A source that is there where it was opened, and nowhere else."""

    pages = "first"

    def __init__(self, source):
        self._source = source
        self.name, self.samples, self.natural_size, self.notes = "a camera", source.samples, None, ()

    def __len__(self):
        return len(self.samples)

    def take(self, positions):
        return _Gone(self._source.take(positions))

    def where(self, wanted):
        return self

    def with_samples(self, samples):
        return self

    def read(self, sample):
        return self._source.read(sample)

    def load(self, spec, cache, notify=None):
        return self._source.load(spec, cache, notify)

    def stream(self, spec, batch_size=None):
        raise DataError("the camera is gone")


def test_an_address_where_nobody_listens_is_said_at_once():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    start = time.monotonic()
    with pytest.raises(ConfigError, match=f"Ray at {address}: cannot be reached .*start one with `ray start --head`"):
        on_ray._check_there(address)
    assert time.monotonic() - start < 5


def test_a_cluster_that_asks_for_a_token_says_so():
    error = ConnectionError("Failed to connect")
    error.__cause__ = RuntimeError("RPC error: InvalidAuthToken: Authentication token is missing or incorrect.")
    said = str(on_ray._unreachable("head:6379", error))
    assert said.startswith("Ray at head:6379: asks for a token that is missing or not its own; set RAY_AUTH_MODE=token")


def test_what_ray_refuses_is_one_sentence():
    import ray

    with pytest.raises(OutputError, match=r"Ray stopped .*the same command goes on from there"), on_ray._told():
        raise ray.exceptions.RayError("a node\nis gone")


def test_without_ray_it_is_said_what_to_install(monkeypatch):
    monkeypatch.setattr("unlike.config.importlib.util.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"--on ray takes Ray, which is not installed: pip install 'unlike\[scale\]'"):
        on_ray.need_ray()
