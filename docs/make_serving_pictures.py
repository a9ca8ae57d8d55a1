"""Write docs/pictures/serving_*.jpg: the page of `unlike serve FOLDER --demo`, looked at by Chromium through playwright."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import cv2
import httpx
import numpy as np
from playwright.sync_api import sync_playwright

PICTURES = Path(__file__).parent / "pictures"
CHROMIUM = "/usr/bin/chromium"
URL = "http://127.0.0.1:8765"
WAIT_SECONDS = 900.0  # for the detector to be fitted
FEWEST = 30  # images that have to have come
SHOTS = {  # name: what of the page, light or dark, width and height, pixels of width in the picture
    "live": ("/ui/", "light", (1180, 760), 900),
    "image": ("/ui/images/{odd}", "dark", (1180, 760), 900),
    "threshold": ("/ui/detectors/cells/threshold", "light", (1180, 900), 900),
    "drift": ("/ui/detectors/cells/drift", "dark", (1180, 760), 900),
    "phone": ("/ui/images/{odd}", "light", (390, 844), 300),
}


def await_images() -> list[dict[str, Any]]:
    """The images of the demo, when they have come."""
    deadline = time.monotonic() + WAIT_SECONDS
    while time.monotonic() < deadline:
        try:
            items = httpx.get(f"{URL}/images?limit=500").json()["items"]
        except (httpx.HTTPError, KeyError):
            items = []
        if len(items) >= FEWEST:
            time.sleep(5)  # and the others
            return list(httpx.get(f"{URL}/images?limit=500").json()["items"])
        time.sleep(2)
    raise SystemExit(f"fewer than {FEWEST} images came in {WAIT_SECONDS:g} seconds; look at what the service says")


def review(items: list[dict[str, Any]], folder: Path) -> None:
    """Say of two images in three what the experts said of them."""
    defective = {path.name for path in (folder / ".demo" / "cells" / "test" / "defective").iterdir()}
    for place, item in enumerate(items):
        truth = Path(item["name"]).name in defective
        verdict = "right" if truth == item["anomalous"] else "missed" if truth else "false_alarm"
        if place % 3:
            said = {"verdict": verdict, "kind": "crack" if truth else ""}
            httpx.post(f"{URL}/images/{item['id']}/review", json=said).raise_for_status()


def shoot(odd: str) -> None:
    """Take the pictures."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        for name, (path, scheme, (width, height), shown) in SHOTS.items():
            tab = browser.new_page(color_scheme=scheme, viewport={"width": width, "height": height})
            tab.goto(URL + path.format(odd=odd), wait_until="networkidle")
            tab.wait_for_timeout(1500)
            image = cv2.imdecode(np.frombuffer(tab.screenshot(), np.uint8), cv2.IMREAD_COLOR)
            small = cv2.resize(image, (shown, round(shown * height / width)), interpolation=cv2.INTER_AREA)
            cv2.imwrite(str(PICTURES / f"serving_{name}.jpg"), small, [cv2.IMWRITE_JPEG_QUALITY, 78])
            tab.close()
        browser.close()


def main(folder: Path) -> None:
    """Serve the demo from a folder, review some of it, and take pictures."""
    folder.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "unlike", "serve", str(folder), "--demo", "--port", URL.rpartition(":")[2]]
    with subprocess.Popen(command) as service:
        try:
            items = await_images()
            review(items, folder)
            flagged = [one for one in items if one["anomalous"]]
            shoot(min(flagged, key=lambda one: sum(part["area"] for part in one["regions"]))["id"])
        finally:
            service.terminate()


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(tempfile.mkdtemp()))
