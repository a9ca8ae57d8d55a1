"""The command line: its commands (app, classes, latent, residuals, study), what they print (console), write (tables) and list (catalogue)."""

from __future__ import annotations

from unlike.cli import classes, latent, residuals, study  # add their commands
from unlike.cli.app import main, run

__all__ = ["classes", "latent", "main", "residuals", "run", "study"]
