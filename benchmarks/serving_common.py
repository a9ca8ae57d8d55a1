"""What the benchmarks of the service share: a detector of real images, and a server in a process of its own."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import cv2
import httpx
import numpy as np
from common import DATA, need

from unlike import Detector
from unlike.export.exporting import export_detector

SET = DATA / "mvtec_ad_256"


def fit_into(folder: Path, detector: Detector, to: str, images: int) -> tuple[Path, list[Path]]:
    """A detector of some real normal images as FOLDER/part.unlike, its export beside it, and other images."""
    category = min(one for one in need(SET).iterdir() if one.is_dir())
    detector.fit([str(path) for path in sorted(category.glob("train/good/*"))[:images]]).save(folder / "part.unlike")
    export_detector(Detector.load(folder / "part.unlike", "cpu"), folder / "part.unlike.export", to)
    return folder / "part.unlike.export", sorted(category.glob("test/*/*"))


def varied(content: bytes, number: int) -> bytes:
    """The same image as another file, so that it is no repeat: PNG with another last pixel."""
    image = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)
    image[-1, -1] = (number % 256, number // 256 % 256, number // 65536 % 256)
    return cv2.imencode(".png", image, [cv2.IMWRITE_PNG_COMPRESSION, 1])[1].tobytes()


class Server:
    """`unlike serve` in a process of its own, on a free port."""

    def __init__(self, command: Sequence[str], port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    @classmethod
    def serve(cls, folder: Path, *options: str) -> Server:
        port = free_port()
        return cls([sys.executable, "-m", "unlike", "serve", str(folder), "--port", str(port), *options], port)

    def wait(self, path: str = "/ready", seconds: float = 120.0) -> None:
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            if self.process.poll() is not None:
                sys.exit(f"the server ended with {self.process.returncode}")
            try:
                if httpx.get(self.url + path, timeout=5).status_code == 200:
                    return
            except httpx.TransportError:
                time.sleep(0.05)
        sys.exit("the server did not get ready")

    def kill(self) -> None:
        """As a power cut would end it, as far as a process can be: SIGKILL."""
        self.process.kill()
        self.process.wait()

    def stop(self) -> None:
        self.process.send_signal(signal.SIGINT)
        try:
            self.process.wait(timeout=60)
        except subprocess.TimeoutExpired:
            self.kill()

    def figures(self) -> dict[str, float]:
        """CPU seconds so far and the most memory, in MB, of the process."""
        pid = self.process.pid
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        ticks = os.sysconf("SC_CLK_TCK")
        status = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
        return {
            "cpu_seconds": (int(fields[11]) + int(fields[12])) / ticks,
            "peak_megabytes": int(status["VmHWM"].split()[0]) / 1024,
            "megabytes": int(status["VmRSS"].split()[0]) / 1024,
        }


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def fresh(folder: Path) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder
