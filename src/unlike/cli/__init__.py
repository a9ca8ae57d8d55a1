"""The command line: a module for each command, their shared arguments, what they print (console) and write (tables).

`app.build_app` names the commands; adding one is writing its module, and naming it there.
"""

from __future__ import annotations

from unlike.cli.app import main, run

__all__ = ["main", "run"]
