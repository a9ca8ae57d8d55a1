"""docs/architecture.md and its picture say what is so."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

import unlike
from conftest import stripes
from unlike import Detector

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/architecture.md").read_text()
HOME = Path(unlike.__file__).parent


def files_visited(work) -> set[str]:
    """Our files of which some function runs meanwhile."""
    seen = set()

    def note(frame, event, _):
        if event == "call":
            seen.add(frame.f_code.co_filename)

    before = sys.getprofile()
    sys.setprofile(note)
    try:
        work()
    finally:
        sys.setprofile(before)
    return {str(path.relative_to(HOME)) for path in map(Path, seen) if path.is_relative_to(HOME)}


def test_an_image_visits_the_files_that_the_page_names():
    pytest.importorskip("openvino")  # without it a backbone runs by another road
    table = re.search(r"<!-- visits: default -->(.*?)<!-- end -->", PAGE, re.DOTALL).group(1)
    images = stripes(20, size=32)
    detector = Detector(size=64, false_alarms=0.2, device="cpu", cache=False).fit(images)
    visited = files_visited(lambda: detector.score(images[:2]))
    assert visited == set(re.findall(r"`([\w/]+\.py)`", table))


def test_the_files_that_the_page_names_are_there():
    for name in re.findall(r"`([\w/]+\.py)`", PAGE):
        assert (ROOT / name).exists() or (HOME / name).exists(), name


def draw(tmp_path, *more, source=None):
    """Run the script on a copy of it, whose code may be another."""
    folder = tmp_path / "docs"
    (folder / "pictures").mkdir(parents=True, exist_ok=True)
    for name in ("make_architecture.py", "make_page.py"):
        (folder / name).write_text((ROOT / "docs" / name).read_text())
    (folder / "pictures/architecture.svg").write_text((ROOT / "docs/pictures/architecture.svg").read_text())
    if not (tmp_path / "src").exists():
        for path in HOME.rglob("*.py"):
            copy = tmp_path / "src/unlike" / path.relative_to(HOME)
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_text(path.read_text())
    for name, text in (source or {}).items():
        (tmp_path / "src/unlike" / name).write_text(text)
    command = [sys.executable, str(folder / "make_architecture.py"), *more]
    return subprocess.run(command, check=False, capture_output=True, text=True)


def test_the_picture_is_that_of_the_code_and_says_where_it_is_not(tmp_path):
    assert draw(tmp_path, "--check").returncode == 0
    found = draw(tmp_path, "--check", source={"cluster/more.py": "from unlike.data.samples import RowSamples\n"})
    assert found.returncode == 1
    assert found.stderr == "architecture.svg is out of date: run `make docs`\n"


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ({"data/up.py": "from unlike.models.base import Model\n"}, "imports go in a circle: "),
        ({"fresh.py": "from unlike.errors import DataError\n"}, "does not say what these do: fresh"),
    ],
)
def test_what_cannot_be_drawn_is_an_error_that_says_so(tmp_path, source, message):
    found = draw(tmp_path, source=source)
    assert found.returncode == 1
    assert message in found.stderr


def links():
    pages = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")]
    return [
        (page, target)
        for page in pages
        for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text())
        if not target.startswith(("http", "mailto"))
    ]


def anchors(page: Path) -> set[str]:
    """What GitHub calls the headings of a page."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_links_between_pages_lead_somewhere():
    found = links()
    assert len(found) > 50
    broken = []
    for page, target in found:
        name, _, anchor = target.partition("#")
        path = (page.parent / name).resolve() if name else page
        if not path.exists() or (anchor and anchor not in anchors(path)):
            broken.append(f"{page.name}: {target}")
    assert not broken
