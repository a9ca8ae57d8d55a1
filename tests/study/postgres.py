"""A PostgreSQL of a test's own: Debian's binaries, a folder of its own, and nobody's but this machine's."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import tempfile
from pathlib import Path

BINARIES = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"))


@contextlib.contextmanager
def running_postgres():
    """The URL of an empty database `unlike`; it never runs as root, which PostgreSQL refuses."""
    folder = Path(tempfile.mkdtemp(prefix="unlike-pg-", dir="/tmp"))
    as_other = ["runuser", "-u", "nobody", "--"] if os.geteuid() == 0 else []
    if as_other:
        shutil.chown(folder, "nobody")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    programs, data = BINARIES[-1].parent, folder / "data"

    def call(name, *more):
        command = [*as_other, str(programs / name), *map(str, more)]
        subprocess.run(command, check=True, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    try:
        call("initdb", "-D", data, "-U", "me", "-A", "trust", "--no-sync")
        options = f"-c listen_addresses=127.0.0.1 -c port={port} -c unix_socket_directories={folder} -c fsync=off"
        call("pg_ctl", "-D", data, "-w", "-t", "120", "-l", folder / "log", "-o", options, "start")
        try:
            call("createdb", "-h", "127.0.0.1", "-p", port, "-U", "me", "unlike")
            yield f"postgresql+psycopg://me@127.0.0.1:{port}/unlike"
        finally:
            call("pg_ctl", "-D", data, "-m", "immediate", "-w", "stop")
    finally:
        shutil.rmtree(folder, ignore_errors=True)
