"""The command line: its commands (app, classes), what they print (console), write (tables) and list (catalogue)."""

from __future__ import annotations

from unlike.cli import classes  # adds its commands
from unlike.cli.app import main, run

__all__ = ["classes", "main", "run"]
