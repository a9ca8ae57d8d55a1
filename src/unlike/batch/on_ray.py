"""Shards on Ray: paths travel to workers that load the detector once; our own readers decode, and finished files come back.

Ray Data hands out the shards, holds few of them in flight, and starts a new worker for one that died.
"""

from __future__ import annotations

import contextlib
import importlib
import logging
import os
import pickle
import socket
import tempfile
import threading
import time
import warnings
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np

from unlike.artifacts import find_folder, kind_of
from unlike.batch.shards import Plan
from unlike.config import need_package
from unlike.data.source import Source
from unlike.errors import ConfigError, OutputError, UnlikeError

MOST_DEATHS = 5  # of workers over one shard, before the run stops: an image may take more memory than there is
STORE_BYTES = 200_000_000  # of a cluster of our own: paths and scores are small, whatever the images are
ANSWER_SECONDS = 10.0  # that a cluster is given to answer
OWN_WAYS = {  # where nothing else is asked for
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_DATA_DISABLE_PROGRESS_BARS": "1",
    "RAY_BACKEND_LOG_LEVEL": "fatal",
    "RAY_worker_niceness": "0",  # Ray's own 15 leaves nothing to workers on a machine where anything else runs
}


@dataclass(frozen=True, slots=True)
class Cluster:
    """Where shards are scored."""

    address: str | None = None  # of a cluster that runs; None: one of our own on this machine, for as long as it takes
    workers: int | None = None  # None: one a core, or one a GPU where there are some
    device: str = "auto"  # of each worker


