"""What the scripts that write a page share: write it, or with `--check` say that it is out of date."""

from __future__ import annotations

import sys
from pathlib import Path


def write_page(path: Path, text: str) -> int:
    """The exit code: 1 where the page was only to be checked, and is not what would be written."""
    if "--check" not in sys.argv:
        path.write_text(text)
        return 0
    if path.exists() and path.read_text() == text:
        return 0
    print(f"{path.name} is out of date: run `make docs`", file=sys.stderr)
    return 1
