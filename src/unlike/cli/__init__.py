"""The command line: its commands (app), what they print (console), write (tables) and list (catalogue)."""

from __future__ import annotations

from unlike.cli.app import main, run

__all__ = ["main", "run"]
