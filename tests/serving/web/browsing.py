"""A service that a browser can reach, and a browser that looks at it."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn
from services import pngs

from exports import small_detector
from unlike import Detector
from unlike.serving.app import create_app
from unlike.serving.jobs import fitting, runner
from unlike.serving.jobs.worker import Order, run
from unlike.serving.settings import ServeSettings

CHROMIUM = ("/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome")
WAIT = 40_000  # milliseconds for something to be seen, on a machine that does much else


class Site:
    """A service in a thread of its own."""

    def __init__(self, folder: Path) -> None:
        self.settings = ServeSettings(folder, images=folder.parent / "images")
        self.app = create_app(self.settings)
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.socket.getsockname()[1]}"
        self._server = uvicorn.Server(uvicorn.Config(self.app, log_level="error", access_log=False))
        self._thread = threading.Thread(target=self._server.run, kwargs={"sockets": [self.socket]}, daemon=True)

    def start(self) -> None:
        self._thread.start()
        deadline = time.monotonic() + 20
        while not self._server.started:
            assert time.monotonic() < deadline, "the service did not start"
            time.sleep(0.02)

    def stop(self) -> None:
        self._server.should_exit = True
        self._thread.join(20)
        self.socket.close()

    def score(self, images: list[bytes], name: str = "cells") -> list[dict[str, Any]]:
        """Send images as a camera does."""
        files = [("file", (f"part {number}.png", one)) for number, one in enumerate(images)]
        answer = httpx.post(f"{self.url}/detectors/{name}/score", files=files, timeout=30)
        assert answer.status_code == 200, answer.text
        return answer.json()["items"]

    def get(self, path: str) -> Any:
        """What REST says."""
        return httpx.get(self.url + path, timeout=30).json()


@pytest.fixture
def quick_jobs(monkeypatch):
    """Jobs are done in the service's own process, and each fit is the quickest there is."""

    def do(self: runner.Jobs, job_id: int) -> None:
        images = None if self._images is None else str(self._images)
        run(Order(self._url, str(self._catalogue.folder), images, job_id))
        with self._catalogue.changing():
            pass

    def light(self: fitting.FitChoices) -> Detector:
        settings = {"decision": {"calibration": "cross"}, "model": {"side": 8}}
        share = 0.1 if self.false_alarms is None else self.false_alarms
        return Detector("pixels", "gaussian", false_alarms=share, settings=settings, device="cpu", cache=False)

    monkeypatch.setattr(runner.Jobs, "_run", do)
    monkeypatch.setattr(fitting.FitChoices, "detector", light)
    monkeypatch.setattr(fitting, "EXPORT_NEEDS", ("a package that is not there",))


@pytest.fixture
def empty_site(tmp_path: Path, quick_jobs: None) -> Iterator[Site]:
    """A service without a detector."""
    (tmp_path / "detectors").mkdir()
    site = Site(tmp_path / "detectors")
    site.start()
    yield site
    site.stop()


@pytest.fixture
def site(tmp_path: Path, quick_jobs: None) -> Iterator[Site]:
    """A service with a detector that has scored six images, every other one with a square."""
    small_detector().save(tmp_path / "detectors" / "cells.unlike")
    site = Site(tmp_path / "detectors")
    site.start()
    site.score(pngs(6))
    yield site
    site.stop()


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """Chromium; tests are skipped where there is none."""
    playwright = pytest.importorskip(
        "playwright.sync_api", reason="playwright is not installed: pip install 'unlike[dev]'"
    )
    program = next((one for one in CHROMIUM if Path(one).exists()), None)
    if program is None:
        pytest.skip("no Chromium is installed: apt-get install chromium")
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def look(browser: Any) -> Iterator[Any]:
    """A tab of its own; no script may fail in it, and it may ask no other host for anything."""
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    context.set_default_timeout(WAIT)
    tab = context.new_page()
    faults: list[str] = []
    tab.on("pageerror", lambda error: faults.append(str(error)))
    tab.on("console", lambda said: faults.append(said.text) if said.type == "error" else None)
    tab.on(
        "request",
        lambda asked: (
            faults.append(asked.url)
            if "//127.0.0.1:" not in asked.url[:20] and asked.url[:5] not in ("data:", "blob:")
            else None
        ),
    )
    tab.faults = faults
    yield tab
    context.close()
    assert not faults, faults