class ShardScorer:
    """What a worker is: a detector that is loaded once, and scores one shard after the other."""

    def __init__(self, files: Mapping[str, bytes], device: str) -> None:
        from unlike.batch.scoring import load_scoring

        threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()
        with tempfile.TemporaryDirectory(prefix="unlike-") as folder:
            detector = Path(folder) / "detector"
            detector.mkdir()
            for name, content in files.items():
                (detector / name).write_bytes(content)
            self._detector = load_scoring(detector, device)

    def __call__(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """A row with the number of a shard and its images -> the number, and the finished file, or why there is none."""
        from unlike.batch.scoring import score_shard

        try:
            content = score_shard(self._detector, pickle.loads(zlib.decompress(row["images"])))  # noqa: S301 - our own, from `_pack`
        except UnlikeError as error:  # which would come back as text, with the trace of everything in between
            return {"number": row["number"], "content": b"", "error": pickle.dumps((type(error).__name__, str(error)))}
        return {"number": row["number"], "content": content, "error": b""}


def _end_with(parent: int) -> None:
    """End this process when its parent has: Ray forgets a worker that was starting when its cluster was killed."""
    while os.getppid() == parent:
        time.sleep(ANSWER_SECONDS / 10)
    os._exit(1)


def score_on_ray(
    detector: Path, source: Source, plan: Plan, numbers: Sequence[int], cluster: Cluster
) -> Iterator[tuple[int, bytes]]:
    """The shards of these numbers, each with its file, in the order in which they are finished."""
    with connected(cluster) as ray:
        resources = ray.cluster_resources()
        gpus = int(resources.get("GPU", 0)) if cluster.device == "auto" or cluster.device.startswith("cuda") else 0
        most = cluster.workers or gpus or max(1, int(resources.get("CPU", 1)))
        rows = [{"number": number, "images": _pack(source, plan, number)} for number in numbers]
        dataset = ray.data.from_items(rows, override_num_blocks=len(rows)).map(
            ShardScorer,
            fn_constructor_args=(_read_files(detector), cluster.device),
            compute=ray.data.ActorPoolStrategy(size=min(most, len(rows))),
            num_cpus=0 if gpus else 1,
            num_gpus=min(1.0, gpus / most) if gpus else None,
            ray_remote_args_fn=_limits,
        )
        with _told():
            for found in dataset.iter_rows():
                if found["error"]:
                    raise _raised(found["error"])
                yield int(found["number"]), bytes(found["content"])


@contextlib.contextmanager
def connected(cluster: Cluster) -> Iterator[Any]:
    """Ray, as it was found or else started; what was started here ends here."""
    ray = need_ray()
    if ray.is_initialized():
        yield ray
        return
    own: dict[str, Any] = {"include_dashboard": False, "object_store_memory": STORE_BYTES, "num_cpus": cluster.workers}
    if cluster.address is not None:
        _check_there(cluster.address)
        own = {"address": cluster.address}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what Ray will change some day is no concern of the user's
            ray.init(log_to_driver=False, logging_level=logging.ERROR, configure_logging=True, **own)
    except (ConnectionError, ValueError, RuntimeError, TimeoutError) as error:
        raise _unreachable(cluster.address or "on this machine", error) from None
    try:
        yield ray
    finally:
        ray.shutdown()


def _check_there(address: str) -> None:
    """Raise ConfigError where nobody listens at an address, for which Ray itself waits many minutes."""
    where = urlsplit(address if "://" in address else f"//{address}")
    try:
        if where.hostname and where.port:  # not the word "auto"
            socket.create_connection((where.hostname, where.port), ANSWER_SECONDS).close()
    except (OSError, ValueError) as error:
        raise _unreachable(address, error) from None


def _unreachable(where: str, error: Exception) -> ConfigError:
    if "AuthToken" in f"{error} {error.__cause__}":
        return ConfigError(
            f"Ray at {where}: asks for a token that is missing or not its own; set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN_PATH to "
            "the file that its operator gives you"
        )
    return ConfigError(
        f"Ray at {where}: cannot be reached ({_line(error)}); start one with `ray start --head`, and name it with --address "
        "HOST:6379, or leave --address out"
    )


def need_ray() -> Any:
    """Ray with Ray Data, which say little and tell nobody; a ConfigError says how to get them."""
    need_package("ray", "scale", "--on ray takes Ray")
    for name, value in OWN_WAYS.items():
        os.environ.setdefault(name, value)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ray = importlib.import_module("ray")
        data = importlib.import_module("ray.data")
        context = data.DataContext.get_current()
    context.enable_progress_bars = context.print_on_execution_start = False
    context.enable_operator_progress_bars = False
    for name in ("ray.data", "ray"):
        logging.getLogger(name).setLevel(logging.ERROR)
    return ray


def _limits() -> dict[str, int]:
    """Options of each worker: how often what it was at is begun anew when it dies."""
    return {"max_task_retries": MOST_DEATHS}


def _pack(source: Source, plan: Plan, number: int) -> bytes:
    """The images of a shard to be sent: paths, or what is in memory."""
    rows = plan.rows(number)
    try:
        return zlib.compress(pickle.dumps(source.take(np.arange(rows.start, rows.stop))), level=1)
    except (pickle.PicklingError, TypeError, AttributeError) as error:
        raise ConfigError(
            f"{source.name}: cannot be sent to another process ({_line(error)}); a source of your own must be picklable for --on ray"
        ) from None


def _read_files(folder: Path) -> dict[str, bytes]:
    kind = kind_of(folder)
    assert kind is not None
    return {path.name: path.read_bytes() for path in sorted(find_folder(folder, kind).iterdir()) if path.is_file()}


@contextlib.contextmanager
def _told() -> Iterator[None]:
    """Turn what Ray raises into one sentence with the way out."""
    ray = need_ray()
    try:
        yield
    except ray.exceptions.RayError as error:
        raise OutputError(
            f"Ray stopped ({_line(error)}); what is finished is kept, the same command goes on from there. Of workers that die "
            "again and again memory is the usual cause: start fewer with --workers"
        ) from None


def _raised(packed: bytes) -> UnlikeError:
    """The error that a worker met."""
    name, text = pickle.loads(packed)  # noqa: S301 - our own, from ShardScorer
    kinds: Any = importlib.import_module("unlike.errors")
    found: UnlikeError = getattr(kinds, name)(text)
    return found


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__
